//! What sends clients to the holder of the lease: a record in Route 53, or routes to an overlay IP.
//!
//! The holder moves it to itself at once, and then looks again and again, as a call of the holder
//! before may have been under way for long and arrive late.

mod record;
mod routes;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use self::record::RecordPointer;
use self::routes::RoutePointer;
use crate::config;
use crate::observe::events::{About, Tone};
use crate::observe::metrics::Metrics;

/// From the move to the first look, and from each look to the next: 1, 2, 4, 8 and 16 seconds after
/// the move, when a late call is likeliest.
const EARLY: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// From one look to the next later on.
const LATER: Duration = Duration::from_secs(30);
/// How long to wait after a call that failed: twice as long each time.
const RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// How this node stands to the lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tenancy {
    /// Whether it holds it now.
    pub(super) held: bool,
    /// Since which change of hands.
    pub(super) generation: u64,
}

/// What this node knows of where clients are sent; nothing while it does not hold the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Whether they are sent here.
    pub(super) here: Option<bool>,
    /// Where they are sent, for people.
    pub(super) target: Option<String>,
    /// Why that cannot be looked at, or moved.
    pub(super) trouble: Option<String>,
}

/// Moves clients to this node while it holds the lease.
#[derive(Debug)]
pub(super) struct Steerer {
    means: Means,
    metrics: Metrics,
}

#[derive(Debug)]
enum Means {
    Nothing,
    Record(RecordPointer),
    Routes(RoutePointer),
}

/// What was found by looking.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sight {
    here: bool,
    target: String,
}

/// What points clients to a node.
trait Pointer {
    /// Where it points.
    fn look(&mut self) -> impl Future<Output = Result<Sight, String>> + Send;
    /// Makes it point here, wherever it does; tells where that is.
    fn move_here(&mut self) -> impl Future<Output = Result<String, String>> + Send;
}

// === impl Steerer ===

impl Steerer {
    pub(super) fn new(config: &config::Steering, metrics: Metrics) -> Self {
        let means = match config {
            config::Steering::Nothing => Means::Nothing,
            config::Steering::Record(record) => Means::Record(RecordPointer::new(record)),
            config::Steering::Route(route) => Means::Routes(RoutePointer::new(route)),
        };
        Self { means, metrics }
    }

    /// Until nobody tells any more who holds the lease.
    pub(super) async fn run(self, tenancy: watch::Receiver<Tenancy>, view: watch::Sender<View>) {
        let helm = Helm { view, metrics: self.metrics };
        match self.means {
            Means::Nothing => helm.follow(tenancy).await,
            Means::Record(pointer) => helm.steer(pointer, tenancy).await,
            Means::Routes(pointer) => helm.steer(pointer, tenancy).await,
        }
    }
}

// === impl Helm ===

/// The task, whatever it moves.
struct Helm {
    view: watch::Sender<View>,
    metrics: Metrics,
}

impl Helm {
    /// With nothing to be moved, clients are wherever the lease is.
    async fn follow(self, mut tenancy: watch::Receiver<Tenancy>) {
        loop {
            let held = tenancy.borrow_and_update().held;
            self.publish(View { here: held.then_some(true), ..View::default() });
            if tenancy.changed().await.is_err() {
                return;
            }
        }
    }

    async fn steer(self, mut pointer: impl Pointer, mut tenancy: watch::Receiver<Tenancy>) {
        loop {
            let term = *tenancy.borrow_and_update();
            self.publish(View::default());
            let mut next = tenancy.clone();
            let ended = next.wait_for(|now| *now != term);
            let gone = if term.held {
                tokio::select! {
                    biased;
                    ended = ended => ended.is_err(),
                    () = self.serve(term, &mut pointer, &tenancy) => false,
                }
            } else {
                ended.await.is_err()
            };
            if gone {
                return;
            }
        }
    }

    /// One term of holding the lease. Returns when it is seen to be over, and may be dropped as
    /// soon as it is.
    async fn serve(
        &self,
        term: Tenancy,
        pointer: &mut impl Pointer,
        tenancy: &watch::Receiver<Tenancy>,
    ) {
        loop {
            // At once, without a look: that is faster.
            let Some(target) = self.move_here(term, pointer, tenancy).await else { return };
            info!(target, "clients are sent here now");
            let text = format!("clients are sent here now: {target}");
            self.metrics.events().changed(About::Steering, Tone::Good, &text);
            self.publish(View { here: Some(true), target: Some(target), trouble: None });
            let sight = self.watch(pointer).await;
            warn!(target = sight.target, "clients are sent elsewhere; this node moves them back");
            let text = format!("clients are sent to {}; this node moves them back", sight.target);
            self.metrics.events().changed(About::Steering, Tone::Bad, &text);
            self.publish(View { here: Some(false), target: Some(sight.target), trouble: None });
        }
    }

    /// Tries to move until that succeeds; nothing if the term is over.
    async fn move_here(
        &self,
        term: Tenancy,
        pointer: &mut impl Pointer,
        tenancy: &watch::Receiver<Tenancy>,
    ) -> Option<String> {
        let mut pause = RETRY;
        loop {
            if *tenancy.borrow() != term {
                return None;
            }
            let moved = pointer.move_here().await;
            self.metrics.steering_moved(moved.is_ok());
            match moved {
                Ok(target) => return Some(target),
                Err(why) => self.fail(why, "clients cannot be moved here; trying on"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }

    /// Looks until something else is found.
    async fn watch(&self, pointer: &mut impl Pointer) -> Sight {
        let mut early = EARLY.into_iter();
        let mut retry = RETRY;
        let mut pause = early.next().unwrap_or(LATER);
        loop {
            sleep(pause).await;
            let seen = pointer.look().await;
            self.metrics.steering_looked(seen.is_ok());
            match seen {
                Ok(sight) if sight.here => {
                    if self.view.borrow().trouble.is_some() {
                        info!("where clients are sent can be looked at again");
                    }
                    let target = Some(sight.target);
                    self.publish(View { here: Some(true), target, trouble: None });
                    retry = RETRY;
                    pause = early.next().unwrap_or(LATER);
                }
                Ok(sight) => return sight,
                Err(why) => {
                    self.fail(why, "where clients are sent cannot be looked at; trying on");
                    pause = retry;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Warns of the first failure only; the others are counted.
    fn fail(&self, why: String, what: &'static str) {
        let before = self.view.borrow().clone();
        if before.trouble.is_none() {
            warn!(%why, "{what}");
            let text = format!("{what}: {why}");
            self.metrics.events().changed(About::Steering, Tone::Bad, &text);
        }
        self.publish(View { trouble: Some(why), ..before });
    }

    fn publish(&self, view: View) {
        self.metrics.steered_here(view.here == Some(true));
        self.view.send_if_modified(|published| {
            let changed = *published != view;
            *published = view;
            changed
        });
    }
}
