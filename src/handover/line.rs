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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Mutex;

    use super::super::wire::pair;
    use super::*;

    const POOL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn ends() -> [Line; 2] {
        pair().map(|wire| {
            let (outbox, parcels) = Outbox::new();
            Line::new(wire, outbox, parcels)
        })
    }

    fn granted(port: u16) -> Note {
        Note::Granted { pool: POOL, id: 1, port }
    }

    #[tokio::test]
    async fn notes_go_both_ways_until_it_is_stopped_and_what_is_left_can_be_said_or_taken_back() {
        const NOTES: u16 = 1_000;
        let [mut one, mut other] = ends();
        let (to_one, to_other) = (other.outbox().clone(), one.outbox().clone());
        for port in 0..NOTES {
            assert!(to_one.send(granted(port), None) && to_other.send(granted(port), None));
        }
        let stop = CancellationToken::new();
        let (heard, stopped) = (Mutex::new(Vec::new()), stop.clone());
        let hear = |note, _| {
            let mut heard = heard.lock().unwrap();
            heard.push(note);
            if heard.len() == 2 * usize::from(NOTES) {
                stopped.cancel();
            }
        };
        let ended = tokio::join!(one.converse(hear, &stop), other.converse(hear, &stop));
        assert_eq!(ended, (End::Stopped, End::Stopped));
        assert_eq!(heard.lock().unwrap().len(), 2 * usize::from(NOTES));
        to_other.send(granted(1), None);
        assert!(one.flush().await);
        let message = other.wire().receive().await.unwrap().0;
        assert!(matches!(message, Message::Note(note) if note == granted(1)));
        to_other.send(granted(2), None);
        let unsaid: Vec<_> = one.unsaid().into_iter().map(|parcel| parcel.note).collect();
        assert_eq!(unsaid, [granted(2)]);
        assert!(!to_other.send(granted(3), None), "it is over");
    }

    #[tokio::test]
    async fn the_end_of_the_other_process_and_a_note_too_many_end_it() {
        let [mut one, other] = ends();
        drop(other);
        let never = CancellationToken::new();
        assert_eq!(one.converse(|_, _| {}, &never).await, End::Lost);
        assert!(!one.flush().await || one.parcels.is_empty());
        let [mut slow, _other] = ends();
        let outbox = slow.outbox().clone();
        while outbox.send(granted(0), None) {}
        assert_eq!(slow.converse(|_, _| {}, &never).await, End::Lost);
    }
}
