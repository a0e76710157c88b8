//! The FTP service behind the gateway: which endpoints there are, how they are, which one a
//! session gets, and the connection to it.
//!
//! | file | what it holds |
//! |---|---|
//! | `choice` | the order in which a client tries the endpoints |
//! | `connect` | one attempt: connect, banner, TLS |
//! | `discovery` | names, resolved again and again |
//! | `endpoints` | the table of endpoints and who has a session there |
//! | `health` | what probes and clients' attempts say of one endpoint |
//! | `probing` | when each endpoint is probed |
//! | `source` | the local addresses that connections leave from |
//! | `zone` | this node's own availability zone |
//!
//! Sessions never wait for any of it: they take what is known at the moment. Only a client that
//! comes before any name has been resolved waits for the first answer.

mod choice;
mod connect;
mod discovery;
mod endpoints;
mod health;
mod probing;
mod source;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::{self, Choice, Config, Depth, EndpointAddress};
pub use crate::dns::ResolverError;
use crate::ftp::Reply;
use crate::ftp::reply::Replies;
use crate::observe::metrics::{ConnectResult, Metrics};
use crate::probe::Prober;
use crate::tls::{Connector, TrustError, UpstreamTls};
use choice::Candidate;
pub use connect::UpstreamLink;
use connect::{Failure, Greeted, Limits, greet};
use discovery::Discovery;
use endpoints::{Endpoint, Endpoints};
pub use endpoints::{EndpointStatus, Place};
pub use health::State;
pub use probing::{NotProbed, Probed, ProbedStage};
use source::Sources;
pub use source::{SourceCount, SourceError, SourceUse};
use zone::Zone;

/// How often all endpoints are tried for one client, if there is time.
const ROUNDS: u32 = 3;
/// How long to wait before they are all tried again; twice as long the second time. After a
/// failover every client comes at once, and an endpoint's queue of connections may be full.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// The endpoints of one upstream, with what is known of each. Clones share them.
#[derive(Debug, Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Replaced as a whole by a reload.
    terms: watch::Sender<Arc<Terms>>,
    probe: config::Probe,
    prober: Prober,
    dns: config::Dns,
    /// This node's own.
    listeners: Arc<[SocketAddr]>,
    /// There once it was needed.
    discovery: OnceLock<Discovery>,
    endpoints: Arc<Endpoints>,
    sources: Sources,
    zone: Zone,
    /// None if it has no TLS.
    tls: Option<Connector>,
    metrics: Metrics,
}

/// What of the configuration may change.
#[derive(Debug)]
struct Terms {
    upstream: config::Upstream,
    handshake: Duration,
    reply_size: usize,
}

/// A control connection on which the upstream has said its banner.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub stream: TcpStream,
    /// Its reader, with whatever came behind the banner.
    pub replies: Replies,
    /// The banner: 220, all its lines.
    pub banner: Reply,
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// Its TLS, if it has: what is sent and read must go through it.
    pub tls: Option<UpstreamLink>,
    /// The session's place there, to be kept as long as the connection.
    pub place: Place,
}

/// Every endpoint was tried and none answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no endpoint answers")]
pub struct NoEndpoint;

/// The upstream side cannot work as configured.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The resolver.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// A source address.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Whom it trusts.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Upstream {
    /// The configured endpoints; nobody is asked anything before [`Upstream::run`]. `listeners` are
    /// this node's own.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If a source address is not this machine's, no resolver can be set up though there are names,
    /// or the authorities for TLS cannot be read.
    pub fn new(
        config: &Config,
        listeners: Vec<SocketAddr>,
        metrics: Metrics,
    ) -> Result<Self, UpstreamError> {
        let endpoints = Endpoints::new(config.probe.depth != Depth::Off, metrics.clone());
        endpoints.configure(&config.upstream.endpoints);
        let inner = Inner {
            terms: watch::Sender::new(Arc::new(Terms::new(config))),
            probe: config.probe.clone(),
            prober: Prober::new(&config.probe, &config.node.name),
            dns: config.dns.clone(),
            listeners: listeners.into(),
            discovery: OnceLock::new(),
            endpoints: Arc::new(endpoints),
            sources: Sources::new(&config.upstream.source_addresses, &metrics)?,
            zone: Zone::new(&config.node.zone),
            tls: config.upstream.tls.as_ref().map(Connector::load).transpose()?,
            metrics,
        };
        inner.discover(&config.upstream)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Other endpoints, another choice and other time-outs from now on. Sessions stay where they
    /// are, also at an endpoint that is no longer among them.
    ///
    /// # Errors
    ///
    /// If there is a name now and no resolver can be set up. Nothing has changed.
    pub fn take_up(&self, config: &Config) -> Result<(), ResolverError> {
        self.inner.discover(&config.upstream)?;
        self.inner.endpoints.configure(&config.upstream.endpoints);
        self.inner.terms.send_replace(Arc::new(Terms::new(config)));
        Ok(())
    }

    /// Resolves names, probes endpoints and forgets what is gone, until `closed`.
    pub fn run(&self, tasks: &TaskTracker, closed: &CancellationToken) {
        let inner = &self.inner;
        let follow = follow_names(Arc::clone(inner), tasks.clone(), closed.clone());
        tasks.spawn(closed.clone().run_until_cancelled_owned(follow));
        let sweep = Arc::clone(&inner.endpoints).keep_swept();
        tasks.spawn(closed.clone().run_until_cancelled_owned(sweep));
        let learn = Arc::clone(inner);
        let learn = async move { learn.zone.learn().await };
        tasks.spawn(closed.clone().run_until_cancelled_owned(learn));
        if inner.probe.depth != Depth::Off {
            let probing = probing::probe_all(self.clone(), tasks.clone(), closed.clone());
            tasks.spawn(closed.clone().run_until_cancelled_owned(probing));
        }
    }

    /// Tries one endpoint after the other until one says 220, and all of them again if none did
    /// and there is time. The total is bounded by `upstream.connect_deadline`. With `only`, no
    /// endpoint counts but those of these `[[upstream.endpoint]]`.
    ///
    /// # Errors
    ///
    /// If there is no endpoint, or none answered in that time.
    pub async fn connect(
        &self,
        client: IpAddr,
        only: Option<&[EndpointAddress]>,
    ) -> Result<Connected, NoEndpoint> {
        self.connect_avoiding(client, None, only).await
    }

    /// The same for a session whose connection to `lost` is no more: that endpoint is tried last,
    /// though for others it may be as good as ever.
    ///
    /// # Errors
    ///
    /// As for [`Upstream::connect`].
    pub async fn connect_again(
        &self,
        client: IpAddr,
        lost: SocketAddr,
        only: Option<&[EndpointAddress]>,
    ) -> Result<Connected, NoEndpoint> {
        self.connect_avoiding(client, Some(lost), only).await
    }

    /// Whether an endpoint is one of these `[[upstream.endpoint]]`, or all count.
    pub fn is_among(&self, endpoint: SocketAddr, only: Option<&[EndpointAddress]>) -> bool {
        let there = self.inner.endpoints.snapshot();
        only.is_none() || there.iter().any(|it| it.address == endpoint && it.is_of(only))
    }

    async fn connect_avoiding(
        &self,
        client: IpAddr,
        lost: Option<SocketAddr>,
        only: Option<&[EndpointAddress]>,
    ) -> Result<Connected, NoEndpoint> {
        let terms = Arc::clone(&self.inner.terms.borrow());
        let config = &terms.upstream;
        let deadline = Instant::now() + config.connect_deadline;
        let mut endpoints = self.inner.endpoints.watch();
        let come = endpoints.wait_for(|there| there.iter().any(|it| it.is_of(only)));
        if timeout_at(deadline, come).await.is_err() {
            return Err(NoEndpoint);
        }
        for round in 0..ROUNDS {
            if round > 0 {
                let until = Instant::now() + ROUND_PAUSE * round;
                if until >= deadline {
                    break;
                }
                sleep_until(until).await;
            }
            let order = self.in_order(config.choice, client, lost);
            for endpoint in order.into_iter().filter(|it| it.is_of(only)) {
                if Instant::now() >= deadline {
                    return Err(NoEndpoint);
                }
                if let Some(connected) = self.attempt(&terms, &endpoint, client, deadline).await {
                    return Ok(connected);
                }
            }
        }
        Err(NoEndpoint)
    }

    /// The endpoints that this client is to try, the best first and `lost` last.
    fn in_order(
        &self,
        choice: Choice,
        client: IpAddr,
        lost: Option<SocketAddr>,
    ) -> Vec<Arc<Endpoint>> {
        let (there, zone) = (self.inner.endpoints.snapshot(), self.inner.zone.get());
        let mut candidates: Vec<Candidate> =
            there.iter().filter_map(|endpoint| endpoint.candidate(zone.as_deref())).collect();
        choice::sort(&mut candidates, choice, client);
        // Behind those that fail others, even: it has failed this very session.
        candidates.sort_by_key(|candidate| Some(candidate.address) == lost);
        let find = |candidate: &Candidate| {
            there.iter().find(|endpoint| endpoint.address == candidate.address).cloned()
        };
        candidates.iter().filter_map(find).collect()
    }

    /// One endpoint, from the client's source address, or from another if that has no port left.
    async fn attempt(
        &self,
        terms: &Terms,
        endpoint: &Arc<Endpoint>,
        client: IpAddr,
        deadline: Instant,
    ) -> Option<Connected> {
        let Inner { sources, metrics, .. } = &*self.inner;
        let config = &terms.upstream;
        let limits = Limits {
            connect: config.connect_timeout,
            banner: config.banner_timeout,
            handshake: terms.handshake,
            reply_size: terms.reply_size,
            deadline,
        };
        let address = endpoint.address;
        for source in sources.for_client(client, address) {
            // Taken before the attempt, so that many clients at once do not all choose the same.
            let place = endpoint.take(source.count);
            let source = source.address;
            let started = Instant::now();
            let result = greet(address, source, self.tls(endpoint), limits).await;
            let told = result.as_ref().map_or_else(|failure| failure.result, |_| ConnectResult::Ok);
            metrics.upstream_connected(address, told, started.elapsed());
            match result {
                Ok(Greeted { stream, replies, banner, tls }) => {
                    endpoint.learn(|health| health.attempt_succeeded());
                    let endpoint = address;
                    return Some(Connected { stream, replies, banner, endpoint, tls, place });
                }
                Err(Failure { result: ConnectResult::NoPort, .. }) => {}
                Err(Failure { result, why }) => {
                    warn!(endpoint = %address, result = result.as_str(), why, "endpoint does not answer");
                    let until = Instant::now() + config.retry_after;
                    endpoint.learn(|health| health.attempt_failed(until, result.as_str()));
                    endpoint.doubt.notify_one();
                    return None;
                }
            }
        }
        warn!(endpoint = %address, "no source address has a port left for it: add one to upstream.source_addresses");
        None
    }

    /// The TLS of a new session with an endpoint, if it is to have some.
    fn tls(&self, endpoint: &Endpoint) -> Option<UpstreamTls> {
        let tls = self.inner.tls.as_ref()?;
        Some(tls.session(endpoint.name().as_deref(), endpoint.address.ip()))
    }

    /// What is known of each endpoint.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.inner.endpoints.snapshot().iter().map(|endpoint| endpoint.status()).collect()
    }

    /// This node's availability zone, if it is known.
    pub fn zone(&self) -> Option<String> {
        self.inner.zone.get().map(|zone| zone.to_string())
    }
}

impl Inner {
    /// Sees to it that the names of this configuration can be asked for, if it has some.
    fn discover(&self, config: &config::Upstream) -> Result<(), ResolverError> {
        let has_names = config.endpoints.iter().any(|entry| entry.address.is_name());
        if has_names && self.discovery.get().is_none() {
            let (listeners, metrics) = (Arc::clone(&self.listeners), self.metrics.clone());
            let discovery = Discovery::new(&self.dns, listeners, metrics)?;
            // Whoever was faster has made the same.
            let _ = self.discovery.set(discovery);
        }
        Ok(())
    }
}

impl Terms {
    fn new(config: &Config) -> Self {
        Self {
            upstream: config.upstream.clone(),
            handshake: config.timeouts.tls_handshake,
            reply_size: config.limits.reply_size,
        }
    }
}

/// Starts a task for every name that is configured; each ends when its name no longer is.
async fn follow_names(inner: Arc<Inner>, tasks: TaskTracker, closed: CancellationToken) {
    let mut configured = inner.terms.subscribe();
    let mut followed: Vec<(EndpointAddress, DropGuard)> = Vec::new();
    loop {
        let terms = Arc::clone(&configured.borrow_and_update());
        let names: Vec<_> = (terms.upstream.endpoints.iter())
            .map(|entry| &entry.address)
            .filter(|address| address.is_name())
            .collect();
        followed.retain(|(name, _)| {
            let kept = names.contains(&name);
            if let (false, EndpointAddress::Name { name, .. }) = (kept, name) {
                inner.metrics.name_removed(name);
            }
            kept
        });
        for name in names {
            let Some(discovery) = inner.discovery.get() else { continue };
            if followed.iter().any(|(known, _)| known == name) {
                continue;
            }
            let gone = closed.child_token();
            let follow = discovery.clone().follow(name.clone(), Arc::clone(&inner.endpoints));
            tasks.spawn(gone.clone().run_until_cancelled_owned(follow));
            followed.push((name.clone(), gone.drop_guard()));
        }
        if configured.changed().await.is_err() {
            return;
        }
    }
}
