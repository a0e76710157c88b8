//! How sessions end.

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
