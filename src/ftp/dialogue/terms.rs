//! What a session begins with.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::Deserialize;

use super::{Permit, Security};

/// What the driver knows of this session's addresses.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The client's control connection is IPv6, so that EPSV 1 makes no sense.
    pub client_ipv6: bool,
    /// There is an IPv4 address for 227 to name.
    pub passive_ipv4: bool,
    /// The upstream is IPv6 and cannot answer PASV.
    pub upstream_ipv6: bool,
    /// Data ports that the upstream may announce.
    pub upstream_ports: RangeInclusive<u16>,
    /// When the upstream connection is lost, go on with another.
    pub resume: bool,
    /// TLS with the client.
    pub security: Security,
    /// Who translates the line ends of TYPE A.
    pub ascii: Ascii,
    /// PORT and EPRT are offered.
    pub active: bool,
    /// The client: nobody else is connected to.
    pub client: IpAddr,
    /// Our address on its control connection.
    pub own_address: IpAddr,
    /// Ports that are ours there.
    pub own_ports: Vec<RangeInclusive<u16>>,
    /// What the client may do before its user is known, if a rule says so.
    pub permit: Option<Arc<Permit>>,
    /// Logins that the upstream refuses are counted ([`Action::Penalise`](super::Action::Penalise)).
    pub penalties: bool,
    /// Where uploads are, and which files are gone from where they were, shall be told
    /// ([`Action::UploadStarted`](super::Action::UploadStarted), [`Action::FileGone`](super::Action::FileGone)).
    pub locate: bool,
}

/// Who translates the line ends of TYPE A, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ascii {
    /// The upstream, or nobody: TYPE A goes there.
    PassThrough,
    /// The gateway, once the client has said TYPE A.
    #[default]
    Translate,
    /// The gateway, until the client says TYPE I (RFC 959 3.1.1.1: the default type is ASCII).
    TranslateByDefault,
}
