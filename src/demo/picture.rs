//! Two zones, each with a gateway and an endpoint, over one directory.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::endpoint::{self, Endpoint};
use super::{Options, Overview, ZONES, Zone, ZoneOverview};
use crate::config::Config;
use crate::gateway::{Gateway, Inherited, Threads};
use crate::ha::Pair;
use crate::http;
use crate::observe::audit::{AuditLog, AuditWriter};
use crate::observe::metrics::Metrics;

/// Everything that runs. It stops when dropped, and in order by [`Picture::stop`].
pub(super) struct Picture {
    pub(super) gateways: [RunningGateway; 2],
    pub(super) endpoints: [Endpoint; 2],
    directory: Directory,
    /// Stops the gateways when dropped.
    running: DropGuard,
}

/// A gateway at work.
pub(super) struct RunningGateway {
    pub(super) zone: &'static Zone,
    pub(super) control: SocketAddr,
    pub(super) passive_ports: RangeInclusive<u16>,
    http: SocketAddr,
    audit: Option<AuditWriter>,
    gateway_task: JoinHandle<()>,
    http_task: JoinHandle<()>,
}

/// What is behind the endpoints.
enum Directory {
    /// The user's own.
    Kept(PathBuf),
    /// Removed when dropped.
    Temporary(TempDir),
}

// === impl Picture ===

impl Picture {
    /// Starts the endpoints, then the gateways. If `audited`, each transfer's audit line goes to
    /// standard output.
    pub(super) async fn start(options: &Options, audited: bool) -> anyhow::Result<Self> {
        let directory = Directory::open(options.directory.as_deref())?;
        let [a, c] = &ZONES;
        let endpoints = [
            start_endpoint(a, options.port, directory.path())?,
            start_endpoint(c, options.port, directory.path())?,
        ];
        let token = CancellationToken::new();
        let running = token.clone().drop_guard();
        let gateways = [
            RunningGateway::start(a, &config_text(a, options, &endpoints, audited), token.clone())
                .await?,
            RunningGateway::start(c, &config_text(c, options, &endpoints, audited), token).await?,
        ];
        Ok(Self { gateways, endpoints, directory, running })
    }

    /// Where everything is.
    pub(super) fn overview(&self) -> Overview {
        let zones =
            self.gateways.iter().zip(&self.endpoints).map(|(gateway, endpoint)| ZoneOverview {
                gateway: gateway.zone.gateway_name,
                control: gateway.control,
                http: gateway.http,
                endpoint: endpoint.address(),
            });
        Overview { zones: zones.collect(), directory: self.directory.path().to_owned() }
    }

    /// Drains the gateways and waits for them.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        drop(self.running);
        for gateway in self.gateways {
            gateway.gateway_task.await?;
            gateway.http_task.await?;
            if let Some(audit) = gateway.audit {
                audit.finish();
            }
        }
        Ok(())
    }
}

fn start_endpoint(zone: &Zone, port: u16, directory: &Path) -> anyhow::Result<Endpoint> {
    let address = SocketAddr::from((zone.endpoint, port));
    Endpoint::start(address, zone.greeting, directory)
        .map_err(|error| anyhow!("cannot start an endpoint on {address}: {error}; try --port"))
}

// === impl RunningGateway ===

impl RunningGateway {
    async fn start(
        zone: &'static Zone,
        config_text: &str,
        token: CancellationToken,
    ) -> anyhow::Result<Self> {
        let name = zone.gateway_name;
        let config = Config::parse(config_text, "demo")?;
        let metrics = Metrics::new()?;
        let (audit_log, audit) = match &config.audit {
            Some(config) => {
                let (log, writer) = AuditLog::open(config, metrics.clone())?;
                (log, Some(writer))
            }
            None => (AuditLog::disabled(metrics.clone()), None),
        };
        let mut inherited = Inherited::default();
        let threads = Threads::here();
        let gateway = Gateway::bind(&config, &mut inherited, metrics.clone(), audit_log, threads);
        let gateway = gateway.map_err(|error| {
            anyhow!("cannot start {name}: {error}; try --port or --passive-ports")
        })?;
        let control = *gateway.addresses().first().context("a gateway without an address")?;
        let shown = config.http.as_ref().context("a gateway without health and metrics")?;
        let address = shown.address;
        let listener = TcpListener::bind(address).await.map_err(|error| {
            anyhow!("cannot serve the metrics of {name} on {address}: {error}; try --http-port")
        })?;
        let http = listener.local_addr()?;
        let pair = Pair::new(&config, &gateway, metrics.clone())?;
        let node = http::Node::new(shown, &gateway, pair.clone(), metrics);
        pair.run(&TaskTracker::new(), &token);
        Ok(Self {
            zone,
            control,
            passive_ports: config.passive.ports,
            http,
            audit,
            gateway_task: tokio::spawn(gateway.run(token.clone())),
            http_task: tokio::spawn(http::serve(listener, node, token)),
        })
    }
}

/// A gateway's configuration, as its file would be.
fn config_text(zone: &Zone, options: &Options, endpoints: &[Endpoint], audited: bool) -> String {
    let Options { port, http_port, passive_ports, .. } = options;
    let mut text = format!(
        r#"
        [node]
        name = "{name}"
        zone = "{zone}"

        [[listener]]
        address = "{address}:{port}"

        [passive]
        ports = "{first}-{last}"

        [upstream]
        passive_ports = "{data_first}-{data_last}"

        [drain]
        deadline = "2s"
        idle = "500ms"

        # The blocks of a gateway that is installed here are not the demo's.
        [admin]
        enabled = false

        [http]
        address = "{address}:{http_port}"
        "#,
        name = zone.gateway_name,
        zone = zone.name,
        address = zone.gateway,
        first = passive_ports.start(),
        last = passive_ports.end(),
        data_first = endpoint::PASSIVE_PORTS.start(),
        data_last = endpoint::PASSIVE_PORTS.end(),
    );
    for (zone, endpoint) in ZONES.iter().zip(endpoints) {
        text += &format!(
            r#"
        [[upstream.endpoint]]
        address = "{}"
        zone = "{}"
        "#,
            endpoint.address(),
            zone.name
        );
    }
    if audited {
        text += r#"
        [audit]
        path = "-"
        "#;
    }
    text
}

// === impl Directory ===

impl Directory {
    fn open(chosen: Option<&Path>) -> anyhow::Result<Self> {
        match chosen {
            Some(path) => {
                std::fs::create_dir_all(path)
                    .with_context(|| format!("cannot make {}", path.display()))?;
                Ok(Self::Kept(path.canonicalize()?))
            }
            None => {
                let made = tempfile::Builder::new().prefix("ftpgate-demo-").tempdir();
                made.map(Self::Temporary)
                    .context("cannot make a temporary directory; name one by --directory")
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}
