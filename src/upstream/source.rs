//! The local addresses that upstream connections leave from (`upstream.source_addresses`).
//!
//! Transfer Family shards its connections by source address and takes only so many from one, and a
//! source address has only so many ephemeral ports for one destination. So a node may have several:
//! each client address hashes to one of them, which its control connection and all its data
//! connections leave from.

use std::io;
use std::net::{IpAddr, SocketAddr};

use prometheus::IntGauge;

use super::choice::hash;
use crate::observe::metrics::Metrics;

/// Where the kernel's range of ephemeral ports is told.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The source addresses of one node.
#[derive(Debug)]
pub(super) struct Sources {
    /// None if the kernel chooses.
    configured: Vec<Source>,
    kernels: Source,
}

/// One source address.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// `None` leaves the choice to the kernel.
    pub(super) address: Option<IpAddr>,
    pub(super) count: SourceCount,
}

/// How many upstream connections leave from one address.
#[derive(Debug, Clone)]
pub struct SourceCount(IntGauge);

/// One upstream connection; it counts while this lives.
#[derive(Debug)]
pub struct SourceUse(IntGauge);

/// A configured source address is not this machine's.
#[derive(Debug, thiserror::Error)]
#[error(
    "upstream.source_addresses: {address} cannot be used ({source}); give it to a network interface of this machine or remove it"
)]
pub struct SourceError {
    address: IpAddr,
    source: io::Error,
}

// === impl Sources ===

impl Sources {
    /// Checks that each address can be bound.
    pub(super) fn new(addresses: &[IpAddr], metrics: &Metrics) -> Result<Self, SourceError> {
        for &address in addresses {
            std::net::UdpSocket::bind((address, 0))
                .map_err(|source| SourceError { address, source })?;
        }
        metrics.upstream_port_limit(ephemeral_ports().unwrap_or_default());
        let source = |address: Option<IpAddr>| Source {
            address,
            count: SourceCount(metrics.upstream_connections(address)),
        };
        let configured = addresses.iter().map(|&address| source(Some(address))).collect();
        Ok(Self { configured, kernels: source(None) })
    }

    /// The sources to connect to `endpoint` from, this client's own first.
    pub(super) fn for_client(&self, client: IpAddr, endpoint: SocketAddr) -> Vec<Source> {
        let mut fitting: Vec<_> = self.fitting(endpoint).cloned().collect();
        if fitting.is_empty() {
            return vec![self.kernels.clone()];
        }
        fitting.sort_by_key(|source| hash(client, source.address));
        fitting
    }

    /// The address that a probe uses: the one with the fewest connections, as one without ports
    /// left says nothing about the endpoint.
    pub(super) fn for_probe(&self, endpoint: SocketAddr) -> Option<IpAddr> {
        self.fitting(endpoint).min_by_key(|source| source.count.0.get())?.address
    }

    /// Those of the endpoint's family.
    fn fitting(&self, endpoint: SocketAddr) -> impl Iterator<Item = &Source> {
        self.configured.iter().filter(move |source| {
            source.address.is_some_and(|address| address.is_ipv4() == endpoint.is_ipv4())
        })
    }
}

// === impl SourceCount, SourceUse ===

impl SourceCount {
    /// One that nobody looks at.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub(crate) fn of_nobody() -> Self {
        Self(IntGauge::new("connections", "of a test").unwrap())
    }

    /// One connection more.
    #[must_use]
    pub fn take(&self) -> SourceUse {
        self.0.inc();
        SourceUse(self.0.clone())
    }
}

impl Drop for SourceUse {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whether a connect failed because the source address has no port left for that destination.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}

/// How many ports one source address has for each destination.
fn ephemeral_ports() -> Option<i64> {
    let range = std::fs::read_to_string(PORT_RANGE).ok()?;
    let mut ends = range.split_whitespace().map(str::parse::<i64>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(last - first + 1)
}
