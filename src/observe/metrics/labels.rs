//! What labels may say.

/// A connection with a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Connection {
    /// Its control connection.
    Control,
    /// A data connection.
    Data,
}

/// What came of a write of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseResult {
    /// It was written.
    Ok,
    /// Another version was there.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// Why access is denied: to a client when it connects, or to its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// Too many logins from its address were refused.
    Banned,
    /// An operator keeps it out.
    Blocked,
    /// A rule does, or there is none that lets it in.
    Rule,
    /// The `sessions` of its rule.
    RuleLimit,
}

/// Why a client got 421 instead of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It may not come in.
    Access(Denial),
    /// `limits.sessions_per_client`.
    ClientLimit,
    /// The node is stopping.
    Draining,
    /// `limits.sessions`.
    Limit,
    /// No endpoint answered.
    NoEndpoint,
}

/// Why a connection was closed for a header of the PROXY protocol, or for the lack of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeaderRefusal {
    /// Too many connections were waiting for theirs.
    Busy,
    /// There was none, or it was malformed or cut off.
    Invalid,
    /// It was longer than any that is read.
    Oversized,
    /// It was not there in time.
    Timeout,
    /// It came from nobody who is trusted.
    Untrusted,
}

/// What came of connecting to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectResult {
    /// It sent something else than a banner, or left.
    BannerError,
    /// It accepted and said nothing in time.
    BannerTimeout,
    /// The connect failed.
    ConnectError,
    /// The connect took too long.
    ConnectTimeout,
    /// The source address has no port left for that endpoint.
    NoPort,
    /// 220.
    Ok,
    /// Its banner was a 4yz or 5yz.
    Refused,
    /// Its certificate is not to be trusted, or another's.
    TlsCertificate,
    /// The TLS handshake failed otherwise, or what came right behind it.
    TlsError,
    /// It sent bytes in plain text behind its word that TLS begins.
    TlsInjected,
    /// It does not take AUTH TLS.
    TlsRefused,
    /// The TLS handshake took too long.
    TlsTimeout,
    /// It does not encrypt data connections.
    TlsUnprotected,
}

/// A stage of a probe; each comes after those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// TCP.
    Connect,
    /// 220.
    Banner,
    /// USER and PASS.
    Login,
    /// A listing of the directory.
    List,
    /// STOR of the canary, up to its 226.
    Store,
    /// Until the canary is in the bucket.
    Arrive,
    /// The bucket's bytes are those that were stored.
    Compare,
    /// The canary is deleted from the bucket.
    Delete,
}

/// What became of an upload that got its 226, as its bucket shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verification {
    /// Too many were being looked for.
    Dropped,
    /// The bucket could not be asked.
    Failed,
    /// The object has another size.
    Mismatch,
    /// There is no object.
    Missing,
    /// It is there, with that size.
    Ok,
    /// Nobody can tell where it is or how large it should be.
    Unknown,
}

// === impl Stage, Denial, Refusal, HeaderRefusal, ConnectResult, LeaseResult, Connection, Verification ===

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Banner,
        Self::Login,
        Self::List,
        Self::Store,
        Self::Arrive,
        Self::Compare,
        Self::Delete,
    ];

    /// The word for it in logs, labels and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arrive => "arrive",
            Self::Banner => "banner",
            Self::Compare => "compare",
            Self::Connect => "connect",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Login => "login",
            Self::Store => "store",
        }
    }
}

impl Denial {
    pub(super) const ALL: [Self; 4] = [Self::Banned, Self::Blocked, Self::Rule, Self::RuleLimit];

    /// The word for it in logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Blocked => "blocked",
            Self::Rule => "rule",
            Self::RuleLimit => "rule-limit",
        }
    }
}

impl Refusal {
    pub(super) const ALL: [Self; 8] = [
        Self::Access(Denial::Banned),
        Self::Access(Denial::Blocked),
        Self::Access(Denial::Rule),
        Self::Access(Denial::RuleLimit),
        Self::ClientLimit,
        Self::Draining,
        Self::Limit,
        Self::NoEndpoint,
    ];

    /// The word for it in logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access(denial) => denial.as_str(),
            Self::ClientLimit => "client-limit",
            Self::Draining => "draining",
            Self::Limit => "limit",
            Self::NoEndpoint => "no-endpoint",
        }
    }
}

impl HeaderRefusal {
    pub(super) const ALL: [Self; 5] =
        [Self::Busy, Self::Invalid, Self::Oversized, Self::Timeout, Self::Untrusted];

    /// The word for it in logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Invalid => "invalid",
            Self::Oversized => "oversized",
            Self::Timeout => "timeout",
            Self::Untrusted => "untrusted",
        }
    }
}

impl ConnectResult {
    pub(super) const ALL: [Self; 13] = [
        Self::BannerError,
        Self::BannerTimeout,
        Self::ConnectError,
        Self::ConnectTimeout,
        Self::NoPort,
        Self::Ok,
        Self::Refused,
        Self::TlsCertificate,
        Self::TlsError,
        Self::TlsInjected,
        Self::TlsRefused,
        Self::TlsTimeout,
        Self::TlsUnprotected,
    ];

    /// The word for it in logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BannerError => "banner-error",
            Self::BannerTimeout => "banner-timeout",
            Self::ConnectError => "connect-error",
            Self::ConnectTimeout => "connect-timeout",
            Self::NoPort => "no-port",
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::TlsCertificate => "tls-certificate",
            Self::TlsError => "tls-error",
            Self::TlsInjected => "tls-injected",
            Self::TlsRefused => "tls-refused",
            Self::TlsTimeout => "tls-timeout",
            Self::TlsUnprotected => "tls-unprotected",
        }
    }
}

impl Verification {
    pub(super) const ALL: [Self; 6] =
        [Self::Dropped, Self::Failed, Self::Mismatch, Self::Missing, Self::Ok, Self::Unknown];

    /// The word for it in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Mismatch => "mismatch",
            Self::Missing => "missing",
            Self::Ok => "ok",
            Self::Unknown => "unknown",
        }
    }
}

impl LeaseResult {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

impl Connection {
    pub(super) const ALL: [Self; 2] = [Self::Control, Self::Data];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Data => "data",
        }
    }
}

pub(super) fn call_result(good: bool) -> &'static str {
    if good { "ok" } else { "failed" }
}

pub(super) fn resume_result(succeeded: bool) -> &'static str {
    if succeeded { "resumed" } else { "failed" }
}

pub(super) fn login_result(accepted: bool) -> &'static str {
    if accepted { "accepted" } else { "refused" }
}
