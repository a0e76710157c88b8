//! Whether new clients are taken. Turning them away is `drain`, taking them again is `resume`.

use crate::lock::lock;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::registry::Sessions;

/// The switch; clones share it.
#[derive(Debug, Clone)]
pub struct Intake {
    sessions: Sessions,
    /// Cancelled while this node drains. Taking clients again makes a new one: sessions that were
    /// asked to end when idle still do.
    drain: Arc<Mutex<CancellationToken>>,
}

impl Intake {
    /// One that takes clients, and asks these sessions to end when it no longer does.
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
    use std::net::SocketAddr;

    use futures_util::FutureExt as _;

    use super::super::orders::Order;
    use super::*;

    #[test]
    fn a_resumed_intake_keeps_the_earlier_sessions_draining() {
        let intake = Intake::new(Sessions::default());
        let before = intake.drain_token();
        intake.refuse();
        assert!(intake.is_refusing() && before.is_cancelled());
        intake.admit();
        assert!(!intake.is_refusing() && before.is_cancelled());
        assert!(!intake.drain_token().is_cancelled());
    }

    #[test]
    fn the_sessions_that_there_are_hear_of_it_once() {
        let sessions = Sessions::default();
        let intake = Intake::new(sessions.clone());
        let at = SocketAddr::from(([192, 0, 2, 1], 21));
        let session = sessions.enter(1, at, at, at, at);
        intake.refuse();
        intake.refuse();
        assert_eq!(session.orders().now_or_never(), Some(Order::Drain));
        assert_eq!(session.orders().now_or_never(), None);
        intake.admit();
        let later = sessions.enter(2, at, at, at, at);
        assert_eq!(later.orders().now_or_never(), None);
    }
}
