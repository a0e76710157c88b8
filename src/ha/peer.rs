//! The other node, asked every second over its HTTP port whether it can serve and what its role is.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::ask::ask;
use super::clock;
use super::lease::protocol::Moment;
use super::role::Role;
use crate::observe::events::{About, Tone};
use crate::observe::metrics::Metrics;

/// From one question to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same while a hand-over is waited for.
const HASTE: Duration = Duration::from_millis(50);
/// How long connecting may take, and answering.
const LIMIT: Duration = Duration::from_millis(800);
/// An answer older than that says nothing of now.
const FRESH: Duration = Duration::from_secs(4);

/// What the peer last said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    said: Option<Said>,
    /// Why it says nothing now.
    pub(super) trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    ready: bool,
    report: Report,
    at: Moment,
}

/// What of a node's `/readyz` concerns its peer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Report {
    node: String,
    role: Role,
    /// Of the lease, as it saw it last.
    generation: Option<u64>,
    /// Whether what steers clients names it, as far as it knows.
    #[serde(default)]
    steered: bool,
}

impl View {
    fn now(&self) -> Option<&Said> {
        self.said.as_ref().filter(|said| clock::now().saturating_sub(said.at) <= FRESH)
    }

    /// Its name, if it has answered lately.
    pub(super) fn node(&self) -> Option<&str> {
        Some(&self.now()?.report.node)
    }

    /// Whether it can serve, as it said lately.
    pub(super) fn is_ready(&self) -> bool {
        self.now().is_some_and(|said| said.ready)
    }

    /// Its role, as it said lately.
    pub(super) fn role(&self) -> Option<Role> {
        Some(self.now()?.report.role)
    }

    /// Whether it is active by a lease younger than that generation.
    pub(super) fn supersedes(&self, generation: u64) -> bool {
        self.now().is_some_and(|said| said.report.supersedes(generation))
    }
}

impl Report {
    fn supersedes(&self, generation: u64) -> bool {
        self.role == Role::Active && self.generation.is_some_and(|own| own > generation)
    }
}

/// Asks now whether the peer can serve.
///
/// # Errors
///
/// Why it cannot.
pub(super) async fn can_serve(address: SocketAddr) -> Result<(), String> {
    match question(address).await? {
        (true, _) => Ok(()),
        (false, report) => Err(format!("{} says that it is not ready", report.node)),
    }
}

/// Waits until the peer is active by a lease younger than that generation and clients are steered
/// to it; asks much more often than [`follow`].
pub(super) async fn has_taken_over(address: SocketAddr, generation: u64) {
    loop {
        if let Ok((_, report)) = question(address).await
            && report.supersedes(generation)
            && report.steered
        {
            return;
        }
        sleep(HASTE).await;
    }
}

/// Asks for ever.
pub(super) async fn follow(address: SocketAddr, view: watch::Sender<View>, metrics: Metrics) {
    loop {
        let answer = question(address).await;
        let now = clock::now();
        let before = view.borrow().trouble.clone();
        match (&answer, before) {
            (Ok(_), Some(_)) => {
                info!(peer = %address, "the peer answers again");
                metrics.events().changed(About::Peer, Tone::Good, "the peer answers again");
            }
            (Err(why), None) => {
                warn!(peer = %address, %why, "the peer does not answer");
                let text = format!("the peer does not answer: {why}");
                metrics.events().changed(About::Peer, Tone::Bad, &text);
            }
            (Ok(_), None) | (Err(_), Some(_)) => {}
        }
        view.send_modify(|view| match answer {
            Ok((ready, report)) => {
                view.said = Some(Said { ready, report, at: now });
                view.trouble = None;
            }
            Err(why) => view.trouble = Some(why),
        });
        let ready = view.borrow().is_ready();
        metrics.peer(view.borrow().trouble.is_none(), ready);
        sleep(INTERVAL).await;
    }
}

async fn question(address: SocketAddr) -> Result<(bool, Report), String> {
    let connect = timeout(LIMIT, TcpStream::connect(address)).await;
    let stream = connect.map_err(|_| "no connection in time".to_owned())?;
    let stream = stream.map_err(|error| error.to_string())?;
    let answer = ask(stream, Method::GET, "/readyz", LIMIT).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let report = serde_json::from_value(answer.body);
    let report =
        report.map_err(|_| "what answers there is no ftpgate of this version".to_owned())?;
    Ok((answer.status == 200, report))
}
