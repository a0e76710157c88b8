//! Who says which session has which port: this process, or the newer one that has taken over.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::notes::{Entry, Note, Outbox, Parcel};
use super::table::{Asked, Id, Table};
use super::{PassivePool, grant};
use crate::gateway::data_socket;

/// How long a port rests that was given back before its connection came: a SYN that was lost comes
/// again after a second (RFC 6298). Taken for another session's, it would spoil a file.
const REST: Duration = Duration::from_secs(2);

/// The reservations of one pool.
#[derive(Debug)]
pub(super) struct Authority {
    ip: IpAddr,
    /// While a newer process is taking over it stays as it was.
    table: Table<Claim>,
    /// The reservations whose ports rest, and until when: the first one first. A newer process does not
    /// know of them.
    resting: VecDeque<(Instant, IpAddr, Id)>,
    /// Told when the first of them is another.
    rests: Arc<Notify>,
    newer: Option<Newer>,
}

/// The process that says who has which port.
#[derive(Debug)]
struct Newer {
    outbox: Outbox,
    /// What our sessions have reserved there.
    claims: HashMap<Id, Own>,
}

/// Whose a reservation is.
#[derive(Debug)]
pub(super) enum Claim {
    /// A session of this process.
    Own(Own),
    /// One of an older process, with the reservation's number there.
    Older { owner: Outbox, pool: IpAddr, id: Id },
}

/// A session's side of a reservation.
#[derive(Debug)]
pub(super) struct Own {
    /// Takes the port, if the reservation has to wait for it.
    pub(super) port: Option<oneshot::Sender<u16>>,
    /// Takes the data connection.
    pub(super) stream: oneshot::Sender<TcpStream>,
}

/// What became of a session's wish for a port.
#[derive(Debug)]
pub(super) enum Answer {
    /// This port.
    Granted(u16),
    /// Every port is taken.
    Queued,
    /// The newer process has been asked.
    Asked,
}

impl Authority {
    pub(super) fn new(ip: IpAddr, table: Table<Claim>) -> Self {
        Self { ip, table, resting: VecDeque::new(), rests: Arc::default(), newer: None }
    }

    pub(super) fn reserve(
        &mut self,
        client: IpAddr,
        own: Own,
        prefers: impl Fn(u16) -> bool,
    ) -> (Id, Answer) {
        let id = self.table.new_id();
        if let Some(newer) = &mut self.newer {
            if newer.outbox.send(Note::Reserve { pool: self.ip, client, id }, None) {
                newer.claims.insert(id, own);
            }
            return (id, Answer::Asked);
        }
        match self.table.place(client, id, Claim::Own(own), prefers) {
            Asked::Granted(port) => (id, Answer::Granted(port)),
            Asked::Queued => (id, Answer::Queued),
        }
    }

    pub(super) fn cancel(&mut self, client: IpAddr, id: Id) {
        let Some(newer) = &mut self.newer else {
            return self.release(client, id);
        };
        let is_it = |number, claim: &Claim| number == id && matches!(claim, Claim::Own(_));
        if newer.claims.remove(&id).is_some() || self.table.find(client, is_it).is_some() {
            newer.outbox.send(Note::Release { pool: self.ip, client, id }, None);
        }
    }

    fn release(&mut self, client: IpAddr, id: Id) {
        if self.table.cancel(client, id) {
            self.resting.push_back((Instant::now() + REST, client, id));
            self.rests.notify_one();
        }
    }

    /// Ends the rest of each port that has rested, and tells until when the next one does.
    fn end_rests(&mut self) -> Option<Instant> {
        if self.newer.is_some() {
            return None;
        }
        while let Some((until, client, id)) = self.resting.front().copied() {
            if Instant::now() < until {
                return Some(until);
            }
            self.resting.pop_front();
            self.table.rested(client, id, grant);
        }
        None
    }

    /// A data connection; gives it back if nobody has reserved it.
    pub(super) fn arrive(
        &mut self,
        stream: TcpStream,
        client: SocketAddr,
        port: u16,
    ) -> Result<(), TcpStream> {
        if let Some(newer) = &self.newer {
            // Accepted before the hand-over.
            let note = Note::Arrived { pool: self.ip, client, port };
            send_with(&newer.outbox, note, stream);
            return Ok(());
        }
        match self.table.arrive(client.ip().to_canonical(), port, grant) {
            Some(claim) => claim.deliver(stream),
            None => return Err(stream),
        }
        Ok(())
    }

    /// The newer process will not take over: what was to be said to it is done here.
    pub(super) fn resume(&mut self, unsent: impl Iterator<Item = Parcel>) {
        let Some(mut newer) = self.newer.take() else { return };
        self.rests.notify_one();
        for Parcel { note, socket } in unsent {
            match note {
                Note::Reserve { client, id, .. } => {
                    let Some(own) = newer.claims.remove(&id) else { continue };
                    let asked = self.table.place(client, id, Claim::Own(own), |_| true);
                    if let Asked::Granted(port) = asked
                        && let Some(claim) = self.table.claim(client, id)
                    {
                        grant(port, claim);
                    }
                }
                Note::Release { client, id, .. } => self.release(client, id),
                Note::Arrived { client, port, .. } => {
                    if let Some(stream) = received(socket)
                        && let Err(stream) = self.arrive(stream, client, port)
                    {
                        data_socket::reset(stream);
                    }
                }
                Note::Data { .. } | Note::Granted { .. } | Note::Refused { .. } => {}
            }
        }
    }
}

impl Claim {
    /// Gives the data connection to whoever has reserved it.
    fn deliver(self, stream: TcpStream) {
        match self {
            Self::Own(own) => own.deliver(stream),
            Self::Older { owner, pool, id } => send_with(&owner, Note::Data { pool, id }, stream),
        }
    }

    fn is_of(&self, older: &Outbox) -> bool {
        matches!(self, Self::Older { owner, .. } if owner.is(older))
    }
}

impl Own {
    fn deliver(self, stream: TcpStream) {
        // A session that has just gone: its reservation was valid, its end is a reset.
        if let Err(stream) = self.stream.send(stream) {
            data_socket::reset(stream);
        }
    }
}

/// Sends a connection to another process. One that cannot be sent is reset by being dropped.
fn send_with(outbox: &Outbox, note: Note, stream: TcpStream) {
    if let Ok(stream) = stream.into_std() {
        outbox.send(note, Some(stream.into()));
    }
}

/// A connection that another process has sent.
fn received(socket: Option<OwnedFd>) -> Option<TcpStream> {
    let stream = std::net::TcpStream::from(socket?);
    stream.set_nonblocking(true).ok()?;
    TcpStream::from_std(stream).ok()
}

// === impl PassivePool ===

impl PassivePool {
    /// Ends the rests of ports for ever.
    pub(super) async fn end_rests(&self) {
        let rests = Arc::clone(&self.authority().rests);
        loop {
            let next = self.authority().end_rests();
            match next {
                Some(until) => sleep_until(until).await,
                None => rests.notified().await,
            }
        }
    }

    pub(super) fn defer(&self, newer: &Outbox, older: &[Outbox]) -> Vec<Entry> {
        let mut authority = self.authority();
        authority.newer = Some(Newer { outbox: newer.clone(), claims: HashMap::new() });
        let pool = authority.ip;
        let entry = |(client, port, id, claim): (IpAddr, Option<u16>, Id, &Claim)| match claim {
            Claim::Own(_) => Some(Entry { pool, client, port, older: None, id }),
            Claim::Older { id, owner, .. } => {
                let older = older.iter().position(|older| owner.is(older))?;
                Some(Entry { pool, client, port, older: Some(older), id: *id })
            }
        };
        authority.table.entries().filter_map(entry).collect()
    }

    pub(super) fn yield_up(&self) {
        let mut authority = self.authority();
        let all = authority.table.take_all();
        if let Some(newer) = &mut authority.newer {
            newer.claims.extend(all.into_iter().filter_map(|(id, claim)| match claim {
                // A session that has gone meanwhile has said so.
                Claim::Own(own) if !own.stream.is_closed() => Some((id, own)),
                Claim::Own(_) | Claim::Older { .. } => None,
            }));
        }
    }

    pub(super) fn adopt(&self, entry: &Entry, owner: &Outbox) {
        let Entry { pool, client, port, id, .. } = *entry;
        let claim = Claim::Older { owner: owner.clone(), pool, id };
        match port {
            Some(port) => {
                if self.authority().table.adopt(client, port, claim).is_err() {
                    owner.send(Note::Refused { pool, id }, None);
                }
            }
            None => self.hear_older(owner, Note::Reserve { pool, client, id }, None),
        }
    }

    pub(super) fn hear_older(&self, older: &Outbox, note: Note, socket: Option<OwnedFd>) {
        let mut authority = self.authority();
        match note {
            Note::Reserve { pool, client, id } => {
                let claim = Claim::Older { owner: older.clone(), pool, id };
                if let (_, Asked::Granted(port)) = authority.table.reserve(client, claim) {
                    older.send(Note::Granted { pool, id, port }, None);
                }
            }
            Note::Release { client, id, .. } => {
                let is_it = |_, claim: &Claim| {
                    claim.is_of(older)
                        && matches!(claim, Claim::Older { id: own, .. } if *own == id)
                };
                if let Some(id) = authority.table.find(client, is_it) {
                    authority.release(client, id);
                }
            }
            Note::Arrived { client, port, .. } => {
                drop(authority);
                if let Some(stream) = received(socket) {
                    self.hand_over(stream, client, port);
                }
            }
            // What only a newer one can say.
            Note::Data { .. } | Note::Granted { .. } | Note::Refused { .. } => {}
        }
    }

    pub(super) fn hear_newer(&self, note: Note, socket: Option<OwnedFd>) {
        let mut authority = self.authority();
        let Some(newer) = &mut authority.newer else { return };
        match note {
            Note::Granted { id, port, .. } => {
                let waiting = newer.claims.get_mut(&id).and_then(|own| own.port.take());
                // A session that has gone is about to give its ticket back.
                waiting.map(|waiting| waiting.send(port));
            }
            Note::Refused { id, .. } => drop(newer.claims.remove(&id)),
            Note::Data { id, .. } => match (newer.claims.remove(&id), received(socket)) {
                (Some(own), Some(stream)) => own.deliver(stream),
                (_, stream) => drop(stream.map(data_socket::reset)),
            },
            // What only an older one can say.
            Note::Arrived { .. } | Note::Release { .. } | Note::Reserve { .. } => {}
        }
    }

    pub(super) fn lose_older(&self, older: &Outbox) {
        let mut authority = self.authority();
        let lost = authority.table.entries().filter(|(.., claim)| claim.is_of(older));
        let lost: Vec<_> = lost.map(|(client, _, id, _)| (client, id)).collect();
        for (client, id) in lost {
            authority.release(client, id);
        }
    }

    pub(super) fn lose_newer(&self) {
        if let Some(newer) = &mut self.authority().newer {
            newer.claims.clear();
        }
    }
}
