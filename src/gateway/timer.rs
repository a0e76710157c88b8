//! Which time-out a session is under.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::config::Timeouts;
use crate::ftp::dialogue::Waiting;

/// How long an upstream may take to admit that a transfer has failed, before the session is
/// given up: it may be waiting for a data connection that will not come.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an upstream may keep silent after a broken transfer before it is asked by NOOP.
const NUDGE_AFTER: Duration = Duration::from_secs(1);
/// How long to pause before an upstream without a free passive port is asked again; twice as long
/// each time.
const PASSIVE_RETRY: Duration = Duration::from_millis(100);

/// The one timer of a session, armed anew when what it waits for changes.
pub(super) struct Timer {
    waiting: Waiting,
    draining: bool,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    pub(super) fn new() -> Self {
        Self { waiting: Waiting::Nothing, draining: false, sleep: Box::pin(sleep(Duration::ZERO)) }
    }

    /// Arms the timer for `waiting` unless it already runs for that. Only commands and replies
    /// prolong it, and neither the time for a login nor that for a data connection.
    pub(super) fn run(
        &mut self,
        waiting: Waiting,
        spoke: bool,
        timeouts: &Timeouts,
        drain_idle: Option<Duration>,
    ) {
        let prolonged = spoke && matches!(waiting, Waiting::Command | Waiting::Reply);
        let drained = drain_idle.is_some() && !self.draining;
        if waiting == self.waiting && !prolonged && !drained {
            return;
        }
        self.waiting = waiting;
        self.draining = drain_idle.is_some();
        let shortened = |timeout: Duration| drain_idle.map_or(timeout, |idle| idle.min(timeout));
        let after = match waiting {
            Waiting::Nothing => return,
            Waiting::Command => shortened(timeouts.idle),
            Waiting::DataConnect => timeouts.data_connect,
            Waiting::Handshake => timeouts.tls_handshake,
            Waiting::Login => shortened(timeouts.login),
            Waiting::Resume => timeouts.login,
            Waiting::Nudge => NUDGE_AFTER,
            Waiting::Reply => timeouts.reply,
            Waiting::Retry { attempt } => PASSIVE_RETRY * (1 << attempt.saturating_sub(1).min(6)),
            Waiting::Settle => SETTLE_TIMEOUT.min(timeouts.reply),
        };
        self.sleep.as_mut().reset(Instant::now() + after);
    }

    /// It has run out: the same wait, if it comes again, is a new one.
    pub(super) fn fired(&mut self) {
        self.waiting = Waiting::Nothing;
    }

    pub(super) async fn expired(&mut self) {
        match self.waiting {
            Waiting::Nothing => pending().await,
            _ => self.sleep.as_mut().await,
        }
    }
}
