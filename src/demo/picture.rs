//! Two zones, each with a gateway and an endpoint, over one directory.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::endpoint::{self, Endpoint};
use super::{Options, Overview, ZONES, Zone, ZoneOverview};
use crate::config::Config;
use crate::gateway::Gateway;
use crate::http;
use crate::observe::audit::AuditLog;
use crate::observe::metrics::Metrics;

/// What to do about an address that is taken.
const REMEDY: &str = "is another demo running, or another server on this port? \
    Try --port, --http-port or --passive-ports";

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
    /// Starts the endpoints, then the gateways.
    pub(super) async fn start(options: &Options) -> anyhow::Result<Self> {
        let directory = Directory::open(options.directory.as_deref())?;
        let [a, c] = &ZONES;
        let endpoints = [
            start_endpoint(a, options.port, directory.path())?,
            start_endpoint(c, options.port, directory.path())?,
        ];
        let token = CancellationToken::new();
        let running = token.clone().drop_guard();
        let gateways = [
            RunningGateway::start(a, options, &endpoints, token.clone()).await?,
            RunningGateway::start(c, options, &endpoints, token).await?,
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
        }
        Ok(())
    }
}

fn start_endpoint(zone: &Zone, port: u16, directory: &Path) -> anyhow::Result<Endpoint> {
    let address = SocketAddr::from((zone.endpoint, port));
    Endpoint::start(address, zone.greeting, directory).with_context(|| {
        format!("cannot start the endpoint of zone {} on {address}; {REMEDY}", zone.name)
    })
}

// === impl RunningGateway ===

impl RunningGateway {
    async fn start(
        zone: &'static Zone,
        options: &Options,
        endpoints: &[Endpoint],
        token: CancellationToken,
    ) -> anyhow::Result<Self> {
        let config = Config::parse(&config_text(zone, options, endpoints), "demo")?;
        let metrics = Metrics::new()?;
        let audit = AuditLog::disabled(metrics.clone());
        let gateway = Gateway::bind(&config, metrics.clone(), audit)
            .with_context(|| format!("cannot start {}; {REMEDY}", zone.gateway_name))?;
        let control = *gateway.addresses().first().context("a gateway without an address")?;
        let address = SocketAddr::from((zone.gateway, options.http_port));
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot serve the metrics of {} on {address}; {REMEDY}", zone.gateway_name)
        })?;
        let http = listener.local_addr()?;
        let health = gateway.health();
        Ok(Self {
            zone,
            control,
            passive_ports: options.passive_ports.clone(),
            http,
            gateway_task: tokio::spawn(gateway.run(token.clone())),
            http_task: tokio::spawn(http::serve(listener, metrics, health, token)),
        })
    }
}

/// A gateway's configuration, as its file would be.
fn config_text(zone: &Zone, options: &Options, endpoints: &[Endpoint]) -> String {
    let mut text = format!(
        r#"
        [node]
        name = "{name}"
        zone = "{zone}"

        [[listener]]
        address = "{gateway}:{port}"

        [passive]
        ports = "{first}-{last}"

        [upstream]
        passive_ports = "{data_first}-{data_last}"

        [drain]
        deadline = "2s"
        "#,
        name = zone.gateway_name,
        zone = zone.name,
        gateway = zone.gateway,
        port = options.port,
        first = options.passive_ports.start(),
        last = options.passive_ports.end(),
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
