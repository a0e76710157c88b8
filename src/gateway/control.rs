//! One control connection: its socket and what is still to be sent on it.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;
use zeroize::Zeroizing;

use crate::tls::Tls;

/// How long a silent control connection goes on before the kernel asks the peer for a sign of
/// life: under the 350 s after which balancers and NATs forget a flow.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// The kernel counts these times in seconds.
const KEEPALIVE_LEAST: Duration = Duration::from_secs(1);

/// A control connection. Sending never waits: what the socket does not take is kept here, and
/// the session stops reading from the other side until it is gone.
#[derive(Debug)]
pub(super) struct Control {
    stream: TcpStream,
    /// Sealed, if there is TLS.
    unsent: Vec<u8>,
    /// A write has failed.
    broken: bool,
    tls: Option<Tls>,
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
    /// Sets what every control connection needs. Options that the kernel refuses are left as they
    /// are: the session works without them.
    pub(super) fn new(stream: TcpStream) -> Self {
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_nodelay(true);
        // The DM of a telnet synch is urgent data; kept in line it cannot swallow an ABOR.
        let _ = socket.set_out_of_band_inline(true);
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        let _ = socket.set_tcp_keepalive(&keepalive);
        Self { stream, unsent: Vec::new(), broken: false, tls: None }
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

    /// The same for an upstream's, which counts as lost when it leaves data or keepalives
    /// unacknowledged for `lost_after`.
    pub(super) fn upstream(stream: TcpStream, lost_after: Duration) -> Self {
        let control = Self::new(stream);
        let socket = SockRef::from(&control.stream);
        let keepalive = TcpKeepalive::new()
            .with_time((lost_after / 2).max(KEEPALIVE_LEAST))
            .with_interval((lost_after / 4).max(KEEPALIVE_LEAST));
        let _ = socket.set_tcp_keepalive(&keepalive);
        // This also takes the place of the number of unanswered keepalives (tcp(7)).
        let _ = socket.set_tcp_user_timeout(Some(lost_after));
        control
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Resolves when there may be something to read. Only one task may wait for it at a time; that is
    /// why it takes no room in that task, unlike [`TcpStream::readable`].
    pub(super) async fn readable(&self) {
        // An error shows when it is read.
        let _ = poll_fn(|context| self.stream.poll_read_ready(context)).await;
    }

    /// The same for writing.
    pub(super) async fn writable(&self) {
        let _ = poll_fn(|context| self.stream.poll_write_ready(context)).await;
    }

    /// Whether everything has been handed to the kernel.
    pub(super) fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends now or keeps for [`Control::flush`]. An error shows at the next read, as [`Read::Lost`].
    pub(super) fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            Some(tls) => {
                let mut sealed = Vec::new();
                tls.seal(bytes, &mut sealed);
                self.transmit(&sealed);
            }
            None => self.transmit(bytes),
        }
    }

    fn transmit(&mut self, bytes: &[u8]) {
        let sent = if self.unsent.is_empty() { self.send_now(bytes) } else { 0 };
        self.unsent.extend_from_slice(bytes.get(sent..).unwrap_or_default());
    }

    /// Sends what was kept.
    pub(super) fn flush(&mut self) {
        let mut unsent = std::mem::take(&mut self.unsent);
        let sent = self.send_now(&unsent);
        if sent < unsent.len() {
            unsent.drain(..sent);
            self.unsent = unsent;
        }
    }

    /// Sends what the socket takes and says how much that is. A broken connection takes
    /// everything: there is nobody left.
    fn send_now(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.try_write(rest) {
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
            self.transmit(&farewell);
        }
        let _ = timeout(limit, async {
            while !self.is_flushed() && self.stream.writable().await.is_ok() {
                self.flush();
            }
            let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
            while self.stream.readable().await.is_ok() {
                if matches!(self.read(|_| ()), Read::End | Read::Lost | Read::TlsBroken) {
                    return;
                }
            }
        })
        .await;
    }

    /// Reads once what the runtime knows to be there.
    pub(super) fn read(&mut self, take: impl FnOnce(&[u8])) -> Read {
        let mut bytes = [0; 4096];
        let result = self.stream.try_read(&mut bytes);
        self.hand_over(result, &bytes, take)
    }

    /// Reads once, asking the kernel itself: the runtime learns of bytes only when it next polls,
    /// and a FIN that has already arrived must be seen now.
    pub(super) fn read_now(&mut self, take: impl FnOnce(&[u8])) -> Read {
        let mut bytes = [0; 4096];
        let result =
            recv(&self.stream, &mut bytes[..], RecvFlags::DONTWAIT).map(|(count, _)| count);
        self.hand_over(result.map_err(io::Error::from), &bytes, take)
    }

    fn hand_over(
        &mut self,
        result: io::Result<usize>,
        bytes: &[u8],
        take: impl FnOnce(&[u8]),
    ) -> Read {
        match result {
            // The kernel tells of a reset once, and may have told whoever wrote.
            Ok(0) if self.broken => Read::Lost,
            Ok(0) => Read::End,
            Ok(count) => {
                let bytes = bytes.get(..count).unwrap_or_default();
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
        self.transmit(&answer);
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
