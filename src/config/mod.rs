//! The configuration: one TOML file, read once, checked wholly, handed down by part.
//!
//! `config/ftpgate.toml` documents every key. Nothing below this module sees the file or an
//! optional value that still needs a decision: what is here is ready to use.

mod report;
mod schema;
#[cfg(test)]
mod tests;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use report::{ConfigError, Fault};

/// Everything one node is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// Where clients' control connections arrive; at least one.
    pub listeners: Vec<Listener>,
    /// The passive port pool and the address that 227 names.
    pub passive: Passive,
    /// The FTP service behind the gateway.
    pub upstream: Upstream,
    /// How long each thing may take.
    pub timeouts: Timeouts,
    /// How much of each thing there may be.
    pub limits: Limits,
    /// How the node stops.
    pub drain: Drain,
    /// Where transfers are recorded, if anywhere.
    pub audit: Option<Audit>,
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
}

/// `[node]`: who this node is.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name in logs, audit lines and answers; the host name by default.
    pub name: String,
    /// Its availability zone, if told; endpoints of the same zone are tried first.
    pub zone: Option<String>,
}

/// `[[listener]]`: one address for control connections.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
}

/// `[passive]`: the shared passive ports (RFC 959 PASV, RFC 2428 EPSV).
#[derive(Debug, Clone)]
pub struct Passive {
    /// The ports, each bound once on every listener's IP address.
    pub ports: RangeInclusive<u16>,
    /// The address that 227 names, when no override matches the client.
    pub address: PassiveAddress,
    /// Other addresses for clients of certain networks; the first match counts.
    pub overrides: Vec<PassiveOverride>,
    /// How long a reserved port waits for the client's data connection.
    pub reservation: Duration,
    /// How long PASV waits for a port when all are reserved for this client address.
    pub wait: Duration,
}

/// What a 227 reply names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassiveAddress {
    /// The local address of the client's own control connection.
    Auto,
    /// This address.
    Fixed(IpAddr),
}

/// `[[passive.override]]`: the address that clients of one network are told.
#[derive(Debug, Clone)]
pub struct PassiveOverride {
    /// The clients.
    pub clients: IpNet,
    /// What 227 names for them.
    pub address: IpAddr,
}

/// `[upstream]`: the FTP service behind the gateway.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its addresses, in order of preference; at least one.
    pub endpoints: Vec<Endpoint>,
    /// How long a TCP connect to an endpoint may take before the next is tried.
    pub connect_timeout: Duration,
    /// How long an endpoint may take to send its banner before the next is tried.
    pub banner_timeout: Duration,
    /// How long an endpoint that failed is tried last.
    pub retry_after: Duration,
    /// The ports that an endpoint may announce for data.
    pub passive_ports: RangeInclusive<u16>,
    /// Whose word counts for the host of a data connection.
    pub passive_host: PassiveHost,
}

/// `[[upstream.endpoint]]`: one upstream address.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where its control port is.
    pub address: SocketAddr,
    /// Its availability zone, if told.
    pub zone: Option<String>,
}

/// The host that upstream data connections go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassiveHost {
    /// The one named in the upstream's 227 (CVE-2020-8284: only for an upstream you trust).
    Announced,
    /// The one the control connection goes to.
    Control,
}

/// `[timeouts]`.
#[derive(Debug, Clone)]
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
}

/// `[limits]`.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
pub struct Drain {
    /// After this, what still runs is ended (transfers by reset).
    pub deadline: Duration,
    /// A session this long without a command or transfer is ended with 421.
    pub idle: Duration,
}

/// `[audit]`: one line per transfer.
#[derive(Debug, Clone)]
pub struct Audit {
    /// The file, or `None` for standard output.
    pub path: Option<PathBuf>,
    /// The shape of a line.
    pub format: AuditFormat,
}

/// The shape of an audit line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditFormat {
    /// One JSON object.
    Json,
    /// The xferlog(5) of wu-ftpd and ProFTPD.
    Xferlog,
}

/// `[http]`: health and metrics, read-only.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
}

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    /// A `tracing` filter such as `info` or `ftpgate=debug`.
    pub level: String,
    /// The shape of a line.
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// For people.
    Text,
}
