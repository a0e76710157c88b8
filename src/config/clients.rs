//! What clients get: listeners, TLS, passive and active mode, and a balancer before us.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::Ascii;

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
