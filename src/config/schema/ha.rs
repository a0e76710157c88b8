//! `[ha]`, `[cloudwatch]` and `[admin]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::NOWHERE;
use super::proof::bucket_fault;
use crate::config;
use crate::config::report::Fault;
use crate::config::values::{addresses, dns_name, duration, named_address, peer};
use crate::config::{HaMode, Record, Route, Steering};

/// The shortest lease: S3 must answer several times in it.
const MIN_TTL: Duration = Duration::from_secs(1);
/// The shortest interval of reports.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ha {
    mode: Spanned<Mode>,
    #[serde(deserialize_with = "peer")]
    peer: Option<SocketAddr>,
    #[serde(deserialize_with = "dns_name")]
    name: Option<String>,
    lease: Option<Spanned<Lease>>,
    route53: Option<Spanned<Route53>>,
    route: Option<Spanned<OverlayRoute>>,
}

#[derive(Debug, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Dns,
    Lease,
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    bucket: Spanned<String>,
    #[serde(default = "default_key")]
    key: Spanned<String>,
    #[serde(default = "default_ttl")]
    ttl: Spanned<Ttl>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Route53 {
    zone_id: Spanned<String>,
    #[serde(default = "default_ttl")]
    ttl: Spanned<Ttl>,
    #[serde(deserialize_with = "addresses")]
    addresses: Spanned<Vec<IpAddr>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverlayRoute {
    #[serde(deserialize_with = "named_address")]
    address: IpAddr,
    route_tables: Spanned<Vec<String>>,
    network_interface: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CloudWatch {
    namespace: Spanned<String>,
    load_balancer: Spanned<String>,
    interval: Spanned<Ttl>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    enabled: bool,
    socket: PathBuf,
    state: PathBuf,
}

/// A duration whose place in the file is wanted.
#[derive(Debug, Deserialize, Clone, Copy)]
struct Ttl(#[serde(deserialize_with = "duration")] Duration);

// === defaults ===

fn default_key() -> Spanned<String> {
    Spanned::new(NOWHERE, "ftpgate/lease.json".into())
}

fn default_ttl() -> Spanned<Ttl> {
    Spanned::new(NOWHERE, Ttl(Duration::from_secs(5)))
}

impl Default for Ha {
    fn default() -> Self {
        Self {
            mode: Spanned::new(NOWHERE, Mode::None),
            peer: None,
            name: None,
            lease: None,
            route53: None,
            route: None,
        }
    }
}

impl Default for CloudWatch {
    fn default() -> Self {
        Self {
            namespace: Spanned::new(NOWHERE, "ftpgate".into()),
            load_balancer: Spanned::new(NOWHERE, "ftpgate".into()),
            interval: Spanned::new(NOWHERE, Ttl(Duration::from_secs(60))),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            socket: "/run/ftpgate/admin.sock".into(),
            state: "/var/lib/ftpgate/blocks.json".into(),
        }
    }
}

// === faults ===

impl Ha {
    /// What is wrong between the values; `http` is this node's, if it has one.
    pub(super) fn faults(&self, http: Option<SocketAddr>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let (mode, span) = (*self.mode.get_ref(), self.mode.span());
        if mode != Mode::None && self.peer.is_none() {
            faults.push(Fault::at(
                span.clone(),
                "the other node is not known",
                "add ha.peer, the http.address of the other node",
            ));
        }
        let is_elsewhere = |peer: SocketAddr| !peer.ip().is_loopback();
        if mode != Mode::None
            && http.is_none_or(|own| own.ip().is_loopback() && self.peer.is_some_and(is_elsewhere))
        {
            faults.push(Fault::at(
                span.clone(),
                "the peer cannot ask this node",
                "write an http.address that the other node reaches, such as \"0.0.0.0:9121\"",
            ));
        }
        match mode {
            Mode::Lease if self.lease.is_none() => faults.push(Fault::at(
                span,
                "there is no lease",
                "add [ha.lease] with the bucket that holds it",
            )),
            Mode::Dns if self.name.is_none() => faults.push(Fault::at(
                span,
                "the name that Route 53 moves is not known",
                "add ha.name, the name of the failover records",
            )),
            Mode::Lease | Mode::Dns | Mode::None => {}
        }
        let tables = [
            ("lease", self.lease.as_ref().map(Spanned::span)),
            ("route53", self.route53.as_ref().map(Spanned::span)),
            ("route", self.route.as_ref().map(Spanned::span)),
        ];
        for (table, span) in tables {
            if mode != Mode::Lease
                && let Some(span) = span
            {
                faults.push(Fault::at(
                    span,
                    &format!("[ha.{table}] is only for mode = \"lease\""),
                    "write mode = \"lease\" into [ha], or take the table away",
                ));
            }
        }
        if let (Some(route53), Some(_)) = (&self.route53, &self.route) {
            faults.push(Fault::at(
                route53.span(),
                "there is a record and a route to be moved",
                "clients come by one of them: remove [ha.route53] or [ha.route]",
            ));
        }
        if let Some(lease) = &self.lease {
            faults.extend(lease.get_ref().faults());
        }
        if let Some(route53) = &self.route53 {
            if self.name.is_none() {
                faults.push(Fault::at(
                    route53.span(),
                    "the record has no name",
                    "add ha.name, the name that clients use",
                ));
            }
            faults.extend(route53.get_ref().faults());
        }
        if let Some(route) = &self.route {
            faults.extend(route.get_ref().faults());
        }
        faults
    }

    pub(super) fn into_config(self) -> config::Ha {
        let name = self.name;
        let record = self.route53.zip(name.clone()).map(|(table, name)| {
            let table = table.into_inner();
            Steering::Record(Record {
                zone_id: table.zone_id.into_inner(),
                name,
                ttl: table.ttl.into_inner().0,
                addresses: table.addresses.into_inner(),
            })
        });
        let route = self.route.map(|table| {
            let table = table.into_inner();
            Steering::Route(Route {
                address: table.address,
                route_tables: table.route_tables.into_inner(),
                network_interface: table.network_interface.map(Spanned::into_inner),
            })
        });
        let mode = match (self.mode.into_inner(), self.lease) {
            (Mode::Lease, Some(lease)) => {
                let lease = lease.into_inner();
                HaMode::Lease(config::Lease {
                    bucket: lease.bucket.into_inner(),
                    key: lease.key.into_inner(),
                    ttl: lease.ttl.into_inner().0,
                    steering: record.or(route).unwrap_or(Steering::Nothing),
                })
            }
            (Mode::Dns, _) => HaMode::Dns,
            (Mode::Lease | Mode::None, _) => HaMode::Alone,
        };
        config::Ha { mode, peer: self.peer, name }
    }
}

impl Lease {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(bucket_fault(&self.bucket));
        let key = self.key.get_ref();
        if key.is_empty() || key.len() > 1024 || key.starts_with('/') || key.ends_with('/') {
            faults.push(Fault::at(
                self.key.span(),
                "this is no key of an object",
                "write a key such as \"ftpgate/lease.json\", without a slash at either end",
            ));
        }
        if self.ttl.get_ref().0 < MIN_TTL {
            faults.push(Fault::at(
                self.ttl.span(),
                "this lease is too short for S3",
                "write at least \"1s\"; \"5s\" leaves room for a few slow answers",
            ));
        }
        faults
    }
}

impl Route53 {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let id = self.zone_id.get_ref();
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            faults.push(Fault::at(
                self.zone_id.span(),
                "this is no hosted zone ID",
                "write the ID alone, such as \"Z0123456789ABCDEFGHIJ\"",
            ));
        }
        if self.addresses.get_ref().is_empty() {
            faults.push(Fault::at(
                self.addresses.span(),
                "the record would be empty",
                "write the address under which clients reach this node",
            ));
        }
        let ttl = self.ttl.get_ref().0;
        if ttl.subsec_nanos() != 0 || ttl.as_secs() > 86_400 {
            faults.push(Fault::at(
                self.ttl.span(),
                "a record's TTL is in whole seconds, at most a day",
                "\"5s\" makes clients follow soon",
            ));
        }
        faults
    }
}

impl OverlayRoute {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let is_id = |id: &str, kind: &str| {
            id.strip_prefix(kind).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
            })
        };
        let tables = self.route_tables.get_ref();
        if tables.is_empty() || !tables.iter().all(|id| is_id(id, "rtb-")) {
            faults.push(Fault::at(
                self.route_tables.span(),
                "these are no route tables",
                "write the IDs of the clients' route tables, such as [\"rtb-0123456789abcdef0\"]",
            ));
        }
        if let Some(interface) = &self.network_interface
            && !is_id(interface.get_ref(), "eni-")
        {
            faults.push(Fault::at(
                interface.span(),
                "this is no network interface",
                "write its ID, such as \"eni-0123456789abcdef0\", or leave it out for the instance's own",
            ));
        }
        faults
    }
}

impl CloudWatch {
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (key, text) in [("namespace", &self.namespace), ("load_balancer", &self.load_balancer)]
        {
            let value = text.get_ref();
            if !(1..=255).contains(&value.len())
                || value.starts_with(':')
                || !value.bytes().all(|byte| byte.is_ascii_graphic())
            {
                faults.push(Fault::at(
                    text.span(),
                    &format!("CloudWatch takes no such {key}"),
                    "write 1 to 255 letters, digits and punctuation, no colon first",
                ));
            }
        }
        if self.namespace.get_ref().starts_with("AWS/") {
            faults.push(Fault::at(
                self.namespace.span(),
                "AWS keeps namespaces that begin with AWS/ for itself",
                "write another, such as \"ftpgate\"",
            ));
        }
        if self.interval.get_ref().0 < MIN_INTERVAL {
            faults.push(Fault::at(
                self.interval.span(),
                "CloudWatch would be called too often",
                "write at least \"1s\"; \"1m\" is what an alarm of standard resolution sees",
            ));
        }
        faults
    }

    pub(super) fn into_config(self) -> config::CloudWatch {
        config::CloudWatch {
            namespace: self.namespace.into_inner(),
            load_balancer: self.load_balancer.into_inner(),
            interval: self.interval.into_inner().0,
        }
    }
}

impl Admin {
    pub(super) fn into_config(self) -> Option<config::Admin> {
        self.enabled.then_some(config::Admin { socket: self.socket, state: self.state })
    }
}
