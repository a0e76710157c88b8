//! Bytes from one data connection to the other, in one direction, until the sender's FIN.
//!
//! No library relay would do: they turn a reset into a clean end, and a cut file would look
//! complete. Here `Ok` means one thing only: the sender's FIN has been read, and every byte
//! before it is in the receiver's socket. Sending FIN on is left to the caller, who may know
//! better; after anything else the caller drops both streams, which resets them.
//!
//! Bytes that are the same on both sides go straight: a small file is copied through a small buffer. Once a transfer turns out to be bulk, its bytes
//! are spliced through a large pipe and never enter this process, or, where no large pipe can be
//! had, copied through a large buffer. Bytes that must be worked on, because of TLS or of ASCII
//! type, take the way of `work`.

mod copy;
mod splice;
#[cfg(test)]
mod tests;
mod work;

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::{coop, yield_now};
use tokio::time::{Instant, sleep, sleep_until};

use super::access::Rate;
use crate::tls::Tls;

pub(super) use splice::PipeBudget;
pub(super) use work::work;

/// A transfer of more bytes than this is bulk.
pub(super) const BULK: u64 = 128 * 1024;
/// The buffer for what is not bulk.
const SMALL_BUFFER: usize = 32 * 1024;
/// The buffer for bulk that has no pipe.
const LARGE_BUFFER: usize = 256 * 1024;
/// Bytes after which a relay that never has to wait lets others run.
const TURN: usize = 4 * 1024 * 1024;
/// An idle time-out is noticed at most this fraction of it too late.
const IDLE_TICKS: u32 = 4;

/// Moves all that `from` sends into `to`'s socket. FIN is not sent on.
///
/// A reset or error of `to` is noticed while `from` is silent and the other way round; a FIN of
/// `to` is no error, for it still may be receiving. After `idle` without a byte moved the relay
/// gives up. With a `rate` it reads no faster than that; the wait for it is not idle.
///
/// Dropping the future leaks nothing, but bytes may be in its hands: a transfer whose relay was
/// dropped must be reset.
pub(super) fn relay(
    from: &TcpStream,
    to: &TcpStream,
    pipes: &PipeBudget,
    rate: Option<&Rate>,
    idle: Duration,
    progress: &Progress,
) -> impl Future<Output = Result<(), RelayError>> {
    relay_with(BULK, from, to, pipes, rate, idle, progress)
}

/// How far a relay is; to be read while it runs.
#[derive(Debug, Default)]
pub(super) struct Progress {
    received: AtomicU64,
    delivered: AtomicU64,
    moved: AtomicU64,
    /// The relay waits for nobody but its own rate.
    paced: AtomicBool,
}

/// Why a relay stopped before the sender's FIN.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    /// The sender's connection broke.
    #[error("the sender's data connection broke: {0}")]
    From(#[source] io::Error),
    /// No byte moved.
    #[error("no byte moved for {0:?}")]
    Idle(Duration),
    /// The receiver's connection broke.
    #[error("the receiver's data connection broke: {0}")]
    To(#[source] io::Error),
    /// The sender's FIN came without the close_notify that TLS ends with: anybody between it and us
    /// may have made it.
    #[error("the sender's data connection ended without close_notify")]
    Truncated,
}

/// Where a relay broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// At the sender.
    From,
    /// At neither: no byte moved.
    Idle,
    /// At the receiver.
    To,
    /// At the sender, whose end proves nothing.
    Truncated,
}

/// [`relay`] with its own idea of what is bulk: 0 splices from the first byte, `u64::MAX` always
/// copies.
async fn relay_with(
    bulk: u64,
    from: &TcpStream,
    to: &TcpStream,
    pipes: &PipeBudget,
    rate: Option<&Rate>,
    idle: Duration,
    progress: &Progress,
) -> Result<(), RelayError> {
    let mut passage = Passage::new(from, to, rate, progress);
    tokio::select! {
        biased;
        result = passage.run(bulk, pipes) => result,
        () = stalled(progress, idle) => Err(RelayError::Idle(idle)),
    }
}

/// Resolves when `progress` has stood still for `idle`. It looks a few times in that time, so
/// that a byte costs no timer.
async fn stalled(progress: &Progress, idle: Duration) {
    let (mut seen, mut quiet) = (progress.moved(), 0);
    while quiet < IDLE_TICKS {
        sleep(idle / IDLE_TICKS).await;
        let moved = progress.moved();
        let is_quiet = moved == seen && !progress.paced.load(Ordering::Relaxed);
        quiet = if is_quiet { quiet + 1 } else { 0 };
        seen = moved;
    }
}

/// Resolves when the kernel reports an error on `stream`, such as a reset.
pub(super) async fn broken(stream: &TcpStream) -> io::Error {
    loop {
        if let Err(error) = stream.ready(Interest::ERROR).await {
            return error;
        }
        match stream.take_error() {
            Ok(Some(error)) | Err(error) => return error,
            // A false alarm; without this it would ring for ever.
            Ok(None) => {
                let quiet = || Err(io::ErrorKind::WouldBlock.into());
                let _: io::Result<()> = stream.try_io(Interest::ERROR, quiet);
            }
        }
    }
}

/// Asks the kernel whether a socket takes bytes; what the runtime remembers of it is older than the
/// last write. A broken one takes them, and says so when it gets them.
fn has_room(stream: &TcpStream) -> io::Result<()> {
    let mut asked = [PollFd::new(stream, PollFlags::OUT)];
    match poll(&mut asked, Some(&Timespec::default()))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Why a part of a relay came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The sender's FIN.
    Fin,
    /// As many bytes as were asked for.
    Limit,
}

/// One relay on its way.
struct Passage<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    progress: &'a Progress,
    rate: Option<&'a Rate>,
    /// When it lets the next bytes come, if not yet.
    due: Option<Instant>,
    /// The sender's FIN is in its socket, perhaps behind bytes not yet read.
    from_ended: bool,
    /// Bytes since others had their turn.
    turn: usize,
}

/// A socket to write to as far as it takes bytes at once.
struct Vectored<'a>(&'a TcpStream);

// === impl Passage ===

impl<'a> Passage<'a> {
    fn new(
        from: &'a TcpStream,
        to: &'a TcpStream,
        rate: Option<&'a Rate>,
        progress: &'a Progress,
    ) -> Self {
        Self { from, to, progress, rate, due: None, from_ended: false, turn: 0 }
    }

    /// How much of `size` may be read at once.
    fn piece(&self, size: usize) -> usize {
        self.rate.map_or(size, |rate| rate.piece().min(size))
    }

    async fn run(&mut self, bulk: u64, pipes: &PipeBudget) -> Result<(), RelayError> {
        if bulk > 0 && copy::copy(self, SMALL_BUFFER, bulk).await? == Stop::Fin {
            return Ok(());
        }
        match pipes.pipe() {
            Some(pipe) => splice::splice(self, &pipe).await,
            None => copy::copy(self, LARGE_BUFFER, u64::MAX).await.map(|_| ()),
        }
    }

    /// Reads by `read` as soon as the sender has something; 0 is its FIN. What the bytes are worth
    /// is the caller's to count.
    async fn receive(
        &mut self,
        mut read: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Result<usize, RelayError> {
        if let Some(due) = self.due.take() {
            // On its own: a relay without a rate must not grow by it.
            Box::pin(self.wait_until(due)).await?;
        }
        loop {
            match read(self.from) {
                Ok(bytes) => {
                    self.progress.stir(bytes);
                    self.spend(bytes);
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                Err(error) => return Err(RelayError::From(error)),
            }
        }
    }

    /// Takes bytes from the rate, if there is one.
    fn spend(&mut self, bytes: usize) {
        if let Some(rate) = self.rate {
            let now = Instant::now();
            self.due = Some(rate.take(bytes, now)).filter(|&due| due > now);
        }
    }

    /// Waits for the rate, which others may have used up for long. An end that breaks is noticed.
    async fn wait_until(&mut self, due: Instant) -> Result<(), RelayError> {
        self.turn = 0;
        let mut over = Box::pin(sleep_until(due));
        self.progress.paced.store(true, Ordering::Relaxed);
        let waited = loop {
            tokio::select! {
                biased;
                () = &mut over => break Ok(()),
                error = broken(self.to) => break Err(RelayError::To(error)),
                error = broken(self.from), if !self.from_ended => {
                    // As for `writable`.
                    self.from_ended = error.kind() == io::ErrorKind::BrokenPipe;
                    if !self.from_ended {
                        break Err(RelayError::From(error));
                    }
                }
            }
        };
        self.progress.paced.store(false, Ordering::Relaxed);
        waited
    }

    /// Writes by `write`, which is told how many bytes have gone, until `bytes` have. They carry
    /// `payload` bytes of the file.
    async fn deliver(
        &mut self,
        bytes: usize,
        payload: usize,
        mut write: impl FnMut(&TcpStream, usize) -> io::Result<usize>,
    ) -> Result<(), RelayError> {
        let mut gone = 0;
        while gone < bytes {
            match write(self.to, gone) {
                Ok(0) => return Err(RelayError::To(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.count(&mut gone, written, payload),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(RelayError::To(error)),
            }
        }
        self.give_way(bytes).await;
        Ok(())
    }

    /// Writes all that `tls` has to send, which carries `payload` bytes of the file.
    async fn deliver_sealed(&mut self, tls: &mut Tls, payload: usize) -> Result<(), RelayError> {
        let mut gone = 0;
        while tls.has_output() {
            match tls.send(&mut Vectored(self.to)) {
                Ok(0) => return Err(RelayError::To(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.count(&mut gone, written, payload),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(RelayError::To(error)),
            }
        }
        self.give_way(gone).await;
        Ok(())
    }

    /// Counts bytes that went behind those `gone` before, all of which carry `payload` bytes.
    fn count(&self, gone: &mut usize, written: usize, payload: usize) {
        let before = (*gone).min(payload);
        *gone += written;
        self.progress.deliver((*gone).min(payload).saturating_sub(before));
        self.progress.stir(written);
    }

    /// Waits until the receiver's socket takes some more bytes at once.
    async fn room(&mut self) -> Result<(), RelayError> {
        loop {
            match self.to.try_io(Interest::WRITABLE, || has_room(self.to)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(RelayError::To(error)),
            }
        }
    }

    async fn readable(&mut self) -> Result<(), RelayError> {
        self.turn = 0;
        tokio::select! {
            biased;
            error = broken(self.to) => Err(RelayError::To(error)),
            ready = self.from.readable() => ready.map_err(RelayError::From),
        }
    }

    async fn writable(&mut self) -> Result<(), RelayError> {
        self.turn = 0;
        tokio::select! {
            biased;
            ready = self.to.writable() => ready.map_err(RelayError::To),
            error = broken(self.from), if !self.from_ended => {
                // The kernel says EPIPE where a reset came after a FIN: all bytes are here.
                self.from_ended = error.kind() == io::ErrorKind::BrokenPipe;
                if self.from_ended { Ok(()) } else { Err(RelayError::From(error)) }
            }
        }
    }

    /// Sockets that are always ready would otherwise keep the thread to themselves, and the
    /// session from hearing an ABOR.
    async fn give_way(&mut self, bytes: usize) {
        self.turn += bytes;
        if self.turn >= TURN {
            self.turn = 0;
            yield_now().await;
        } else {
            coop::consume_budget().await;
        }
    }
}

// === impl Vectored ===

impl io::Write for Vectored<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Progress ===

impl Progress {
    /// Bytes of the file that the sender has sent.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes of the file that are in the receiver's socket. In ASCII type the line ends make it
    /// differ from what was received.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Bytes that have gone through either socket, for telling life from death only.
    fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn deliver(&self, bytes: usize) {
        self.delivered.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn stir(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// === impl RelayError ===

impl RelayError {
    /// Where it broke.
    pub(super) fn end(&self) -> End {
        match self {
            Self::From(_) => End::From,
            Self::Idle(_) => End::Idle,
            Self::To(_) => End::To,
            Self::Truncated => End::Truncated,
        }
    }
}
