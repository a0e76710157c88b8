//! A connection that counts its bytes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ftp::Wire;

/// Bytes of all connections that share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count {
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

/// A connection, and where its bytes count.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: TcpStream,
    count: Count,
}

impl Count {
    /// Counts the bytes of this connection too.
    pub(crate) fn of(&self, stream: TcpStream) -> Counted {
        Counted { stream, count: self.clone() }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Counted {
    /// The same connection again.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(self.count.of(self.stream.try_clone()?))
    }

    /// The connection itself.
    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn note(counter: &AtomicU64, moved: io::Result<usize>) -> io::Result<usize> {
        moved.inspect(|&count| {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        })
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::note(&self.count.received, self.stream.read(buffer))
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::note(&self.count.sent, self.stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Wire for Counted {
    fn socket(&self) -> &TcpStream {
        &self.stream
    }
}
