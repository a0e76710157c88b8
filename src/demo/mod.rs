//! `ftpgate demo`: the whole picture in one process on one Linux machine, without root or AWS.
//!
//! ```text
//! client ──▶ gateway A 127.0.1.1 ─┬─▶ endpoint a 127.0.3.1 ─┬─▶ one directory
//!        ──▶ gateway C 127.0.2.1 ─┴─▶ endpoint c 127.0.4.1 ─┘
//! ```
//!
//! The addresses stand for the four subnets of a VPC: two for gateways, two for endpoints, one of
//! each in zones a and c. Each gateway prefers the endpoint of its own zone and takes the other
//! when that is gone.

mod endpoint;
mod picture;
mod self_test;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use tokio::signal::unix::{Signal, SignalKind, signal};

use picture::Picture;

/// The demo's one user.
pub const USER: &str = "demo";
/// The user's password.
pub const PASSWORD: &str = "demo";

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory behind the endpoints; without one, a temporary one that is removed at the end.
    pub directory: Option<PathBuf>,
    /// The control port of gateways and endpoints; 0 takes a free one for each.
    pub port: u16,
    /// The port of the status page, health and metrics; 0 takes a free one for each gateway.
    pub http_port: u16,
    /// The passive ports of each gateway, on its own address.
    pub passive_ports: RangeInclusive<u16>,
}

impl Default for Options {
    fn default() -> Self {
        Self { directory: None, port: 2121, http_port: 9121, passive_ports: 8192..=8200 }
    }
}

/// What the demo has to tell.
#[derive(Debug, Clone)]
pub enum Event {
    /// Everything is up and waits for clients.
    Ready(Overview),
    /// A step of the self-test is over.
    Step(Step),
    /// All steps of the self-test are over.
    Summary {
        /// How many there were.
        steps: usize,
        /// How many of them failed.
        failed: usize,
        /// From the first to the last.
        took: Duration,
    },
}

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Overview {
    /// One entry for each zone.
    pub zones: Vec<ZoneOverview>,
    /// The directory behind the endpoints.
    pub directory: PathBuf,
}

/// What is in one zone.
#[derive(Debug, Clone)]
pub struct ZoneOverview {
    /// "gateway A".
    pub gateway: &'static str,
    /// The gateway's control port.
    pub control: SocketAddr,
    /// The gateway's health and metrics.
    pub http: SocketAddr,
    /// The endpoint that the gateway prefers.
    pub endpoint: SocketAddr,
}

/// A step of the self-test.
#[derive(Debug, Clone)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Runs the demo until SIGINT or SIGTERM. Each transfer's audit line goes to standard output.
///
/// # Errors
///
/// If something could not be started; the text says which address and what to do.
pub async fn run(options: &Options, tell: &mut (dyn FnMut(Event) + Send)) -> anyhow::Result<()> {
    let mut signals = Signals::watch()?;
    let picture = Picture::start(options, true).await?;
    tell(Event::Ready(picture.overview()));
    signals.stop_asked().await;
    picture.stop().await
}

/// Runs the self-test and ends.
///
/// # Errors
///
/// As [`run`], if a step has failed, and if SIGINT or SIGTERM came before the end.
pub async fn self_test(
    options: &Options,
    tell: &mut (dyn FnMut(Event) + Send),
) -> anyhow::Result<()> {
    let mut signals = Signals::watch()?;
    let mut picture = Picture::start(options, false).await?;
    let tested = tokio::select! {
        tested = self_test::run(&mut picture, tell) => tested,
        () = signals.stop_asked() => Err(anyhow!("interrupted")),
    };
    picture.stop().await?;
    tested
}

/// SIGINT and SIGTERM, watched from before anything is started: by default they would end the
/// process and leave the temporary directory behind.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn watch() -> anyhow::Result<Self> {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
    }

    async fn stop_asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What a zone is called and where its parts are.
#[derive(Debug)]
struct Zone {
    name: &'static str,
    gateway_name: &'static str,
    gateway: Ipv4Addr,
    endpoint: Ipv4Addr,
    greeting: &'static str,
}

const ZONES: [Zone; 2] = [
    Zone {
        name: "a",
        gateway_name: "gateway A",
        gateway: Ipv4Addr::new(127, 0, 1, 1),
        endpoint: Ipv4Addr::new(127, 0, 3, 1),
        greeting: "Endpoint in zone a is ready.",
    },
    Zone {
        name: "c",
        gateway_name: "gateway C",
        gateway: Ipv4Addr::new(127, 0, 2, 1),
        endpoint: Ipv4Addr::new(127, 0, 4, 1),
        greeting: "Endpoint in zone c is ready.",
    },
];
