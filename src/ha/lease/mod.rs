//! The lease: which of the nodes moves the clients, agreed on through one object in S3.
//!
//! [`protocol`] decides, `store` asks S3, and the task here goes between them.

#[cfg(test)]
mod model;
pub mod protocol;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::protocol::{Candidacy, Content, Lease, Moment, Next, Request, Settings, Written};
use self::store::{Store, StoreError};
use super::clock;
use crate::config;
use crate::observe::events::{About, Tone};
use crate::observe::metrics::{LeaseResult, Metrics};

/// What this node knows of the lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// What the object said last.
    pub(super) content: Option<Content>,
    /// Whether this node wrote that, and kept it.
    pub(super) owned: bool,
    /// Until when this node believes that it holds the lease.
    held_until: Option<Moment>,
    /// When S3 last answered.
    pub(super) heard_at: Option<Moment>,
    /// Why it does not now.
    pub(super) trouble: Option<String>,
}

/// What this node wants of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) candidacy: Candidacy,
    pub(super) handing_over: bool,
}

/// The task that keeps the lease.
#[derive(Debug)]
pub(super) struct Keeper {
    lease: Lease,
    store: Store,
    view: watch::Sender<View>,
    wish: watch::Receiver<Wish>,
    metrics: Metrics,
}

// === impl View ===

impl View {
    /// Whether this node believes that it holds the lease.
    pub(super) fn is_held(&self, now: Moment) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// The generation of the version seen last.
    pub(super) fn generation(&self) -> u64 {
        self.content.as_ref().map_or(0, |content| content.generation)
    }
}

// === impl Keeper ===

impl Keeper {
    /// `state` is where an earlier keeper of this node stopped.
    pub(super) fn new(
        node: &str,
        config: &config::Lease,
        state: Option<Lease>,
        view: watch::Sender<View>,
        wish: watch::Receiver<Wish>,
        metrics: Metrics,
    ) -> Self {
        let ttl = config.ttl;
        let settings = Settings {
            node: node.into(),
            incarnation: format!("{:016x}", fastrand::u64(..)),
            ttl,
            // Clocks of machines differ by far less than a twentieth.
            margin: ttl / 20,
            renewal: ttl / 3,
            reading: ttl / 5,
        };
        // An answer that takes longer than the next request is due helps nobody.
        let store = Store::new(config, ttl / 5);
        let candidacy = wish.borrow().candidacy;
        let carried = state.is_some();
        let lease = match state {
            Some(lease) => lease.go_on(settings, candidacy),
            None => Lease::new(settings, candidacy),
        };
        let keeper = Self { lease, store, view, wish, metrics };
        if carried {
            let (heard_at, trouble) = {
                let known = keeper.view.borrow();
                (known.heard_at, known.trouble.clone())
            };
            keeper.show(heard_at, trouble);
        }
        keeper
    }

    /// Keeps, takes or watches the lease, until `stop`; gives how it stands then. No request is
    /// given up for that.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Lease {
        while !stop.is_cancelled() {
            let wish = *self.wish.borrow_and_update();
            self.lease.set_candidacy(wish.candidacy);
            self.lease.set_handing_over(wish.handing_over);
            match self.lease.poll(clock::now()) {
                Next::Send(request) => self.ask(request).await,
                Next::Wait(until) => {
                    stop.run_until_cancelled(self.wait(until)).await;
                }
                // Nothing is: each request is waited for where it is sent.
                Next::Busy => break,
            }
        }
        self.lease
    }

    async fn ask(&mut self, request: Request) {
        let trouble = match request {
            Request::Read => {
                let answer = self.store.read().await;
                let trouble = answer.as_ref().err().map(StoreError::to_string);
                self.lease.handle_read(clock::now(), answer);
                self.metrics.lease_read(trouble.is_none());
                trouble
            }
            Request::Write { expected, content } => {
                let (written, error) = self.store.write(expected.as_deref(), &content).await;
                let result = match written {
                    Written::Done(_) => LeaseResult::Ok,
                    Written::Refused => LeaseResult::Refused,
                    Written::Unknown => LeaseResult::Unknown,
                };
                self.lease.handle_write(clock::now(), written);
                self.metrics.lease_written(result);
                // Who was too late has been answered.
                error.filter(|_| result == LeaseResult::Unknown).map(|error| error.to_string())
            }
        };
        self.publish(trouble);
    }

    fn publish(&self, trouble: Option<String>) {
        let now = clock::now();
        let before = self.view.borrow().clone();
        match (&before.trouble, &trouble) {
            (None, Some(why)) => {
                warn!(%why, "the lease in S3 cannot be asked for; roles stay as they are");
                let text =
                    format!("the lease in S3 cannot be asked for; roles stay as they are: {why}");
                self.metrics.events().changed(About::Lease, Tone::Bad, &text);
            }
            (Some(_), None) => {
                info!("the lease in S3 answers again");
                let text = "the lease in S3 answers again";
                self.metrics.events().changed(About::Lease, Tone::Good, text);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        let heard_at = if trouble.is_none() { Some(now) } else { before.heard_at };
        self.show(heard_at, trouble);
    }

    fn show(&self, heard_at: Option<Moment>, trouble: Option<String>) {
        let view = View {
            content: self.lease.content().cloned(),
            owned: self.lease.owns(),
            held_until: self.lease.held_until(),
            heard_at,
            trouble,
        };
        self.view.send_if_modified(|published| {
            let changed = *published != view;
            *published = view;
            changed
        });
    }

    /// Until that moment, or until this node wants something else.
    async fn wait(&mut self, until: Moment) {
        let pause = until.saturating_sub(clock::now()).max(Duration::from_millis(1));
        tokio::select! {
            () = sleep(pause) => {}
            changed = self.wish.changed() => if changed.is_err() { sleep(pause).await },
        }
    }
}
