//! TLS with clients and with the upstream (RFC 4217): the state of one connection without its
//! socket, so that control and data connections feed it as they feed everything else.

mod client;
mod server;
mod store;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, ServerConfig,
    ServerConnection, SupportedProtocolVersion,
};
use tokio::net::TcpStream;

use crate::config::TlsVersion;
pub use client::{Connector, TrustError, UpstreamTls, explain};
pub use server::{Acceptor, CertificateError, SessionTls};

/// Bytes read at once during a handshake; what comes behind it stays in [`Tls`].
const HANDSHAKE_CHUNK: usize = 4096;
const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];
const TLS12_ONLY: &[&SupportedProtocolVersion] = &[&TLS12];
const TLS12_AND_13: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// One TLS connection. What must be sent to the peer is taken by [`Tls::output`], and must be sent
/// after each call that may have brought some.
pub struct Tls(Box<Connection>);

// === impl Tls ===

impl Tls {
    /// A connection that a client is about to begin.
    ///
    /// # Errors
    ///
    /// Those of rustls, for a configuration that cannot work.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        // Whoever seals takes the output at once.
        connection.set_buffer_limit(None);
        Ok(Self(Box::new(connection.into())))
    }

    /// A connection that we are about to begin, with a server that must prove to be `name`.
    ///
    /// # Errors
    ///
    /// Those of rustls, for a configuration that cannot work.
    pub fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        let mut connection = ClientConnection::new(config, name)?;
        connection.set_buffer_limit(None);
        Ok(Self(Box::new(connection.into())))
    }

    /// Takes bytes of the peer; what they hold for us stays inside.
    ///
    /// # Errors
    ///
    /// The peer does not keep to TLS: the connection is over, once the alert in
    /// [`Tls::output`] is sent.
    pub fn feed(&mut self, mut sealed: &[u8]) -> Result<(), rustls::Error> {
        while !sealed.is_empty() {
            // An error means that what is inside must be taken first.
            match self.0.read_tls(&mut sealed) {
                Ok(0) => return Ok(()),
                Ok(_) => self.0.process_new_packets()?,
                Err(error) => return Err(rustls::Error::General(error.to_string())),
            };
        }
        Ok(())
    }

    /// Takes bytes of the peer and adds what they hold, and what was inside, to `plain`.
    ///
    /// # Errors
    ///
    /// Those of [`Tls::feed`].
    pub fn open(&mut self, mut sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), rustls::Error> {
        self.drain(plain);
        while !sealed.is_empty() {
            match self.0.read_tls(&mut sealed) {
                Ok(0) => return Ok(()),
                Ok(_) => self.0.process_new_packets()?,
                Err(error) => return Err(rustls::Error::General(error.to_string())),
            };
            self.drain(plain);
        }
        Ok(())
    }

    fn drain(&mut self, plain: &mut Vec<u8>) {
        // "Would block" when there is nothing: no error of the connection.
        let _ = self.0.reader().read_to_end(plain);
    }

    /// Seals bytes for the peer and adds them to `out`, behind what else must be sent. During the
    /// handshake they are kept until it is done.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        // Without a limit of its buffer it takes everything.
        let _ = self.0.writer().write_all(plain);
        self.output(out);
    }

    /// Adds what must be sent to the peer to `out`.
    pub fn output(&mut self, out: &mut Vec<u8>) {
        while self.0.wants_write() {
            // Into memory; cannot fail.
            if self.0.write_tls(out).is_err() {
                return;
            }
        }
    }

    /// Says that nothing more will come from us (close_notify).
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.0.send_close_notify();
        self.output(out);
    }

    /// Changes our keys and asks the peer to change its own (TLS 1.3).
    #[cfg(test)]
    pub(crate) fn change_keys(&mut self, out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        self.0.refresh_traffic_keys()?;
        self.output(out);
        Ok(())
    }

    /// Whether the handshake is not done yet.
    pub fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    /// Whether the peer has said that nothing more will come from it (close_notify). Whatever it
    /// sent before has been opened, if all that was read was fed.
    pub fn peer_closed(&mut self) -> bool {
        self.0.process_new_packets().is_ok_and(|state| state.peer_has_closed())
    }

    /// Whether the handshake resumed an earlier session of this configuration.
    pub fn is_resumed(&self) -> bool {
        self.0.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether the handshake begins a new session. On the server's side this shows with the client's
    /// first words, before the client is given anything by which it could resume that session.
    pub fn is_fresh(&self) -> bool {
        match self.0.handshake_kind() {
            Some(HandshakeKind::Full) => true,
            // Until it has tried again, it may yet resume one.
            Some(HandshakeKind::FullWithHelloRetryRequest) => {
                self.0.negotiated_key_exchange_group().is_some()
            }
            Some(HandshakeKind::Resumed) | None => false,
        }
    }

    /// Its version, for metrics; empty before the handshake.
    pub fn version(&self) -> &'static str {
        match self.0.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "",
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// What is spoken between these two.
fn versions(
    oldest: TlsVersion,
    newest: TlsVersion,
) -> &'static [&'static SupportedProtocolVersion] {
    match (oldest, newest) {
        (TlsVersion::Tls12, TlsVersion::Tls12) => TLS12_ONLY,
        (TlsVersion::Tls12, TlsVersion::Tls13) => TLS12_AND_13,
        (TlsVersion::Tls13, _) => TLS13_ONLY,
    }
}

/// Shakes hands with the peer of `stream`. Nothing is lost when it sends its first bytes at once:
/// they stay in `tls`.
///
/// # Errors
///
/// Those of the socket; [`io::ErrorKind::UnexpectedEof`] if the peer leaves,
/// [`io::ErrorKind::InvalidData`] if it does not keep to TLS.
pub async fn handshake(stream: &TcpStream, tls: &mut Tls) -> io::Result<()> {
    handshake_while(stream, tls, |_| true).await
}

/// The same with a client that must resume an earlier session. Whoever begins a new one is refused
/// as soon as that shows: at the end of his handshake he would be given tickets for it, and could
/// come again and resume that.
///
/// # Errors
///
/// Those of [`handshake`]; [`io::ErrorKind::PermissionDenied`] for a new session.
pub async fn handshake_resumed(stream: &TcpStream, tls: &mut Tls) -> io::Result<()> {
    handshake_while(stream, tls, |tls| !tls.is_fresh()).await
}

async fn handshake_while(
    stream: &TcpStream,
    tls: &mut Tls,
    admit: impl Fn(&Tls) -> bool,
) -> io::Result<()> {
    let mut out = Vec::new();
    loop {
        tls.output(&mut out);
        send(stream, &mut out).await?;
        if !tls.is_handshaking() {
            return Ok(());
        }
        stream.readable().await?;
        let mut bytes = [0; HANDSHAKE_CHUNK];
        let count = match stream.try_read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if let Err(error) = tls.feed(bytes.get(..count).unwrap_or_default()) {
            // The peer is told why, if it still listens.
            tls.output(&mut out);
            let _ = stream.try_write(&out);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if !admit(tls) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
    }
}

/// Sends all of it, and waits where the socket takes no more.
///
/// # Errors
///
/// Those of the socket.
pub async fn send(stream: &TcpStream, out: &mut Vec<u8>) -> io::Result<()> {
    while !out.is_empty() {
        stream.writable().await?;
        match stream.try_write(out) {
            Ok(count) => drop(out.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
