//! Where clients are being sent: what the name that they use resolves to now.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::{Dns, Family};
use crate::dns::{Found, Names, is_ours};
use crate::observe::events::{About, Tone};
use crate::observe::metrics::Metrics;

/// A name server is asked at most so often, and at least.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60);
/// How long to wait after a lookup that failed.
const RETRY: Duration = Duration::from_secs(5);

/// The last good answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The name's addresses; none before the first good answer.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Whether one of them is this node's.
    pub(super) here: bool,
    /// Why there is no better answer now.
    pub(super) trouble: Option<String>,
}

/// Follows one name.
#[derive(Debug, Clone)]
pub(super) struct Follower {
    pub(super) name: String,
    pub(super) names: Names,
    pub(super) dns: Dns,
    /// Addresses under which clients reach this node, besides those of its interfaces.
    pub(super) own: Vec<IpAddr>,
    pub(super) view: watch::Sender<View>,
    pub(super) metrics: Metrics,
}

impl Follower {
    /// Asks again whenever the answer's TTL is over, for ever.
    pub(super) async fn run(self) {
        let name = &*self.name;
        loop {
            let answer = self.resolve().await;
            self.metrics.dns_lookup(name, answer.is_ok());
            let before = self.view.borrow().clone();
            let (view, pause) = match answer {
                Ok(Found { addresses, ttl }) => {
                    let addresses = BTreeSet::from_iter(addresses);
                    let here = addresses.iter().any(|&ip| self.own.contains(&ip) || is_ours(ip));
                    let view = View { addresses, here, trouble: None };
                    (view, ttl.clamp(SOONEST, LATEST))
                }
                Err(why) => (View { trouble: Some(why), ..before.clone() }, RETRY),
            };
            if let (None, Some(why)) = (&before.trouble, &view.trouble) {
                warn!(name, %why, "the clients' name cannot be resolved");
            }
            if view.addresses != before.addresses {
                info!(name, addresses = ?view.addresses, here = view.here, "clients are sent elsewhere now");
                let whose = if view.here { "this node" } else { "another node" };
                let text = format!("{name} names {whose} now: {:?}", view.addresses);
                self.metrics.events().changed(About::Steering, Tone::Plain, &text);
            }
            self.metrics.clients_sent_here(view.here);
            self.view.send_replace(view);
            sleep(pause).await;
        }
    }

    async fn resolve(&self) -> Result<Found, String> {
        let kinds = match self.dns.family {
            Family::Any => &[RecordType::A, RecordType::AAAA][..],
            Family::Ipv4 => &[RecordType::A],
            Family::Ipv6 => &[RecordType::AAAA],
        };
        let mut all = Found { addresses: Vec::new(), ttl: LATEST };
        for &kind in kinds {
            let found = self.names.lookup(&self.name, kind).await?;
            if !found.addresses.is_empty() {
                all.ttl = all.ttl.min(found.ttl);
                all.addresses.extend(found.addresses);
            }
        }
        if all.addresses.is_empty() { Err("it has no address".into()) } else { Ok(all) }
    }
}
