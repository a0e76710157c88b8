//! A session's data connections, from the reserved port to the last byte.
//!
//! The client comes first: only when its data connection has arrived is the upstream's data port
//! dialled. Dialled at PASV, a slow client would find it timed out; at the transfer command, the
//! upstream may already have given it up (both are known races of other gateways).

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::data_socket;
use super::passive::{Exhausted, PassivePool, Reservation};
use super::relay::{End, PipeBudget, Progress, RelayError, relay};
use crate::ftp::Direction;
use crate::ftp::dialogue::DataFailure;
use crate::upstream::{SourceCount, SourceUse};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The data connections of one session: at most one pair at a time.
pub(super) struct DataConnections {
    stage: Stage,
    progress: Arc<Progress>,
}

/// News for the dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataEvent {
    /// The upstream's data port could not be reached.
    DialFailed,
    /// The sender's EOF; all its bytes are in the receiver's socket.
    Ended,
    /// The client did not come in time.
    Expired,
    /// The relay stopped short.
    Failed(DataFailure),
    /// Both are open.
    Opened,
    /// All ports stayed taken.
    PortsExhausted,
    /// This port is ours.
    PortReserved(u16),
    /// The upstream has got its data connection and a reset on it.
    Refused,
}

/// Where to dial the upstream's data port, and from where: Transfer Family shards by source
/// address, so data must leave from the control connection's.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub(super) to: SocketAddr,
    pub(super) from: IpAddr,
    /// Where the connection counts.
    pub(super) source: SourceCount,
    pub(super) timeout: Duration,
}

enum Stage {
    Absent,
    Reserving {
        reserve: Boxed<Result<Reservation, Exhausted>>,
        dial: Dial,
    },
    Reserved {
        reservation: Reservation,
        dial: Dial,
    },
    /// The client did not come.
    Expired {
        dial: Dial,
    },
    Dialling {
        client: TcpStream,
        dial: Boxed<io::Result<UpstreamData>>,
    },
    /// The client has been given up; the upstream's data port is dialled, to be reset.
    Refusing {
        dial: Boxed<io::Result<UpstreamData>>,
    },
    Open {
        pair: Arc<Pair>,
    },
    Relaying {
        pair: Arc<Pair>,
        relay: Boxed<Result<(), RelayError>>,
        direction: Direction,
    },
    Delivered {
        pair: Arc<Pair>,
        direction: Direction,
    },
}

/// Both data connections, born with SO_LINGER 0: dropping them is a reset.
struct Pair {
    client: TcpStream,
    upstream: UpstreamData,
}

/// A data connection to the upstream, which counts while it is open.
struct UpstreamData {
    stream: TcpStream,
    _counted: SourceUse,
}

impl DataConnections {
    pub(super) fn new() -> Self {
        Self { stage: Stage::Absent, progress: Arc::default() }
    }

    /// Reserves a port and, once the client has come to it, dials.
    pub(super) fn reserve(&mut self, pool: PassivePool, client: IpAddr, dial: Dial) {
        self.progress = Arc::default();
        let reserve = Box::pin(async move { pool.reserve(client).await });
        self.stage = Stage::Reserving { reserve, dial };
    }

    /// Bytes moved by the latest transfer.
    pub(super) fn bytes(&self) -> u64 {
        self.progress.bytes()
    }

    /// Starts to move bytes between the open connections.
    pub(super) fn relay(&mut self, direction: Direction, pipes: Arc<PipeBudget>, idle: Duration) {
        if let Stage::Open { pair } = std::mem::replace(&mut self.stage, Stage::Absent) {
            let (sockets, progress) = (Arc::clone(&pair), Arc::clone(&self.progress));
            let relay: Boxed<Result<(), RelayError>> = Box::pin(async move {
                let (from, to) = sockets.in_order(direction);
                let started = Instant::now();
                relay(from, to, &pipes, idle, &progress).await?;
                if direction == Direction::Upload {
                    sleep(last_look(started.elapsed())).await;
                }
                Ok(())
            });
            self.stage = Stage::Relaying { pair, relay, direction };
        }
    }

    /// The bytes are proven complete: FIN to their receiver. A download is over with that; an
    /// upload's connections stay until its final reply.
    pub(super) fn finish(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Absent) {
            Stage::Delivered { pair, direction: Direction::Upload } => {
                data_socket::finish(&pair.upstream.stream);
                self.stage = Stage::Delivered { pair, direction: Direction::Upload };
            }
            Stage::Delivered { pair, .. } => pair.close(),
            other => self.stage = other,
        }
    }

    /// An upload's final reply is there: both sides are closed in order.
    pub(super) fn release(&mut self) {
        if let Stage::Delivered { pair, .. } = std::mem::replace(&mut self.stage, Stage::Absent) {
            pair.close();
        }
    }

    /// Gives the client up, and opens the upstream's data connection only to reset it.
    pub(super) fn refuse(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Absent) {
            Stage::Reserved { dial, .. } | Stage::Expired { dial } => {
                Stage::Refusing { dial: dial.start() }
            }
            Stage::Dialling { dial, .. } => Stage::Refusing { dial },
            other => other,
        };
    }

    /// Gives up whatever there is; open connections are reset.
    pub(super) fn reset(&mut self) {
        self.stage = Stage::Absent;
    }

    /// What happens next; waits for ever where nothing can. Nothing is lost when it is dropped
    /// and called again.
    pub(super) async fn next(&mut self) -> DataEvent {
        loop {
            match &mut self.stage {
                Stage::Absent
                | Stage::Expired { .. }
                | Stage::Open { .. }
                | Stage::Delivered { .. } => return pending().await,
                Stage::Refusing { dial } => {
                    // Dropped as soon as it is there: a reset.
                    let refused = dial.as_mut().await.is_ok();
                    self.stage = Stage::Absent;
                    if refused {
                        return DataEvent::Refused;
                    }
                }
                Stage::Reserving { reserve, dial } => {
                    let (result, dial) = (reserve.as_mut().await, dial.clone());
                    self.stage = Stage::Absent;
                    let Ok(reservation) = result else { return DataEvent::PortsExhausted };
                    let port = reservation.port();
                    self.stage = Stage::Reserved { reservation, dial };
                    return DataEvent::PortReserved(port);
                }
                Stage::Reserved { reservation, dial } => {
                    let (result, dial) = (reservation.accepted().await, dial.clone());
                    let Ok(client) = result else {
                        self.stage = Stage::Expired { dial };
                        return DataEvent::Expired;
                    };
                    self.stage = Stage::Dialling { client, dial: dial.start() };
                }
                Stage::Dialling { dial, .. } => {
                    let result = dial.as_mut().await;
                    let dialled = std::mem::replace(&mut self.stage, Stage::Absent);
                    let Stage::Dialling { client, .. } = dialled else {
                        return DataEvent::DialFailed;
                    };
                    let upstream = match result {
                        Ok(upstream) => upstream,
                        Err(error) => {
                            info!(%error, "the upstream's data port cannot be reached");
                            return DataEvent::DialFailed;
                        }
                    };
                    self.stage = Stage::Open { pair: Arc::new(Pair { client, upstream }) };
                    return DataEvent::Opened;
                }
                Stage::Relaying { relay, pair, direction } => {
                    let (result, pair, direction) =
                        (relay.as_mut().await, Arc::clone(pair), *direction);
                    self.stage = Stage::Absent;
                    if let Err(error) = result {
                        return DataEvent::Failed(whose_fault(error.end(), direction));
                    }
                    if direction != Direction::Upload {
                        // Nothing more goes that way; a server that lingers until it sees the
                        // other side's FIN would keep its 226 back.
                        data_socket::half_close(&pair.upstream.stream);
                    }
                    self.stage = Stage::Delivered { pair, direction };
                    return DataEvent::Ended;
                }
            }
        }
    }
}

impl Dial {
    fn start(self) -> Boxed<io::Result<UpstreamData>> {
        Box::pin(async move {
            let counted = self.source.take();
            let stream = data_socket::dial(self.to, self.from, self.timeout).await?;
            Ok(UpstreamData { stream, _counted: counted })
        })
    }
}

impl Pair {
    /// The sender and the receiver.
    fn in_order(&self, direction: Direction) -> (&TcpStream, &TcpStream) {
        match direction {
            Direction::Upload => (&self.client, &self.upstream.stream),
            Direction::Download | Direction::Listing => (&self.upstream.stream, &self.client),
        }
    }

    /// Closes both with FIN.
    fn close(&self) {
        data_socket::finish(&self.client);
        data_socket::finish(&self.upstream.stream);
    }
}

/// How long an upload's FIN is held back, so that the FIN of the client's control connection can
/// be seen first if the client has died.
///
/// A client that dies sends FIN on both connections within microseconds, and Linux closes the one
/// opened last, the data connection, first. Without this wait that FIN would be passed on as the
/// end of the file. The wait grows with the upload, and so with the chance that its client dies in
/// it: nothing below 16 ms, then a sixteenth up to 10 ms, then a hundredth up to 250 ms.
fn last_look(duration: Duration) -> Duration {
    let short = (duration / 16).min(Duration::from_millis(10));
    let long = (duration / 100).min(Duration::from_millis(250));
    if short < Duration::from_millis(1) { Duration::ZERO } else { short.max(long) }
}

/// On which side a relay broke.
fn whose_fault(end: End, direction: Direction) -> DataFailure {
    match (end, direction) {
        (End::Idle, _) => DataFailure::Idle,
        (End::From, Direction::Upload) | (End::To, Direction::Download | Direction::Listing) => {
            DataFailure::Client
        }
        (End::To, Direction::Upload) | (End::From, Direction::Download | Direction::Listing) => {
            DataFailure::Upstream
        }
    }
}
