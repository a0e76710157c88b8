//! FTP over TLS for the client of [`super::ftp`]: like it, it shows how a connection ended. With TLS
//! there are two parts to that, the close_notify that only the peer can have said, and the FIN that
//! a kernel says for a process that was killed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use super::certificates::Authority;
use super::ftp::{Ftp, Reply, Wire, connect, fin};

/// Each that there is, with its name in metrics.
pub(crate) const VERSIONS: [(&str, &SupportedProtocolVersion); 2] =
    [("1.2", &TLS12), ("1.3", &TLS13)];

/// A connection whose handshake is done.
pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// How a client speaks TLS, and what it remembers of earlier sessions: connections made by the same
/// one, or a clone, resume each other's sessions.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// How a connection ended for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecureEnd {
    /// By close_notify: the peer says that this was everything.
    Closed,
    /// By FIN alone.
    Fin,
    Reset,
}

impl Wire for Secure {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

impl Tls {
    /// One with no memory yet, that trusts the authority to vouch for that host.
    pub(crate) fn new(authority: &Authority, host: IpAddr) -> Self {
        Self::with(authority, host, &[&TLS13, &TLS12], &[])
    }

    /// The same with one version only.
    pub(crate) fn speaking(
        version: &'static SupportedProtocolVersion,
        authority: &Authority,
        host: IpAddr,
    ) -> Self {
        Self::with(authority, host, &[version], &[])
    }

    /// The same that says what it wants to speak inside (ALPN).
    pub(crate) fn for_protocol(protocol: &str, authority: &Authority, host: IpAddr) -> Self {
        Self::with(authority, host, &[&TLS13, &TLS12], &[protocol])
    }

    fn with(
        authority: &Authority,
        host: IpAddr,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols =
            protocols.iter().map(|&protocol| protocol.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config), name: ServerName::IpAddress(host.into()) }
    }

    /// Shakes hands.
    pub(crate) fn shake(&self, mut stream: TcpStream) -> io::Result<Secure> {
        let mut tls = ClientConnection::new(Arc::clone(&self.config), self.name.clone()).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        // The Finished of TLS 1.3 is the client's, and goes out last.
        while tls.wants_write() {
            tls.write_tls(&mut stream)?;
        }
        Ok(StreamOwned::new(tls, stream))
    }
}

impl Ftp<Secure> {
    /// Connects and says AUTH TLS.
    #[track_caller]
    pub(crate) fn explicit(to: SocketAddr, tls: &Tls) -> Self {
        let mut clear = Ftp::connect(to);
        clear.command("AUTH TLS").expect(&[234]);
        Self::secured(clear, tls)
    }

    /// Shakes hands on a control connection that has got its 234.
    #[track_caller]
    pub(crate) fn secured(clear: Ftp, tls: &Tls) -> Self {
        let stream = tls.shake(clear.stream.into_inner()).unwrap();
        Self { stream: io::BufReader::new(stream) }
    }

    /// Connects to a listener whose sessions begin with TLS.
    #[track_caller]
    pub(crate) fn implicit(to: SocketAddr, tls: &Tls) -> Self {
        Self::over(tls.shake(connect(to, None).unwrap()).unwrap())
    }

    /// Connects, logs in, and has its data protected.
    #[track_caller]
    pub(crate) fn private(to: SocketAddr, tls: &Tls, user: &str) -> Self {
        let mut client = Self::explicit(to, tls);
        client.log_in_as(user);
        client.protect();
        client
    }

    /// PBSZ and PROT P.
    #[track_caller]
    pub(crate) fn protect(&mut self) {
        self.command("PBSZ 0").expect(&[200]);
        self.command("PROT P").expect(&[200]);
    }

    /// What the handshake came to.
    pub(crate) fn tls(&self) -> &ClientConnection {
        &self.stream.get_ref().conn
    }

    /// Starts a transfer: its data connection over PASV, its command, its 150, its handshake.
    #[track_caller]
    pub(crate) fn begin(&mut self, command: &str, tls: &Tls) -> Secure {
        let address = self.pasv();
        let data = self.open(address);
        self.command(command).expect(&[150]);
        tls.shake(data).unwrap()
    }

    /// Uploads over PASV; gives the final reply.
    #[track_caller]
    pub(crate) fn upload(&mut self, command: &str, content: &[u8], tls: &Tls) -> Reply {
        let mut data = self.begin(command, tls);
        data.write_all(content).unwrap();
        finish(data);
        self.reply()
    }

    /// Downloads or lists over PASV, to an end in order; gives the bytes and the final reply.
    #[track_caller]
    pub(crate) fn download(&mut self, command: &str, tls: &Tls) -> (Vec<u8>, Reply) {
        let data = self.begin(command, tls);
        let (content, end) = read_to_end(data);
        assert_eq!(end, SecureEnd::Closed, "{command}");
        (content, self.reply())
    }
}

/// Whether the handshake resumed an earlier session.
pub(crate) fn is_resumed(data: &Secure) -> bool {
    data.conn.handshake_kind() == Some(HandshakeKind::Resumed)
}

/// Says close_notify, and then FIN.
pub(crate) fn close(data: &mut Secure) {
    data.conn.send_close_notify();
    // The other side may have reset the connection already.
    let _ = data.flush();
    fin(&data.sock);
}

/// Ends an upload in order: close_notify and FIN, and then the same from the other side.
#[track_caller]
pub(crate) fn finish(mut data: Secure) {
    close(&mut data);
    let (rest, end) = read_to_end(data);
    assert!(rest.is_empty(), "nothing comes back on an upload");
    assert_eq!(end, SecureEnd::Closed, "the end of an upload");
}

/// Everything until the end, and which end it was. Behind close_notify there must be FIN.
#[track_caller]
pub(crate) fn read_to_end(mut data: Secure) -> (Vec<u8>, SecureEnd) {
    let mut bytes = Vec::new();
    let end = match data.read_to_end(&mut bytes) {
        Ok(_) => {
            let rest = data.sock.read_to_end(&mut Vec::new());
            assert!(matches!(rest, Ok(0)), "no FIN behind close_notify: {rest:?}");
            SecureEnd::Closed
        }
        Err(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof => SecureEnd::Fin,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => SecureEnd::Reset,
            _ => panic!("neither close_notify nor FIN nor RST: {error}"),
        },
    };
    (bytes, end)
}
