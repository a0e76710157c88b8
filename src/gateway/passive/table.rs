//! Who holds which passive port: the pool's rules, without sockets or clocks.
//!
//! The key is (client IP, port), so every client address has the whole range for itself, and a
//! port is taken only from the reservation to the client's data connection. A port that has just
//! been freed may still get a late SYN meant for its last holder, so the one that was used
//! longest ago is handed out first, and one that was given back before its connection came rests:
//! until that connection, which is a stranger's now, or for as long as whoever has a clock says.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Where the ports of clients without a reservation go on; shared by clients of the same hash,
/// so that remembering them takes no more than this.
const TURNS: usize = 1024;

/// A reservation, unique for the life of the table.
pub(super) type Id = u64;

/// The reservations of all clients. Each has a claim `C`, kept for whoever serves it.
#[derive(Debug)]
pub(super) struct Table<C> {
    first: u16,
    count: u16,
    clients: HashMap<IpAddr, Client<C>>,
    /// For each hash, the index of the port that its next client starts with.
    turns: Vec<u16>,
    hasher: RandomState,
    next: Id,
}

/// What became of a wish for a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// This port is the reservation's.
    Granted(u16),
    /// All are taken; the reservation is in the queue.
    Queued,
}

/// A client address with at least one reservation.
#[derive(Debug)]
struct Client<C> {
    /// Index of the first port this client got.
    start: u16,
    /// Ports of the range, counted from `start`, that were ever taken.
    used: u16,
    /// Of these the ones free again, longest first.
    freed: VecDeque<u16>,
    /// Whose each port is; one that rests is the last holder's, without a claim.
    taken: HashMap<u16, (Id, Option<C>)>,
    queue: VecDeque<(Id, C)>,
}

// === impl Table ===

impl<C> Table<C> {
    /// An empty table, or `None` for an empty range.
    pub(super) fn new(ports: RangeInclusive<u16>) -> Option<Self> {
        let count = ports.end().checked_sub(*ports.start())?.checked_add(1)?;
        Some(Self {
            first: *ports.start(),
            count,
            clients: HashMap::new(),
            turns: vec![0; TURNS],
            hasher: RandomState::new(),
            next: 0,
        })
    }

    /// Reserves a port for a client, or queues the reservation behind those that wait already.
    pub(super) fn reserve(&mut self, client: IpAddr, claim: C) -> (Id, Asked) {
        let id = self.new_id();
        let asked = self.place(client, id, claim, |_| true);
        (id, asked)
    }

    /// A number that no reservation has had. One that is not in the table may have it.
    pub(super) fn new_id(&mut self) -> Id {
        let id = self.next;
        self.next += 1;
        id
    }

    /// The same as [`Self::reserve`] with a number from [`Self::new_id`], and with a port that the
    /// reservation `prefers` if there is a free one.
    pub(super) fn place(
        &mut self,
        client: IpAddr,
        id: Id,
        claim: C,
        prefers: impl Fn(u16) -> bool,
    ) -> Asked {
        let start = self.turn(client).map_or(0, |turn| *turn);
        let ports = (self.first, self.count);
        let entry = self.clients.entry(client).or_insert_with(|| Client::new(start));
        match entry.free(ports, prefers) {
            Some(port) => {
                entry.taken.insert(port, (id, Some(claim)));
                Asked::Granted(port)
            }
            None => {
                entry.queue.push_back((id, claim));
                Asked::Queued
            }
        }
    }

    /// Takes a reservation over that has this port already. Gives the claim back if there is no
    /// such port here, or it is taken.
    pub(super) fn adopt(&mut self, client: IpAddr, port: u16, claim: C) -> Result<(), C> {
        let (first, count) = (self.first, self.count);
        if port.checked_sub(first).is_none_or(|index| index >= count) {
            return Err(claim);
        }
        let id = self.new_id();
        let start = self.turn(client).map_or(0, |turn| *turn);
        let entry = self.clients.entry(client).or_insert_with(|| Client::new(start));
        if entry.taken.contains_key(&port) {
            return Err(claim);
        }
        // Which ports this client had before is not known.
        while entry.used < count {
            entry.freed.push_back(first + entry.index(entry.used, count));
            entry.used += 1;
        }
        entry.freed.retain(|free| *free != port);
        entry.taken.insert(port, (id, Some(claim)));
        Ok(())
    }

    /// Every reservation: whose, its port if it has one, its number and its claim; those that wait
    /// in their order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (IpAddr, Option<u16>, Id, &C)> {
        self.clients.iter().flat_map(|(client, entry)| {
            let taken = entry.taken.iter().filter_map(|(port, (id, claim))| {
                Some((*client, Some(*port), *id, claim.as_ref()?))
            });
            taken.chain(entry.queue.iter().map(|(id, claim)| (*client, None, *id, claim)))
        })
    }

    /// A reservation of that client, by its claim.
    pub(super) fn find(&self, client: IpAddr, is_it: impl Fn(Id, &C) -> bool) -> Option<Id> {
        let entry = self.clients.get(&client)?;
        let taken = entry.taken.values().filter_map(|(id, claim)| Some((*id, claim.as_ref()?)));
        let mut all = taken.chain(entry.queue.iter().map(|(id, claim)| (*id, claim)));
        all.find(|(id, claim)| is_it(*id, claim)).map(|(id, _)| id)
    }

    /// The claim of a reservation.
    pub(super) fn claim(&mut self, client: IpAddr, id: Id) -> Option<&mut C> {
        let entry = self.clients.get_mut(&client)?;
        let taken = entry.taken.values_mut().filter_map(|(id, claim)| Some((*id, claim.as_mut()?)));
        let mut all = taken.chain(entry.queue.iter_mut().map(|(id, claim)| (*id, claim)));
        all.find(|(own, _)| *own == id).map(|(_, claim)| claim)
    }

    /// Forgets all reservations, and gives their claims.
    pub(super) fn take_all(&mut self) -> Vec<(Id, C)> {
        let clients = std::mem::take(&mut self.clients).into_values();
        let taken = |(id, claim): (Id, Option<C>)| Some((id, claim?));
        clients
            .flat_map(|entry| entry.taken.into_values().filter_map(taken).chain(entry.queue))
            .collect()
    }

    /// Forgets a reservation that has a port or waits for one; one that is gone is no matter.
    /// Whether it had a port, which rests from now on: the caller has to say when it
    /// [has rested](Self::rested).
    pub(super) fn cancel(&mut self, client: IpAddr, id: Id) -> bool {
        let Some(entry) = self.clients.get_mut(&client) else { return false };
        entry.queue.retain(|(queued, _)| *queued != id);
        let held = entry.taken.values_mut().find(|(holder, _)| *holder == id);
        let rests = held.and_then(|(_, claim)| claim.take()).is_some();
        self.forget(client);
        rests
    }

    /// The port of a reservation that was cancelled has rested, unless its connection came meanwhile:
    /// it may go to the next in the queue, of which `granted` is told.
    pub(super) fn rested(&mut self, client: IpAddr, id: Id, granted: impl FnOnce(u16, &mut C)) {
        let Some(entry) = self.clients.get(&client) else { return };
        let resting = |(_, held): &(&u16, &(Id, Option<C>))| held.0 == id && held.1.is_none();
        if let Some(port) = entry.taken.iter().find(resting).map(|(port, _)| *port) {
            self.release(client, port, granted);
        }
    }

    /// A data connection: the claim it belongs to, or `None` for a stranger. Its port is free from now
    /// on and may go to the next in the queue, of which `granted` is told.
    pub(super) fn arrive(
        &mut self,
        client: IpAddr,
        port: u16,
        granted: impl FnOnce(u16, &mut C),
    ) -> Option<C> {
        self.release(client, port, granted)
    }

    fn release(
        &mut self,
        client: IpAddr,
        port: u16,
        granted: impl FnOnce(u16, &mut C),
    ) -> Option<C> {
        let entry = self.clients.get_mut(&client)?;
        let (_, claim) = entry.taken.remove(&port)?;
        match entry.queue.pop_front() {
            Some((id, mut next)) => {
                granted(port, &mut next);
                entry.taken.insert(port, (id, Some(next)));
            }
            None => entry.freed.push_back(port),
        }
        self.forget(client);
        claim
    }

    /// Drops a client with nothing that it holds, waits for or lets rest, but for where its ports go on.
    fn forget(&mut self, client: IpAddr) {
        let (first, count) = (self.first, self.count);
        let Entry::Occupied(entry) = self.clients.entry(client) else { return };
        if entry.get().taken.is_empty() && entry.get().queue.is_empty() {
            let next = entry.remove().next(first, count);
            if let Some(turn) = self.turn(client) {
                *turn = next;
            }
        }
    }

    fn turn(&mut self, client: IpAddr) -> Option<&mut u16> {
        let hash = self.hasher.hash_one(client) as usize;
        self.turns.get_mut(hash % TURNS)
    }
}

// === impl Client ===

impl<C> Client<C> {
    fn new(start: u16) -> Self {
        Self {
            start,
            used: 0,
            freed: VecDeque::new(),
            taken: HashMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Of the free ports that are preferred, or else of all, the one that was used longest ago. One
    /// never used comes before all others.
    fn free(&mut self, (first, count): (u16, u16), prefers: impl Fn(u16) -> bool) -> Option<u16> {
        while self.used < count {
            let port = first + self.index(self.used, count);
            self.used += 1;
            if prefers(port) {
                return Some(port);
            }
            self.freed.push_front(port);
        }
        let preferred = self.freed.iter().position(|port| prefers(*port));
        self.freed.remove(preferred.unwrap_or(0))
    }

    /// Index of the port that comes next, when none is taken.
    fn next(&self, first: u16, count: u16) -> u16 {
        match self.freed.front() {
            Some(oldest) if self.used == count => oldest - first,
            _ => self.index(self.used, count),
        }
    }

    fn index(&self, offset: u16, count: u16) -> u16 {
        ((u32::from(self.start) + u32::from(offset)) % u32::from(count)) as u16
    }
}

#[cfg(test)]
mod tests;
