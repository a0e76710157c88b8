//! The lab: the two-VPC topology with the gateways as a pair, and all of AWS that they talk to, in
//! network namespaces. Hosts can be cut off and nodes killed, and clients go by the one name.
//!
//! The gateways' configuration and environment are in [`node`], the addresses in [`network`].

mod chaos;
mod client;
mod cloudwatch;
mod dns_mode;
mod follow;
mod follow_test;
mod handover;
mod http;
mod lease;
mod load;
mod machines;
mod moto;
mod network;
mod network_test;
mod node;
mod orders;
mod overlay;
mod s3;
mod s3_loss;
mod s3_test;
mod soak;
mod stacks;
mod traffic;
mod turn;
mod watching;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use client::Client;
use cloudwatch::CloudWatch;
use follow::{HealthChecks, Resolver, Router};
use moto::RecordSet;
use network::{Host, LabNetwork, Place};
use node::Node;
use s3::S3;
use stacks::Stacks;
use turn::Turn;

use crate::harness::aws::Moto;
use crate::harness::servers::{Kind, Server};
use crate::harness::{PATIENCE, eventually};

/// The private hosted zone.
const ZONE: &str = "ftp-transferfamily.com";
/// The name that clients use.
pub(crate) const NAME: &str = "gw.ftp-transferfamily.com";
/// The bucket of the lease.
const BUCKET: &str = "gateways";
/// The overlay IP.
pub(crate) const OVERLAY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The TTL of the records, and of the lease unless a test says otherwise.
pub(crate) const TTL: Duration = Duration::from_secs(5);
/// How long one transfer may take that is to tell whether clients are served again.
const ATTEMPT: Duration = Duration::from_secs(3);
/// From one question to the next while a gateway is waited for.
const PAUSE: Duration = Duration::from_millis(50);

/// Prints a measurement, and keeps it in `target/lab.txt`.
macro_rules! record {
    ($($text:tt)*) => {{
        let text = format!($($text)*);
        println!("{text}");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/lab.txt");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        std::io::Write::write_all(&mut file.unwrap(), format!("{text}\n").as_bytes()).unwrap();
    }};
}
use record;

/// A number from the environment, for tests that can be longer.
fn environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// How clients are steered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By Route 53, which judges by the gateways' metrics.
    Dns,
    /// By a record that the holder of the lease writes.
    LeaseRecord,
    /// By routes that the holder of the lease writes.
    LeaseOverlay,
}

/// Everything. Fields are dropped in this order.
pub(crate) struct Lab {
    nodes: [Node; 2],
    pub(crate) client: Arc<Client>,
    pub(crate) resolver: Resolver,
    _router: Option<Router>,
    pub(crate) s3: S3,
    pub(crate) cloudwatch: CloudWatch,
    endpoints: [Option<Server>; 2],
    _moto: Moto,
    pub(crate) network: LabNetwork,
    directory: TempDir,
    _turn: Turn,
}

/// What a lab has that others do not.
pub(crate) struct Setup<'a> {
    /// The ports that an endpoint announces.
    pub(crate) passive: &'a str,
    /// A gateway's configuration from the usual one, given its directory.
    pub(crate) edit: &'a dyn Fn(&Path, String) -> String,
    /// What is in a gateway's environment besides, given its directory.
    pub(crate) environment: &'a dyn Fn(&Path) -> Vec<(String, String)>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { passive: "8192-8200", edit: &|_, text| text, environment: &|_| Vec::new() }
    }
}

impl Lab {
    /// A lab with a lease of [`TTL`], whose name leads to a gateway that serves.
    pub(crate) fn start(mode: Mode) -> Self {
        Self::with_ttl(mode, TTL)
    }

    /// The same with another lease.
    pub(crate) fn with_ttl(mode: Mode, ttl: Duration) -> Self {
        Self::with_setup(mode, ttl, &Setup::default())
    }

    /// The same with peculiarities.
    pub(crate) fn with_setup(mode: Mode, ttl: Duration, setup: &Setup<'_>) -> Self {
        let turn = Turn::take();
        let network = LabNetwork::new();
        let directory = TempDir::with_prefix("ftpgate-lab-").unwrap();
        let aws = network.host(Place::Aws);
        let moto = Moto::inside(aws);
        let (s3, cloudwatch) = (S3::start(aws), CloudWatch::start(aws));
        // What an operator sets up once. In the other modes a zone is all that there has to be.
        let stacks = (mode == Mode::Dns).then(|| Stacks::create(aws, mode, &[]));
        let zone = match &stacks {
            Some(stacks) => stacks.zone().to_owned(),
            None => aws.inside(|| moto::create_zone(ZONE)),
        };
        for place in [Place::EndpointA, Place::EndpointC] {
            let record = RecordSet {
                name: format!("{}.{ZONE}", place.name()),
                kind: "A".into(),
                ttl: 1,
                values: vec![place.address().to_string()],
                failover: None,
            };
            aws.inside(|| moto::upsert(&zone, &record));
        }
        let root = directory.path().join("bucket");
        let endpoints = [Place::EndpointA, Place::EndpointC]
            .map(|place| Some(start_endpoint(network.host(place), setup.passive, &root)));
        let vpc = (mode == Mode::LeaseOverlay).then(|| aws.inside(|| moto::create_vpc(OVERLAY)));
        let nodes = Place::GATEWAYS.map(|place| {
            let mut ha = "[ha]\nname = \"{NAME}\"\npeer = \"{PEER}\"\n".to_owned();
            let lease = format!(
                "mode = \"lease\"\n[ha.lease]\nbucket = \"{{BUCKET}}\"\nttl = \"{ttl:?}\"\n"
            );
            ha += &match (&stacks, &vpc) {
                (Some(stacks), _) => format!(
                    "mode = \"dns\"\n[cloudwatch]\n{}interval = \"1s\"\n",
                    stacks.table("cloudwatch")
                ),
                (None, Some(vpc)) => {
                    let host = network.host(place);
                    host.run(&["ip", "address", "add", &format!("{OVERLAY}/32"), "dev", "lo"]);
                    let interface = vpc.interfaces.iter().find(|(of, _)| *of == place).unwrap();
                    format!(
                        "{lease}[ha.route]\naddress = \"{OVERLAY}\"\nroute_tables = [\"{}\"]\n\
                         network_interface = \"{}\"\n",
                        vpc.route_table, interface.1,
                    )
                }
                (None, None) => format!(
                    "{lease}[ha.route53]\nzone_id = \"{zone}\"\nttl = \"{TTL:?}\"\n\
                     addresses = [\"{}\"]\n",
                    place.address(),
                ),
            };
            Node::start(network.host(place), directory.path(), &ha, setup)
        });
        let client = network.host(Place::Client);
        let client = match mode {
            Mode::LeaseOverlay => Client::of_address(client, OVERLAY),
            Mode::Dns | Mode::LeaseRecord => Client::of_name(client, NAME),
        };
        let checks = stacks.map_or_else(HealthChecks::new, |stacks| stacks.alarms);
        let resolver = Resolver::start(aws, &zone, cloudwatch.clone(), checks);
        let router = vpc.map(|vpc| Router::start(aws, vpc, network.routes(), OVERLAY));
        Self {
            nodes,
            client: Arc::new(client),
            resolver,
            _router: router,
            s3,
            cloudwatch,
            endpoints,
            _moto: moto,
            network,
            directory,
            _turn: turn,
        }
    }

    pub(crate) fn node(&self, place: Place) -> &Node {
        &self.nodes[usize::from(place == Place::GatewayC)]
    }

    fn node_mut(&mut self, place: Place) -> &mut Node {
        &mut self.nodes[usize::from(place == Place::GatewayC)]
    }

    /// An endpoint's server, or the place for one that is yet to be started.
    fn endpoint_mut(&mut self, place: Place) -> &mut Option<Server> {
        &mut self.endpoints[usize::from(place == Place::EndpointC)]
    }

    /// What both endpoints serve.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("bucket")
    }

    pub(crate) fn host(&self, place: Place) -> &Host {
        self.network.host(place)
    }

    /// Copies what the gateways have logged to a directory of that name under `target`.
    fn keep_logs(&self, name: &str) -> PathBuf {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
        std::fs::create_dir_all(&kept).unwrap();
        for node in &self.nodes {
            let directory = node.directory();
            let of = directory.file_name().unwrap().to_str().unwrap();
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                let name = entry.file_name().into_string().unwrap();
                if name.starts_with("log.") || name.starts_with("audit.") {
                    std::fs::copy(entry.path(), kept.join(format!("{of}.{name}"))).unwrap();
                }
            }
        }
        kept
    }

    // === faults ===

    pub(crate) fn kill_gateway(&mut self, place: Place) {
        self.node_mut(place).sigkill();
    }

    /// Asks a gateway to end, and waits until it has.
    pub(crate) fn stop_gateway(&mut self, place: Place) {
        assert!(self.node_mut(place).stop(), "its exit code is not 0");
    }

    /// Has a new process take over on that gateway, and waits for the end of the one before.
    pub(crate) fn upgrade_gateway(&mut self, place: Place) {
        let mut before = self.node_mut(place).hand_over();
        assert!(before.wait().success(), "its exit code is not 0: {}", before.output());
    }

    pub(crate) fn restart_gateway(&mut self, place: Place) {
        self.node_mut(place).restart();
    }

    pub(crate) fn cut(&self, place: Place) {
        self.network.cut(place);
    }

    pub(crate) fn mend(&self, place: Place) {
        self.network.mend(place);
    }

    /// Cuts a gateway and its zone's endpoint.
    pub(crate) fn lose_zone(&self, gateway: Place) {
        self.cut(gateway);
        self.cut(gateway.endpoint());
    }

    pub(crate) fn mend_zone(&self, gateway: Place) {
        self.mend(gateway);
        self.mend(gateway.endpoint());
    }

    // === what it does ===

    /// The gateways that say that they are active.
    pub(crate) fn active(&self) -> Vec<Place> {
        Place::GATEWAYS.into_iter().filter(|place| self.node(*place).is_active()).collect()
    }

    /// Waits until that gateway is the only active one.
    pub(crate) fn wait_for_active(&self, place: Place) {
        let what = format!("{} to be active, alone", place.name());
        eventually(&what, || {
            std::thread::sleep(PAUSE);
            (self.active() == [place]).then_some(())
        });
    }

    /// Waits until that gateway says that it is active, whatever one that is lost may say.
    pub(crate) fn wait_for_node(&self, place: Place) {
        eventually(&format!("{} to be active", place.name()), || {
            std::thread::sleep(PAUSE);
            self.node(place).is_active().then_some(())
        });
    }

    /// Waits until both can serve and Route 53 knows, one is active, and clients reach it; which.
    pub(crate) fn wait_until_whole(&self) -> Place {
        eventually("two ready gateways, and clients at the active one", || {
            std::thread::sleep(PAUSE);
            let [active] = self.active()[..] else { return None };
            let ready = Place::GATEWAYS.into_iter().all(|place| self.node(place).is_ready());
            let healthy = ready && self.resolver.all_are_healthy();
            (healthy && self.is_steered_to(active)).then_some(active)
        })
    }

    /// Whether new clients get there.
    fn is_steered_to(&self, gateway: Place) -> bool {
        let host = self.host(Place::Client);
        match self.client.destination {
            client::Destination::Name(_) => host
                .inside(|| client::look_up(NAME))
                .is_ok_and(|(address, _)| address == gateway.address()),
            // Both have the address, and it does not say whose it is.
            client::Destination::Fixed(_) => self.client.transfer_once(ATTEMPT).is_ok(),
        }
    }

    /// What both gateways' `/readyz` say: null for one that does not answer.
    pub(crate) fn reports(&self) -> [Value; 2] {
        Place::GATEWAYS.map(|place| self.node(place).report())
    }

    /// Runs `ftpgate` on a gateway's host, with its configuration.
    pub(crate) fn ftpgate(&self, place: Place, arguments: &[&str]) -> Output {
        self.node(place).ftpgate(arguments)
    }

    /// One complete transfer within `limit`.
    pub(crate) fn transfer_once(&self, limit: Duration) -> Result<Duration, String> {
        self.client.transfer_once(limit)
    }

    /// Transfers until one is complete: how long after `fault` it was.
    pub(crate) fn first_transfer(&self, fault: Instant) -> Duration {
        let deadline = fault + PATIENCE;
        loop {
            let Err(error) = self.transfer_once(ATTEMPT) else { return fault.elapsed() };
            assert!(Instant::now() < deadline, "no transfer since the fault: {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The server of an endpoint, which waits until it greets.
fn start_endpoint(host: &Host, passive: &str, root: &Path) -> Server {
    Server::options(Kind::ApacheFtpServer).inside(host).port(21).passive(passive).root(root).start()
}
