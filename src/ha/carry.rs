//! What a node's next process needs to be the same node to its peer: with it a hand-over moves no
//! lease and changes no role.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::lease::protocol::{Lease, Moment};
use super::role::Leaving;
use super::{Pair, clock, lease, name};
use crate::config::{self, HaMode};

/// What goes from one process of a node to the next. Moments are of the machine's clock, and so the
/// same for both.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Carried {
    /// The name of the node.
    node: String,
    lease: Option<CarriedLease>,
    /// When it was active last, unless it is now.
    active_until: Option<Moment>,
    name: name::View,
    leaving: Option<Leaving>,
    /// Whether new clients are refused.
    refusing: bool,
}

/// The view of a lease. No request for it is on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct CarriedLease {
    bucket: String,
    key: String,
    lease: Lease,
    heard_at: Option<Moment>,
    trouble: Option<String>,
}

/// The tasks of a pair that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) tasks: TaskTracker,
    pub(super) closed: CancellationToken,
    /// Ends them without a word to anybody.
    pub(super) stop: CancellationToken,
    pub(super) own: TaskTracker,
    pub(super) keeper: Option<tokio::task::JoinHandle<Lease>>,
}

impl Pair {
    /// Stops deciding, renewing and steering, gives nothing up, and tells how things stand. At most
    /// one request to S3 is waited for. [`Pair::go_on`] undoes it.
    ///
    /// # Errors
    ///
    /// If this node is leaving, and has told its peer so; then nothing has changed.
    pub async fn suspend(&self) -> Result<Carried, &'static str> {
        let inner = &self.inner;
        match inner.orders.borrow().leaving {
            Some(Leaving::Stopping) => return Err("it is stopping"),
            Some(Leaving::Drained) if !inner.intake.is_refusing() => {
                return Err("a drain is under way: try again when it is done");
            }
            _ => {}
        }
        let (keeper, own) = {
            let mut running = inner.running();
            let running = running.as_mut().ok_or("it has not begun to serve")?;
            running.stop.cancel();
            running.own.close();
            (running.keeper.take(), running.own.clone())
        };
        own.wait().await;
        let lease = match keeper {
            Some(keeper) => keeper.await.ok(),
            None => None,
        };
        inner.lease_state().clone_from(&lease);
        let lease = lease.and_then(|lease| {
            let HaMode::Lease(config::Lease { bucket, key, .. }) = &inner.ha.mode else {
                return None;
            };
            let lease::View { heard_at, trouble, .. } = inner.lease.borrow().clone();
            let (bucket, key) = (bucket.clone(), key.clone());
            Some(CarriedLease { bucket, key, lease, heard_at, trouble })
        });
        Ok(Carried {
            node: inner.node.clone(),
            lease,
            active_until: (inner.role.borrow().active_until)
                .map(|until| clock::now().saturating_sub(until.elapsed())),
            name: inner.name.borrow().clone(),
            leaving: inner.orders.borrow().leaving,
            refusing: inner.intake.is_refusing(),
        })
    }

    /// Goes on after [`Pair::suspend`], as if nothing had been.
    pub fn go_on(&self) {
        let running = self.inner.running().take();
        if let Some(Running { tasks, closed, .. }) = running {
            self.run(&tasks, &closed);
        }
    }

    /// Takes over from the process before, ahead of [`Pair::run`].
    pub fn carry(&self, carried: Carried) {
        let inner = &self.inner;
        inner.name.send_replace(carried.name);
        inner.role.send_modify(|role| {
            let ago = carried.active_until.map(|until| clock::now().saturating_sub(until));
            role.active_until = ago.and_then(|ago| Instant::now().checked_sub(ago));
        });
        inner.orders.send_modify(|orders| orders.leaving = carried.leaving);
        if carried.refusing {
            inner.intake.refuse();
        }
        match (carried.lease, &inner.ha.mode) {
            (Some(old), HaMode::Lease(new))
                if carried.node == inner.node
                    && (&old.bucket, &old.key) == (&new.bucket, &new.key) =>
            {
                *inner.lease_state() = Some(old.lease);
                inner.lease.send_modify(|view| {
                    (view.heard_at, view.trouble) = (old.heard_at, old.trouble);
                });
            }
            (Some(_), _) => warn!(
                "the node's name or its lease is another one now, so what the process before held is given up; \
                 clients go to the peer until that is settled"
            ),
            (None, _) => {}
        }
    }
}
