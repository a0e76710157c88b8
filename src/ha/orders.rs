//! What an operator asks of a node: drain, resume, failover; and stopping, which is a drain.
//!
//! A node that is left by its clients lets go in an order in which none of them fails: its peer
//! takes over, what steers clients names the peer, those who have looked the name up before then
//! have come, and only then new clients are refused.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::Pair;
use super::peer;
use super::role::{Leaving, Role};
use crate::config::{HaMode, Steering};

/// A hand-over that takes more than so many TTLs of the lease has failed.
const PATIENCE: u32 = 3;
/// Changes "generally propagate to all Route 53 name servers within 60 seconds" (Amazon Route 53
/// Developer Guide, "Creating a new subdomain").
const SPREAD: Duration = Duration::from_secs(60);

/// An order was carried out, or is being so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// What has been done, for people.
    pub done: String,
}

/// An order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is nobody to take over.
    #[error("there is no peer: add ha.peer and ha.mode")]
    Alone,
    /// The other node, or nobody.
    #[error("this node is {role}, so there is nothing to hand over: {reason}")]
    NotActive {
        /// This node's role.
        role: &'static str,
        /// Why.
        reason: String,
    },
    /// Nobody could serve.
    #[error(
        "the peer cannot serve ({why}), so this node stays as it is; `ftpgate drain --force` drains it all the same"
    )]
    PeerNotReady {
        /// What is known of it.
        why: String,
    },
    /// SIGTERM has come.
    #[error("this node is stopping")]
    Stopping,
    /// The peer did not take over.
    #[error("the peer did not take over within {0:?}, and this node goes on: see both nodes' logs")]
    NotTaken(Duration),
}

impl Pair {
    /// Lets the peer take over. This node goes on serving who comes to it.
    ///
    /// # Errors
    ///
    /// If this node is not active or the peer is not ready, when nothing changes; or if the peer did
    /// not take over, when this node goes on.
    pub async fn fail_over(&self) -> Result<Done, OrderError> {
        self.refuse_while_stopping()?;
        let inner = &self.inner;
        match &inner.ha.mode {
            HaMode::Alone => Err(OrderError::Alone),
            HaMode::Dns => {
                self.active()?;
                self.peer_ready().await?;
                inner.orders.send_modify(|orders| orders.leaving = Some(Leaving::Withdrawn));
                Ok(Done {
                    done: "this node calls itself unhealthy, and Route 53 sends clients to the other \
                           one when its alarm has seen so, in a few minutes; until then they are served \
                           here; `ftpgate resume` ends that"
                        .into(),
                })
            }
            HaMode::Lease(lease) => {
                self.active()?;
                self.peer_ready().await?;
                let limit = lease.ttl * PATIENCE;
                inner.orders.send_modify(|orders| orders.handing_over = true);
                let taken = self.taken_over(limit).await;
                inner.orders.send_modify(|orders| orders.handing_over = false);
                if taken {
                    Ok(Done { done: "the peer is active".into() })
                } else {
                    Err(OrderError::NotTaken(limit))
                }
            }
        }
    }

    /// Lets the peer take over, then refuses new clients; sessions may finish.
    ///
    /// # Errors
    ///
    /// If the peer cannot serve and this is not forced, or this node is stopping: nothing changes.
    pub async fn drain(&self, force: bool) -> Result<Done, OrderError> {
        self.refuse_while_stopping()?;
        if self.inner.ha.mode != HaMode::Alone && !force {
            self.peer_ready().await?;
        }
        // On its own: whoever asked may leave.
        let pair = self.clone();
        let leave = tokio::spawn(async move {
            pair.leave(Leaving::Drained).await;
            // Unless it was called off meanwhile.
            if pair.inner.orders.borrow().leaving == Some(Leaving::Drained) {
                pair.inner.intake.refuse();
                info!("new clients are refused");
            }
        });
        if self.inner.ha.mode != HaMode::Dns {
            let _ = leave.await;
            return Ok(Done { done: "new clients are refused; `ftpgate resume` ends that".into() });
        }
        Ok(Done {
            done: "this node calls itself unhealthy; new clients are refused once Route 53 sends them \
                   elsewhere; `ftpgate resume` ends that"
                .into(),
        })
    }

    /// Ends a drain and a failover: this node takes clients again, and may become active.
    ///
    /// # Errors
    ///
    /// If this node is stopping.
    pub fn resume(&self) -> Result<Done, OrderError> {
        self.refuse_while_stopping()?;
        self.inner.orders.send_modify(|orders| orders.leaving = None);
        self.inner.intake.admit();
        info!("taking clients");
        Ok(Done { done: "new clients are taken".into() })
    }

    /// Before this process ends: the peer takes over if it can, while clients are still served here.
    /// Where Route 53 decides that would take minutes and is not waited for.
    pub async fn stop(&self) {
        self.leave(Leaving::Stopping).await;
    }

    /// Gives the role up for good, and waits until clients go elsewhere, if there is an elsewhere.
    async fn leave(&self, leaving: Leaving) {
        let inner = &self.inner;
        let was_active = inner.role.borrow().role == Role::Active;
        let peer_ready = self.peer_ready().await.is_ok();
        inner.orders.send_modify(|orders| orders.leaving = Some(leaving));
        match &inner.ha.mode {
            HaMode::Alone => {}
            HaMode::Dns if leaving == Leaving::Stopping || !peer_ready => {}
            HaMode::Dns => {
                let mut name = inner.name.subscribe();
                let _ = name.wait_for(|name| !name.here).await;
                // Records with a health check have a TTL of 60 seconds or less.
                sleep(SPREAD).await;
            }
            HaMode::Lease(_) if !peer_ready => {}
            HaMode::Lease(lease) => {
                if was_active && !self.taken_over(lease.ttl * PATIENCE).await {
                    warn!("the peer did not take over");
                }
                if let Steering::Record(record) = &lease.steering {
                    self.wait_for_caches(record.ttl, was_active).await;
                }
            }
        }
    }

    /// Waits until the name leads elsewhere, and everybody who has looked it up before has forgotten.
    async fn wait_for_caches(&self, ttl: Duration, was_active: bool) {
        let mut name = self.inner.name.subscribe();
        let _ = timeout(SPREAD, name.wait_for(|name| !name.here)).await;
        let moved =
            if was_active { Some(Instant::now()) } else { self.inner.role.borrow().active_until };
        if let Some(moved) = moved {
            sleep_until(moved + ttl).await;
        }
    }

    /// Whether the peer is active, and clients are steered to it, within that time.
    async fn taken_over(&self, limit: Duration) -> bool {
        let Some(address) = self.inner.ha.peer else { return false };
        let generation = self.inner.lease.borrow().generation();
        timeout(limit, peer::has_taken_over(address, generation)).await.is_ok()
    }

    fn refuse_while_stopping(&self) -> Result<(), OrderError> {
        match self.inner.orders.borrow().leaving {
            Some(Leaving::Stopping) => Err(OrderError::Stopping),
            _ => Ok(()),
        }
    }

    fn active(&self) -> Result<(), OrderError> {
        let decided = self.inner.role.borrow();
        match decided.role {
            Role::Active => Ok(()),
            role => {
                Err(OrderError::NotActive { role: role.as_str(), reason: decided.reason.clone() })
            }
        }
    }

    /// Asked anew, as what is known of it may be some seconds old.
    async fn peer_ready(&self) -> Result<(), OrderError> {
        let address = self.inner.ha.peer.ok_or(OrderError::Alone)?;
        peer::can_serve(address).await.map_err(|why| OrderError::PeerNotReady { why })
    }
}
