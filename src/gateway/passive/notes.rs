//! What the pools of an older and a newer process of one node say to each other.
//!
//! After a hand-over the newer process accepts on the passive ports, and so it alone says who has
//! which: an older one, which finishes its sessions, asks it for ports and gets the data
//! connections that belong to its sessions.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::table::Id;

/// Notes that may wait for the socket. A session has at most a few of its own on the way, as it
/// waits for each answer, so more than that means that nobody reads them.
const QUEUE: usize = 65_536;

/// One note. A reservation is known by its pool's address and by the number that the process whose
/// it is gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// To the newer: a session wants a port.
    Reserve {
        /// Its pool.
        pool: IpAddr,
        /// For whom.
        client: IpAddr,
        /// Its number.
        id: Id,
    },
    /// To the newer: a reservation is over.
    Release {
        /// Its pool.
        pool: IpAddr,
        /// For whom.
        client: IpAddr,
        /// Its number.
        id: Id,
    },
    /// To the newer, with the connection: it was accepted before the hand-over, and whose it is has
    /// become known since.
    Arrived {
        /// At which pool.
        pool: IpAddr,
        /// Whose.
        client: SocketAddr,
        /// At which port.
        port: u16,
    },
    /// To the older: this port is the reservation's.
    Granted {
        /// Its pool.
        pool: IpAddr,
        /// Its number.
        id: Id,
        /// The port.
        port: u16,
    },
    /// To the older: there is none, nor will be.
    Refused {
        /// Its pool.
        pool: IpAddr,
        /// Its number.
        id: Id,
    },
    /// To the older, with the connection: the client has come.
    Data {
        /// Its pool.
        pool: IpAddr,
        /// Its number.
        id: Id,
    },
}

/// A note and the connection that goes with it.
#[derive(Debug)]
pub struct Parcel {
    /// What is said.
    pub note: Note,
    /// The connection, born with SO_LINGER 0: dropping it is a reset.
    pub socket: Option<OwnedFd>,
}

/// Where notes to one other process wait to be sent; clones share it.
#[derive(Debug, Clone)]
pub struct Outbox {
    parcels: mpsc::Sender<Parcel>,
    broken: CancellationToken,
}

/// A reservation that goes to the newer process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The pool.
    pub pool: IpAddr,
    /// For whom.
    pub client: IpAddr,
    /// Which port, unless it waits for one.
    pub port: Option<u16>,
    /// Whose session: nothing for the process that tells, or which of the older ones.
    pub older: Option<usize>,
    /// Its number there.
    pub id: Id,
}

// === impl Outbox ===

impl Outbox {
    /// An outbox, and what is put into it.
    pub fn new() -> (Self, mpsc::Receiver<Parcel>) {
        let (parcels, receiver) = mpsc::channel(QUEUE);
        (Self { parcels, broken: CancellationToken::new() }, receiver)
    }

    /// Puts a note in; says whether it will be sent. If there is no room, a note would be missing
    /// from then on, and so nothing more is to be said at all.
    pub fn send(&self, note: Note, socket: Option<OwnedFd>) -> bool {
        let sent = self.parcels.try_send(Parcel { note, socket }).is_ok();
        if !sent {
            self.broken.cancel();
        }
        sent
    }

    /// Resolves when a note could not be put in.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.parcels.same_channel(&other.parcels)
    }
}
