//! A listener whose connections are bounded: where there are [`CONNECTIONS`], the oldest gives way to
//! who comes.
//!
//! A health check must find an open door, whatever else somebody who can reach the port does with it:
//! one that is refused takes a good node out of DNS. Who asks has its answer long before so many others
//! have come; who only keeps a connection open loses nothing by its end.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use axum::serve::Listener;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// How many there are at the most.
pub const CONNECTIONS: usize = 256;

/// Listens, and keeps the number of its connections bounded.
pub(super) struct BoundedListener {
    listener: TcpListener,
    /// The oldest first.
    open: VecDeque<Weak<TcpStream>>,
}

/// One of its connections.
pub(super) struct Connection(Arc<TcpStream>);

// === impl BoundedListener ===

impl BoundedListener {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, open: VecDeque::new() }
    }

    /// Whoever serves the oldest finds its end and lets it go.
    fn make_room(&mut self) {
        self.open.retain(|connection| connection.strong_count() > 0);
        while self.open.len() >= CONNECTIONS {
            if let Some(oldest) = self.open.pop_front().and_then(|connection| connection.upgrade())
            {
                // Fails only if it is gone already.
                let _ = SockRef::from(&*oldest).shutdown(Shutdown::Both);
            }
        }
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        self.make_room();
        let connection = Connection(Arc::new(stream));
        self.open.push_back(Arc::downgrade(&connection.0));
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

// === impl Connection ===

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read_buf(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}
