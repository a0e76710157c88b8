//! The audit log: one line per transfer, written off the data path.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// What is told of one transfer.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the transfer ended.
    pub time: SystemTime,
    /// The session's number on this node since it started.
    pub session: u64,
    /// The client's control connection.
    pub client: SocketAddr,
    /// The user, as given in USER; raw bytes made printable.
    pub user: String,
    /// RETR, STOR, STOU, APPE, LIST, NLST or MLSD.
    pub verb: &'static str,
    /// The path as the client sent it, relative to what it calls its directory.
    pub path: String,
    /// Bytes moved on the data connection.
    pub bytes: u64,
    /// From the transfer command to its final reply.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// The final reply's code that the client was given, if it was there to be given one.
    pub reply: Option<u16>,
    /// The upstream endpoint.
    pub endpoint: SocketAddr,
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
    /// The upstream refused it with a 4xx or 5xx before any byte moved.
    Refused,
    /// The upstream's data or control connection broke, or it answered 4xx or 5xx after bytes moved.
    UpstreamFailed,
}

impl Outcome {
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

/// A handle to the audit log; clones share one writer.
#[derive(Debug, Clone)]
pub struct AuditLog {
    // The writer behind a bounded channel goes here.
}

impl AuditLog {
    /// Records one transfer; never blocks. A full queue drops the line and counts it.
    pub fn record(&self, _record: Record) {}
}
