//! The configuration: one TOML file, read once, checked wholly, handed down by part.
//!
//! `config/ftpgate.toml` documents every key. Nothing below this module sees the file or an
//! optional value that still needs a decision: what is here is ready to use.

mod access;
mod clients;
mod ha;
mod proof;
mod reload;
mod report;
mod schema;
#[cfg(test)]
mod tests;
mod upstream;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::path::Path;
use std::time::Duration;

pub use crate::ftp::dialogue::Ascii;
pub use access::{Access, Bans, LONGEST_DELAY, Rule, is_like, is_message};
pub use clients::{
    Active, Listener, Passive, PassiveAddress, PassiveOverride, ProxyProtocol, Tls, TlsMode,
    TlsVersion,
};
pub use ha::{Admin, CloudWatch, Ha, HaMode, Lease, Record, Route, Steering};
pub use proof::{Audit, AuditArchive, AuditFormat, Verify, VerifyDirectory};
pub use report::{ConfigError, Fault};
pub use upstream::{
    Bucket, Choice, Depth, Dns, Endpoint, EndpointAddress, Family, PassiveHost, Probe, Secret,
    SecretSource, Upstream, UpstreamTls,
};

/// Everything one node is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// Where clients' control connections arrive; at least one.
    pub listeners: Vec<Listener>,
    /// The certificate of those that speak TLS; there if one does.
    pub tls: Option<Tls>,
    /// The passive port pool and the address that 227 names.
    pub passive: Passive,
    /// How clients are connected to in active mode.
    pub active: Active,
    /// Which balancers stand before the gateway.
    pub proxy_protocol: ProxyProtocol,
    /// Who may do what.
    pub access: Access,
    /// The FTP service behind the gateway.
    pub upstream: Upstream,
    /// How the endpoints' names are resolved.
    pub dns: Dns,
    /// How the endpoints are watched.
    pub probe: Probe,
    /// How long each thing may take.
    pub timeouts: Timeouts,
    /// How much of each thing there may be.
    pub limits: Limits,
    /// How the node stops.
    pub drain: Drain,
    /// Where transfers are recorded, if anywhere.
    pub audit: Option<Audit>,
    /// How it is verified that uploads are in their buckets, if it is.
    pub verify: Option<Verify>,
    /// How this node and its peer are a pair.
    pub ha: Ha,
    /// What CloudWatch is told, if anything.
    pub cloudwatch: Option<CloudWatch>,
    /// Where the node is administered, if anywhere.
    pub admin: Option<Admin>,
    /// Where health and metrics are served, if anywhere.
    pub http: Option<Http>,
    /// What is logged and how.
    pub log: Log,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &name),
            Err(error) => Err(ConfigError::unreadable(&name, &error)),
        }
    }

    /// Checks the text of a file; `name` is what errors call it.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        schema::parse(text).map_err(|faults| ConfigError::new(name, text, faults))
    }

    /// Addresses under which clients may reach this node, besides those of its interfaces.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let mut own: Vec<IpAddr> =
            self.passive.overrides.iter().map(|entry| entry.address).collect();
        if let PassiveAddress::Fixed(address) = self.passive.address {
            own.push(address);
        }
        if let HaMode::Lease(Lease { steering: Steering::Record(record), .. }) = &self.ha.mode {
            own.extend(&record.addresses);
        }
        own
    }
}

/// `[node]`: who this node is.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name in logs, audit lines and answers; the host name by default.
    pub name: String,
    /// Its availability zone; endpoints of the same zone are preferred.
    pub zone: Zone,
    /// Threads that sessions run on; as many as cores unless it is told.
    pub threads: Option<NonZeroU8>,
}

/// Where a node learns its availability zone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Zone {
    /// From the instance metadata service (IMDSv2), `placement/availability-zone`.
    Auto,
    /// Told.
    Named(String),
    /// Nowhere: no endpoint is preferred for its zone.
    #[default]
    Unknown,
}

/// `[timeouts]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeouts {
    /// From the control connection to a successful login.
    pub login: Duration,
    /// Without a command; suspended while a transfer runs.
    pub idle: Duration,
    /// From a transfer command to the client's data connection, and for dialling the upstream's.
    pub data_connect: Duration,
    /// Without a byte moving in a transfer.
    pub data_idle: Duration,
    /// For the upstream to answer a command; a large upload's 226 may take minutes on S3.
    pub reply: Duration,
    /// For a TLS handshake, of a control or a data connection.
    pub tls_handshake: Duration,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Sessions on this node.
    pub sessions: usize,
    /// Sessions of one client address.
    pub sessions_per_client: usize,
    /// Bytes of one command line, without its line end.
    pub line_length: usize,
    /// Bytes of one upstream reply, all its lines together.
    pub reply_size: usize,
    /// Commands a second that one session may keep up; a faster client is slowed, not refused.
    pub commands_per_second: u32,
}

/// `[drain]`: what SIGTERM does.
#[derive(Debug, Clone, PartialEq)]
pub struct Drain {
    /// After this, what still runs is ended (transfers by reset).
    pub deadline: Duration,
    /// A session this long without a command or transfer is ended with 421.
    pub idle: Duration,
    /// After another process has taken over, sessions go on for this long before the drain.
    pub handover_deadline: Duration,
}

/// `[http]`: health, metrics and the status page, read-only.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether there is the status page, which names users and files.
    pub page: bool,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// A `tracing` filter such as `info` or `ftpgate=debug`.
    pub level: String,
    /// The shape of a line.
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Fields of systemd's journal.
    Journald,
    /// One JSON object.
    Json,
    /// For people.
    Text,
}

/// Whether connecting to `endpoint` would reach a listener on `listener`.
pub(crate) fn reaches(endpoint: SocketAddr, listener: SocketAddr) -> bool {
    endpoint == listener
        || (endpoint.port() == listener.port()
            && listener.ip().is_unspecified()
            && endpoint.ip().is_loopback())
}
