//! The newer process's part of a hand-over.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::line::Line;
use super::message::{Kind, Message, PROTOCOL, Process, State};
use super::wire::{Bell, Wire, beside};
use super::{Handover, Inner};
use crate::config::Config;
use crate::gateway::{CarriedBlock, Entry, Inherited, Outbox};

/// How long the older process may take for its first word: it may be handing over to another one.
const WELCOME: Duration = Duration::from_secs(90);
/// How long it may take for each other word; a request to S3 may have to end first.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process that serves until this one does.
#[derive(Debug)]
pub struct Predecessor {
    wire: Wire,
    process: Process,
    /// Its admin socket, if it has one.
    pub admin: Option<UnixListener>,
    /// Its hand-over socket.
    pub bell: Option<Bell>,
}

/// The older process stays: nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Its socket.
    #[error("cannot ask the ftpgate that runs for its sockets at {}: {source}", path.display())]
    Knock {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended, or said what it should not.
    #[error("the hand-over from the ftpgate that runs came to nothing: {why}")]
    Lost {
        /// Why.
        why: String,
    },
    /// Versions that do not understand each other.
    #[error(
        "version {version} runs, which hands over by protocol {theirs}, and this one \
         takes over by protocol {PROTOCOL}: it serves on; to change versions, stop it first"
    )]
    Protocol {
        /// Its version.
        version: String,
        /// Its protocol.
        theirs: u32,
    },
    /// It does not want to.
    #[error("the ftpgate that runs serves on, and does not hand over: {why}")]
    Refused {
        /// Why.
        why: String,
    },
}

/// Asks the process that runs with this configuration, if one does, for its sockets.
///
/// Must be called within a Tokio runtime.
///
/// # Errors
///
/// If there is one that does not give them.
pub async fn knock(
    config: &Config,
    inherited: &mut Inherited,
) -> Result<Option<Predecessor>, TakeError> {
    let Some(admin) = &config.admin else { return Ok(None) };
    let path = beside(&admin.socket);
    let wire = match Wire::connect(&path) {
        Ok(wire) => wire,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(source) => return Err(TakeError::Knock { path, source }),
    };
    if let Err(source) = wire.peer() {
        return Err(TakeError::Knock { path, source });
    }
    let lost = |why: &dyn ToString| TakeError::Lost { why: why.to_string() };
    let listeners = config.listeners.iter().map(|listener| listener.address).collect();
    let version = env!("CARGO_PKG_VERSION").into();
    let hello = Message::Hello { protocol: PROTOCOL, version, listeners };
    wire.send(&hello, None).await.map_err(|error| lost(&error))?;
    let answer = timeout(WELCOME, wire.receive()).await;
    let answer = answer.map_err(|_| lost(&"it does not answer"))?.map_err(|error| lost(&error))?;
    let (version, pid, sockets) = match answer.0 {
        Message::Refused { stranger: true, .. } => {
            warn!("another node runs with this admin socket: give each its own");
            return Ok(None);
        }
        Message::Welcome { protocol: theirs, version, .. }
        | Message::Refused { protocol: theirs, version, .. }
            if theirs != PROTOCOL =>
        {
            return Err(TakeError::Protocol { version, theirs });
        }
        Message::Refused { why, .. } => return Err(TakeError::Refused { why }),
        Message::Welcome { version, pid, sockets, .. } => (version, pid, sockets),
        other => return Err(lost(&format!("it says {other:?}"))),
    };
    info!(pid, version, sockets, "taking over");
    let process = Process { pid, version };
    let mut predecessor = Predecessor { wire, process, admin: None, bell: None };
    for _ in 0..sockets {
        predecessor.take_socket(inherited).await?;
    }
    Ok(Some(predecessor))
}

impl Predecessor {
    async fn take_socket(&mut self, inherited: &mut Inherited) -> Result<(), TakeError> {
        let (message, socket) = self.hear().await?;
        let (Message::Socket(kind), Some(socket)) = (message, socket) else {
            return Err(self.lost("a socket is missing"));
        };
        match kind {
            Kind::Admin => self.admin = Some(socket.into()),
            Kind::Bell => self.bell = Some(Bell::new(socket).map_err(|error| self.lost(error))?),
            Kind::Tcp => {
                let listener = TcpListener::from(socket);
                inherited.hand_over(listener).map_err(|error| self.lost(error))?;
            }
        }
        Ok(())
    }

    /// Tells it why there will be no hand-over.
    pub async fn give_up(&self, why: String) {
        let _ = self.wire.send(&Message::Failed { why }, None).await;
    }

    /// Waits until it takes nothing any more.
    pub async fn has_left(&self) {
        if self.hear().await.is_err() {
            debug!("the process before has ended already");
        }
    }

    async fn hear(&self) -> Result<(Message, Option<OwnedFd>), TakeError> {
        match timeout(PATIENCE, self.wire.receive()).await {
            Ok(Ok(heard)) => Ok(heard),
            Ok(Err(error)) => Err(self.lost(error)),
            Err(_) => Err(self.lost("it does not answer")),
        }
    }

    fn lost(&self, why: impl ToString) -> TakeError {
        TakeError::Lost { why: why.to_string() }
    }
}

/// How things stand at the older process.
struct Told {
    state: Option<Box<State>>,
    older: Vec<(Process, Line)>,
    blocks: Vec<CarriedBlock>,
    entries: Vec<Entry>,
}

impl Handover {
    /// Takes over: from here on this process must serve. Clients wait until it does.
    ///
    /// # Errors
    ///
    /// If the older process ended or did not answer, or goes on by itself.
    pub async fn take_over(&self, predecessor: Predecessor) -> Result<(), TakeError> {
        predecessor
            .wire
            .send(&Message::Ready, None)
            .await
            .map_err(|error| predecessor.lost(error))?;
        let told = predecessor.listen().await?;
        let inner = &self.inner;
        inner.doors.access().carry(told.blocks);
        let (own, parcels) = Outbox::new();
        let owners: Vec<_> = told.older.iter().map(|(_, line)| line.outbox().clone()).collect();
        for entry in &told.entries {
            match entry.older {
                None => inner.doors.pools().adopt(entry, &own),
                Some(older) => {
                    if let Some(owner) = owners.get(older) {
                        inner.doors.pools().adopt(entry, owner);
                    }
                }
            }
        }
        predecessor
            .wire
            .send(&Message::Serving, None)
            .await
            .map_err(|error| predecessor.lost(error))?;
        if let Some(state) = told.state {
            inner.doors.number_from(state.next_session);
            inner.pair.carry(state.pair);
        }
        self.inner.metrics.handed_over(true);
        predecessor.has_left().await;
        let Predecessor { wire, process, .. } = predecessor;
        info!(pid = process.pid, version = process.version, "taken over");
        for (process, line) in told.older {
            Inner::follow(inner, process, line);
        }
        Inner::follow(inner, process, Line::new(wire, own, parcels));
        Ok(())
    }
}

impl Predecessor {
    async fn listen(&self) -> Result<Told, TakeError> {
        let mut told =
            Told { state: None, older: Vec::new(), blocks: Vec::new(), entries: Vec::new() };
        loop {
            match self.hear().await? {
                (Message::State(state), _) => told.state = Some(state),
                (Message::Older(process), Some(socket)) => {
                    let wire = Wire::new(socket).map_err(|error| self.lost(error))?;
                    let (outbox, parcels) = Outbox::new();
                    told.older.push((process, Line::new(wire, outbox, parcels)));
                }
                (Message::Blocks(blocks), _) => told.blocks.extend(blocks),
                (Message::Reservations(entries), _) => told.entries.extend(entries),
                (Message::Done, _) => return Ok(told),
                (Message::Refused { why, .. }, _) => {
                    return Err(TakeError::Refused { why });
                }
                (other, _) => return Err(self.lost(format!("it says {other:?}"))),
            }
        }
    }
}
