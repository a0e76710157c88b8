//! The pair: the role of this node, and what moves clients to it.
//!
//! | file | what it holds |
//! |---|---|
//! | `ask` | one question over HTTP, to the peer or to a node's admin socket |
//! | `carry` | what the next process of this node needs to be the same node |
//! | `clock` | the clock that roles and leases go by |
//! | `lease` | the lease in S3: who of the two moves the clients |
//! | `name` | what the clients' name resolves to |
//! | `orders` | drain, resume and failover: what an operator asks for |
//! | `peer` | the other node |
//! | `report` | this node's health, told to CloudWatch |
//! | `role` | the role, decided from what is known |
//! | `status` | what a node says of its pair |
//! | `steering` | the record or the routes that name the active node |
//!
//! Each of these tells what it knows in a `View` of its own; one task here looks at all of them,
//! decides the role, and says what this node wants of the lease. No session waits for any of it.

pub mod ask;
mod carry;
mod clock;
pub mod lease;
mod name;
mod orders;
mod peer;
mod report;
pub mod role;
mod status;
mod steering;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::config::{self, Config, HaMode};
use crate::dns::{Names, ResolverError};
use crate::gateway::{Gateway, Health, Intake};
use crate::lock::lock;
use crate::observe::events::{About, Tone};
use crate::observe::metrics::{Metrics, NodeInfo};
pub use carry::Carried;
use carry::Running;
use lease::protocol::{Candidacy, Lease, State};
use lease::{Keeper, Wish};
pub use orders::{Done, OrderError};
use report::{Reporter, Snapshot};
use role::{Claim, Facts, Leaving, Role, Tenure};
pub use status::Status;
use steering::{Steerer, Tenancy};

/// What nobody announces, such as the end of a lease that was not renewed, is seen this late.
const TICK: Duration = Duration::from_millis(200);

/// This node in its pair. Clones share it.
#[derive(Debug, Clone)]
pub struct Pair {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: String,
    ha: config::Ha,
    health: Health,
    intake: Intake,
    metrics: Metrics,
    orders: watch::Sender<Orders>,
    role: watch::Sender<Decided>,
    wish: watch::Sender<Wish>,
    tenancy: watch::Sender<Tenancy>,
    lease: watch::Sender<lease::View>,
    peer: watch::Sender<peer::View>,
    name: watch::Sender<name::View>,
    steering: watch::Sender<steering::View>,
    /// The tasks that [`Pair::run`] starts.
    follower: Option<name::Follower>,
    cloudwatch: Option<config::CloudWatch>,
    /// Where the lease goes on from: the process before, or a hand-over that came to nothing.
    lease_state: Mutex<Option<Lease>>,
    running: Mutex<Option<Running>>,
}

/// One that [`Pair::run`] starts.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an operator has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Orders {
    leaving: Option<Leaving>,
    handing_over: bool,
}

/// The role and why.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decided {
    role: Role,
    reason: String,
    /// When this node was active last, unless it is now.
    active_until: Option<Instant>,
}

impl Pair {
    /// This node's place beside its peer, if it has one; nobody is asked anything before
    /// [`Pair::run`].
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If there is a name to be followed and no resolver can be set up.
    pub fn new(
        config: &Config,
        gateway: &Gateway,
        metrics: Metrics,
    ) -> Result<Self, ResolverError> {
        let follower = config.ha.name.as_ref().map(|name| {
            let (view, _) = watch::channel(name::View::default());
            Ok(name::Follower {
                name: name.clone(),
                names: Names::new(&config.dns)?,
                dns: config.dns.clone(),
                own: config.own_addresses(),
                view,
                metrics: metrics.clone(),
            })
        });
        let follower = follower.transpose()?;
        let name = follower.as_ref().map_or_else(
            || watch::channel(name::View::default()).0,
            |follower| follower.view.clone(),
        );
        let decided =
            Decided { role: Role::Starting, reason: "just started".into(), active_until: None };
        let wish = Wish { candidacy: Candidacy::Reluctant, handing_over: false };
        let peer = config.ha.peer.map(|peer| peer.to_string()).unwrap_or_default();
        metrics.node(NodeInfo {
            node: &config.node.name,
            ha_mode: config.ha.mode.as_str(),
            steering: config.ha.mode.steering(),
            name: config.ha.name.as_deref().unwrap_or_default(),
            peer: &peer,
        });
        metrics.role(Role::Starting.as_str(), &Role::ALL.map(Role::as_str));
        Ok(Self {
            inner: Arc::new(Inner {
                node: config.node.name.clone(),
                ha: config.ha.clone(),
                health: gateway.health(),
                intake: gateway.intake(),
                metrics,
                orders: watch::Sender::new(Orders::default()),
                role: watch::Sender::new(decided),
                wish: watch::Sender::new(wish),
                tenancy: watch::Sender::new(Tenancy::default()),
                lease: watch::Sender::new(lease::View::default()),
                peer: watch::Sender::new(peer::View::default()),
                name,
                steering: watch::Sender::new(steering::View::default()),
                follower,
                cloudwatch: config.cloudwatch.clone(),
                lease_state: Mutex::default(),
                running: Mutex::default(),
            }),
        })
    }

    /// Keeps the lease, asks the peer, follows the name, steers and reports, until `closed`.
    pub fn run(&self, tasks: &TaskTracker, closed: &CancellationToken) {
        let inner = &self.inner;
        let (own, stop) = (TaskTracker::new(), closed.child_token());
        let spawn = |task: Task| {
            let task = own.track_future(stop.clone().run_until_cancelled_owned(task));
            tasks.spawn(task);
        };
        let mut keeper = None;
        if let HaMode::Lease(lease) = &inner.ha.mode {
            let state = inner.lease_state().take();
            let task = Keeper::new(
                &inner.node,
                lease,
                state,
                inner.lease.clone(),
                inner.wish.subscribe(),
                inner.metrics.clone(),
            );
            keeper = Some(tasks.spawn(task.run(stop.clone())));
            let steerer = Steerer::new(&lease.steering, inner.metrics.clone());
            spawn(Box::pin(steerer.run(inner.tenancy.subscribe(), inner.steering.clone())));
        }
        // What is known already counts from the first answer on.
        inner.decide_once();
        let decide = Arc::clone(inner);
        spawn(Box::pin(async move { decide.decide().await }));
        if let Some(address) = inner.ha.peer {
            let follow = peer::follow(address, inner.peer.clone(), inner.metrics.clone());
            spawn(Box::pin(follow));
        }
        if let Some(follower) = &inner.follower {
            spawn(Box::pin(follower.clone().run()));
        }
        if let Some(config) = &inner.cloudwatch {
            let reporter = Reporter::new(&inner.node, config, inner.metrics.clone());
            let inner = Arc::clone(inner);
            spawn(Box::pin(async move {
                // Nothing yet is not nothing healthy: a restart must not turn an alarm.
                while !inner.health.has_started() {
                    sleep(TICK).await;
                }
                reporter.run(move || inner.snapshot()).await;
            }));
        }
        let (tasks, closed) = (tasks.clone(), closed.clone());
        *inner.running() = Some(Running { tasks, closed, stop, own, keeper });
    }

    /// Whether this node can serve, and shall have clients.
    pub fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        lock(&self.running)
    }

    fn lease_state(&self) -> MutexGuard<'_, Option<Lease>> {
        lock(&self.lease_state)
    }

    /// What CloudWatch is told: a node that shall have no clients has no healthy hosts.
    fn snapshot(&self) -> Snapshot {
        let endpoints = self.health.endpoints();
        let healthy = endpoints.iter().filter(|endpoint| endpoint.is_healthy()).count();
        let healthy = if self.is_ready() { healthy } else { 0 };
        let leased = matches!(self.ha.mode, HaMode::Lease(_));
        Snapshot {
            totals: self.metrics.totals(),
            healthy_hosts: healthy as u64,
            unhealthy_hosts: (endpoints.len() - healthy) as u64,
            lease_held: leased.then(|| self.tenancy.borrow().held),
            zone: self.health.zone(),
        }
    }

    fn is_ready(&self) -> bool {
        self.health.can_serve()
            && !self.intake.is_refusing()
            && self.orders.borrow().leaving.is_none()
    }

    /// Decides again whenever something is known anew, for ever.
    async fn decide(&self) {
        let (mut orders, mut lease) = (self.orders.subscribe(), self.lease.subscribe());
        let (mut peer, mut name) = (self.peer.subscribe(), self.name.subscribe());
        loop {
            // Seen from here on; a change in the meantime wakes this task again.
            orders.mark_unchanged();
            lease.mark_unchanged();
            peer.mark_unchanged();
            name.mark_unchanged();
            self.decide_once();
            tokio::select! {
                _ = orders.changed() => {}
                _ = lease.changed() => {}
                _ = peer.changed() => {}
                _ = name.changed() => {}
                () = sleep(TICK) => {}
            }
        }
    }

    fn decide_once(&self) {
        let orders = *self.orders.borrow();
        let view = self.lease.borrow().clone();
        let held = view.is_held(clock::now());
        self.tenancy.send_if_modified(|tenancy| {
            replace(tenancy, Tenancy { held, generation: view.generation() })
        });
        self.metrics.lease(held, view.generation());
        let claim = self.claim(&view, held);
        let facts = Facts { started: self.health.has_started(), leaving: orders.leaving, claim };
        let (role, reason) = facts.role();
        self.publish(role, reason);
        let candidacy = self.candidacy(orders.leaving.is_some());
        let wish = Wish { candidacy, handing_over: orders.handing_over };
        self.wish.send_if_modified(|current| replace(current, wish));
    }

    fn claim(&self, view: &lease::View, held: bool) -> Claim {
        match (&self.ha.mode, &self.ha.name) {
            (HaMode::Dns, Some(name)) => {
                let followed = self.name.borrow();
                let here = (!followed.addresses.is_empty()).then_some(followed.here);
                Claim::Name { name: name.clone(), here }
            }
            (HaMode::Lease(_), _) => Claim::Lease(self.tenure(view, held)),
            // A configuration for dns without a name is refused.
            (HaMode::Dns | HaMode::Alone, _) => Claim::Alone,
        }
    }

    fn tenure(&self, view: &lease::View, held: bool) -> Tenure {
        let generation = view.generation();
        match &view.content {
            _ if held => Tenure::Held { generation },
            _ if view.owned && self.peer.borrow().supersedes(generation) => Tenure::Superseded,
            _ if view.owned => {
                let why = view.trouble.clone();
                Tenure::Lapsed {
                    generation,
                    why: why.unwrap_or_else(|| "it is renewed late".into()),
                }
            }
            Some(content) if content.state == State::Held => {
                Tenure::Others { holder: content.holder.clone() }
            }
            Some(_) => Tenure::Free,
            None if view.heard_at.is_some() => Tenure::Free,
            None => Tenure::Unknown { why: view.trouble.clone() },
        }
    }

    /// A node that cannot serve gives the lease up if its peer can, and keeps it otherwise, also as
    /// long as it has not looked.
    fn candidacy(&self, leaving: bool) -> Candidacy {
        if leaving {
            Candidacy::Never
        } else if self.health.can_serve() {
            Candidacy::Willing
        } else if self.health.has_started() && self.peer.borrow().is_ready() {
            Candidacy::Never
        } else {
            Candidacy::Reluctant
        }
    }

    /// One log line and one metric for a change of role; the reason alone changes quietly.
    fn publish(&self, role: Role, reason: String) {
        let before = self.role.borrow().role;
        if role != before {
            info!(from = before.as_str(), to = role.as_str(), reason, "role");
            self.metrics.role(role.as_str(), &Role::ALL.map(Role::as_str));
            let tone = if role == Role::Active { Tone::Good } else { Tone::Plain };
            let text = format!("{}: {reason}", role.as_str());
            self.metrics.events().changed(About::Role, tone, &text);
        }
        self.role.send_if_modified(|decided| {
            let active_until = match (before, role) {
                (_, Role::Active) => None,
                (Role::Active, _) => Some(Instant::now()),
                _ => decided.active_until,
            };
            replace(decided, Decided { role, reason, active_until })
        });
    }
}

/// Whether that changes anything.
fn replace<T: PartialEq>(current: &mut T, new: T) -> bool {
    let changed = *current != new;
    *current = new;
    changed
}
