//! What is told of a transfer: how it goes, and how it ended.

use crate::ftp::command::{Direction, Verb};

/// What the audit log is told of a transfer; its bytes and times are the driver's to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferEnd {
    /// RETR, STOR, STOU, APPE, LIST, NLST or MLSD.
    pub verb: Verb,
    /// Its argument, raw.
    pub path: Vec<u8>,
    /// How it ended.
    pub outcome: Outcome,
    /// The code of the final reply that the client was given, if it was there.
    pub reply: Option<u16>,
    /// The upstream has a file of exactly the bytes that it was sent, at the place that
    /// [`Action::UploadStarted`](super::Action::UploadStarted) told: after a complete STOR from the
    /// file's start, in TYPE I or translated here.
    pub as_sent: bool,
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The client sent ABOR.
    Aborted,
    /// The client's data or control connection broke, or it sent less than it announced.
    ClientFailed,
    /// Every byte arrived and the upstream said so.
    Complete,
    /// This node ended it: deadline of a drain, data idle time-out.
    GatewayFailed,
    /// The upstream refused it with a 4yz or 5yz before any byte moved.
    Refused,
    /// The upstream's data or control connection broke, or it answered 4yz or 5yz later on.
    UpstreamFailed,
}

impl Outcome {
    /// All of them, for metrics.
    pub const ALL: [Self; 6] = [
        Self::Aborted,
        Self::ClientFailed,
        Self::Complete,
        Self::GatewayFailed,
        Self::Refused,
        Self::UpstreamFailed,
    ];

    /// The word for it in audit lines and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::ClientFailed => "client-failed",
            Self::Complete => "complete",
            Self::GatewayFailed => "gateway-failed",
            Self::Refused => "refused",
            Self::UpstreamFailed => "upstream-failed",
        }
    }
}

/// Why a relay stopped short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFailure {
    /// The client's data connection was reset or failed.
    Client,
    /// No byte moved for the data idle time-out.
    Idle,
    /// The client's data connection did not begin with a TLS handshake, or not with a good one, or
    /// not in time.
    NoTls,
    /// It has a TLS session that is not its control connection's.
    NotResumed,
    /// It ended without close_notify: what came may be cut short.
    Truncated,
    /// The upstream's data connection was reset or failed.
    Upstream,
}

impl DataFailure {
    /// All of them, for metrics.
    pub const ALL: [Self; 6] =
        [Self::Client, Self::Idle, Self::NoTls, Self::NotResumed, Self::Truncated, Self::Upstream];

    /// Whether the client's side broke.
    pub fn is_clients(self) -> bool {
        !matches!(self, Self::Idle | Self::Upstream)
    }

    /// The side that broke, or how the client broke TLS, for metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Idle => "idle",
            Self::NoTls => "no-tls",
            Self::NotResumed => "not-resumed",
            Self::Truncated => "truncated",
            Self::Upstream => "upstream",
        }
    }
}

/// How a transfer's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// From whom to whom.
    pub direction: Direction,
    /// With line ends translated.
    pub ascii: bool,
    /// Within TLS at the client's end.
    pub private: bool,
}

/// What can be told of a transfer while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight<'a> {
    /// RETR, STOR, STOU, APPE, LIST, NLST or MLSD.
    pub verb: Verb,
    /// Its argument, raw.
    pub path: &'a [u8],
    /// From whom to whom.
    pub direction: Direction,
    /// With line ends translated.
    pub ascii: bool,
    /// Within TLS at the client's end.
    pub private: bool,
    /// The bytes of an upload that ALLO announced.
    pub announced: Option<u64>,
}
