//! A plain record in Route 53.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{Pointer, Sight};
use crate::aws::route53::{Found, HostedZone, RecordKind, RecordSet};
use crate::config;

/// Its control plane is in us-east-1, on the other side of an ocean maybe.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What Route 53 answers if a change does not fit to what is there.
const UNFIT: &str = "InvalidChangeBatch";

#[derive(Debug)]
pub(super) struct RecordPointer {
    zone: HostedZone,
    name: String,
    ttl: Duration,
    addresses: Vec<IpAddr>,
    /// What was last seen of a type of which this node has no address: it names another node.
    stale: Vec<(RecordKind, RecordSet)>,
}

impl RecordPointer {
    pub(super) fn new(config: &config::Record) -> Self {
        Self {
            zone: HostedZone::new(&config.zone_id, TIMEOUT),
            name: config.name.clone(),
            ttl: config.ttl,
            addresses: config.addresses.clone(),
            stale: Vec::new(),
        }
    }

    fn own(&self, kind: RecordKind) -> BTreeSet<IpAddr> {
        self.addresses.iter().copied().filter(|&ip| RecordKind::of(ip) == kind).collect()
    }
}

impl Pointer for RecordPointer {
    async fn look(&mut self) -> Result<Sight, String> {
        let mut here = true;
        let mut stale = Vec::new();
        let mut seen = Vec::new();
        for kind in RecordKind::ALL {
            let own = self.own(kind);
            match self.zone.get(&self.name, kind).await.map_err(|error| error.to_string())? {
                Found::Nothing => here &= own.is_empty(),
                Found::Plain(set) => {
                    here &= set.addresses == own && set.ttl.as_secs() == self.ttl.as_secs();
                    seen.extend(set.addresses.iter().map(IpAddr::to_string));
                    if own.is_empty() {
                        stale.push((kind, set));
                    }
                }
                Found::Special(what) => {
                    return Err(format!(
                        "{} is {what} in Route 53, not the plain record that ftpgate moves: delete it, or choose another name",
                        self.name
                    ));
                }
            }
        }
        self.stale = stale;
        let target = if seen.is_empty() { "nothing".into() } else { seen.join(" ") };
        Ok(Sight { here, target })
    }

    async fn move_here(&mut self) -> Result<String, String> {
        let moved = self.zone.upsert(&self.name, self.ttl, &self.addresses, &self.stale).await;
        let Err(error) = moved else {
            self.stale.clear();
            let here: Vec<_> = self.addresses.iter().map(IpAddr::to_string).collect();
            return Ok(here.join(" "));
        };
        if error.code() == Some(UNFIT) {
            // Something else is there than was seen last: the next attempt knows it, or this
            // one tells what it is.
            self.look().await?;
        }
        Err(error.to_string())
    }
}
