//! One control connection: its socket and what is still to be sent on it.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::debug;
use zeroize::Zeroizing;

use crate::outbound;
use crate::tls::Tls;

/// The kernel counts these times in seconds.
const KEEPALIVE_LEAST: Duration = Duration::from_secs(1);
/// Bytes read at once.
const CHUNK: usize = 4096;

/// A control connection. Sending never waits: what the socket does not take is kept here, and
/// the session stops reading from the other side until it is gone.
#[derive(Debug)]
pub(super) struct Control {
    stream: TcpStream,
    /// Its peer may send urgent data, where a read stops though there is more.
    hears_urgent: bool,
    /// Sealed, if there is TLS.
    unsent: Vec<u8>,
    /// A write has failed.
    broken: bool,
    tls: Option<Tls>,
}

/// What happened on a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Some of what was kept has been sent.
    Flushed,
    /// It was read.
    Read(Read),
}

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes, handed to the caller's closure.
    Bytes,
    /// Nothing for now.
    Nothing,
    /// The peer's FIN.
    End,
    /// A reset or another error.
    Lost,
    /// What came is no TLS; the peer has been told so.
    TlsBroken,
}

impl Control {
    /// Has a listener's connections be what a session needs, beside TCP_NODELAY and keepalive. Options
    /// that the kernel refuses are left as they are, here and below: the session works without them.
    pub(super) fn prepare(listener: &TcpListener) {
        // The DM of a telnet synch is urgent data; kept in line it cannot swallow an ABOR.
        let _ = SockRef::from(listener).set_out_of_band_inline(true);
    }

    /// A client's, from a listener that was prepared.
    pub(super) fn client(stream: TcpStream) -> Self {
        Self { stream, hears_urgent: true, unsent: Vec::new(), broken: false, tls: None }
    }

    /// An upstream's, which counts as lost when it leaves data or keepalives unacknowledged for
    /// `lost_after`.
    pub(super) fn upstream(stream: TcpStream, lost_after: Duration) -> Self {
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_nodelay(true);
        let keepalive = TcpKeepalive::new()
            .with_time((lost_after / 2).max(KEEPALIVE_LEAST))
            .with_interval((lost_after / 4).max(KEEPALIVE_LEAST));
        let _ = socket.set_tcp_keepalive(&keepalive);
        // This also takes the place of the number of unanswered keepalives (tcp(7)).
        let _ = socket.set_tcp_user_timeout(Some(lost_after));
        Self { stream, hears_urgent: false, unsent: Vec::new(), broken: false, tls: None }
    }

    /// From here on everything is sealed, beginning with the handshake.
    pub(super) fn start_tls(&mut self, tls: Tls) {
        self.tls = Some(tls);
    }

    /// The TLS of this connection, if it has some.
    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Whether TLS has been started and its handshake is not done.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_handshaking)
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What happens next: something to read, if it `reads`, or room for what was kept. Only one task
    /// may wait for it at a time; that is why it takes no room in that task, unlike
    /// [`TcpStream::readable`].
    pub(super) async fn news(&mut self, reads: bool, mut take: impl FnMut(&[u8])) -> News {
        poll_fn(|context| {
            if reads && let Poll::Ready(read) = self.poll_read(context, &mut take) {
                return Poll::Ready(News::Read(read));
            }
            if self.is_flushed() {
                return Poll::Pending;
            }
            // An error shows when it is written to.
            let _ = ready!(self.stream.poll_write_ready(context));
            self.flush();
            Poll::Ready(News::Flushed)
        })
        .await
    }

    /// Whether everything has been handed to the kernel.
    pub(super) fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends now or keeps it for [`Control::news`]. An error shows at the next read, as [`Read::Lost`].
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.send_sealed(bytes, SendFlags::empty());
    }

    /// The same for last words: the kernel may wait for the FIN of [`Control::part`] and send both in one
    /// packet.
    pub(super) fn send_last(&mut self, bytes: &[u8]) {
        self.send_sealed(bytes, SendFlags::MORE);
    }

    fn send_sealed(&mut self, bytes: &[u8], flags: SendFlags) {
        match &mut self.tls {
            Some(tls) => {
                let mut sealed = Vec::new();
                tls.seal(bytes, &mut sealed);
                self.transmit(&sealed, flags);
            }
            None => self.transmit(bytes, flags),
        }
    }

    fn transmit(&mut self, bytes: &[u8], flags: SendFlags) {
        let sent = if self.unsent.is_empty() { self.send_now(bytes, flags) } else { 0 };
        self.unsent.extend_from_slice(bytes.get(sent..).unwrap_or_default());
    }

    /// Sends what was kept.
    fn flush(&mut self) {
        let mut unsent = std::mem::take(&mut self.unsent);
        let sent = self.send_now(&unsent, SendFlags::empty());
        if sent < unsent.len() {
            unsent.drain(..sent);
            self.unsent = unsent;
        }
    }

    /// Sends what the socket takes and says how much that is. A broken connection takes
    /// everything: there is nobody left.
    fn send_now(&mut self, bytes: &[u8], flags: SendFlags) -> usize {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            let flags = flags | SendFlags::NOSIGNAL;
            let result =
                self.stream.try_io(Interest::WRITABLE, || Ok(send(&self.stream, rest, flags)?));
            match result {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return sent,
                Err(_) => {
                    self.broken = true;
                    return bytes.len();
                }
            }
        }
        sent
    }

    /// Sends the last words, says FIN, and waits for the peer's: a close with bytes unread would
    /// be a reset, and the last words lost. After `limit` it waits no longer.
    pub(super) async fn part(&mut self, limit: Duration) {
        if let Some(tls) = &mut self.tls {
            let mut farewell = Vec::new();
            tls.close(&mut farewell);
            self.transmit(&farewell, SendFlags::MORE);
        }
        let _ = timeout(limit, async {
            while !self.is_flushed() && self.stream.writable().await.is_ok() {
                self.flush();
            }
            let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
            loop {
                let read = poll_fn(|context| self.poll_read(context, |_| ())).await;
                if matches!(read, Read::End | Read::Lost | Read::TlsBroken) {
                    return;
                }
            }
        })
        .await;
    }

    /// Reads once as soon as there is something.
    fn poll_read(&mut self, context: &mut Context<'_>, take: impl FnOnce(&[u8])) -> Poll<Read> {
        // An error shows when it is read.
        let _ = ready!(self.stream.poll_read_ready(context));
        let mut bytes = [MaybeUninit::uninit(); CHUNK];
        let result = match self.hears_urgent {
            true => {
                let (stream, room) = (&self.stream, &mut bytes);
                stream.try_io(Interest::READABLE, move || {
                    Ok(recv(stream, &mut room[..], RecvFlags::DONTWAIT)?.0.0)
                })
            }
            false => outbound::read(&self.stream, &mut bytes),
        };
        match result {
            // What the runtime remembered was old.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.poll_read(context, take)
            }
            result => Poll::Ready(self.hand_over(result, take)),
        }
    }

    /// Reads once, asking the kernel itself: the runtime learns of bytes only when it next polls,
    /// and a FIN that has already arrived must be seen now.
    pub(super) fn read_now(&mut self, take: impl FnOnce(&[u8])) -> Read {
        let mut bytes = [MaybeUninit::uninit(); CHUNK];
        let result = recv(&self.stream, &mut bytes[..], RecvFlags::DONTWAIT);
        self.hand_over(result.map(|((read, _), _)| read).map_err(io::Error::from), take)
    }

    fn hand_over(&mut self, result: io::Result<&mut [u8]>, take: impl FnOnce(&[u8])) -> Read {
        match result {
            // The kernel tells of a reset once, and may have told whoever wrote.
            Ok([]) if self.broken => Read::Lost,
            Ok([]) => Read::End,
            Ok(bytes) => {
                if self.tls.is_some() {
                    return self.open(bytes, take);
                }
                take(bytes);
                Read::Bytes
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Read::Nothing
            }
            Err(_) => Read::Lost,
        }
    }

    /// Hands over what sealed bytes hold, and sends what TLS itself has to say to them.
    fn open(&mut self, sealed: &[u8], take: impl FnOnce(&[u8])) -> Read {
        let Some(tls) = &mut self.tls else { return Read::Nothing };
        // It may hold a password.
        let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
        let opened = tls.open(sealed, &mut plain);
        let (mut answer, ended) = (Vec::new(), tls.peer_closed());
        tls.output(&mut answer);
        self.transmit(&answer, SendFlags::empty());
        match opened {
            Err(error) => {
                debug!(%error, "TLS");
                Read::TlsBroken
            }
            // Whoever has said that nothing more will come closes the socket next.
            Ok(()) if !plain.is_empty() => {
                take(&plain);
                Read::Bytes
            }
            Ok(()) if ended => Read::End,
            Ok(()) => Read::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::gateway::data_socket;

    /// Both ends of a connection: the peer's, and ours.
    async fn pair() -> (std::net::TcpStream, TcpStream) {
        let listener = data_socket::bind((Ipv4Addr::LOCALHOST, 0).into(), 1, None).unwrap();
        Control::prepare(&listener);
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (peer, listener.accept().await.unwrap().0)
    }

    /// All that there is to read until `bytes` have come.
    async fn read(control: &mut Control, bytes: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < bytes {
            let news = control.news(true, |read| all.extend_from_slice(read)).await;
            assert_eq!(news, News::Read(Read::Bytes));
        }
        all
    }

    #[tokio::test]
    async fn what_comes_behind_urgent_data_is_read_at_once() {
        let (mut peer, ours) = pair().await;
        peer.write_all(b"NOOP\r\n").unwrap();
        SockRef::from(&peer).send_out_of_band(b"\xf2").unwrap();
        peer.write_all(b"ABOR\r\n").unwrap();
        assert_eq!(read(&mut Control::client(ours), 13).await, b"NOOP\r\n\xf2ABOR\r\n");
    }

    #[tokio::test]
    async fn replies_and_the_end_behind_them_are_read_however_they_come() {
        let (mut peer, ours) = pair().await;
        let mut control = Control::upstream(ours, Duration::from_secs(9));
        let long = [b'x'; 3 * CHUNK];
        for reply in [b"220 Hello\r\n".as_slice(), &long[..CHUNK], &long, b"221 Bye\r\n"] {
            peer.write_all(reply).unwrap();
            assert_eq!(read(&mut control, reply.len()).await, reply);
        }
        peer.write_all(b"421 Off\r\n").unwrap();
        drop(peer);
        assert_eq!(read(&mut control, 9).await, b"421 Off\r\n");
        assert_eq!(control.news(true, |_| ()).await, News::Read(Read::End));
    }

    #[tokio::test]
    async fn last_words_wait_for_the_end_behind_them() {
        let mut waited = false;
        // The kernel waits for 200 ms at the most, which a busy machine may take from a try.
        for _ in 0..9 {
            let (mut peer, ours) = pair().await;
            let mut control = Control::client(ours);
            control.send_last(b"221 Bye\r\n");
            peer.set_nonblocking(true).unwrap();
            waited |= peer.peek(&mut [0]).is_err();
            peer.set_nonblocking(false).unwrap();
            let reads = std::thread::spawn(move || {
                let mut all = String::new();
                io::Read::read_to_string(&mut peer, &mut all).map(|_| all)
            });
            control.part(Duration::from_secs(60)).await;
            assert_eq!(reads.join().unwrap().unwrap(), "221 Bye\r\n");
        }
        assert!(waited);
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_goes_when_it_does() {
        let (mut peer, ours) = pair().await;
        let mut control = Control::client(ours);
        let reply = vec![b'x'; 16 << 20];
        control.send(&reply);
        assert!(!control.is_flushed());
        let reads = std::thread::spawn(move || {
            let mut all = vec![0; 16 << 20];
            io::Read::read_exact(&mut peer, &mut all).map(|()| (all, peer))
        });
        while !control.is_flushed() {
            assert_eq!(control.news(false, |_| ()).await, News::Flushed);
        }
        assert_eq!(reads.join().unwrap().unwrap().0, reply);
    }
}
