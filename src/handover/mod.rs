//! A new process of a node takes over from the one that runs, and no client notices.
//!
//! | file | what it holds |
//! |---|---|
//! | `give` | the older process's part: it gives its sockets, and gets its sessions' data connections |
//! | `line` | what the two say to each other from then on |
//! | `message` | all that is ever said |
//! | `take` | the newer process's part |
//! | `upgrade` | starting the newer process: `ftpgate upgrade` |
//! | `wire` | the Unix socket between the two |
//!
//! Whoever starts `ftpgate serve` with the configuration of a node that runs, starts its next
//! process. It knocks at a socket beside the node's admin socket, gets copies of all listening
//! sockets, and makes itself ready while the older one serves on. If it fails until then nothing has
//! changed. Once it is ready the older one shuts its doors for some milliseconds, in which clients
//! wait in the kernel, tells how things stand (the lease, what is reserved at the passive ports),
//! and hears that the newer one serves. That is the point of no return.
//!
//! Sessions stay where they are until they end. The passive ports are the newer process's, and so
//! it is asked for ports by the older one, and sends it its sessions' data connections as
//! descriptors. The lines to all older processes go from each process to the next.

mod give;
mod line;
mod message;
mod take;
mod upgrade;
mod wire;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::gateway::{Doors, Gateway};
use crate::ha::Pair;
use crate::lock::lock;
use crate::observe::metrics::Metrics;
use line::{End, Line};
pub use message::Process;
pub use take::{Predecessor, TakeError, knock};
pub use upgrade::{Program, UpgradeError, Upgraded};
pub use wire::Bell;

/// Older processes of a node that may finish their sessions at the same time.
const OLDER: usize = 16;

/// What a node hands over, and what it has taken over. Clones share it.
#[derive(Debug, Clone)]
pub struct Handover {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    doors: Doors,
    pair: Pair,
    /// Where clients' control connections come in.
    addresses: Vec<SocketAddr>,
    /// Copies of the sockets that are not for clients.
    others: Mutex<Others>,
    older: Mutex<Vec<Older>>,
    metrics: Metrics,
    /// What came of the latest hand-over.
    outcome: watch::Sender<Option<Outcome>>,
    program: Program,
    /// The process that was started by `upgrade` last: no stranger, wherever it listens.
    expected: AtomicI32,
    /// A new process makes itself ready: what is ordered here now would be lost.
    giving: AtomicBool,
    /// One upgrade at a time.
    upgrading: tokio::sync::Mutex<()>,
    /// Cancelled when another process has taken over.
    given: CancellationToken,
}

/// Sockets that are not for clients.
#[derive(Debug, Default)]
pub struct Others {
    /// Of health and metrics.
    pub http: Option<OwnedFd>,
    /// Of `ftpgate status` and the like.
    pub admin: Option<OwnedFd>,
}

/// What came of a hand-over.
#[derive(Debug, Clone)]
struct Outcome {
    pid: i32,
    /// The version of the new process, or why it is none.
    result: Result<String, String>,
}

/// An older process that finishes its sessions.
#[derive(Debug)]
struct Older {
    process: Process,
    stop: CancellationToken,
    /// Gives the line when it is stopped, and nothing when the process has ended.
    task: JoinHandle<Option<Line>>,
}

impl Handover {
    /// For a gateway that does not take clients yet. `given` is cancelled when another process has
    /// taken over.
    pub fn new(
        gateway: &Gateway,
        pair: Pair,
        others: Others,
        program: Program,
        metrics: Metrics,
        given: CancellationToken,
    ) -> Self {
        let inner = Inner {
            doors: gateway.doors(),
            pair,
            addresses: gateway.addresses(),
            others: Mutex::new(others),
            older: Mutex::default(),
            metrics,
            outcome: watch::Sender::new(None),
            program,
            expected: AtomicI32::new(0),
            giving: AtomicBool::new(false),
            upgrading: tokio::sync::Mutex::default(),
            given,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether a new process makes itself ready to take over.
    pub fn is_giving(&self) -> bool {
        self.inner.giving.load(Ordering::Relaxed)
    }

    /// The older processes that still have sessions.
    pub fn older(&self) -> Vec<Process> {
        self.inner.older().iter().map(|older| older.process.clone()).collect()
    }

    /// Waits for the next process to knock, and hands over to it; until that has succeeded or
    /// `closed`. The socket is beside the admin socket; a node without it cannot be found.
    ///
    /// Must be called within a Tokio runtime.
    pub fn listen(&self, admin: &Path, bell: Option<Bell>, closed: &CancellationToken) {
        let path = wire::beside(admin);
        let bell = bell.map_or_else(|| Bell::bind(&path), Ok);
        let bell = match bell {
            Ok(bell) => bell,
            Err(error) => {
                return warn!(
                    socket = %path.display(), %error,
                    "no hand-over socket, so a restart refuses clients: change admin.socket"
                );
            }
        };
        let inner = Arc::clone(&self.inner);
        tokio::spawn(closed.clone().run_until_cancelled_owned(async move {
            inner.answer(bell).await;
        }));
    }
}

impl Inner {
    fn older(&self) -> MutexGuard<'_, Vec<Older>> {
        lock(&self.older)
    }

    /// Hears an older process until it ends, and counts it.
    fn follow(self: &Arc<Self>, process: Process, mut line: Line) {
        let (stop, pid) = (CancellationToken::new(), process.pid);
        let (inner, stopped) = (Arc::clone(self), stop.clone());
        // It must be in the list before it can be taken out.
        let mut all = self.older();
        let task = tokio::spawn(async move {
            let owner = line.outbox().clone();
            let pools = inner.doors.pools();
            let end = line
                .converse(|note, socket| pools.hear_older(&owner, note, socket), &stopped)
                .await;
            if end == End::Stopped {
                return Some(line);
            }
            pools.lose_older(&owner);
            info!(pid, "an older process has ended");
            let mut all = inner.older();
            all.retain(|older| older.process.pid != pid);
            inner.metrics.older_processes(all.len());
            None
        });
        all.push(Older { process, stop, task });
        self.metrics.older_processes(all.len());
    }
}
