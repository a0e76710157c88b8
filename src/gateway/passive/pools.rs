//! The pools of all local addresses, as a hand-over sees them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::PassivePool;
use super::notes::{Entry, Note, Outbox, Parcel};

/// Every pool of this node; clones share them.
#[derive(Debug, Clone)]
pub struct Pools {
    by_address: Arc<BTreeMap<IpAddr, PassivePool>>,
}

impl Pools {
    pub(in crate::gateway) fn new(pools: BTreeMap<IpAddr, PassivePool>) -> Self {
        Self { by_address: Arc::new(pools) }
    }

    /// See [`PassivePool::serve`].
    pub(in crate::gateway) fn serve(
        &self,
        accepting: &TaskTracker,
        shut: &CancellationToken,
        asking: &TaskTracker,
        closed: &CancellationToken,
    ) {
        for pool in self.by_address.values() {
            pool.serve(accepting, shut, asking, closed);
        }
    }

    /// The sockets of all ports.
    pub(in crate::gateway) fn listeners(&self) -> Vec<Arc<TcpListener>> {
        self.by_address.values().flat_map(PassivePool::listeners).collect()
    }

    /// Gives the ports up.
    pub(in crate::gateway) fn close(&self) {
        self.by_address.values().for_each(PassivePool::close);
    }

    /// From now on a newer process shall say who has which port: it is told of every reservation,
    /// and what happens until it listens waits in its outbox. `older` are the processes whose
    /// sessions have reservations here.
    pub fn defer(&self, newer: &Outbox, older: &[Outbox]) -> Vec<Entry> {
        self.by_address.values().flat_map(|pool| pool.defer(newer, older)).collect()
    }

    /// The newer process has taken over.
    pub fn yield_up(&self) {
        self.by_address.values().for_each(PassivePool::yield_up);
    }

    /// It will not: what has waited for it is done here. While `unsent` takes that out of the outbox,
    /// nothing can be put in.
    pub fn resume(&self, unsent: impl FnOnce() -> Vec<Parcel>) {
        let pools = self.by_address.iter().map(|(ip, pool)| (ip, pool.authority()));
        let mut pools: Vec<_> = pools.collect();
        let mut unsent: Vec<_> = unsent().into_iter().map(Some).collect();
        for (ip, pool) in &mut pools {
            pool.resume(
                unsent
                    .iter_mut()
                    .filter_map(|parcel| parcel.take_if(|parcel| parcel.note.pool() == **ip)),
            );
        }
    }

    /// Takes over a reservation of a process before this one.
    pub fn adopt(&self, entry: &Entry, owner: &Outbox) {
        match self.by_address.get(&entry.pool) {
            Some(pool) => pool.adopt(entry, owner),
            None => drop(owner.send(Note::Refused { pool: entry.pool, id: entry.id }, None)),
        }
    }

    /// What a process with older sessions says.
    pub fn hear_older(&self, older: &Outbox, note: Note, socket: Option<OwnedFd>) {
        match self.by_address.get(&note.pool()) {
            Some(pool) => pool.hear_older(older, note, socket),
            None => {
                if let Note::Reserve { pool, id, .. } = note {
                    older.send(Note::Refused { pool, id }, None);
                }
            }
        }
    }

    /// What the process that has taken over says.
    pub fn hear_newer(&self, note: Note, socket: Option<OwnedFd>) {
        if let Some(pool) = self.by_address.get(&note.pool()) {
            pool.hear_newer(note, socket);
        }
    }

    /// An older process has ended: its ports are free.
    pub fn lose_older(&self, older: &Outbox) {
        self.by_address.values().for_each(|pool| pool.lose_older(older));
    }

    /// The newer process has ended: nobody comes to what is reserved, and nothing can be.
    pub fn lose_newer(&self) {
        self.by_address.values().for_each(PassivePool::lose_newer);
    }
}

impl Note {
    /// Which pool it is about.
    fn pool(&self) -> IpAddr {
        match *self {
            Self::Arrived { pool, .. }
            | Self::Data { pool, .. }
            | Self::Granted { pool, .. }
            | Self::Refused { pool, .. }
            | Self::Release { pool, .. }
            | Self::Reserve { pool, .. } => pool,
        }
    }
}
