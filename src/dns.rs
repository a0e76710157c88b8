//! Names and their addresses, asked for as `[dns]` says.
//!
//! Nothing is kept here: who asks keeps the last good answer for as long as it sees fit.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use tokio::time::timeout;

use crate::config::Dns;

/// Asks name servers.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    resolver: TokioResolver,
    /// After this no server is waited for any more.
    limit: Duration,
}

/// What a name has of one kind of record, perhaps nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) addresses: Vec<IpAddr>,
    /// From now on.
    pub(crate) ttl: Duration,
}

/// The resolver could not be set up.
#[derive(Debug, thiserror::Error)]
#[error(
    "no name can be resolved: {0}; write name servers into dns.servers or mend /etc/resolv.conf"
)]
pub struct ResolverError(NetError);

impl Names {
    /// Reads /etc/resolv.conf if no servers are configured; asks nobody yet.
    pub(crate) fn new(dns: &Dns) -> Result<Self, ResolverError> {
        let mut builder = if dns.servers.is_empty() {
            Resolver::builder_tokio().map_err(ResolverError)?
        } else {
            let servers = dns.servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = dns.timeout;
        options.attempts = 2;
        // The last good answer is kept elsewhere, and longer than any cache would.
        options.cache_size = 0;
        let resolver = builder.build().map_err(ResolverError)?;
        // Each server may be asked twice, by UDP and by TCP.
        let servers = u32::try_from(dns.servers.len()).unwrap_or(u32::MAX).max(3);
        Ok(Self { resolver, limit: dns.timeout.saturating_mul(4).saturating_mul(servers) })
    }

    /// The addresses in one kind of record, A or AAAA.
    ///
    /// # Errors
    ///
    /// If no server answers in time, or the name does not exist.
    pub(crate) async fn lookup(&self, name: &str, kind: RecordType) -> Result<Found, String> {
        // A name with a dot is whole: no search list.
        let query = if name.contains('.') { format!("{name}.") } else { name.to_owned() };
        match timeout(self.limit, self.resolver.lookup(query, kind)).await {
            Err(_) => Err("no name server answers".into()),
            Ok(Err(error)) if error.is_no_records_found() && !error.is_nx_domain() => {
                Ok(Found { addresses: Vec::new(), ttl: Duration::ZERO })
            }
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(lookup)) => {
                let address = |data: &RData| match data {
                    RData::A(address) => Some(IpAddr::V4(address.0)),
                    RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                    _ => None,
                };
                let records = lookup.answers().iter();
                let addresses = records.filter_map(|record| address(&record.data)).collect();
                let ttl = lookup.valid_until().saturating_duration_since(std::time::Instant::now());
                Ok(Found { addresses, ttl })
            }
        }
    }
}

/// Whether a network interface has that address. To bind it proves nothing: the kernel may have
/// been told to let everything be bound (net.ipv4.ip_nonlocal_bind), as it is on many nodes that
/// share an address.
pub(crate) fn is_ours(ip: IpAddr) -> bool {
    let Ok(mut interfaces) = getifaddrs() else { return false };
    interfaces.any(|interface| {
        let address = interface.address.as_ref();
        let ipv4 = address.and_then(SockaddrStorage::as_sockaddr_in).map(|at| at.ip().into());
        let ipv6 = address.and_then(SockaddrStorage::as_sockaddr_in6).map(|at| at.ip().into());
        ipv4.or(ipv6) == Some(ip)
    })
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    udp.port = address.port();
    tcp.port = address.port();
    NameServerConfig::new(address.ip(), true, vec![udp, tcp])
}
