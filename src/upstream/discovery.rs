//! Endpoint names and what they resolve to, asked again whenever the answer's TTL is over.
//!
//! The last good answer stays in force until there is a better one: a resolver that fails, is
//! silent or answers nothing takes no endpoint away.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;
use tokio::time::sleep;
use tracing::{info, warn};

use super::endpoints::{Endpoints, is_usable};
use crate::config::{Dns, EndpointAddress, Family, reaches};
use crate::dns::{Found, Names, ResolverError, is_ours};
use crate::observe::metrics::Metrics;

/// Addresses that one name may stand for: a VPC endpoint has one for each zone.
const MAX_ADDRESSES: usize = 64;
/// How long to wait before a failed lookup is tried again; twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(15);

/// Asks for names as `[dns]` says.
#[derive(Debug, Clone)]
pub(super) struct Discovery {
    names: Names,
    dns: Dns,
    /// This node's own listeners: an endpoint there would make it its own client.
    listeners: Arc<[SocketAddr]>,
    metrics: Metrics,
}

/// A name of an `[[upstream.endpoint]]`.
#[derive(Debug, Clone)]
struct Name {
    name: String,
    port: u16,
}

/// What a lookup gave.
#[derive(Default)]
struct Answer {
    addresses: BTreeSet<IpAddr>,
    /// Addresses that must not be connected to.
    refused: BTreeSet<IpAddr>,
    /// From now on.
    ttl: Duration,
}

impl Discovery {
    /// Asks nobody yet.
    pub(super) fn new(
        dns: &Dns,
        listeners: Arc<[SocketAddr]>,
        metrics: Metrics,
    ) -> Result<Self, ResolverError> {
        Ok(Self { names: Names::new(dns)?, dns: dns.clone(), listeners, metrics })
    }

    /// Keeps the endpoints of an entry up to date, for ever, if it is a name.
    pub(super) async fn follow(self, entry: EndpointAddress, endpoints: Arc<Endpoints>) {
        let EndpointAddress::Name { name, port } = &entry else { return };
        let name = Name { name: name.clone(), port: *port };
        let mut known = Known::default();
        let mut failures = 0;
        loop {
            let before = known.clone();
            let wait = match self.resolve(&name, &mut known).await {
                Ok(ttl) => {
                    if failures > 0 {
                        info!(name = name.name, "the name resolves again");
                    }
                    failures = 0;
                    if known != before {
                        endpoints.set(&entry, &known.used(&name));
                    }
                    ttl.clamp(self.dns.min_ttl, self.dns.max_ttl)
                }
                Err(error) => {
                    if failures == 0 {
                        let kept = known.ipv4.len() + known.ipv6.len();
                        warn!(name = name.name, %error, kept, "the name cannot be resolved; its last addresses stay in use");
                    }
                    failures += 1;
                    RETRY_LAST.min(RETRY_FIRST * (1 << (failures - 1).min(8)))
                }
            };
            self.metrics.dns_lookup(&name.name, failures == 0);
            sleep(wait).await;
        }
    }

    /// Asks for both kinds of addresses. Each keeps its last good answer while it fails; one that
    /// has none any more that can be used is given up only if the other has some.
    async fn resolve(&self, name: &Name, known: &mut Known) -> Result<Duration, String> {
        let ask = |wanted: bool, kind| async move {
            if wanted { Some(self.lookup(name, kind).await) } else { None }
        };
        let (ipv4, ipv6) = tokio::join!(
            ask(self.dns.family != Family::Ipv6, RecordType::A),
            ask(self.dns.family != Family::Ipv4, RecordType::AAAA),
        );
        let answers: Vec<&Result<Answer, String>> = ipv4.iter().chain(&ipv6).collect();
        let answered: Vec<&Answer> =
            answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        if !answered.is_empty() {
            let refused = answered.iter().flat_map(|answer| &answer.refused).copied().collect();
            known.refuse(name, refused);
        }
        let good = answered.iter().filter(|answer| !answer.addresses.is_empty());
        let Some(ttl) = good.map(|answer| answer.ttl).min() else {
            let why = answers.iter().find_map(|answer| answer.as_ref().err());
            return Err(why.map_or_else(|| "it has no address to use".to_owned(), Clone::clone));
        };
        if let Some(Ok(answer)) = ipv4 {
            known.ipv4 = answer.addresses;
        }
        if let Some(Ok(answer)) = ipv6 {
            known.ipv6 = answer.addresses;
        }
        Ok(ttl)
    }

    async fn lookup(&self, name: &Name, kind: RecordType) -> Result<Answer, String> {
        let Found { addresses, ttl } = self.names.lookup(&name.name, kind).await?;
        let (addresses, refused) = addresses
            .into_iter()
            .partition(|&ip| is_usable(ip) && !self.is_own(SocketAddr::new(ip, name.port)));
        Ok(Answer { addresses, refused, ttl })
    }

    /// Whether a connection to that address would come back to one of our listeners.
    fn is_own(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|&listener| {
            reaches(address, listener)
                || (address.port() == listener.port()
                    && listener.ip().is_unspecified()
                    && is_ours(address.ip()))
        })
    }
}

/// The last good answers for one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    ipv4: BTreeSet<IpAddr>,
    ipv6: BTreeSet<IpAddr>,
    /// What the latest answers had besides.
    refused: BTreeSet<IpAddr>,
}

impl Known {
    /// Tells of each address once that it is not used.
    fn refuse(&mut self, name: &Name, refused: BTreeSet<IpAddr>) {
        for address in refused.difference(&self.refused).take(MAX_ADDRESSES) {
            warn!(name = name.name, %address, "an address that is no FTP server's, or this node's own, is not used");
        }
        self.refused = refused;
    }

    /// At most [`MAX_ADDRESSES`].
    fn used(&self, name: &Name) -> Vec<SocketAddr> {
        let all = self.ipv4.len() + self.ipv6.len();
        if all > MAX_ADDRESSES {
            warn!(
                name = name.name,
                all,
                used = MAX_ADDRESSES,
                "the name has more addresses than are used"
            );
        }
        let used = self.ipv4.iter().chain(&self.ipv6).take(MAX_ADDRESSES);
        used.map(|&ip| SocketAddr::new(ip, name.port)).collect()
    }
}

/// The zone in a zonal name of a VPC endpoint, `vpce-<id>-<hash>-<zone>.…`.
pub(super) fn zone_of(name: &str) -> Option<&str> {
    let label = name.split('.').next()?;
    let mut parts = label.strip_prefix("vpce-")?.splitn(3, '-');
    let (id, hash, zone) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = id.len() == 17 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hex && hash.len() == 8 && !zone.is_empty()).then_some(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zonal_name_tells_its_zone() {
        let cases = [
            (
                "vpce-0123456789abcdef0-abcdefgh-ap-northeast-1a.server.transfer.ap-northeast-1.vpce.amazonaws.com",
                Some("ap-northeast-1a"),
            ),
            (
                "vpce-0123456789abcdef0-abcdefgh-us-west-2-lax-1a.vpce-svc-0123456789abcdef0.us-west-2.vpce.amazonaws.com",
                Some("us-west-2-lax-1a"),
            ),
            (
                "vpce-0123456789abcdef0-abcdefgh.server.transfer.ap-northeast-1.vpce.amazonaws.com",
                None,
            ),
            ("vpce-ftp-server-one.example.com", None),
            ("ftp.example.com", None),
        ];
        for (name, zone) in cases {
            assert_eq!(zone_of(name), zone, "{name}");
        }
    }
}
