//! Amazon Route 53: the address records of one name in one hosted zone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use aws_sdk_route53::Client;
use aws_sdk_route53::error::BuildError;
use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType,
};
use tokio::sync::OnceCell;

use super::{ATTEMPTS, AwsError, sdk_config};

const SERVICE: &str = "Route 53";
/// What Route 53 takes a record without a TTL for; only aliases have none.
const NO_TTL: Duration = Duration::ZERO;

/// A hosted zone; nothing is asked before its first use.
#[derive(Debug)]
pub struct HostedZone {
    id: String,
    timeout: Duration,
    client: OnceCell<Client>,
}

/// The type of an address record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

/// A plain ("simple") record set of one name and one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    /// How long resolvers may keep it.
    pub ttl: Duration,
    /// Its values.
    pub addresses: BTreeSet<IpAddr>,
}

/// What a hosted zone has under one name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A plain record set.
    Plain(RecordSet),
    /// One that a plain one must not replace, or cannot; what it is, for people.
    Special(&'static str),
}

impl HostedZone {
    /// The hosted zone of that ID; each operation is over within `timeout`.
    pub fn new(id: &str, timeout: Duration) -> Self {
        Self { id: id.into(), timeout, client: OnceCell::new() }
    }

    /// The record set of that name and type (ListResourceRecordSets).
    ///
    /// # Errors
    ///
    /// [`AwsError`].
    pub async fn get(&self, name: &str, kind: RecordKind) -> Result<Found, AwsError> {
        let list = self.client().await?.list_resource_record_sets().hosted_zone_id(&self.id);
        let list = list.start_record_name(name).start_record_type(kind.to_sdk()).max_items(1);
        let answer = list.send().await.map_err(|error| AwsError::of(SERVICE, &error))?;
        // The list starts there and goes on with whatever comes next.
        let same =
            |set: &ResourceRecordSet| is_same_name(&set.name, name) && set.r#type == kind.to_sdk();
        let set = answer.resource_record_sets.into_iter().next().filter(same);
        Ok(set.map_or(Found::Nothing, |set| Found::of(&set)))
    }

    /// In one step, makes these addresses the only ones of the name's A and of its AAAA record set,
    /// as far as there are any of that type, and deletes those `stale` record sets, which are of
    /// the other type and must be just as they are (ChangeResourceRecordSets).
    ///
    /// # Errors
    ///
    /// [`AwsError`]; its code is `InvalidChangeBatch` if the name has a record set that a plain one
    /// cannot stand beside, or if a stale one is no more as it was.
    pub async fn upsert(
        &self,
        name: &str,
        ttl: Duration,
        addresses: &[IpAddr],
        stale: &[(RecordKind, RecordSet)],
    ) -> Result<(), AwsError> {
        let batch = changes(name, ttl, addresses, stale);
        let batch = batch.map_err(|error| AwsError::Unreachable {
            service: SERVICE,
            cause: error.to_string(),
        })?;
        let change = self.client().await?.change_resource_record_sets().hosted_zone_id(&self.id);
        let answer = change.change_batch(batch).send().await;
        answer.map(|_| ()).map_err(|error| AwsError::of(SERVICE, &error))
    }

    async fn client(&self) -> Result<&Client, AwsError> {
        let make = || async { Ok(Client::new(&sdk_config(self.timeout, ATTEMPTS).await?)) };
        self.client.get_or_try_init(make).await
    }
}

impl RecordKind {
    /// Both, in Route 53's order.
    pub const ALL: [Self; 2] = [Self::A, Self::Aaaa];

    /// The type of the record that holds this address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::A } else { Self::Aaaa }
    }

    fn to_sdk(self) -> RrType {
        match self {
            Self::A => RrType::A,
            Self::Aaaa => RrType::Aaaa,
        }
    }
}

impl Found {
    fn of(set: &ResourceRecordSet) -> Self {
        if set.alias_target.is_some() {
            return Self::Special("an alias");
        }
        if set.failover.is_some() {
            return Self::Special("a failover record");
        }
        if set.set_identifier.is_some() {
            return Self::Special("a record with a set identifier");
        }
        if set.health_check_id.is_some() || set.traffic_policy_instance_id.is_some() {
            return Self::Special("a record with a health check or a traffic policy");
        }
        let values = set.resource_records.iter().flatten();
        Self::Plain(RecordSet {
            ttl: set
                .ttl
                .and_then(|ttl| u64::try_from(ttl).ok())
                .map_or(NO_TTL, Duration::from_secs),
            addresses: values.filter_map(|record| record.value.parse().ok()).collect(),
        })
    }
}

fn changes(
    name: &str,
    ttl: Duration,
    addresses: &[IpAddr],
    stale: &[(RecordKind, RecordSet)],
) -> Result<ChangeBatch, BuildError> {
    let mut batch = ChangeBatch::builder().comment("ftpgate: clients go to the active node");
    for (kind, set) in stale {
        let set = record_set(name, *kind, set)?;
        batch = batch.changes(change(ChangeAction::Delete, set)?);
    }
    for kind in RecordKind::ALL {
        let addresses = addresses.iter().copied().filter(|&ip| RecordKind::of(ip) == kind);
        let set = RecordSet { ttl, addresses: addresses.collect() };
        if !set.addresses.is_empty() {
            let set = record_set(name, kind, &set)?;
            batch = batch.changes(change(ChangeAction::Upsert, set)?);
        }
    }
    batch.build()
}

fn change(action: ChangeAction, set: ResourceRecordSet) -> Result<Change, BuildError> {
    Change::builder().action(action).resource_record_set(set).build()
}

fn record_set(
    name: &str,
    kind: RecordKind,
    set: &RecordSet,
) -> Result<ResourceRecordSet, BuildError> {
    let ttl = i64::try_from(set.ttl.as_secs()).unwrap_or(i64::MAX);
    let mut sdk = ResourceRecordSet::builder().name(name).r#type(kind.to_sdk()).ttl(ttl);
    for address in &set.addresses {
        sdk = sdk.resource_records(ResourceRecord::builder().value(address.to_string()).build()?);
    }
    sdk.build()
}

/// As DNS compares names; Route 53 answers with the dot at the end.
fn is_same_name(a: &str, b: &str) -> bool {
    let bare = |name| str::strip_suffix(name, ".").unwrap_or(name);
    bare(a).eq_ignore_ascii_case(bare(b))
}

#[cfg(test)]
mod tests {
    use aws_sdk_route53::types::{AliasTarget, ResourceRecordSetFailover};

    use super::*;

    fn v4() -> IpAddr {
        "10.0.0.1".parse().unwrap()
    }

    fn v6() -> IpAddr {
        "fd00::1".parse().unwrap()
    }

    #[test]
    fn names_are_compared_as_dns_does() {
        assert!(is_same_name("FTP.example.com.", "ftp.example.com"));
        assert!(!is_same_name("ftp2.example.com.", "ftp.example.com"));
        assert!(!is_same_name("www.ftp.example.com.", "ftp.example.com"));
    }

    #[test]
    fn a_change_upserts_each_type_that_has_an_address() {
        let ttl = Duration::from_secs(5);
        let both = changes("ftp.example.com", ttl, &[v4(), v6()], &[]).unwrap();
        let made: Vec<_> = both.changes.iter().map(|change| &change.action).collect();
        assert_eq!(made, [&ChangeAction::Upsert, &ChangeAction::Upsert]);

        let stale = RecordSet { ttl: Duration::from_secs(60), addresses: BTreeSet::from([v6()]) };
        let one = changes("ftp.example.com", ttl, &[v4()], &[(RecordKind::Aaaa, stale)]).unwrap();
        let [delete, upsert] = &one.changes[..] else { panic!("{one:?}") };
        assert_eq!(delete.action, ChangeAction::Delete);
        let gone = delete.resource_record_set.as_ref().unwrap();
        assert_eq!((gone.r#type.clone(), gone.ttl), (RrType::Aaaa, Some(60)));
        assert_eq!(upsert.action, ChangeAction::Upsert);
        let set = upsert.resource_record_set.as_ref().unwrap();
        assert_eq!((set.r#type.clone(), set.ttl), (RrType::A, Some(5)));
        assert_eq!(set.resource_records.as_ref().unwrap()[0].value, "10.0.0.1");
    }

    #[test]
    fn what_is_not_plain_is_told_apart() {
        let set = || ResourceRecordSet::builder().name("ftp.example.com.").r#type(RrType::A);
        let alias = AliasTarget::builder();
        let alias = alias.hosted_zone_id("Z1").dns_name("x.").evaluate_target_health(false);
        let alias = set().alias_target(alias.build().unwrap()).build().unwrap();
        assert_eq!(Found::of(&alias), Found::Special("an alias"));
        let failover = set().set_identifier("a").failover(ResourceRecordSetFailover::Primary);
        let failover = failover.build().unwrap();
        assert_eq!(Found::of(&failover), Found::Special("a failover record"));
    }
}
