//! Whether new clients are taken. Turning them away is `drain`, taking them again is `resume`.

use crate::lock::lock;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::registry::Sessions;

/// The switch; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Intake {
    sessions: Sessions,
    /// Cancelled while this node drains. Taking clients again makes a new one: sessions that were
    /// asked to end when idle still do.
    drain: Arc<Mutex<CancellationToken>>,
}

impl Intake {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self { sessions, drain: Arc::default() }
    }

    /// New clients get 421 from now on, and sessions end when they are idle for `drain.idle`.
    pub fn refuse(&self) {
        let drain = self.drain_token();
        if !drain.is_cancelled() {
            // First, so that a session that is not in the list yet hears of it.
            drain.cancel();
            self.sessions.drain();
        }
    }

    /// New clients are taken again.
    pub fn admit(&self) {
        let mut drain = lock(&self.drain);
        if drain.is_cancelled() {
            *drain = CancellationToken::new();
        }
    }

    /// Whether new clients get 421.
    pub fn is_refusing(&self) -> bool {
        self.drain_token().is_cancelled()
    }

    /// Cancelled when this node drains next.
    pub(super) fn drain_token(&self) -> CancellationToken {
        lock(&self.drain).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_intake_keeps_the_earlier_sessions_draining() {
        let intake = Intake::default();
        let before = intake.drain_token();
        intake.refuse();
        assert!(intake.is_refusing() && before.is_cancelled());
        intake.admit();
        assert!(!intake.is_refusing() && before.is_cancelled());
        assert!(!intake.drain_token().is_cancelled());
    }
}
