//! Where clients come in: the control listeners and the passive ports. They can be shut for a
//! moment, in which clients wait in the kernel, and be left to another process for good.

use crate::lock::lock;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Access;
use super::passive::Pools;
use super::{Service, Shared, reception};

/// The doors of one gateway; clones share them.
#[derive(Debug, Clone)]
pub struct Doors {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    pools: Pools,
    /// Every session there is.
    sessions: TaskTracker,
    /// Data connections of which a balancer is yet to say whose they are. They may be for an older
    /// process.
    asking: TaskTracker,
    /// What else runs until `closed`.
    background: TaskTracker,
    closed: CancellationToken,
    /// Cancelled when another process has the sockets for good.
    left: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    control: Vec<(Arc<TcpListener>, Arc<Service>)>,
    /// The tasks that accept, and what ends them.
    accepting: TaskTracker,
    shut: CancellationToken,
}

impl Doors {
    pub(super) fn new(
        shared: Arc<Shared>,
        control: Vec<(TcpListener, Arc<Service>)>,
        pools: Pools,
    ) -> Self {
        let control = control.into_iter();
        let control = control.map(|(listener, service)| (Arc::new(listener), service)).collect();
        let (accepting, shut) = (TaskTracker::new(), CancellationToken::new());
        // Shut is how they are at first.
        accepting.close();
        let inner = Inner {
            shared,
            pools,
            sessions: TaskTracker::new(),
            asking: TaskTracker::new(),
            background: TaskTracker::new(),
            closed: CancellationToken::new(),
            left: CancellationToken::new(),
            state: Mutex::new(State { control, accepting, shut }),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Who is kept out of them.
    pub fn access(&self) -> &Access {
        &self.inner.shared.access
    }

    /// The passive ports.
    pub fn pools(&self) -> &Pools {
        &self.inner.pools
    }

    /// Every socket that clients come to; empty once they are another process's.
    pub fn listeners(&self) -> Vec<Arc<TcpListener>> {
        let control = self.control();
        control.into_iter().chain(self.inner.pools.listeners()).collect()
    }

    /// Those for control connections, in the order of the configuration.
    pub(super) fn control(&self) -> Vec<Arc<TcpListener>> {
        self.state().control.iter().map(|(listener, _)| Arc::clone(listener)).collect()
    }

    /// The same as the configuration has them.
    pub(super) fn configured(&self) -> Vec<SocketAddr> {
        self.state().control.iter().map(|(_, service)| service.address).collect()
    }

    /// Takes clients in.
    pub fn open(&self) {
        let inner = &self.inner;
        let mut state = self.state();
        let (accepting, shut) = (TaskTracker::new(), CancellationToken::new());
        inner.pools.serve(&accepting, &shut, &inner.asking, &inner.closed);
        for (listener, service) in &state.control {
            accepting.spawn(reception::accept(
                Arc::clone(listener),
                Arc::clone(service),
                Arc::clone(&inner.shared),
                inner.sessions.clone(),
                shut.clone(),
            ));
        }
        accepting.close();
        (state.accepting, state.shut) = (accepting, shut);
    }

    /// Takes nobody in; whoever comes waits in the kernel until the doors are opened again, here or
    /// in the process that gets the sockets. When this returns all that came before is in.
    pub async fn shut(&self) {
        let accepting = {
            let state = self.state();
            state.shut.cancel();
            state.accepting.clone()
        };
        accepting.wait().await;
    }

    /// The number that the next session gets.
    pub fn next_session(&self) -> u64 {
        self.inner.shared.next_session.load(Ordering::Relaxed)
    }

    /// Gives sessions numbers from there on, so that those of another process are others.
    pub fn number_from(&self, next: u64) {
        self.inner.shared.next_session.store(next, Ordering::Relaxed);
    }

    /// The sockets are another process's from now on. They must be shut.
    pub fn leave(&self) {
        self.close();
        self.inner.left.cancel();
    }

    /// Gives the sockets up. They must be shut.
    pub(super) fn close(&self) {
        self.state().control.clear();
        self.inner.pools.close();
    }

    /// Resolves when another process has the sockets for good.
    pub(super) async fn left(&self) {
        self.inner.left.cancelled().await;
    }

    pub(super) fn asking(&self) -> &TaskTracker {
        &self.inner.asking
    }

    pub(super) fn sessions(&self) -> &TaskTracker {
        &self.inner.sessions
    }

    /// What runs beside the sessions, and ends when the second is cancelled.
    pub fn background(&self) -> (&TaskTracker, &CancellationToken) {
        (&self.inner.background, &self.inner.closed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.inner.state)
    }
}
