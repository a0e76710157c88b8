//! The older process's part of a hand-over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::getpid;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::line::{End, Line};
use super::message::{BLOCKS, ENTRIES, Kind, Message, PROTOCOL, Process, State};
use super::wire::{Bell, Wire};
use super::{Inner, OLDER, Older, Outcome};
use crate::gateway::{CarriedBlock, Entry, Outbox};
use crate::ha::Carried;
use crate::lock::lock;
use crate::systemd;

/// How long the newer process may take for its first word.
const HELLO: Duration = Duration::from_secs(5);
/// How long it may take to be ready. This one serves meanwhile.
const READY: Duration = Duration::from_secs(60);
/// How long it may take from there to serving. Nobody does meanwhile.
const SERVING: Duration = Duration::from_secs(5);

/// How long to rest after an error such as "too many open files".
const PAUSE: Duration = Duration::from_millis(100);

/// Whether this process still serves.
enum After {
    /// It does, for that reason.
    Stays(String),
    /// It does not.
    Gave,
}

/// An older process whose line rests.
struct Resting {
    process: Process,
    line: Line,
}

impl Inner {
    /// Answers who knocks, one after the other, until one has taken over.
    pub(super) async fn answer(self: &Arc<Self>, bell: Bell) {
        loop {
            let wire = match bell.accept().await {
                Ok(wire) => wire,
                Err(error) => {
                    warn!(%error, "accept failed on the hand-over socket");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let pid = match wire.peer() {
                Ok(pid) => pid,
                Err(error) => {
                    warn!(%error, "a stranger at the hand-over socket");
                    continue;
                }
            };
            let mut version = String::new();
            let after = self.hand_over(wire, pid, &bell, &mut version).await;
            self.giving.store(false, Ordering::Relaxed);
            let gave = matches!(after, After::Gave);
            let result = match after {
                After::Stays(why) => {
                    warn!(pid, why, "no hand-over; this process serves on");
                    self.metrics.handed_over(false);
                    Err(why)
                }
                After::Gave => Ok(version),
            };
            self.outcome.send_replace(Some(Outcome { pid, result }));
            if gave {
                return;
            }
        }
    }

    /// From the first word to the last.
    async fn hand_over(
        self: &Arc<Self>,
        wire: Wire,
        pid: i32,
        bell: &Bell,
        their_version: &mut String,
    ) -> After {
        if let Err(why) = self.welcome(&wire, pid, bell, their_version).await {
            return After::Stays(why);
        }
        info!(pid, version = their_version, "a new process makes itself ready");
        self.giving.store(true, Ordering::Relaxed);
        match timeout(READY, wire.receive()).await {
            Ok(Ok((Message::Ready, _))) => {}
            Ok(Ok((Message::Failed { why }, _))) => return After::Stays(why),
            Ok(Ok((other, _))) => return After::Stays(format!("it says {other:?}")),
            Ok(Err(error)) => {
                return After::Stays(format!("it ended before it was ready: {error}"));
            }
            Err(_) => return After::Stays(format!("it was not ready within {READY:?}")),
        }
        let carried = match self.pair.suspend().await {
            Ok(carried) => carried,
            Err(why) => return After::Stays(refuse(&wire, why, false).await),
        };
        self.doors.shut().await;
        let mut resting = self.rest().await;
        let (outbox, parcels) = Outbox::new();
        let outboxes: Vec<_> =
            resting.iter().map(|resting| resting.line.outbox().clone()).collect();
        let entries = self.doors.pools().defer(&outbox, &outboxes);
        for Resting { line, .. } in &mut resting {
            // One that does not listen hears of nothing more, and is lost to the next process too.
            let _ = line.flush().await;
        }
        let blocks = self.doors.access().carried();
        let told = tell(&wire, &resting, blocks, entries, self.state(carried));
        let told = timeout(SERVING, told).await;
        let failure = match told {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("it ended before it served: {error}")),
            Err(_) => Some(format!("it did not serve within {SERVING:?}")),
        };
        if let Some(why) = failure
            && !matches!(wire.last_word(), Some(Message::Serving))
        {
            let line = Line::new(wire, outbox, parcels);
            self.doors.pools().resume(|| line.unsaid());
            for Resting { process, line } in resting {
                self.follow(process, line);
            }
            self.doors.open();
            self.pair.go_on();
            return After::Stays(why);
        }
        self.leave(pid, Line::new(wire, outbox, parcels)).await;
        After::Gave
    }

    /// Gives everything up, and lives for its sessions only.
    async fn leave(self: &Arc<Self>, pid: i32, mut line: Line) {
        self.doors.leave();
        self.doors.pools().yield_up();
        *lock(&self.others) = super::Others::default();
        self.given.cancel();
        // Before the newer one says anything: systemd listens to the service's main process only.
        systemd::is_followed_by(pid);
        let _ = line.wire().send(&Message::Left, None).await;
        let pools = self.doors.pools().clone();
        let (background, closed) = self.doors.background();
        let closed = closed.clone();
        background.spawn(async move {
            let end = line.converse(|note, socket| pools.hear_newer(note, socket), &closed).await;
            if end == End::Stopped {
                // A data connection may be on its way to the process that it is for.
                line.flush().await;
                return;
            }
            pools.lose_newer();
            warn!(
                "the process that has taken over has ended: sessions here get no data connections"
            );
        });
    }

    /// Sends the sockets, if the newer process may have them.
    async fn welcome(
        &self,
        wire: &Wire,
        pid: i32,
        bell: &Bell,
        their_version: &mut String,
    ) -> Result<(), String> {
        let hello = timeout(HELLO, wire.receive()).await;
        let hello = hello.map_err(|_| "it says nothing")?.map_err(|error| error.to_string())?;
        let Message::Hello { protocol, version, listeners } = hello.0 else {
            return Err(format!("it says {:?}", hello.0));
        };
        *their_version = version;
        if protocol != PROTOCOL {
            let why = format!(
                "it takes over by protocol {protocol}, and this one hands over by {PROTOCOL}"
            );
            return Err(refuse(wire, &why, false).await);
        }
        let is_expected = self.expected.load(Ordering::Relaxed) == pid;
        if !is_expected && !self.addresses.iter().any(|address| listeners.contains(address)) {
            return Err(refuse(wire, "it listens elsewhere, and so is another node", true).await);
        }
        if self.older().len() >= OLDER {
            let why = format!(
                "{OLDER} older processes still finish their sessions: wait for some to end, or end them"
            );
            return Err(refuse(wire, &why, false).await);
        }
        let clients = self.doors.listeners();
        let (http, admin) = {
            let others = lock(&self.others);
            let copy = |socket: &Option<OwnedFd>| {
                socket.as_ref().and_then(|socket| socket.try_clone().ok())
            };
            (copy(&others.http), copy(&others.admin))
        };
        let tcp = clients.iter().map(|listener| (Kind::Tcp, listener.as_fd()));
        let mut sockets: Vec<(Kind, BorrowedFd<'_>)> = tcp.collect();
        sockets.extend(http.iter().map(|socket| (Kind::Tcp, socket.as_fd())));
        sockets.extend(admin.iter().map(|socket| (Kind::Admin, socket.as_fd())));
        sockets.push((Kind::Bell, bell.as_fd()));
        let version = env!("CARGO_PKG_VERSION").into();
        let (pid, count) = (getpid().as_raw_nonzero().get(), sockets.len());
        let welcome = Message::Welcome { protocol: PROTOCOL, version, pid, sockets: count };
        let send = async {
            wire.send(&welcome, None).await?;
            for (kind, socket) in sockets {
                wire.send(&Message::Socket(kind), Some(socket)).await?;
            }
            Ok::<_, io::Error>(())
        };
        timeout(HELLO, send)
            .await
            .map_err(|_| "it does not take the sockets")?
            .map_err(|error| error.to_string())
    }

    /// Hears the older processes no more; what they say waits in their lines.
    async fn rest(&self) -> Vec<Resting> {
        let all = std::mem::take(&mut *self.older());
        let mut resting = Vec::with_capacity(all.len());
        for Older { process, stop, task, .. } in all {
            stop.cancel();
            if let Ok(Some(line)) = task.await {
                resting.push(Resting { process, line });
            }
        }
        resting
    }

    fn state(&self, pair: Carried) -> State {
        State { pair, next_session: self.doors.next_session() }
    }
}

/// Says how things stand, and hears whether the other one serves.
async fn tell(
    wire: &Wire,
    older: &[Resting],
    blocks: Vec<CarriedBlock>,
    entries: Vec<Entry>,
    state: State,
) -> io::Result<()> {
    wire.send(&Message::State(Box::new(state)), None).await?;
    for Resting { process, line } in older {
        let message = Message::Older(process.clone());
        wire.send(&message, Some(line.wire().as_fd())).await?;
    }
    for some in blocks.chunks(BLOCKS) {
        wire.send(&Message::Blocks(some.to_vec()), None).await?;
    }
    for some in entries.chunks(ENTRIES) {
        wire.send(&Message::Reservations(some.to_vec()), None).await?;
    }
    wire.send(&Message::Done, None).await?;
    match wire.receive().await? {
        (Message::Serving, _) => Ok(()),
        (other, _) => Err(io::Error::other(format!("it says {other:?}"))),
    }
}

/// Says why there will be no hand-over, and gives that.
async fn refuse(wire: &Wire, why: &str, stranger: bool) -> String {
    let (version, why) = (env!("CARGO_PKG_VERSION").into(), why.to_owned());
    let refused = Message::Refused { protocol: PROTOCOL, version, why: why.clone(), stranger };
    let _ = timeout(HELLO, wire.send(&refused, None)).await;
    why
}
