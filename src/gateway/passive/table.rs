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
        let asked = self.place(client, id, claim);
        (id, asked)
    }

    /// A number that no reservation has had. One that is not in the table may have it.
    pub(super) fn new_id(&mut self) -> Id {
        let id = self.next;
        self.next += 1;
        id
    }

    /// The same as [`Self::reserve`] with a number from [`Self::new_id`].
    pub(super) fn place(&mut self, client: IpAddr, id: Id, claim: C) -> Asked {
        let start = self.turn(client).map_or(0, |turn| *turn);
        let ports = (self.first, self.count);
        let entry = self.clients.entry(client).or_insert_with(|| Client::new(start));
        match entry.free(ports) {
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

    /// The free port that was used longest ago. One never used comes before all others.
    fn free(&mut self, (first, count): (u16, u16)) -> Option<u16> {
        if self.used == count {
            return self.freed.pop_front();
        }
        let port = first + self.index(self.used, count);
        self.used += 1;
        Some(port)
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
mod tests {
    use std::collections::{HashSet, VecDeque};

    use proptest::prelude::*;

    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn nine() -> Table<()> {
        Table::new(8192..=8200).unwrap()
    }

    fn granted(asked: (Id, Asked)) -> u16 {
        match asked.1 {
            Asked::Granted(port) => port,
            Asked::Queued => panic!("no port"),
        }
    }

    fn nobody<C>(port: u16, _: &mut C) {
        panic!("{port} was granted to someone");
    }

    #[test]
    fn each_client_address_has_all_nine_ports_and_the_tenth_waits() {
        let mut table = nine();
        for client in [A, B] {
            let ports: HashSet<u16> = (0..9).map(|_| granted(table.reserve(client, ()))).collect();
            assert_eq!(ports, (8192..=8200).collect());
            assert_eq!(table.reserve(client, ()).1, Asked::Queued);
        }
    }

    #[test]
    fn a_range_of_one_port_works_and_an_empty_one_is_refused() {
        let mut table = Table::new(65_535..=65_535).unwrap();
        for _ in 0..3 {
            assert_eq!(granted(table.reserve(A, ())), 65_535);
            assert_eq!(table.reserve(B, ()).1, Asked::Granted(65_535));
            assert!(table.arrive(A, 65_535, nobody).is_some());
            assert!(table.arrive(B, 65_535, nobody).is_some());
        }
        #[expect(clippy::reversed_empty_ranges, reason = "that is the case")]
        let empty = 2..=1;
        assert!(Table::<()>::new(empty).is_none());
        assert!(Table::<()>::new(0..=65_535).is_none());
    }

    #[test]
    fn the_whole_range_is_used_before_a_port_comes_again() {
        for at_once in 1..=9 {
            let mut table = nine();
            let mut order = Vec::new();
            while order.len() < 36 {
                let ports: Vec<_> = (0..at_once).map(|_| granted(table.reserve(A, ()))).collect();
                for port in ports {
                    order.push(port);
                    assert!(table.arrive(A, port, nobody).is_some());
                }
            }
            for (at, port) in order.iter().enumerate().skip(9) {
                assert_eq!(*port, order[at - 9], "{at_once} at once: {order:?}");
            }
        }
    }

    #[test]
    fn a_freed_port_goes_to_whoever_has_waited_longest() {
        let mut table = Table::new(1000..=1000).unwrap();
        let (holder, _) = table.reserve(A, 'a');
        let (left, _) = table.reserve(A, 'b');
        table.reserve(A, 'c');
        table.reserve(A, 'd');
        assert!(!table.cancel(A, left), "it had no port");
        let mut order = Vec::new();
        assert!(table.cancel(A, holder));
        table.rested(A, holder, |port, claim| order.push((port, *claim)));
        assert_eq!(table.arrive(A, 1000, |port, claim| order.push((port, *claim))), Some('c'));
        assert_eq!(table.arrive(A, 1000, nobody), Some('d'));
        assert_eq!(order, [(1000, 'c'), (1000, 'd')]);
    }

    #[test]
    fn a_late_connection_is_nobody_elses() {
        let mut table = Table::new(1000..=1000).unwrap();
        let (gone, _) = table.reserve(A, 'a');
        let (waiting, _) = table.reserve(A, 'b');
        assert!(table.cancel(A, gone));
        assert!(!table.cancel(A, gone));
        let mut next = None;
        assert_eq!(table.arrive(A, 1000, |port, _| next = Some(port)), None, "it came too late");
        assert_eq!(next, Some(1000), "and no other can come");
        table.rested(A, gone, nobody);
        assert!(table.cancel(A, waiting));
        assert_eq!(table.reserve(A, 'c').1, Asked::Queued);
        table.rested(A, waiting, |port, claim| assert_eq!((port, *claim), (1000, 'c')));
        assert_eq!(table.arrive(A, 1000, nobody), Some('c'));
        assert!(table.clients.is_empty());
    }

    #[test]
    fn a_second_connection_and_another_address_are_strangers() {
        let mut table = nine();
        let port = granted(table.reserve(A, ()));
        assert!(table.arrive(B, port, nobody).is_none());
        assert!(table.arrive(A, port + 1, nobody).is_none());
        assert!(table.arrive(A, port, nobody).is_some());
        assert!(table.arrive(A, port, nobody).is_none());
    }

    #[test]
    fn a_table_goes_on_with_what_another_one_held() {
        let mut old = Table::new(8192..=8200).unwrap();
        for claim in 0..11 {
            old.reserve(A, claim);
        }
        old.reserve(B, 100);
        let first = granted(old.reserve(B, 101));
        let mut new = Table::new(8192..=8200).unwrap();
        let mut waiting = Vec::new();
        for (client, port, _, claim) in old.entries() {
            match port {
                Some(port) => new.adopt(client, port, *claim).unwrap(),
                None => waiting.push((client, *claim)),
            }
        }
        assert_eq!(waiting, [(A, 9), (A, 10)], "in their order");
        for (client, claim) in waiting {
            assert_eq!(new.reserve(client, claim).1, Asked::Queued);
        }
        assert_eq!(new.adopt(B, first, 102), Err(102), "it is taken");
        assert_eq!(new.adopt(B, 9000, 102), Err(102), "there is no such port");
        for (client, port, _, claim) in old.entries().filter(|(_, port, ..)| port.is_some()) {
            let mut next = None;
            let arrived = new.arrive(client, port.unwrap(), |_, claim| next = Some(*claim));
            assert_eq!(arrived, Some(*claim));
        }
        // Of B's, seven were free all the time; those of A's queue have theirs now.
        assert_eq!(new.entries().count(), 2);
        assert!(new.find(A, |_, claim| *claim == 9).is_some());
        assert_eq!(new.take_all().len(), 2);
        let ports: HashSet<u16> = (0..9).map(|_| granted(new.reserve(A, 0))).collect();
        assert_eq!(ports.len(), 9);
    }

    #[test]
    fn a_client_without_reservations_takes_no_memory() {
        let mut table = nine();
        for n in 0..10_000_u32 {
            let client = IpAddr::V4((0x0a00_0000 + n).into());
            let (id, asked) = table.reserve(client, ());
            match n % 2 {
                0 => {
                    assert!(table.cancel(client, id));
                    table.rested(client, id, nobody);
                }
                _ => assert!(table.arrive(client, granted((id, asked)), nobody).is_some()),
            }
        }
        assert!(table.clients.is_empty());
    }

    /// One thing that happens to a table; numbers choose among what there is.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Reserve(u8),
        Cancel(usize),
        CancelQueued(usize),
        Rested(usize),
        Arrive(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..3_u8).prop_map(Step::Reserve),
            1 => any::<usize>().prop_map(Step::Cancel),
            1 => any::<usize>().prop_map(Step::CancelQueued),
            1 => any::<usize>().prop_map(Step::Rested),
            2 => any::<usize>().prop_map(Step::Arrive),
        ]
    }

    proptest! {
        /// Against a model that is nothing but lists: no port is held twice by one address, or while
        /// it rests; the queue is first come, first served, it is empty while a port is free, and in the end
        /// nothing is left.
        #[test]
        fn reservations_never_collide(count in 1..=9_u16, steps in prop::collection::vec(step(), 1..200)) {
            let mut table = Table::new(8192..=8191 + count).unwrap();
            // Those whose claim is gone rest.
            let mut held: Vec<(IpAddr, Id, u16, bool)> = Vec::new();
            let mut queues: HashMap<IpAddr, VecDeque<Id>> = HashMap::new();
            let mut ids = 0;
            let steps = steps.into_iter().chain((0..400).map(|_| Step::Arrive(0)));
            for step in steps {
                let mut freed = None;
                let mut next = None;
                let mut tell = |port: u16, claim: &mut Id| next = Some((*claim, port));
                match step {
                    Step::Reserve(client) => {
                        let client = IpAddr::V4([10, 0, 0, client].into());
                        let (id, asked) = table.reserve(client, ids);
                        prop_assert_eq!(id, ids);
                        ids += 1;
                        let holds = held.iter().filter(|(holder, ..)| *holder == client).count();
                        match asked {
                            Asked::Granted(port) => {
                                prop_assert!((8192..8192 + count).contains(&port));
                                prop_assert!(!held.iter().any(|&(c, _, p, _)| (c, p) == (client, port)));
                                held.push((client, id, port, false));
                            }
                            Asked::Queued => {
                                prop_assert_eq!(holds, usize::from(count));
                                queues.entry(client).or_default().push_back(id);
                            }
                        }
                    }
                    Step::Cancel(which) if !held.is_empty() => {
                        let at = which % held.len();
                        let (client, id, _, rests) = &mut held[at];
                        prop_assert_eq!(table.cancel(*client, *id), !*rests);
                        *rests = true;
                    }
                    Step::Rested(which) if !held.is_empty() => {
                        let at = which % held.len();
                        let (client, id, port, rests) = held[at];
                        table.rested(client, id, &mut tell);
                        if rests {
                            held.swap_remove(at);
                            freed = Some((client, port));
                        }
                    }
                    Step::CancelQueued(which) => {
                        let queued: Vec<_> =
                            queues.iter().flat_map(|(c, q)| q.iter().map(|id| (*c, *id))).collect();
                        if !queued.is_empty() {
                            let (client, id) = queued[which % queued.len()];
                            prop_assert!(!table.cancel(client, id));
                            queues.get_mut(&client).unwrap().retain(|other| *other != id);
                        }
                    }
                    Step::Arrive(which) if !held.is_empty() => {
                        let (client, id, port, rests) = held.swap_remove(which % held.len());
                        let claim = table.arrive(client, port, &mut tell);
                        prop_assert_eq!(claim, (!rests).then_some(id));
                        freed = Some((client, port));
                    }
                    Step::Cancel(_) | Step::Rested(_) | Step::Arrive(_) => {}
                }
                if let Some((client, port)) = freed {
                    let first = queues.get_mut(&client).and_then(VecDeque::pop_front);
                    prop_assert_eq!(next, first.map(|id| (id, port)));
                    held.extend(first.map(|id| (client, id, port, false)));
                }
            }
            prop_assert!(held.is_empty() && table.clients.is_empty());
        }
    }
}
