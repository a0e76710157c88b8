//! The endpoints that there are now: those of the configuration and those that its names resolve to.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use prometheus::IntGauge;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::choice::Candidate;
use super::discovery::zone_of;
use super::health::{Health, State};
use super::source::{SourceCount, SourceUse};
use crate::config::{self, EndpointAddress};
use crate::lock::lock;
use crate::observe::events::{About, Tone};
use crate::observe::metrics::Metrics;
use crate::rfc3339;

/// What all endpoints are; cheap to take, never changed in place.
pub(super) type Snapshot = Arc<[Arc<Endpoint>]>;

/// The table of endpoints.
#[derive(Debug)]
pub(super) struct Endpoints {
    /// The `[[upstream.endpoint]]`s, in the order of the configuration.
    entries: Mutex<Vec<Entry>>,
    now: watch::Sender<Snapshot>,
    /// The last session of a draining endpoint has ended.
    left: Arc<Notify>,
    /// Whether endpoints are probed.
    probed: bool,
    metrics: Metrics,
}

/// An `[[upstream.endpoint]]`.
#[derive(Debug)]
struct Entry {
    address: EndpointAddress,
    /// If it is a name.
    name: Option<Arc<str>>,
    /// If it is known.
    zone: Option<Arc<str>>,
    /// What it stands for now.
    found: Vec<SocketAddr>,
}

/// An address that entries stand for, and what they say of it.
struct Found {
    address: SocketAddr,
    zone: Option<Arc<str>>,
    name: Option<Arc<str>>,
}

/// One upstream address.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    known: Mutex<Known>,
    /// Sessions there now; the metric is the count.
    sessions: IntGauge,
    /// No `[[upstream.endpoint]]` stands for it any more.
    draining: AtomicBool,
    left: Arc<Notify>,
    /// A client has failed there: time to probe.
    pub(super) doubt: Notify,
    /// Cancelled when it is gone for good.
    pub(super) gone: CancellationToken,
    metrics: Metrics,
}

/// What is learnt of an endpoint as time goes by.
#[derive(Debug)]
struct Known {
    /// Which `[[upstream.endpoint]]` stand for it, or did.
    entries: Vec<EndpointAddress>,
    zone: Option<Arc<str>>,
    name: Option<Arc<str>>,
    health: Health,
    /// How long each stage of its latest probe took.
    stages: Vec<(&'static str, Duration)>,
    /// When that was.
    probed: Option<SystemTime>,
    /// The state that was told last.
    told: Option<State>,
}

/// One session's place at an endpoint, and one connection of its source address.
#[derive(Debug)]
pub struct Place {
    endpoint: Arc<Endpoint>,
    source: SourceCount,
    _counted: SourceUse,
}

/// What is known of one endpoint, for health answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// Its control port.
    pub address: SocketAddr,
    /// The name that led there, if one did.
    pub name: Option<String>,
    /// Its availability zone, if known.
    pub zone: Option<String>,
    /// "initial", "healthy", "unhealthy" or "draining".
    pub state: &'static str,
    /// Why it is not healthy.
    pub reason: Option<String>,
    /// Sessions there now.
    pub sessions: usize,
    /// How long each stage of its latest probe took, in seconds.
    pub stages: BTreeMap<&'static str, f64>,
    /// When that probe ended, in RFC 3339.
    pub probed: Option<String>,
}

impl EndpointStatus {
    /// Whether it serves.
    pub fn is_healthy(&self) -> bool {
        self.state == State::Healthy.as_str()
    }
}

// === impl Endpoints ===

impl Endpoints {
    /// An empty table.
    pub(super) fn new(probed: bool, metrics: Metrics) -> Self {
        Self {
            entries: Mutex::default(),
            now: watch::Sender::new(Arc::new([])),
            left: Arc::default(),
            probed,
            metrics,
        }
    }

    /// What there is now.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.now.borrow().clone()
    }

    /// Sees every change of [`Endpoints::snapshot`].
    pub(super) fn watch(&self) -> watch::Receiver<Snapshot> {
        self.now.subscribe()
    }

    /// These are the `[[upstream.endpoint]]`s from now on. A name that was there before still stands
    /// for what it did.
    pub(super) fn configure(&self, configured: &[config::Endpoint]) {
        let mut entries = lock(&self.entries);
        let old = std::mem::take(&mut *entries);
        let entry = |config::Endpoint { address, zone }: &config::Endpoint| {
            let known = old.iter().find(|entry| entry.address == *address);
            let (name, found) = match address {
                EndpointAddress::Fixed(address) => (None, vec![*address]),
                EndpointAddress::Name { name, .. } => {
                    (Some(name), known.map(|entry| entry.found.clone()).unwrap_or_default())
                }
            };
            let zone = zone.as_deref().or_else(|| zone_of(name?)).map(Arc::from);
            let name = name.map(|name| Arc::from(name.as_str()));
            Entry { address: address.clone(), name, zone, found }
        };
        *entries = configured.iter().map(entry).collect();
        self.refresh(&entries);
    }

    /// An `[[upstream.endpoint]]` stands for these addresses from now on, if it is still there.
    pub(super) fn set(&self, name: &EndpointAddress, addresses: &[SocketAddr]) {
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.address == *name) {
            entry.found = addresses.to_vec();
            self.refresh(&entries);
        }
    }

    /// Adds and drains endpoints so that they are those that the entries stand for.
    fn refresh(&self, entries: &[Entry]) {
        // An address may be there under several names, of which one tells its zone.
        let mut wanted: Vec<Found> = Vec::new();
        for Entry { zone, name, found, .. } in entries {
            for &address in found {
                match wanted.iter_mut().find(|known| known.address == address) {
                    Some(known) => {
                        known.zone = known.zone.take().or_else(|| zone.clone());
                        known.name = known.name.take().or_else(|| name.clone());
                    }
                    None => wanted.push(Found { address, zone: zone.clone(), name: name.clone() }),
                }
            }
        }
        let old = self.snapshot();
        let mut next: Vec<Arc<Endpoint>> = Vec::with_capacity(wanted.len());
        for Found { address, zone, name } in wanted {
            let known = old.iter().find(|endpoint| endpoint.address == address);
            let endpoint = known.cloned().unwrap_or_else(|| {
                info!(endpoint = %address, zone = zone.as_deref(), "endpoint added");
                Arc::new(Endpoint::new(address, self))
            });
            if endpoint.draining.swap(false, Ordering::Relaxed) {
                info!(endpoint = %address, "endpoint is back");
                endpoint.show();
            }
            let stand = entries.iter().filter(|entry| entry.found.contains(&address));
            let stand = stand.map(|entry| entry.address.clone()).collect();
            endpoint.is_known_as(stand, zone, name);
            next.push(endpoint);
        }
        for endpoint in old.iter() {
            if next.iter().any(|kept| kept.address == endpoint.address) {
                continue;
            }
            if !endpoint.draining.swap(true, Ordering::Relaxed) {
                let sessions = endpoint.sessions();
                info!(endpoint = %endpoint.address, sessions, "endpoint is no longer there: it gets no new session");
                endpoint.show();
            }
            next.push(Arc::clone(endpoint));
        }
        self.publish(next);
    }

    /// Forgets endpoints as soon as they are no longer wanted and have no session left, for ever.
    pub(super) async fn keep_swept(self: Arc<Self>) {
        loop {
            self.left.notified().await;
            self.sweep();
        }
    }

    fn sweep(&self) {
        // The lock that keeps `refresh` from bringing one back meanwhile.
        let _entries = lock(&self.entries);
        let old = self.snapshot();
        if old.iter().any(|endpoint| endpoint.is_done()) {
            self.publish(old.to_vec());
        }
    }

    fn publish(&self, endpoints: Vec<Arc<Endpoint>>) {
        let (done, kept): (Vec<_>, Vec<_>) =
            endpoints.into_iter().partition(|endpoint| endpoint.is_done());
        for endpoint in done {
            info!(endpoint = %endpoint.address, "endpoint removed");
            endpoint.gone.cancel();
            self.metrics.endpoint_removed(endpoint.address);
        }
        self.now.send_replace(kept.into());
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn new(address: SocketAddr, table: &Endpoints) -> Self {
        let metrics = table.metrics.clone();
        metrics.endpoint_added(address);
        let health = Health::new(table.probed);
        let known = Known {
            entries: Vec::new(),
            zone: None,
            name: None,
            health,
            stages: Vec::new(),
            probed: None,
            told: None,
        };
        let endpoint = Self {
            address,
            known: Mutex::new(known),
            sessions: metrics.endpoint_sessions(address),
            draining: AtomicBool::new(false),
            left: Arc::clone(&table.left),
            doubt: Notify::new(),
            gone: CancellationToken::new(),
            metrics,
        };
        endpoint.show();
        endpoint
    }

    fn is_known_as(
        &self,
        entries: Vec<EndpointAddress>,
        zone: Option<Arc<str>>,
        name: Option<Arc<str>>,
    ) {
        let mut known = lock(&self.known);
        known.entries = entries;
        known.zone = zone;
        known.name = name;
    }

    /// Whether one of these `[[upstream.endpoint]]` stands for it; `None` is all of them.
    pub(super) fn is_of(&self, entries: Option<&[EndpointAddress]>) -> bool {
        entries
            .is_none_or(|entries| lock(&self.known).entries.iter().any(|it| entries.contains(it)))
    }

    /// The name that led here, if one did; the first one of the configuration.
    pub(super) fn name(&self) -> Option<Arc<str>> {
        lock(&self.known).name.clone()
    }

    /// Whether an operator means this one: by its address, with or without the port, or its name.
    pub(super) fn is(&self, which: &str) -> bool {
        // As the configuration has it.
        let host = which.strip_suffix(&format!(":{}", self.address.port())).unwrap_or(which);
        which.parse() == Ok(self.address)
            || which.parse() == Ok(self.address.ip())
            || self.name().is_some_and(|name| name.eq_ignore_ascii_case(host))
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn is_done(&self) -> bool {
        self.is_draining() && self.sessions() == 0
    }

    fn sessions(&self) -> usize {
        usize::try_from(self.sessions.get()).unwrap_or_default()
    }

    /// Its state now.
    pub(super) fn state(&self) -> (State, Option<String>) {
        if self.is_draining() {
            return (
                State::Draining,
                Some("no configured name or address stands for it any more".into()),
            );
        }
        lock(&self.known).health.state(Instant::now())
    }

    /// Learns something of its health.
    pub(super) fn learn<T>(&self, what: impl FnOnce(&mut Health) -> T) -> T {
        let learnt = what(&mut lock(&self.known).health);
        self.show();
        learnt
    }

    /// How long each stage of a probe took.
    pub(super) fn set_stages(&self, stages: Vec<(&'static str, Duration)>) {
        let mut known = lock(&self.known);
        known.stages = stages;
        known.probed = Some(SystemTime::now());
    }

    fn show(&self) {
        if self.gone.is_cancelled() {
            // Its series are gone too.
            return;
        }
        let (state, reason) = self.state();
        self.metrics.endpoint_healthy(self.address, state == State::Healthy);
        let before = lock(&self.known).told.replace(state);
        // The first one is what it is taken for before anybody has looked.
        if before.is_some_and(|before| before != state) {
            let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let tone = if state == State::Draining {
                Tone::Plain
            } else {
                Tone::of(state == State::Healthy)
            };
            let text = format!("{} is {}{why}", self.address, state.as_str());
            self.metrics.events().changed(About::Endpoint, tone, &text);
        }
    }

    /// What counts when a client is to be sent somewhere; `None` if it is to get nobody.
    pub(super) fn candidate(&self, our_zone: Option<&str>) -> Option<Candidate> {
        if self.is_draining() {
            return None;
        }
        let known = lock(&self.known);
        Some(Candidate {
            address: self.address,
            near: our_zone.is_some() && known.zone.as_deref() == our_zone,
            sessions: self.sessions(),
            avoided: known.health.is_avoided(Instant::now()),
        })
    }

    /// A place for a session.
    pub(super) fn take(self: &Arc<Self>, source: SourceCount) -> Place {
        self.sessions.inc();
        Place { endpoint: Arc::clone(self), _counted: source.take(), source }
    }

    /// Its metric follows: time alone may have changed its state.
    pub(super) fn status(&self) -> EndpointStatus {
        self.show();
        let (state, reason) = self.state();
        let known = lock(&self.known);
        EndpointStatus {
            address: self.address,
            name: known.name.as_deref().map(Into::into),
            zone: known.zone.as_deref().map(Into::into),
            state: state.as_str(),
            reason,
            sessions: self.sessions(),
            stages: (known.stages.iter())
                .map(|(stage, duration)| (*stage, duration.as_secs_f64()))
                .collect(),
            probed: known.probed.map(rfc3339::text),
        }
    }
}

// === impl Place ===

impl Place {
    /// The session's connection was lost: time to probe the endpoint.
    pub fn doubt(&self) {
        self.endpoint.doubt.notify_one();
    }

    /// Where the session's data connections count: they leave from the same source address.
    pub fn source(&self) -> SourceCount {
        self.source.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.endpoint.sessions.dec();
        if self.endpoint.is_done() {
            self.endpoint.left.notify_one();
        }
    }
}

/// Whether a client could be sent to this address at all: what a broken or hostile name server
/// answers may be nobody's address, or everybody's.
pub(super) fn is_usable(address: IpAddr) -> bool {
    let canonical = address.to_canonical();
    let broadcast = matches!(canonical, IpAddr::V4(ip) if ip.is_broadcast());
    !canonical.is_unspecified() && !canonical.is_multicast() && !broadcast
}
