//! The shared passive port pool.
//!
//! Each port of the range is bound once and shared by all sessions: a data connection belongs to
//! the session that reserved (client IP, port). The port is free for that address again as soon
//! as the connection has been accepted, so nine ports carry thousands of transfers. What nobody
//! reserved is reset.
//!
//! `table` holds the rules; here are the sockets, the waiting and the clock. After a hand-over the
//! table is that of the newer process: `authority` knows whose it is, `notes` is what the two say to
//! each other, and `pools` is what a hand-over sees of all pools.

mod authority;
#[cfg(test)]
mod authority_tests;
mod notes;
mod pools;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::data_socket;
use super::proxy_header::{Balancers, NoHeader};
use super::threads::Threads;
use crate::gateway::inherited::Inherited;
use crate::lock::lock;
use crate::observe::metrics::Metrics;
use authority::{Answer, Authority, Claim, Own};
pub use notes::{Entry, Note, Outbox, Parcel};
pub use pools::Pools;
use table::{Id, Table};

/// Connections that may wait for one listener's accept: it takes those of all sessions.
const BACKLOG: i32 = 4096;
/// How long a newer process may take to answer, however short `passive.wait` is.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a listener rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The passive ports of one local address; a handle.
#[derive(Clone)]
pub(super) struct PassivePool {
    shared: Arc<Shared>,
}

/// A passive port that waits for one data connection of one client. Dropping it frees the port.
#[derive(Debug)]
pub(super) struct Reservation {
    port: u16,
    expires: Instant,
    /// `None` once the connection has been handed out.
    stream: Option<oneshot::Receiver<TcpStream>>,
    ticket: Ticket,
}

/// No passive port became free for this client address in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all passive ports are reserved for this client address")]
pub(super) struct Exhausted;

/// The client's data connection did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client's data connection did not come in time")]
pub(super) struct Expired;

/// A passive port could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The range is empty.
    #[error("passive.ports is empty; give a range such as 8192-8200")]
    NoPorts,
    /// One port of the range is not to be had.
    #[error(
        "cannot listen on passive port {port} of {ip}: {source}; free the port or change \
         passive.ports"
    )]
    Port {
        /// On which local address.
        ip: IpAddr,
        /// Which port.
        port: u16,
        /// Why.
        source: io::Error,
    },
}

struct Shared {
    /// Until the ports are given up.
    listeners: Mutex<Vec<(u16, Arc<TcpListener>)>>,
    authority: Mutex<Authority>,
    balancers: Balancers,
    metrics: Metrics,
    threads: Threads,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a port, when every one is reserved for this client address.
    pub(super) wait: Duration,
    /// For the client to come to it.
    pub(super) reservation: Duration,
}

/// A reservation's or waiter's place in the table, given back on drop.
struct Ticket {
    pool: PassivePool,
    client: IpAddr,
    id: Id,
}

// === impl PassivePool ===

impl PassivePool {
    /// Binds each of the ports on `ip`, or takes what is bound already.
    ///
    /// Must be called within a Tokio runtime.
    pub(super) fn bind(
        ip: IpAddr,
        ports: RangeInclusive<u16>,
        balancers: Balancers,
        inherited: &mut Inherited,
        metrics: Metrics,
        threads: Threads,
    ) -> Result<Self, BindError> {
        let table = Table::new(ports.clone()).ok_or(BindError::NoPorts)?;
        let mut listeners = Vec::new();
        for port in ports {
            let thread = threads.of_port(port);
            let _within = thread.enter();
            let listener = match inherited.take(SocketAddr::new(ip, port)) {
                Some(listener) => data_socket::adopt_listener(listener, BACKLOG),
                None => data_socket::listen(ip, port, BACKLOG),
            };
            let listener = listener.map_err(|source| BindError::Port { ip, port, source })?;
            listeners.push((port, Arc::new(listener)));
        }
        let shared = Shared {
            listeners: Mutex::new(listeners),
            authority: Mutex::new(Authority::new(ip, table)),
            balancers,
            metrics,
            threads,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Accepts on every port until `shut`. Whose a connection from a balancer is, is waited for
    /// until `closed`.
    pub(super) fn serve(
        &self,
        accepting: &TaskTracker,
        shut: &CancellationToken,
        asking: &TaskTracker,
        closed: &CancellationToken,
    ) {
        let (pool, shut_rests) = (self.clone(), shut.clone());
        accepting.spawn(async move { shut_rests.run_until_cancelled(pool.end_rests()).await });
        for (port, listener) in lock(&self.shared.listeners).iter() {
            let (port, listener) = (*port, Arc::clone(listener));
            let (pool, asking) = (self.clone(), asking.clone());
            let (shut, closed) = (shut.clone(), closed.clone());
            let accept = async move {
                let accept = pool.accept(port, &listener, &asking, &closed);
                shut.run_until_cancelled(accept).await;
            };
            accepting.spawn_on(accept, &self.shared.threads.of_port(port));
        }
    }

    /// The sockets of its ports.
    fn listeners(&self) -> Vec<Arc<TcpListener>> {
        lock(&self.shared.listeners).iter().map(|(_, listener)| Arc::clone(listener)).collect()
    }

    /// Gives the ports up, as far as nobody accepts on them.
    fn close(&self) {
        lock(&self.shared.listeners).clear();
    }

    /// Reserves a port for a client address. If all are reserved for it, waits in turn for as
    /// long as `patience` says.
    pub(super) async fn reserve(
        &self,
        client: IpAddr,
        patience: Patience,
    ) -> Result<Reservation, Exhausted> {
        let client = client.to_canonical();
        let (port_sender, port_receiver) = oneshot::channel();
        let (stream_sender, stream) = oneshot::channel();
        let own = Own { port: Some(port_sender), stream: stream_sender };
        let is_own = |port| self.shared.threads.is_own(port);
        let (id, answer) = self.authority().reserve(client, own, is_own);
        // From here on the ticket gives back whatever there is, whenever this is dropped.
        let ticket = Ticket { pool: self.clone(), client, id };
        if matches!(answer, Answer::Queued) {
            self.shared.metrics.passive_waits();
        }
        let port = match answer {
            Answer::Granted(port) => Ok(Ok(port)),
            Answer::Asked => timeout(patience.wait.max(ANSWER), port_receiver).await,
            Answer::Queued => timeout(patience.wait, port_receiver).await,
        };
        let Ok(Ok(port)) = port else { return Err(Exhausted) };
        self.shared.metrics.passive_reserved(true);
        let expires = Instant::now() + patience.reservation;
        Ok(Reservation { port, expires, stream: Some(stream), ticket })
    }

    /// Accepts on one port for ever.
    async fn accept(
        &self,
        port: u16,
        listener: &TcpListener,
        tasks: &TaskTracker,
        closed: &CancellationToken,
    ) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) if self.shared.balancers.trust(peer.ip()) => {
                    self.ask(stream, peer, port, tasks, closed);
                }
                Ok((stream, peer)) => self.hand_over(stream, peer, port),
                // A client that has left again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(%error, port, "accept failed on a passive port");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits for a balancer to say whose data connection it is; the next one does not wait for
    /// that.
    fn ask(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        port: u16,
        tasks: &TaskTracker,
        closed: &CancellationToken,
    ) {
        let turn = match self.shared.balancers.turn() {
            Ok(turn) => turn,
            Err(reason) => return self.turn_away(stream, peer, port, reason),
        };
        let (pool, closed) = (self.clone(), closed.clone());
        tasks.spawn(async move {
            let header = turn.header(&mut stream);
            match closed.run_until_cancelled(header).await {
                Some(Ok(Some(ends))) => pool.hand_over(stream, ends.client, port),
                // The balancer's own, to see whether somebody listens.
                Some(Ok(None)) => pool.turn_away(stream, peer, port, NoHeader::Left),
                Some(Err(reason)) => pool.turn_away(stream, peer, port, reason),
                None => data_socket::reset(stream),
            }
        });
    }

    /// Resets a data connection of which a balancer has not said whose it is.
    fn turn_away(&self, stream: TcpStream, peer: SocketAddr, port: u16, reason: NoHeader) {
        data_socket::reset(stream);
        match reason {
            NoHeader::Left => self.shared.metrics.passive_stranger(),
            NoHeader::Refused(reason) => {
                info!(%peer, port, reason = reason.as_str(), "no PROXY protocol header");
                self.shared.metrics.proxy_protocol_refused(reason);
            }
        }
    }

    /// Gives a data connection to whoever reserved it.
    fn hand_over(&self, stream: TcpStream, client: SocketAddr, port: u16) {
        let arrived = self.authority().arrive(stream, client, port);
        if let Err(stream) = arrived {
            debug!(%client, port, "a data connection that nobody reserved");
            data_socket::reset(stream);
            self.shared.metrics.passive_stranger();
        }
    }

    fn authority(&self) -> MutexGuard<'_, Authority> {
        lock(&self.shared.authority)
    }
}

/// Tells a waiter its port. One that has gone is about to give its ticket back.
fn grant(port: u16, claim: &mut Claim) {
    match claim {
        Claim::Own(own) => drop(own.port.take().map(|sender| sender.send(port))),
        Claim::Older { owner, pool, id } => {
            owner.send(Note::Granted { pool: *pool, id: *id, port }, None);
        }
    }
}

impl fmt::Debug for PassivePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassivePool").finish_non_exhaustive()
    }
}

// === impl Reservation ===

impl Reservation {
    /// The port that the client is told.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The client's data connection. Nothing is lost when the future is dropped and made anew.
    pub(super) async fn accepted(&mut self) -> Result<TcpStream, Expired> {
        let Some(stream) = &mut self.stream else { return Err(Expired) };
        let result = timeout_at(self.expires, stream).await;
        self.stream = None;
        let Ok(Ok(stream)) = result else { return Err(Expired) };
        let threads = &self.ticket.pool.shared.threads;
        threads.take_from_port(self.port, stream).map_err(|_| Expired)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ticket.pool.shared.metrics.passive_reserved(false);
    }
}

// === impl Ticket ===

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pool.authority().cancel(self.client, self.id);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("client", &self.client).field("id", &self.id).finish()
    }
}
