//! `[upstream]`, `[dns]` and `[probe]`: what stands behind the gateway and how it is watched.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::NOWHERE;
use super::upstream_tls::UpstreamTls;
use crate::config;
use crate::config::report::Fault;
use crate::config::values::{Ports, duration, endpoint_address, name_servers};
use crate::config::{Depth, EndpointAddress, Family, PassiveHost, SecretSource};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) endpoint: Spanned<Vec<Endpoint>>,
    #[serde(default)]
    choice: Choice,
    #[serde(default)]
    source_addresses: Vec<Spanned<IpAddr>>,
    #[serde(default = "default_connect_timeout", deserialize_with = "duration")]
    connect_timeout: Duration,
    #[serde(default = "default_banner_timeout", deserialize_with = "duration")]
    banner_timeout: Duration,
    #[serde(default = "default_connect_deadline")]
    connect_deadline: Spanned<Seconds>,
    #[serde(default = "default_retry_after", deserialize_with = "duration")]
    retry_after: Duration,
    #[serde(default = "default_lost_after", deserialize_with = "duration")]
    lost_after: Duration,
    #[serde(default = "default_resume")]
    pub(super) resume: bool,
    #[serde(default = "default_passive_ports")]
    passive_ports: Ports,
    #[serde(default)]
    passive_host: Host,
    #[serde(default)]
    tls: UpstreamTls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoint {
    #[serde(deserialize_with = "endpoint_address")]
    pub(super) address: Spanned<EndpointAddress>,
    zone: Option<String>,
}

#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Choice {
    LeastSessions,
    #[default]
    PreferZone,
    SourceHash,
}

#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum Host {
    Announced,
    #[default]
    Control,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Dns {
    #[serde(deserialize_with = "name_servers")]
    servers: Vec<SocketAddr>,
    #[serde(deserialize_with = "duration")]
    timeout: Duration,
    #[serde(deserialize_with = "duration")]
    min_ttl: Duration,
    max_ttl: Spanned<Seconds>,
    family: DnsFamily,
}

/// A duration whose place in the file is wanted.
#[derive(Debug, Deserialize, Clone, Copy)]
struct Seconds(#[serde(deserialize_with = "duration")] Duration);

#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum DnsFamily {
    #[default]
    Any,
    Ipv4,
    Ipv6,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Probe {
    depth: Spanned<ProbeDepth>,
    #[serde(deserialize_with = "duration")]
    interval: Duration,
    #[serde(deserialize_with = "duration")]
    timeout: Duration,
    rise: Spanned<u32>,
    fall: Spanned<u32>,
    user: Option<Spanned<String>>,
    password: Option<Spanned<Secret>>,
    directory: Spanned<String>,
    bucket: Option<String>,
    prefix: Spanned<String>,
    #[serde(deserialize_with = "duration")]
    arrival: Duration,
}

#[derive(Debug, Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum ProbeDepth {
    Banner,
    List,
    Login,
    Off,
    RoundTrip,
    Tcp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    file: Option<PathBuf>,
    environment: Option<String>,
    credential: Option<String>,
    secret: Option<String>,
    key: Option<String>,
    #[serde(default = "default_refresh", deserialize_with = "duration")]
    refresh: Duration,
}

// === defaults ===

fn default_connect_timeout() -> Duration {
    Duration::from_secs(2)
}

fn default_banner_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_connect_deadline() -> Spanned<Seconds> {
    Spanned::new(NOWHERE, Seconds(Duration::from_secs(20)))
}

fn default_retry_after() -> Duration {
    Duration::from_secs(10)
}

fn default_lost_after() -> Duration {
    Duration::from_secs(20)
}

fn default_resume() -> bool {
    true
}

fn default_passive_ports() -> Ports {
    Ports(1024..=65535)
}

fn default_refresh() -> Duration {
    Duration::from_secs(300)
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            min_ttl: Duration::from_secs(1),
            max_ttl: Spanned::new(NOWHERE, Seconds(Duration::from_secs(300))),
            family: DnsFamily::Any,
        }
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            depth: Spanned::new(NOWHERE, ProbeDepth::Banner),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            rise: Spanned::new(NOWHERE, 2),
            fall: Spanned::new(NOWHERE, 2),
            user: None,
            password: None,
            directory: Spanned::new(NOWHERE, "/".into()),
            bucket: None,
            prefix: Spanned::new(NOWHERE, String::new()),
            arrival: Duration::from_secs(30),
        }
    }
}

// === faults ===

impl Upstream {
    /// Its endpoints as they are written.
    pub(super) fn addresses(&self) -> Vec<EndpointAddress> {
        self.endpoint.get_ref().iter().map(|it| it.address.get_ref().clone()).collect()
    }

    /// What is wrong between the values; `listeners` are this node's own.
    pub(super) fn faults(&self, listeners: &[SocketAddr]) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.endpoint.get_ref().is_empty() {
            faults.push(Fault::whole(
                "there is no endpoint",
                "add an [[upstream.endpoint]] with the address of the FTP server",
            ));
        }
        let mut seen = HashSet::new();
        for endpoint in self.endpoint.get_ref() {
            let (span, address) = (endpoint.address.span(), endpoint.address.get_ref());
            if !seen.insert(address) {
                faults.push(Fault::at(
                    span.clone(),
                    "this endpoint is there twice",
                    "remove one of them",
                ));
            }
            let EndpointAddress::Fixed(address) = *address else { continue };
            if address.port() == 0 || address.ip().is_unspecified() {
                faults.push(Fault::at(
                    span.clone(),
                    "nothing can be reached there",
                    "write the FTP server's address and port",
                ));
            }
            if listeners.iter().any(|&listener| config::reaches(address, listener)) {
                faults.push(Fault::at(
                    span,
                    "this endpoint is one of this node's own listeners",
                    "write the address of the FTP server behind the gateway",
                ));
            }
        }
        if self.connect_deadline.get_ref().0 < self.connect_timeout + self.banner_timeout {
            faults.push(Fault::at(
                self.connect_deadline.span(),
                "upstream.connect_deadline is less than one attempt may take",
                "one mute endpoint would use it up: write more than connect_timeout and banner_timeout together, or less for these",
            ));
        }
        let mut seen = HashSet::new();
        for source in &self.source_addresses {
            let address = source.get_ref();
            if address.is_unspecified() || address.is_multicast() || !seen.insert(address) {
                faults.push(Fault::at(
                    source.span(),
                    "each source address must be one of this node's own, and there once",
                    "write the private addresses of this node's network interfaces, or leave the key out",
                ));
            }
        }
        faults.extend(self.tls.faults());
        faults
    }

    pub(super) fn into_config(self) -> config::Upstream {
        config::Upstream {
            endpoints: self
                .endpoint
                .into_inner()
                .into_iter()
                .map(|endpoint| config::Endpoint {
                    address: endpoint.address.into_inner(),
                    zone: endpoint.zone,
                })
                .collect(),
            choice: match self.choice {
                Choice::LeastSessions => config::Choice::LeastSessions,
                Choice::PreferZone => config::Choice::PreferZone,
                Choice::SourceHash => config::Choice::SourceHash,
            },
            source_addresses: self.source_addresses.into_iter().map(Spanned::into_inner).collect(),
            connect_timeout: self.connect_timeout,
            banner_timeout: self.banner_timeout,
            connect_deadline: self.connect_deadline.into_inner().0,
            retry_after: self.retry_after,
            lost_after: self.lost_after,
            resume: self.resume,
            passive_ports: self.passive_ports.0,
            passive_host: match self.passive_host {
                Host::Announced => PassiveHost::Announced,
                Host::Control => PassiveHost::Control,
            },
            tls: self.tls.into_config(),
        }
    }
}

impl Dns {
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.max_ttl.get_ref().0 < self.min_ttl {
            faults.push(Fault::at(
                self.max_ttl.span(),
                "dns.max_ttl is less than dns.min_ttl",
                "an answer is kept for its TTL, but at least min_ttl and at most max_ttl",
            ));
        }
        faults
    }

    pub(super) fn into_config(self) -> config::Dns {
        config::Dns {
            servers: self.servers,
            timeout: self.timeout,
            min_ttl: self.min_ttl,
            max_ttl: self.max_ttl.into_inner().0,
            family: match self.family {
                DnsFamily::Any => Family::Any,
                DnsFamily::Ipv4 => Family::Ipv4,
                DnsFamily::Ipv6 => Family::Ipv6,
            },
        }
    }
}

impl Probe {
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (key, count) in [("rise", &self.rise), ("fall", &self.fall)] {
            if *count.get_ref() == 0 {
                faults.push(Fault::at(
                    count.span(),
                    &format!("probe.{key} must be at least 1"),
                    "write how many probes in a row change an endpoint's state",
                ));
            }
        }
        let depth = *self.depth.get_ref();
        let logs_in = matches!(depth, ProbeDepth::Login | ProbeDepth::List | ProbeDepth::RoundTrip);
        if logs_in && (self.user.is_none() || self.password.is_none()) {
            faults.push(Fault::at(
                self.depth.span(),
                "a probe of this depth logs in",
                "add probe.user and a [probe.password], or use depth = \"banner\"",
            ));
        }
        if matches!(depth, ProbeDepth::RoundTrip) && self.bucket.is_none() {
            faults.push(Fault::at(
                self.depth.span(),
                "a round-trip probe reads its canary back from the bucket",
                "add probe.bucket and probe.prefix, or use depth = \"list\"",
            ));
        }
        let texts =
            [self.user.as_ref().map(|user| ("user", user)), Some(("directory", &self.directory))];
        for (key, text) in texts.into_iter().flatten() {
            if text.get_ref().is_empty() || text.get_ref().contains(char::is_control) {
                faults.push(Fault::at(
                    text.span(),
                    &format!("probe.{key} cannot be sent in an FTP command"),
                    "write it on one line, without control characters",
                ));
            }
        }
        let prefix = self.prefix.get_ref();
        if !prefix.is_empty() && !prefix.ends_with('/') || prefix.starts_with('/') {
            faults.push(Fault::at(
                self.prefix.span(),
                "this is no prefix of keys in a bucket",
                "write what stands before a file's name in its key: \"\" or \"home/probe/\"",
            ));
        }
        if let Some(password) = &self.password {
            faults.extend(password.get_ref().fault(password.span()));
        }
        faults
    }

    pub(super) fn into_config(self) -> config::Probe {
        config::Probe {
            depth: match self.depth.into_inner() {
                ProbeDepth::Off => Depth::Off,
                ProbeDepth::Tcp => Depth::Tcp,
                ProbeDepth::Banner => Depth::Banner,
                ProbeDepth::Login => Depth::Login,
                ProbeDepth::List => Depth::List,
                ProbeDepth::RoundTrip => Depth::RoundTrip,
            },
            interval: self.interval,
            timeout: self.timeout,
            rise: self.rise.into_inner(),
            fall: self.fall.into_inner(),
            user: self.user.map(Spanned::into_inner).unwrap_or_default(),
            password: self.password.and_then(|password| password.into_inner().into_config()),
            directory: self.directory.into_inner(),
            bucket: self
                .bucket
                .map(|name| config::Bucket { name, prefix: self.prefix.into_inner() }),
            arrival: self.arrival,
        }
    }
}

impl Secret {
    fn fault(&self, span: std::ops::Range<usize>) -> Option<Fault> {
        let sources = [
            self.file.is_some(),
            self.environment.is_some(),
            self.credential.is_some(),
            self.secret.is_some(),
        ];
        (sources.into_iter().filter(|&there| there).count() != 1).then(|| {
            Fault::at(
                span,
                "a password comes from one place",
                "write exactly one of file, environment, credential and secret",
            )
        })
    }

    fn into_config(self) -> Option<config::Secret> {
        let sources = [
            self.file.map(SecretSource::File),
            self.environment.map(SecretSource::Environment),
            self.credential.map(SecretSource::Credential),
            self.secret.map(SecretSource::SecretsManager),
        ];
        let source = sources.into_iter().flatten().next()?;
        Some(config::Secret { source, key: self.key, refresh: self.refresh })
    }
}
