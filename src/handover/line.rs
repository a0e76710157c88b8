//! The line between two processes after a hand-over: notes about passive ports, both ways.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::message::Message;
use super::wire::Wire;
use crate::gateway::{Note, Outbox, Parcel};

/// How long what is still to be said may take when the line is passed on.
const FLUSH: Duration = Duration::from_secs(1);

/// A line and what is to be said on it.
#[derive(Debug)]
pub(super) struct Line {
    wire: Wire,
    outbox: Outbox,
    parcels: mpsc::Receiver<Parcel>,
    /// Taken from there and not sent yet.
    pending: Option<Parcel>,
}

/// Why a line is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The other process has ended, or does not listen.
    Lost,
    /// It was told to.
    Stopped,
}

impl Line {
    pub(super) fn new(wire: Wire, outbox: Outbox, parcels: mpsc::Receiver<Parcel>) -> Self {
        Self { wire, outbox, parcels, pending: None }
    }

    /// Says what there is to say and hears the other one, until `stop`. No note is half said or
    /// half heard then.
    pub(super) async fn converse(
        &mut self,
        hear: impl Fn(Note, Option<OwnedFd>),
        stop: &CancellationToken,
    ) -> End {
        let wire = &self.wire;
        let listen = async {
            loop {
                match wire.receive().await {
                    Ok((Message::Note(note), socket)) => hear(note, socket),
                    Ok((message, _)) => debug!(?message, "not a note"),
                    Err(error) => return debug!(%error, "the line is lost"),
                }
            }
        };
        let speak = async { while say_next(wire, &mut self.parcels, &mut self.pending).await {} };
        tokio::select! {
            biased;
            () = stop.cancelled() => End::Stopped,
            () = listen => End::Lost,
            () = speak => End::Lost,
            () = self.outbox.broken() => End::Lost,
        }
    }

    /// Says what is left to say, when nothing more can be added; false if the other one does not
    /// listen.
    pub(super) async fn flush(&mut self) -> bool {
        let speak = async {
            while self.pending.is_some() || !self.parcels.is_empty() {
                if !say_next(&self.wire, &mut self.parcels, &mut self.pending).await {
                    return false;
                }
            }
            true
        };
        timeout(FLUSH, speak).await.unwrap_or(false)
    }

    /// What has not been said.
    pub(super) fn unsaid(mut self) -> Vec<Parcel> {
        self.parcels.close();
        let mut unsaid: Vec<_> = self.pending.take().into_iter().collect();
        while let Ok(parcel) = self.parcels.try_recv() {
            unsaid.push(parcel);
        }
        unsaid
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }
}

/// Says one note; false if that cannot be. When it is dropped the note is still `pending`.
async fn say_next(
    wire: &Wire,
    parcels: &mut mpsc::Receiver<Parcel>,
    pending: &mut Option<Parcel>,
) -> bool {
    if pending.is_none() {
        *pending = parcels.recv().await;
    }
    let Some(Parcel { note, socket }) = pending else { return false };
    let message = Message::Note(note.clone());
    let said = wire.send(&message, socket.as_ref().map(AsFd::as_fd)).await;
    *pending = None;
    said.is_ok()
}
