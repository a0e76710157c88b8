//! The FTP service behind the gateway: which endpoint a session gets, and the connection to it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use crate::config;
use crate::ftp::Reply;
use crate::ftp::reply::Replies;
use crate::observe::metrics::{ConnectResult, Metrics};

/// How often all endpoints are tried for one client.
const ROUNDS: usize = 3;

/// The endpoints of one upstream, with what is known of each.
#[derive(Debug)]
pub struct Upstream {
    endpoints: Vec<Endpoint>,
    connect_timeout: Duration,
    banner_timeout: Duration,
    retry_after: Duration,
    reply_size: usize,
    /// Instants are kept as milliseconds since this.
    epoch: Instant,
    metrics: Metrics,
}

/// One upstream address.
#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    /// Until when (milliseconds since the epoch) it is tried last, after a failure.
    suspect_until: AtomicU64,
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
}

/// Every endpoint was tried and none answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no endpoint answers")]
pub struct NoEndpoint;

impl Upstream {
    /// The configured endpoints, those of our own zone first.
    pub fn new(
        config: &config::Upstream,
        zone: Option<&str>,
        reply_size: usize,
        metrics: Metrics,
    ) -> Self {
        let (near, far): (Vec<_>, Vec<_>) = config
            .endpoints
            .iter()
            .partition(|endpoint| zone.is_some() && endpoint.zone.as_deref() == zone);
        let endpoints = near
            .into_iter()
            .chain(far)
            .filter_map(|endpoint| match endpoint.address {
                config::EndpointAddress::Fixed(address) => {
                    Some(Endpoint { address, suspect_until: AtomicU64::new(0) })
                }
                config::EndpointAddress::Name { .. } => None,
            })
            .collect();
        Self {
            endpoints,
            connect_timeout: config.connect_timeout,
            banner_timeout: config.banner_timeout,
            retry_after: config.retry_after,
            reply_size,
            epoch: Instant::now(),
            metrics,
        }
    }

    /// Tries one endpoint after the other until one says 220, and all of them again if none did:
    /// when every client comes at once, as after a failover, an endpoint's queue of connections
    /// may be full for a moment.
    pub async fn connect(&self) -> Result<Connected, NoEndpoint> {
        for _ in 0..ROUNDS {
            if let Some(connected) = self.try_each().await {
                return Ok(connected);
            }
        }
        Err(NoEndpoint)
    }

    /// Tries each endpoint once. Those that failed a short while ago come last, but they come:
    /// with all of them suspect every one is still tried.
    async fn try_each(&self) -> Option<Connected> {
        let now = self.now();
        let (sound, suspect): (Vec<_>, Vec<_>) =
            self.endpoints.iter().partition(|endpoint| !endpoint.is_suspect(now));
        for endpoint in sound.into_iter().chain(suspect) {
            let started = Instant::now();
            let (result, connected) = match self.greet(endpoint.address).await {
                Ok(connected) => (ConnectResult::Ok, Some(connected)),
                Err(result) => (result, None),
            };
            self.metrics.upstream_connected(endpoint.address, result, started.elapsed());
            if let Some(connected) = connected {
                endpoint.suspect_until.store(0, Ordering::Relaxed);
                return Some(connected);
            }
            warn!(endpoint = %endpoint.address, result = result.as_str(), "endpoint does not answer");
            let until = self
                .now()
                .saturating_add(u64::try_from(self.retry_after.as_millis()).unwrap_or(u64::MAX));
            endpoint.suspect_until.store(until, Ordering::Relaxed);
        }
        None
    }

    /// Each endpoint, and whether it answered when it was last asked.
    pub fn endpoints(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        let now = self.now();
        self.endpoints.iter().map(move |endpoint| (endpoint.address, !endpoint.is_suspect(now)))
    }

    /// Connects and reads the banner; RFC 959 5.4 lets a 120 come before it.
    async fn greet(&self, address: SocketAddr) -> Result<Connected, ConnectResult> {
        let stream = match timeout(self.connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(endpoint = %address, %error, "connect failed");
                return Err(ConnectResult::ConnectError);
            }
            Err(_) => return Err(ConnectResult::ConnectTimeout),
        };
        let mut replies = Replies::new(self.reply_size);
        let deadline = Instant::now() + self.banner_timeout;
        loop {
            match replies.next_reply() {
                Some(Ok(reply)) if reply.is_preliminary() => {}
                Some(Ok(banner)) if banner.is_positive() => {
                    return Ok(Connected { stream, replies, banner, endpoint: address });
                }
                Some(Ok(_)) => return Err(ConnectResult::Refused),
                Some(Err(_)) => return Err(ConnectResult::BannerError),
                None => {
                    let ready = timeout_at(deadline, stream.ready(Interest::READABLE)).await;
                    if ready.is_err() {
                        return Err(ConnectResult::BannerTimeout);
                    }
                    let mut bytes = [0; 1024];
                    match stream.try_read(&mut bytes) {
                        Ok(0) => return Err(ConnectResult::BannerError),
                        Ok(count) => replies.push(bytes.get(..count).unwrap_or_default()),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(_) => return Err(ConnectResult::BannerError),
                    }
                }
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Endpoint {
    fn is_suspect(&self, now: u64) -> bool {
        self.suspect_until.load(Ordering::Relaxed) > now
    }
}
