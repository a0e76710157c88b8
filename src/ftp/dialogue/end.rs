//! Why sessions end, and how.

use super::{Action, Dialogue, Link, Outcome};

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionEnd {
    /// Too many logins were refused.
    Banned,
    /// The client closed or lost its control connection.
    ClientClosed,
    /// This node is stopping.
    Drained,
    /// The client did not complete its TLS handshake in time.
    HandshakeTimeout,
    /// No command for the idle time-out.
    IdleTimeout,
    /// An operator ended it.
    Killed,
    /// No login for the login time-out.
    LoginTimeout,
    /// Its user is served at another endpoint, to which it could not be taken.
    Moved,
    /// Its task panicked: a bug of the gateway's own.
    Panicked,
    /// The client sent something in the clear behind AUTH.
    PlaintextBehindAuth,
    /// The client or the upstream did not speak FTP.
    ProtocolError,
    /// The client sent a header of the PROXY protocol, and is nobody who may.
    ProxyHeader,
    /// QUIT.
    Quit,
    /// The upstream did not answer a command in time.
    ReplyTimeout,
    /// The upstream closed the control connection or said 421.
    UpstreamClosed,
}

impl SessionEnd {
    /// All of them, for metrics.
    pub const ALL: [Self; 15] = [
        Self::Banned,
        Self::ClientClosed,
        Self::Drained,
        Self::HandshakeTimeout,
        Self::IdleTimeout,
        Self::Killed,
        Self::LoginTimeout,
        Self::Moved,
        Self::Panicked,
        Self::PlaintextBehindAuth,
        Self::ProtocolError,
        Self::ProxyHeader,
        Self::Quit,
        Self::ReplyTimeout,
        Self::UpstreamClosed,
    ];

    /// The word for it in logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::ClientClosed => "client-closed",
            Self::Drained => "drained",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::Killed => "killed",
            Self::LoginTimeout => "login-timeout",
            Self::Moved => "moved",
            Self::Panicked => "panicked",
            Self::PlaintextBehindAuth => "plaintext-behind-auth",
            Self::ProtocolError => "protocol-error",
            Self::ProxyHeader => "proxy-header",
            Self::Quit => "quit",
            Self::ReplyTimeout => "reply-timeout",
            Self::UpstreamClosed => "upstream-closed",
        }
    }
}

impl Dialogue {
    /// Ends the session from this side: 426 for a transfer in flight, then 421.
    pub(super) fn give_up(&mut self, end: SessionEnd, why: &str) {
        if self.closed {
            return;
        }
        let outcome = match end {
            SessionEnd::Banned | SessionEnd::Drained | SessionEnd::Killed => Outcome::GatewayFailed,
            _ => Outcome::UpstreamFailed,
        };
        // No transfer follows, so the upstream, which may be gone, need not forget a REST.
        self.restart = 0;
        self.finish_unanswered(outcome, Some(&format!("Transfer aborted. {why}")));
        self.end_penalty();
        self.answer(421, why);
        self.close(end);
    }

    /// Nothing happens after this.
    pub(super) fn close(&mut self, end: SessionEnd) {
        if self.closed {
            return;
        }
        self.drop_channel();
        self.closed = true;
        self.link = Link::Lost;
        self.queue.clear();
        self.queued_bytes = 0;
        self.pending.clear();
        self.actions.push_back(Action::Close(end));
    }
}
