//! What is behind: endpoints, their names, their probes, and TLS with them.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::TlsVersion;

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

impl EndpointAddress {
    /// Whether it is to be resolved.
    pub fn is_name(&self) -> bool {
        matches!(self, Self::Name { .. })
    }
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
