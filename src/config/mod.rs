//! The configuration: one TOML file, read once, checked wholly, handed down by part.
//!
//! `config/ftpgate.toml` documents every key. Nothing below this module sees the file or an
//! optional value that still needs a decision: what is here is ready to use.

mod ha;
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

pub use ha::{Admin, CloudWatch, Ha, HaMode, Lease, Record, Route, Steering};
pub use report::{ConfigError, Fault};

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

    /// The tables and keys in which `new` differs and which a running node cannot take up.
    pub fn fixed_changes(&self, new: &Self) -> Vec<&'static str> {
        let addresses = |config: &Self| -> Vec<SocketAddr> {
            config.listeners.iter().map(|listener| listener.address).collect()
        };
        // What of [upstream] is taken up is made the same.
        let upstream = Upstream {
            passive_ports: self.upstream.passive_ports.clone(),
            passive_host: self.upstream.passive_host,
            resume: self.upstream.resume,
            lost_after: self.upstream.lost_after,
            ..new.upstream.clone()
        };
        [
            ("node", self.node == new.node),
            ("listener.address", addresses(self) == addresses(new)),
            ("tls", self.tls.is_some() == new.tls.is_some()),
            ("passive.ports", self.passive.ports == new.passive.ports),
            ("proxy_protocol", self.proxy_protocol == new.proxy_protocol),
            ("upstream", self.upstream == upstream),
            ("dns", self.dns == new.dns),
            ("probe", self.probe == new.probe),
            ("audit", self.audit == new.audit),
            ("ha", self.ha == new.ha),
            ("cloudwatch", self.cloudwatch == new.cloudwatch),
            ("admin", self.admin == new.admin),
            ("http", self.http == new.http),
            ("log.format", self.log.format == new.log.format),
        ]
        .into_iter()
        .filter_map(|(name, same)| (!same).then_some(name))
        .collect()
    }

    /// This with all that a running node can take up from `new`; see [`Config::fixed_changes`].
    pub fn take_up(&mut self, new: Self) {
        let listeners = match new.listeners.len() == self.listeners.len() {
            true => new
                .listeners
                .into_iter()
                .zip(&self.listeners)
                .map(|(new, old)| Listener { address: old.address, ..new })
                .collect(),
            false => self.listeners.clone(),
        };
        self.listeners = listeners;
        if let (Some(old), Some(new)) = (&mut self.tls, new.tls) {
            *old = new;
        }
        let ports = std::mem::replace(&mut self.passive, new.passive).ports;
        self.passive.ports = ports;
        self.active = new.active;
        self.upstream.passive_ports = new.upstream.passive_ports;
        self.upstream.passive_host = new.upstream.passive_host;
        self.upstream.resume = new.upstream.resume;
        self.upstream.lost_after = new.upstream.lost_after;
        self.timeouts = new.timeouts;
        self.limits = new.limits;
        self.drain = new.drain;
        self.log.level = new.log.level;
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

/// `[[listener]]`: one address for control connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether clients speak TLS.
    pub tls: TlsMode,
    /// Who translates the line ends of TYPE A.
    pub ascii: Ascii,
    /// Whether active mode (PORT, EPRT) is offered.
    pub active: bool,
}

/// Who translates the line ends of TYPE A, and when (RFC 959 3.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ascii {
    /// The upstream, or nobody.
    PassThrough,
    /// The gateway, once the client has said TYPE A.
    #[default]
    Translate,
    /// The gateway, until the client says TYPE I.
    TranslateByDefault,
}

/// Whether the clients of a listener speak TLS (RFC 4217).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// From the first byte (port 990).
    Implicit,
    /// No: AUTH is refused.
    Off,
    /// Those that say AUTH TLS.
    Optional,
    /// All, by AUTH TLS before they log in.
    Required,
}

/// `[tls]`: what clients that speak TLS are shown and must do.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// A PEM file with the certificate and those that lead to its root.
    pub certificate: PathBuf,
    /// A PEM file with its private key.
    pub key: PathBuf,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Whether a client that speaks TLS must protect its data connections (PROT P).
    pub require_data: bool,
    /// Whether data connections must resume the control connection's TLS session, which proves that
    /// they are the same client's.
    pub require_resumption: bool,
    /// How often the two files are looked at for a new certificate.
    pub reload: Duration,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// `[active]`: data connections to clients (RFC 959 PORT, RFC 2428 EPRT).
#[derive(Debug, Clone, PartialEq)]
pub struct Active {
    /// The port that they come from; 0 leaves it to the kernel.
    pub source_port: u16,
}

/// `[passive]`: the shared passive ports (RFC 959 PASV, RFC 2428 EPSV).
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, PartialEq)]
pub struct PassiveOverride {
    /// The clients.
    pub clients: IpNet,
    /// What 227 names for them.
    pub address: IpAddr,
}

/// `[proxy_protocol]`: whose word counts for the addresses of a connection.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyProtocol {
    /// The networks of balancers, whose connections must begin with a header.
    pub trusted: Vec<IpNet>,
    /// How long a header may take.
    pub timeout: Duration,
}

/// `[upstream]`: the FTP service behind the gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its addresses; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Which endpoint a client gets.
    pub choice: Choice,
    /// Local addresses that upstream connections leave from, one for each client; with none of an
    /// endpoint's family the kernel chooses.
    pub source_addresses: Vec<IpAddr>,
    /// How long a TCP connect to an endpoint may take before the next is tried.
    pub connect_timeout: Duration,
    /// How long an endpoint may take to send its banner before the next is tried.
    pub banner_timeout: Duration,
    /// How long all attempts for one client may take together.
    pub connect_deadline: Duration,
    /// How long an endpoint that failed a client is tried last.
    pub retry_after: Duration,
    /// How long an upstream connection may leave data or keepalives unacknowledged.
    pub lost_after: Duration,
    /// Whether sessions go on at another endpoint when theirs is lost.
    pub resume: bool,
    /// The ports that an endpoint may announce for data.
    pub passive_ports: RangeInclusive<u16>,
    /// Whose word counts for the host of a data connection.
    pub passive_host: PassiveHost,
    /// How its connections are encrypted, if they are.
    pub tls: Option<UpstreamTls>,
}

/// `[upstream.tls]`: TLS with the upstream, for control and data connections.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamTls {
    /// Whether it begins with the first byte (port 990), or else by AUTH TLS (RFC 4217).
    pub implicit: bool,
    /// A PEM file with those who may issue its certificate; else those whom the system trusts.
    pub ca: Option<PathBuf>,
    /// The name that its certificate must have; else that of the endpoint.
    pub server_name: Option<String>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// The newest version that is spoken.
    pub max_version: TlsVersion,
}

/// `[[upstream.endpoint]]`: one upstream address, or a name for several.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Where its control port is.
    pub address: EndpointAddress,
    /// Its availability zone, if told.
    pub zone: Option<String>,
}

/// What an endpoint is reached by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// This address.
    Fixed(SocketAddr),
    /// Every address that DNS gives for a name.
    Name {
        /// The name, without a final dot.
        name: String,
        /// The control port.
        port: u16,
    },
}

impl std::fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(address) => address.fmt(f),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// Which of several healthy endpoints a client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The one with the fewest sessions.
    LeastSessions,
    /// One in this node's zone; the one with the fewest sessions among several.
    PreferZone,
    /// The one that the client's address hashes to: always the same while it is healthy.
    SourceHash,
}

/// `[dns]`: how names are resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// Name servers; those of /etc/resolv.conf if there are none.
    pub servers: Vec<SocketAddr>,
    /// How long one server may take to answer.
    pub timeout: Duration,
    /// The least time that an answer is kept.
    pub min_ttl: Duration,
    /// The longest time that an answer is kept.
    pub max_ttl: Duration,
    /// Which addresses are asked for.
    pub family: Family,
}

/// Kinds of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A and AAAA.
    Any,
    /// A.
    Ipv4,
    /// AAAA.
    Ipv6,
}

/// `[probe]`: the active health check of each endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// How far a probe goes.
    pub depth: Depth,
    /// From one probe of an endpoint to the next, give or take a fifth.
    pub interval: Duration,
    /// How long each stage may take.
    pub timeout: Duration,
    /// Good probes in a row that make an endpoint healthy.
    pub rise: u32,
    /// Failed probes in a row that make it unhealthy.
    pub fall: u32,
    /// Who logs in; not empty if the depth needs it.
    pub user: String,
    /// The user's password; there if the depth needs it.
    pub password: Option<Secret>,
    /// Where it lists and stores.
    pub directory: String,
    /// Where a stored file arrives; there if the depth needs it.
    pub bucket: Option<Bucket>,
    /// How long a stored file may take to be in the bucket.
    pub arrival: Duration,
}

/// How far a probe goes; each depth includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Nowhere: only clients find out.
    Off,
    /// It connects.
    Tcp,
    /// It waits for 220.
    Banner,
    /// It logs in.
    Login,
    /// It lists a directory.
    List,
    /// It stores a file and reads it back from the bucket.
    RoundTrip,
}

impl Depth {
    /// All of them, the shallowest first.
    pub const ALL: [Self; 6] =
        [Self::Off, Self::Tcp, Self::Banner, Self::Login, Self::List, Self::RoundTrip];

    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Tcp => "tcp",
            Self::Banner => "banner",
            Self::Login => "login",
            Self::List => "list",
            Self::RoundTrip => "round-trip",
        }
    }
}

/// The S3 bucket behind the FTP service.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What stands before a file's name in its key: empty, or ends in a slash.
    pub prefix: String,
}

/// Where a secret is kept; never its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Secret {
    /// The place.
    pub source: SecretSource,
    /// The key of a JSON object's string that is the secret; the whole content if not told.
    pub key: Option<String>,
    /// How long it is good before it is read again.
    pub refresh: Duration,
}

/// A place for a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A systemd credential of that name (`LoadCredential=`), in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// An environment variable.
    Environment(String),
    /// A file.
    File(PathBuf),
    /// The name or ARN of a secret in AWS Secrets Manager.
    SecretsManager(String),
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
}

/// `[audit]`: one line per transfer.
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
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
