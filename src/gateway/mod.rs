//! The gateway itself: it accepts clients, gives each a session, and drains.
//!
//! | file | what it holds |
//! |---|---|
//! | `access` | who may come in, and what they may do |
//! | `admission` | how many sessions there may be |
//! | `control` | a control connection and what is still to be sent on it |
//! | `data_connection` | one data connection and the TLS on it |
//! | `data_socket` | what every data socket carries, so that only FIN means FIN |
//! | `doors` | the control listeners and the passive ports, open, shut or left to another process |
//! | `inherited` | listening sockets that are there already |
//! | `intake` | whether new clients are taken |
//! | `memory` | goes back to the system when many sessions have ended |
//! | `orders` | what is wanted of a session from outside |
//! | `pace` | how fast commands are taken |
//! | `pair` | both data connections of a transfer |
//! | `passive` | the shared passive port pool |
//! | `protection` | TLS handshakes on data connections |
//! | `proxy_header` | what a balancer says of whose connection it passes on |
//! | `reception` | a client from its connection to its session |
//! | `registry` | the live sessions, for whoever operates the node |
//! | `relay` | bytes from one data connection to the other |
//! | `reload` | a changed configuration, taken up while sessions run |
//! | `session` | the driver of one session |
//! | `settings` | what of the configuration may change while sessions run |
//! | `threads` | the threads that sessions run on, each on one |
//! | `timer` | which time-out a session is under |
//! | `transfer` | a session's data connections, stage by stage |

mod access;
mod admission;
mod control;
mod data_connection;
mod data_socket;
mod doors;
mod inherited;
mod intake;
mod memory;
mod orders;
mod pace;
mod pair;
mod passive;
mod protection;
mod proxy_header;
mod reception;
mod registry;
mod relay;
mod reload;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod threads;
mod timer;
mod transfer;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::observe::audit::AuditLog;
use crate::observe::log::LogLevel;
use crate::observe::metrics::Metrics;
use crate::tls::{Acceptor, CertificateError};
use crate::upstream::{EndpointStatus, Upstream, UpstreamError};
use crate::verify::Verifier;
pub use access::{Access, Ban, Block, BlockError, CarriedBlock, StateError, Target};
use admission::Admission;
use control::Control;
pub use doors::Doors;
pub use inherited::Inherited;
pub use intake::Intake;
use passive::PassivePool;
pub use passive::{BindError as PassiveBindError, Entry, Note, Outbox, Parcel, Pools};
use proxy_header::Balancers;
pub use registry::{SessionState, SessionStatus, Sessions, TransferStatus};
use relay::PipeBudget;
pub use reload::{Reload, ReloadError, Reloaded};
use settings::Settings;
pub use threads::Threads;

/// How long sessions may take to say their last words once the deadline of a drain has passed.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Clients that may wait in the kernel for their session.
const BACKLOG: i32 = 1024;

/// A gateway whose sockets are bound.
#[derive(Debug)]
pub struct Gateway {
    doors: Doors,
    shared: Arc<Shared>,
}

/// One listener, for its clients.
#[derive(Debug)]
struct Service {
    pool: PassivePool,
    /// Its place in the configuration.
    index: usize,
    /// What it is called there.
    address: SocketAddr,
}

/// What all sessions share.
#[derive(Debug)]
struct Shared {
    /// There if a listener speaks TLS.
    tls: Option<Acceptor>,
    /// Replaced as a whole by a reload.
    settings: RwLock<Arc<Settings>>,
    /// Ports that are ours at every address, to which no client is connected.
    own_ports: Vec<RangeInclusive<u16>>,
    upstream: Upstream,
    balancers: Balancers,
    access: Access,
    admission: Admission,
    sessions: Sessions,
    pipes: Arc<PipeBudget>,
    metrics: Metrics,
    audit: AuditLog,
    /// Looks for uploads in their buckets, if that is wanted.
    verifier: Option<Verifier>,
    /// The number of the next session.
    next_session: AtomicU64,
    /// Whether endpoints are looked for and at.
    preparing: AtomicBool,
    serving: AtomicBool,
    intake: Intake,
    threads: Threads,
}

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A control listener.
    #[error("cannot listen on {address}: {source}")]
    Listener {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate for clients.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The passive ports.
    #[error(transparent)]
    Passive(#[from] PassiveBindError),
    /// The blocks that were kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The upstream side.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// What a node can say of its own health.
#[derive(Debug, Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

/// One thing that must be right for a node to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether it is right.
    pub ok: bool,
    /// What it looks like.
    pub detail: String,
}

// === impl Gateway ===

impl Gateway {
    /// Binds every listener and every passive port, or takes those that are bound already, and
    /// starts nothing.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If one cannot be had, or what else is needed to serve.
    pub fn bind(
        config: &Config,
        inherited: &mut Inherited,
        metrics: Metrics,
        audit: AuditLog,
        threads: Threads,
    ) -> Result<Self, BindError> {
        let mut pools: BTreeMap<IpAddr, PassivePool> = BTreeMap::new();
        let mut listeners = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            let address = listener.address;
            let socket = match inherited.take(address) {
                Some(listener) => data_socket::adopt(listener, BACKLOG, None),
                None => data_socket::bind(address, BACKLOG, None),
            };
            let socket = socket.map_err(|source| BindError::Listener { address, source })?;
            Control::prepare(&socket);
            let pool = match pools.get(&address.ip()) {
                Some(pool) => pool.clone(),
                None => {
                    let balancers = Balancers::new(&config.proxy_protocol);
                    let (ip, ports) = (address.ip(), config.passive.ports.clone());
                    let metrics = metrics.clone();
                    let threads = threads.clone();
                    let pool =
                        PassivePool::bind(ip, ports, balancers, inherited, metrics, threads)?;
                    pools.insert(address.ip(), pool.clone());
                    pool
                }
            };
            let service = Service { pool, index, address };
            listeners.push((socket, Arc::new(service)));
        }
        let addresses: Vec<_> =
            listeners.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect();
        let ports = addresses.iter().chain(config.http.as_ref().map(|http| &http.address));
        let mut own_ports: Vec<_> = ports.map(|address| address.port()..=address.port()).collect();
        own_ports.push(config.passive.ports.clone());
        let upstream = Upstream::new(config, addresses, metrics.clone())?;
        metrics.sessions_limit(config.limits.sessions);
        let access = Access::new(config, metrics.clone())?;
        let sessions = Sessions::default();
        let shared = Arc::new(Shared {
            tls: config.tls.as_ref().map(Acceptor::load).transpose()?,
            settings: RwLock::new(Arc::new(Settings::new(config, &access))),
            own_ports,
            upstream,
            balancers: Balancers::new(&config.proxy_protocol),
            access,
            admission: Admission::new(&config.limits),
            intake: Intake::new(sessions.clone()),
            sessions,
            pipes: Arc::default(),
            verifier: config.verify.as_ref().map(|it| Verifier::new(it, metrics.clone())),
            metrics,
            audit,
            next_session: AtomicU64::new(1),
            preparing: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            threads,
        });
        let doors = Doors::new(Arc::clone(&shared), listeners, Pools::new(pools));
        Ok(Self { doors, shared })
    }

    /// Where control connections are accepted, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let control = self.doors.control();
        control.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// What its sessions run on.
    pub fn threads(&self) -> Threads {
        self.shared.threads.clone()
    }

    /// Where clients come in.
    pub fn doors(&self) -> Doors {
        self.doors.clone()
    }

    /// The same as the configuration has them.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        self.doors.configured()
    }

    /// A handle for health answers.
    pub fn health(&self) -> Health {
        Health { shared: Arc::clone(&self.shared) }
    }

    /// The live sessions.
    pub fn sessions(&self) -> Sessions {
        self.shared.sessions.clone()
    }

    /// Who is kept out.
    pub fn access(&self) -> Access {
        self.shared.access.clone()
    }

    /// What is behind it.
    pub fn upstream(&self) -> Upstream {
        self.shared.upstream.clone()
    }

    /// What takes up a changed configuration, `path`, of which `config` is what there is now.
    pub fn reload(&self, path: &Path, config: Config, log: LogLevel) -> Reload {
        Reload::new(Arc::clone(&self.shared), path, config, log)
    }

    /// The switch for new clients.
    pub fn intake(&self) -> Intake {
        self.shared.intake.clone()
    }

    /// Looks for endpoints and at them, and follows the certificate's files. It may be called before
    /// [`Self::run`], which does so otherwise, for clients to find endpoints that have been looked at.
    pub fn prepare(&self) {
        if self.shared.preparing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (background, closed) = self.doors.background();
        self.shared.upstream.run(background, closed);
        let given_back = memory::give_back(self.shared.admission.clone(), self.threads());
        let open = closed.clone();
        background.spawn(async move {
            open.run_until_cancelled(given_back).await;
        });
        if self.shared.tls.is_some() {
            let (shared, closed) = (Arc::clone(&self.shared), closed.clone());
            background.spawn(async move {
                if let Some(tls) = &shared.tls {
                    closed.run_until_cancelled(tls.follow_files(&shared.metrics)).await;
                }
            });
        }
    }

    /// Takes clients in.
    pub fn open(&self) {
        self.doors.open();
        self.shared.serving.store(true, Ordering::Relaxed);
    }

    /// Serves until `shutdown` is cancelled, then drains: new clients get 421, sessions may
    /// finish until the deadline, the rest is ended (transfers by reset) and told 421. When another
    /// process has taken over before that, it returns when the sessions have ended, and drains after
    /// `drain.handover_deadline`.
    pub async fn run(self, shutdown: CancellationToken) {
        self.prepare();
        self.open();
        self.run_opened(shutdown).await;
    }

    /// The same for a gateway that is open.
    pub async fn run_opened(self, shutdown: CancellationToken) {
        let sessions = self.doors.sessions();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.doors.left() => self.finish_sessions(&shutdown).await,
        }
        let deadline = self.shared.settings().drain.deadline;
        info!(sessions = sessions.len(), ?deadline, "draining");
        self.shared.intake.refuse();
        sessions.close();
        if timeout(deadline, sessions.wait()).await.is_err() {
            warn!(
                sessions = sessions.len(),
                "the drain's deadline has passed; ending what is left"
            );
            self.shared.sessions.stop();
            if timeout(LAST_WORDS, sessions.wait()).await.is_err() {
                error!(sessions = sessions.len(), "sessions did not end");
            }
        }
        self.doors.shut().await;
        self.doors.close();
        let (background, closed) = self.doors.background();
        closed.cancel();
        for tasks in [self.doors.asking(), background] {
            tasks.close();
            tasks.wait().await;
        }
        if let Some(verifier) = &self.shared.verifier {
            verifier.finish().await;
        }
        info!("drained");
    }

    /// Waits for the sessions to end by themselves, as another process takes the new ones.
    async fn finish_sessions(&self, shutdown: &CancellationToken) {
        let sessions = self.doors.sessions();
        let deadline = self.shared.settings().drain.handover_deadline;
        info!(sessions = sessions.len(), ?deadline, "handed over; sessions go on here");
        sessions.close();
        let asking = self.doors.asking();
        asking.close();
        let finished = async {
            sessions.wait().await;
            asking.wait().await;
        };
        tokio::select! {
            _ = timeout(deadline, finished) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

// === impl Shared ===

impl Shared {
    /// The settings of now.
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Health ===

impl Health {
    /// What is known of each endpoint.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.shared.upstream.endpoints()
    }

    /// Brings the metrics of what changes by time alone up to date.
    pub fn show(&self) {
        self.endpoints();
        self.shared.access.show();
        self.shared.metrics.tasks(self.shared.threads.tasks());
    }

    /// This node's availability zone, if it is known.
    pub fn zone(&self) -> Option<String> {
        self.shared.upstream.zone()
    }

    /// Whether clients are accepted and every endpoint has been looked at, or one is healthy.
    pub fn has_started(&self) -> bool {
        self.shared.serving.load(Ordering::Relaxed) && self.has_looked()
    }

    /// Whether every endpoint has been looked at, or one is healthy.
    pub fn has_looked(&self) -> bool {
        let endpoints = self.endpoints();
        let looked_at = endpoints.iter().all(|endpoint| endpoint.state != "initial");
        endpoints.iter().any(EndpointStatus::is_healthy) || (looked_at && !endpoints.is_empty())
    }

    /// Whether a client would be served: accepted, and by a healthy endpoint.
    pub fn can_serve(&self) -> bool {
        self.shared.serving.load(Ordering::Relaxed)
            && self.endpoints().iter().any(EndpointStatus::is_healthy)
    }

    /// Everything that must be right for this node to serve.
    pub fn checks(&self) -> Vec<Check> {
        let draining = self.shared.intake.is_refusing();
        let serving = self.shared.serving.load(Ordering::Relaxed);
        let endpoints = self.endpoints();
        let healthy = endpoints.iter().filter(|endpoint| endpoint.is_healthy()).count();
        vec![
            Check {
                name: "listeners",
                ok: serving,
                detail: if serving { "accepting".into() } else { "not accepting yet".into() },
            },
            Check {
                name: "endpoints",
                ok: healthy > 0,
                detail: format!("{healthy} of {} healthy", endpoints.len()),
            },
            Check {
                name: "draining",
                ok: !draining,
                detail: if draining { "new clients are refused".into() } else { "no".into() },
            },
        ]
    }
}
