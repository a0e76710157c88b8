//! The file as serde reads it, and the checks that turn it into a [`Config`].
//!
//! What concerns one value is checked while it is read; what concerns several is checked here,
//! all of it, so that one run tells every fault.

mod access;
mod ha;
mod proof;
mod proxy_protocol;
mod tls;
mod upstream;
mod upstream_tls;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::report::Fault;
use super::values::{Ports, address, duration, filter, named_address, passive_address, zone};
use super::{Ascii, Config, PassiveAddress, TlsMode, Zone};
use access::{Access, Others};
use ha::{Admin, CloudWatch, Ha};
use proof::{Audit, Verify};
use proxy_protocol::ProxyProtocol;
use tls::Tls;
use upstream::{Dns, Probe, Upstream};

/// Reads and checks the text.
pub(super) fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    let file: File = toml::from_str(text).map_err(|error| vec![Fault::from_toml(&error)])?;
    let faults = file.faults();
    if faults.is_empty() { Ok(file.into_config()) } else { Err(faults) }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    node: Node,
    #[serde(default = "default_listeners")]
    listener: Vec<Listener>,
    tls: Option<Tls>,
    #[serde(default)]
    passive: Passive,
    #[serde(default)]
    active: Active,
    #[serde(default)]
    proxy_protocol: ProxyProtocol,
    #[serde(default)]
    access: Access,
    upstream: Upstream,
    #[serde(default)]
    dns: Dns,
    #[serde(default)]
    probe: Probe,
    #[serde(default)]
    timeouts: Timeouts,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    drain: Drain,
    audit: Option<Audit>,
    verify: Option<Verify>,
    #[serde(default)]
    ha: Ha,
    cloudwatch: Option<CloudWatch>,
    #[serde(default)]
    admin: Admin,
    #[serde(default)]
    http: Http,
    #[serde(default)]
    log: Log,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Node {
    name: Option<String>,
    #[serde(deserialize_with = "zone")]
    zone: Zone,
    threads: Option<NonZeroU8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listener {
    #[serde(deserialize_with = "address")]
    address: Spanned<SocketAddr>,
    #[serde(default = "off")]
    tls: Spanned<TlsMode>,
    #[serde(default)]
    ascii: Ascii,
    #[serde(default = "yes")]
    active: bool,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Active {
    source_port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Passive {
    ports: Spanned<Ports>,
    #[serde(deserialize_with = "passive_address")]
    address: PassiveAddress,
    #[serde(rename = "override")]
    overrides: Vec<PassiveOverride>,
    #[serde(deserialize_with = "duration")]
    reservation: Duration,
    #[serde(deserialize_with = "duration")]
    wait: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PassiveOverride {
    clients: IpNet,
    #[serde(deserialize_with = "named_address")]
    address: IpAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Timeouts {
    #[serde(deserialize_with = "duration")]
    login: Duration,
    #[serde(deserialize_with = "duration")]
    idle: Duration,
    #[serde(deserialize_with = "duration")]
    data_connect: Duration,
    #[serde(deserialize_with = "duration")]
    data_idle: Duration,
    #[serde(deserialize_with = "duration")]
    reply: Duration,
    #[serde(deserialize_with = "duration")]
    tls_handshake: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    sessions: Spanned<usize>,
    sessions_per_client: Spanned<usize>,
    line_length: Spanned<usize>,
    reply_size: Spanned<usize>,
    commands_per_second: Spanned<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Drain {
    #[serde(deserialize_with = "duration")]
    deadline: Duration,
    #[serde(deserialize_with = "duration")]
    idle: Duration,
    #[serde(deserialize_with = "duration")]
    handover_deadline: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    enabled: bool,
    #[serde(deserialize_with = "address")]
    address: Spanned<SocketAddr>,
    page: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Log {
    #[serde(deserialize_with = "filter")]
    level: String,
    format: LogFormat,
}

#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum LogFormat {
    Journald,
    Json,
    #[default]
    Text,
}

// === defaults ===

/// Not from the file: it has no place there.
const NOWHERE: std::ops::Range<usize> = 0..0;

fn default_listeners() -> Vec<Listener> {
    vec![Listener {
        address: Spanned::new(NOWHERE, ([0, 0, 0, 0], 21).into()),
        tls: off(),
        ascii: Ascii::default(),
        active: yes(),
    }]
}

fn off() -> Spanned<TlsMode> {
    Spanned::new(NOWHERE, TlsMode::Off)
}

fn yes() -> bool {
    true
}

impl Default for Passive {
    fn default() -> Self {
        Self {
            ports: Spanned::new(NOWHERE, Ports(8192..=8200)),
            address: PassiveAddress::Auto,
            overrides: Vec::new(),
            reservation: Duration::from_secs(60),
            wait: Duration::from_secs(5),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            login: Duration::from_secs(60),
            idle: Duration::from_secs(1800),
            data_connect: Duration::from_secs(60),
            data_idle: Duration::from_secs(300),
            reply: Duration::from_secs(600),
            tls_handshake: Duration::from_secs(10),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: Spanned::new(NOWHERE, 10_000),
            sessions_per_client: Spanned::new(NOWHERE, 500),
            line_length: Spanned::new(NOWHERE, 4096),
            reply_size: Spanned::new(NOWHERE, 1024 * 1024),
            commands_per_second: Spanned::new(NOWHERE, 10_000),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(300),
            idle: Duration::from_secs(5),
            handover_deadline: Duration::from_secs(3600),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            enabled: true,
            address: Spanned::new(NOWHERE, ([127, 0, 0, 1], 9121).into()),
            page: true,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

// === File ===

impl File {
    /// What is wrong between the values.
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let passive = &self.passive.ports.get_ref().0;
        if self.listener.is_empty() {
            faults.push(Fault::whole(
                "there is no listener",
                "add a [[listener]] with an address, or leave it out for 0.0.0.0:21",
            ));
        }
        let mut seen = HashSet::new();
        for listener in &self.listener {
            let (span, address) = (listener.address.span(), *listener.address.get_ref());
            if address.port() != 0 && !seen.insert(address) {
                faults.push(Fault::at(
                    span.clone(),
                    "this listener is there twice",
                    "remove one of them",
                ));
            }
            if passive.contains(&address.port()) {
                faults.push(Fault::at(
                    span,
                    "this listener's port is one of passive.ports",
                    "control and data connections need ports of their own: change one of the two",
                ));
            }
        }
        let encrypted = self.listener.iter().find(|it| *it.tls.get_ref() != TlsMode::Off);
        match (&self.tls, encrypted) {
            (None, Some(listener)) => faults.push(Fault::at(
                listener.tls.span(),
                "this listener speaks TLS and there is no certificate",
                "add a [tls] with a certificate and its key",
            )),
            (Some(tls), _) => faults.extend(tls.faults()),
            (None, None) => {}
        }
        let listeners: Vec<_> =
            self.listener.iter().map(|listener| *listener.address.get_ref()).collect();
        faults.extend(self.upstream.faults(&listeners));
        faults.extend(self.access.faults(&Others {
            listeners: &listeners,
            endpoints: &self.upstream.addresses(),
            resume: self.upstream.resume,
        }));
        faults.extend(self.dns.faults());
        faults.extend(self.probe.faults());
        if self.http.enabled
            && self.listener.iter().any(|listener| {
                listener.address.get_ref() == self.http.address.get_ref()
                    && self.http.address.get_ref().port() != 0
            })
        {
            faults.push(Fault::at(
                self.http.address.span(),
                "http.address is also a listener",
                "give it a port of its own",
            ));
        }
        faults.extend(self.limits.faults());
        let http = self.http.enabled.then(|| *self.http.address.get_ref());
        faults.extend(self.ha.faults(http));
        faults.extend(self.audit.iter().flat_map(Audit::faults));
        faults.extend(self.verify.iter().flat_map(Verify::faults));
        faults.extend(self.cloudwatch.iter().flat_map(CloudWatch::faults));
        faults
    }

    fn into_config(self) -> Config {
        Config {
            node: super::Node {
                name: self.node.name.unwrap_or_else(|| {
                    rustix::system::uname().nodename().to_string_lossy().into_owned()
                }),
                zone: self.node.zone,
                threads: self.node.threads,
            },
            listeners: self
                .listener
                .into_iter()
                .map(|listener| super::Listener {
                    address: listener.address.into_inner(),
                    tls: listener.tls.into_inner(),
                    ascii: listener.ascii,
                    active: listener.active,
                })
                .collect(),
            tls: self.tls.map(Tls::into_config),
            passive: super::Passive {
                ports: self.passive.ports.into_inner().0,
                address: self.passive.address,
                overrides: self
                    .passive
                    .overrides
                    .into_iter()
                    .map(|entry| super::PassiveOverride {
                        clients: entry.clients,
                        address: entry.address,
                    })
                    .collect(),
                reservation: self.passive.reservation,
                wait: self.passive.wait,
            },
            active: super::Active { source_port: self.active.source_port },
            proxy_protocol: self.proxy_protocol.into_config(),
            access: self.access.into_config(),
            upstream: self.upstream.into_config(),
            dns: self.dns.into_config(),
            probe: self.probe.into_config(),
            timeouts: super::Timeouts {
                login: self.timeouts.login,
                idle: self.timeouts.idle,
                data_connect: self.timeouts.data_connect,
                data_idle: self.timeouts.data_idle,
                reply: self.timeouts.reply,
                tls_handshake: self.timeouts.tls_handshake,
            },
            limits: super::Limits {
                sessions: self.limits.sessions.into_inner(),
                sessions_per_client: self.limits.sessions_per_client.into_inner(),
                line_length: self.limits.line_length.into_inner(),
                reply_size: self.limits.reply_size.into_inner(),
                commands_per_second: self.limits.commands_per_second.into_inner(),
            },
            drain: super::Drain {
                deadline: self.drain.deadline,
                idle: self.drain.idle,
                handover_deadline: self.drain.handover_deadline,
            },
            audit: self.audit.map(Audit::into_config),
            verify: self.verify.map(Verify::into_config),
            ha: self.ha.into_config(),
            cloudwatch: self.cloudwatch.map(CloudWatch::into_config),
            admin: self.admin.into_config(),
            http: self.http.enabled.then(|| super::Http {
                address: self.http.address.into_inner(),
                page: self.http.page,
            }),
            log: super::Log {
                level: self.log.level,
                format: match self.log.format {
                    LogFormat::Journald => super::LogFormat::Journald,
                    LogFormat::Json => super::LogFormat::Json,
                    LogFormat::Text => super::LogFormat::Text,
                },
            },
        }
    }
}

impl Limits {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let zeroes = [
            (self.sessions.span(), *self.sessions.get_ref() == 0),
            (self.sessions_per_client.span(), *self.sessions_per_client.get_ref() == 0),
            (self.commands_per_second.span(), *self.commands_per_second.get_ref() == 0),
        ];
        for (span, zero) in zeroes {
            if zero {
                faults.push(Fault::at(
                    span,
                    "a limit of 0 would let nobody in",
                    "write how many there may be",
                ));
            }
        }
        if !(512..=65_536).contains(self.line_length.get_ref()) {
            faults.push(Fault::at(
                self.line_length.span(),
                "limits.line_length must be from 512 to 65536",
                "4096 holds every path that Transfer Family takes",
            ));
        }
        if !(4096..=64 * 1024 * 1024).contains(self.reply_size.get_ref()) {
            faults.push(Fault::at(
                self.reply_size.span(),
                "limits.reply_size must be from 4096 to 67108864",
                "1048576 holds a STAT of some ten thousand files",
            ));
        }
        faults
    }
}
