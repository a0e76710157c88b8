//! One data connection and the TLS on it, if there is any.
//!
//! With TLS an end has two parts: close_notify, which only the peer itself can have said, and FIN,
//! which anybody on the way can make. Neither goes out before the transfer is proven complete, and
//! FIN never without close_notify before it; a connection that is dropped says neither.

use std::io;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::data_socket;
use crate::tls::Tls;
use crate::upstream::SourceUse;

/// How long a peer with TLS may take to close its side too. Its close_notify must find somebody,
/// or a kernel that has nobody answers it with a reset, after which some systems forget what
/// their program has not read yet.
const PARTING_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read at once from a peer that should have nothing to say.
const ASIDE_CHUNK: usize = 4096;
/// Reads after which such a peer is not humoured further.
const ASIDE_READS: usize = 256;

/// Born with SO_LINGER 0: dropping it is a reset.
pub(super) struct DataConnection {
    pub(super) stream: TcpStream,
    pub(super) tls: Option<Tls>,
    /// What TLS wants sent, and the socket has not taken yet.
    pub(super) unsent: Vec<u8>,
    /// The end is to be sent as soon as the socket takes it.
    parting: bool,
    /// A connection to the upstream counts while it is open.
    _counted: Option<SourceUse>,
}

// === impl DataConnection ===

impl DataConnection {
    pub(super) fn new(stream: TcpStream, counted: Option<SourceUse>) -> Self {
        Self { stream, tls: None, unsent: Vec::new(), parting: false, _counted: counted }
    }

    /// Says that nothing more will go this way, while the other way stays as it is. A connection
    /// that is dropped after this alone is still reset.
    pub(super) fn half_close(&mut self) {
        if matches!(self.notify(), Ok(true)) {
            data_socket::half_close(&self.stream);
        }
    }

    /// Ends it, as its transfer is proven complete; it may be dropped in order from then on. If the
    /// socket does not take the close_notify at once, [`Self::parted`] is to be awaited.
    pub(super) fn finish(&mut self) {
        self.parting = match self.notify() {
            Ok(true) => {
                data_socket::finish(&self.stream);
                self.hear_out(read_now);
                false
            }
            Ok(false) => true,
            // It is gone.
            Err(_) => false,
        };
    }

    /// Resolves when what [`Self::finish`] began is done. Nothing is lost when it is dropped and
    /// called again.
    pub(super) async fn parted(&mut self) {
        while self.parting && self.stream.writable().await.is_ok() {
            self.finish();
        }
    }

    /// Ends it and lets it go. With TLS it stays until the peer has closed its side, too.
    pub(super) fn close(mut self) {
        self.finish();
        if self.tls.is_some() && (self.parting || !self.hear_out(read_now)) {
            tokio::spawn(timeout(PARTING_TIMEOUT, async move {
                self.parted().await;
                // By way of the runtime, which wakes us when there is more.
                while !self.hear_out(|stream, bytes| stream.try_read(bytes))
                    && self.stream.readable().await.is_ok()
                {}
            }));
        }
    }

    /// Sends close_notify, if there is TLS; says whether the socket has taken everything.
    fn notify(&mut self) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            tls.close(&mut self.unsent);
        }
        send_now(&self.stream, &mut self.unsent)
    }

    /// Takes what the peer has sent against the direction of the transfer, as closing with bytes
    /// unread would be a reset after all. All of it goes through TLS, if there is any: it may have put
    /// session tickets there, without which the next connection resumes nothing. Says whether the peer
    /// has closed its side.
    fn hear_out(&mut self, read: impl Fn(&TcpStream, &mut [u8]) -> io::Result<usize>) -> bool {
        let (mut bytes, mut aside) = ([0; ASIDE_CHUNK], Vec::new());
        for _ in 0..ASIDE_READS {
            match read(&self.stream, &mut bytes) {
                Ok(0) => return true,
                Ok(count) => {
                    if let Some(tls) = &mut self.tls {
                        aside.clear();
                        // What does not keep to TLS is forgotten, like all that is said aside.
                        let _ = tls.open(bytes.get(..count).unwrap_or_default(), &mut aside);
                    }
                }
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// Reads once, asking the kernel itself: the runtime learns of bytes only when it next polls.
fn read_now(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream, bytes, RecvFlags::DONTWAIT).map(|(count, _)| count)?)
}

/// Sends what the socket takes at once; says whether that was everything.
pub(super) fn send_now(stream: &TcpStream, unsent: &mut Vec<u8>) -> io::Result<bool> {
    while !unsent.is_empty() {
        match stream.try_write(unsent) {
            Ok(count) => drop(unsent.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reads what the receiver of a transfer has to say aside, such as session tickets and changes of
/// keys. Its FIN is no error: it may still be receiving.
pub(super) fn hear_aside(stream: &TcpStream, tls: &mut Tls) -> io::Result<()> {
    let mut bytes = [0; ASIDE_CHUNK];
    match stream.try_read(&mut bytes) {
        Ok(count) => tls
            .open(bytes.get(..count).unwrap_or_default(), &mut Vec::new())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_finished_connection_ends_in_order_though_the_peer_spoke() {
        let listener = data_socket::listen(Ipv4Addr::LOCALHOST.into(), 0, 16).unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut ours = DataConnection::new(listener.accept().await.unwrap().0, None);
        peer.write_all(&vec![7; 100_000]).await.unwrap();
        ours.stream.readable().await.unwrap();
        ours.stream.write_all(b"whole").await.unwrap();
        ours.close();
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"whole");
        assert!(peer.take_error().unwrap().is_none());
    }
}
