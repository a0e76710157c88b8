//! A session's data connections, from the reserved port to the last byte.
//!
//! The client comes first: only when its data connection has arrived is the upstream's data port
//! dialled. Dialled at PASV, a slow client would find it timed out; at the transfer command, the
//! upstream may already have given it up (both are known races of other gateways). A client in active
//! mode is called at the transfer command, of which the upstream hears when both connections are there.

#[cfg(test)]
mod tests;

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tracing::info;

use super::data_connection::DataConnection;
use super::data_socket;
use super::pair::{Course, Dialled, Pair};
use super::passive::{Exhausted, PassivePool, Patience, Reservation};
use super::protection::Handshake;
use super::relay::{PipeBudget, Progress};
use crate::ftp::Direction;
use crate::ftp::dialogue::DataFailure;
use crate::tls::UpstreamTls;
use crate::upstream::SourceCount;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The data connections of one session: at most one pair at a time.
pub(super) struct DataConnections {
    stage: Stage,
    progress: Arc<Progress>,
    client_tls: Arc<OnceLock<Handshake>>,
}

/// News for the dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataEvent {
    /// The client does not take our connection, in active mode.
    ClientUnreachable,
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
    /// What to speak there, if the upstream is spoken to by TLS.
    pub(super) tls: Option<UpstreamTls>,
}

/// Where a client waits for our data connection, in active mode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Callback {
    pub(super) to: SocketAddr,
    /// Our address on the control connection.
    pub(super) from: IpAddr,
    /// 0 leaves the choice to the kernel.
    pub(super) source_port: u16,
}

enum Stage {
    Absent,
    /// The client waits to be called.
    Awaiting {
        callback: Callback,
        dial: Dial,
    },
    Calling {
        call: Boxed<io::Result<TcpStream>>,
        dial: Dial,
    },
    Reserving {
        reserve: Boxed<Result<Reservation, Exhausted>>,
        dial: Dial,
    },
    Reserved {
        reservation: Reservation,
        dial: Dial,
    },
    /// The client did not come.
    Lost {
        dial: Dial,
    },
    Dialling {
        client: DataConnection,
        dial: Boxed<io::Result<DataConnection>>,
        dialled: Dialled,
    },
    /// The client has been given up; the upstream's data port is dialled, to be reset.
    Refusing {
        dial: Boxed<io::Result<DataConnection>>,
    },
    Open {
        pair: Pair,
    },
    Relaying {
        relay: Boxed<Result<Pair, DataFailure>>,
        direction: Direction,
    },
    Delivered {
        pair: Pair,
        direction: Direction,
    },
}

impl DataConnections {
    pub(super) fn new() -> Self {
        Self { stage: Stage::Absent, progress: Arc::default(), client_tls: Arc::default() }
    }

    /// Reserves a port and, once the client has come to it, dials.
    pub(super) fn reserve(
        &mut self,
        pool: PassivePool,
        client: IpAddr,
        patience: Patience,
        dial: Dial,
    ) {
        let reserve = Box::pin(async move { pool.reserve(client, patience).await });
        self.begin(Stage::Reserving { reserve, dial });
    }

    /// Keeps in mind where the client waits; [`Self::call_back`] connects.
    pub(super) fn await_transfer(&mut self, callback: Callback, dial: Dial) {
        self.begin(Stage::Awaiting { callback, dial });
    }

    fn begin(&mut self, stage: Stage) {
        self.progress = Arc::default();
        self.client_tls = Arc::default();
        self.stage = stage;
    }

    /// Connects to the client that waits for it and, once it is there, dials.
    pub(super) fn call_back(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Absent) {
            Stage::Awaiting { callback: Callback { to, from, source_port }, dial } => {
                let call = Box::pin(data_socket::dial(to, from, source_port, dial.timeout));
                Stage::Calling { call, dial }
            }
            other => other,
        };
    }

    /// How far the latest transfer is, for who looks on.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Bytes of the file that the latest transfer has delivered.
    pub(super) fn bytes(&self) -> u64 {
        self.progress.delivered()
    }

    /// Bytes that its sender has sent: in ASCII type, with line ends as they were.
    pub(super) fn received(&self) -> u64 {
        self.progress.received()
    }

    /// What the client's TLS handshake for it was: its version, and whether it resumed a session.
    pub(super) fn client_tls(&self) -> Option<Handshake> {
        self.client_tls.get().copied()
    }

    /// Starts to move bytes between the open connections, behind the TLS handshakes that there must
    /// be. After a failure of any of them neither side has seen a byte of the other.
    pub(super) fn relay(&mut self, course: Course, pipes: Arc<PipeBudget>, idle: Duration) {
        match std::mem::replace(&mut self.stage, Stage::Absent) {
            Stage::Open { mut pair } => {
                let (progress, seen) = (Arc::clone(&self.progress), Arc::clone(&self.client_tls));
                let direction = course.direction;
                let relay = Box::pin(async move {
                    pair.relay(course, &pipes, idle, &progress, &seen).await?;
                    Ok(pair)
                });
                self.stage = Stage::Relaying { relay, direction };
            }
            other => self.stage = other,
        }
    }

    /// The bytes are proven complete: the end is told to their receiver. A download is over with
    /// that; an upload's connections stay until its final reply.
    pub(super) fn finish(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Absent) {
            Stage::Delivered { mut pair, direction: Direction::Upload } => {
                pair.upstream.finish();
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
            Stage::Reserved { dial, .. } | Stage::Lost { dial } => {
                Stage::Refusing { dial: dial.start().0 }
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
                | Stage::Awaiting { .. }
                | Stage::Lost { .. }
                | Stage::Open { .. } => return pending().await,
                Stage::Delivered { pair, .. } => {
                    pair.upstream.parted().await;
                    return pending().await;
                }
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
                        self.stage = Stage::Lost { dial };
                        return DataEvent::Expired;
                    };
                    self.stage = Stage::dial(client, dial);
                }
                Stage::Calling { call, dial } => {
                    let (result, dial) = (call.as_mut().await, dial.clone());
                    let client = match result {
                        Ok(client) => client,
                        Err(error) => {
                            info!(%error, "the client does not take its data connection");
                            self.stage = Stage::Absent;
                            return DataEvent::ClientUnreachable;
                        }
                    };
                    self.stage = Stage::dial(client, dial);
                }
                Stage::Dialling { dial, .. } => {
                    let result = dial.as_mut().await;
                    let stage = std::mem::replace(&mut self.stage, Stage::Absent);
                    let Stage::Dialling { client, dialled, .. } = stage else {
                        return DataEvent::DialFailed;
                    };
                    let upstream = match result {
                        Ok(upstream) => upstream,
                        Err(error) => {
                            info!(%error, "the upstream's data port cannot be reached");
                            return DataEvent::DialFailed;
                        }
                    };
                    self.stage = Stage::Open { pair: Pair { client, upstream, dialled } };
                    return DataEvent::Opened;
                }
                Stage::Relaying { relay, direction } => {
                    let (result, direction) = (relay.as_mut().await, *direction);
                    self.stage = Stage::Absent;
                    let mut pair = match result {
                        Ok(pair) => pair,
                        Err(failure) => return DataEvent::Failed(failure),
                    };
                    if direction != Direction::Upload {
                        // Nothing more goes that way; a server that lingers until it sees the
                        // other side's FIN would keep its 226 back.
                        pair.upstream.half_close();
                    }
                    self.stage = Stage::Delivered { pair, direction };
                    return DataEvent::Ended;
                }
            }
        }
    }
}

impl Stage {
    /// The client is there.
    fn dial(client: TcpStream, dial: Dial) -> Self {
        let client = DataConnection::new(client, None);
        let (dial, dialled) = dial.start();
        Self::Dialling { client, dial, dialled }
    }
}

impl Dial {
    fn start(self) -> (Boxed<io::Result<DataConnection>>, Dialled) {
        let Self { to, from, source, timeout, tls } = self;
        let dial = Box::pin(async move {
            let counted = source.take();
            let stream = data_socket::dial(to, from, 0, timeout).await?;
            Ok(DataConnection::new(stream, Some(counted)))
        });
        (dial, Dialled { tls, timeout })
    }
}
