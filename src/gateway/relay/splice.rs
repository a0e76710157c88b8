//! The splicing relay: through a pipe in the kernel, without a copy into this process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice as splice_fd,
};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{Passage, RelayError};

/// The pipe of a relay while there is plenty: the most that an unprivileged process may have.
const LARGE_PIPE: usize = 1024 * 1024;
/// The pipe of a relay when there is not; a smaller one is slower than copying.
const SMALL_PIPE: usize = 256 * 1024;
/// Bytes of all pipes. Linux gives an unprivileged user 64 MiB (fs.pipe-user-pages-soft) and
/// shrinks every further pipe to two pages; what is left is for others of that user.
const ALL_PIPES: usize = 48 * 1024 * 1024;

/// Moves bytes through `pipe` until the sender's FIN.
///
/// The pipe is empty whenever we read, so EAGAIN can only mean that the socket has nothing.
pub(super) async fn splice(passage: &mut Passage<'_>, pipe: &Pipe<'_>) -> Result<(), RelayError> {
    let piece = passage.piece(pipe.capacity);
    loop {
        let bytes = passage.receive(|from| pipe.fill(from, piece)).await?;
        if bytes == 0 {
            return Ok(());
        }
        passage.progress.receive(bytes);
        passage
            .deliver(bytes, bytes, |to, gone| pipe.empty(to, bytes.saturating_sub(gone)))
            .await?;
    }
}

/// How many bytes of pipes all relays together may still make.
///
/// While half is left a relay gets a large pipe, then a small one, then none.
#[derive(Debug)]
pub(in crate::gateway) struct PipeBudget {
    all: usize,
    left: AtomicUsize,
}

/// An empty pipe, taken from the budget for as long as it lives.
#[derive(Debug)]
pub(super) struct Pipe<'a> {
    reader: OwnedFd,
    writer: OwnedFd,
    /// What it holds, in bytes.
    capacity: usize,
    _share: Share<'a>,
}

/// Bytes taken from the budget.
#[derive(Debug)]
struct Share<'a> {
    budget: &'a PipeBudget,
    bytes: usize,
}

// === impl PipeBudget ===

impl Default for PipeBudget {
    fn default() -> Self {
        Self::new(ALL_PIPES)
    }
}

impl PipeBudget {
    /// A budget of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { all: bytes, left: AtomicUsize::new(bytes) }
    }

    /// A pipe that is worth splicing through, if one can be had.
    pub(super) fn pipe(&self) -> Option<Pipe<'_>> {
        let large = self.left() > self.all / 2;
        let mut share = self.take(if large { LARGE_PIPE } else { SMALL_PIPE })?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        if fcntl_setpipe_size(&writer, share.bytes).is_err() {
            fcntl_setpipe_size(&writer, SMALL_PIPE).ok()?;
        }
        let capacity = fcntl_getpipe_size(&writer).ok().filter(|&size| size >= SMALL_PIPE)?;
        share.shrink(capacity);
        Some(Pipe { reader, writer, capacity, _share: share })
    }

    /// Bytes not taken.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Option<Share<'_>> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .ok()
            .map(|_| Share { budget: self, bytes })
    }
}

// === impl Pipe ===

impl Pipe<'_> {
    /// Takes what the socket has, up to `most`, which the pipe must hold; 0 is FIN.
    fn fill(&self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        from.try_io(Interest::READABLE, || {
            Ok(splice_fd(from, None, &self.writer, None, most, flags)?)
        })
    }

    /// Gives the socket up to `bytes` of what the pipe holds.
    fn empty(&self, to: &TcpStream, bytes: usize) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        to.try_io(Interest::WRITABLE, || Ok(splice_fd(&self.reader, None, to, None, bytes, flags)?))
    }
}

// === impl Share ===

impl Share<'_> {
    /// Gives back what is not used.
    fn shrink(&mut self, bytes: usize) {
        let unused = self.bytes.saturating_sub(bytes);
        self.bytes -= unused;
        self.budget.left.fetch_add(unused, Ordering::Relaxed);
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}
