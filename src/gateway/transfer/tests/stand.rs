//! A client, an upstream, and a gateway's data connections between them.

use std::net::Ipv4Addr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

pub(super) use rustls::version::{TLS12, TLS13};

use super::super::*;
use crate::config;
use crate::gateway::protection::Protection;
use crate::tls::{Acceptor, SessionTls, Tls};

pub(super) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longer than anything takes that goes right.
pub(super) const LONG: Duration = Duration::from_secs(30);
pub(super) const SHORT: Duration = Duration::from_millis(100);
/// More than all socket buffers hold.
pub(super) const FLOOD: usize = 32 * 1024 * 1024;

/// A TLS server with sessions, and clients that trust it.
pub(super) struct Authority {
    _directory: TempDir,
    acceptor: Acceptor,
    roots: Arc<RootCertStore>,
}

/// One session: what its server makes connections by, and what its client.
pub(super) struct TlsSession {
    pub(super) server: SessionTls,
    pub(super) client: Arc<ClientConfig>,
}

/// An outer end.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    pub(super) tls: Option<Tls>,
}

/// How the bytes of a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Last {
    Fin,
    Notified,
    Reset,
}

pub(super) struct Line {
    pub(super) data: DataConnections,
    pub(super) client: Peer,
    pub(super) upstream: Peer,
}

// === impl Authority ===

impl Authority {
    pub(super) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = TempDir::new().unwrap();
        let (certificate, key) =
            (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&certificate).unwrap()).unwrap();
        let acceptor = Acceptor::load(&config::Tls {
            certificate,
            key,
            min_version: config::TlsVersion::Tls12,
            require_data: true,
            require_resumption: true,
            reload: LONG,
        });
        Self { _directory: directory, acceptor: acceptor.unwrap(), roots: Arc::new(roots) }
    }

    /// A session that has not begun.
    pub(super) fn session(&self, version: &'static SupportedProtocolVersion) -> TlsSession {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        TlsSession { server: self.acceptor.session().unwrap(), client: Arc::new(client) }
    }

    /// A session whose control connection has shaken hands.
    pub(super) fn begun(&self, version: &'static SupportedProtocolVersion) -> TlsSession {
        let session = self.session(version);
        let (mut client, mut server) = (session.client(), session.server.connection().unwrap());
        let (mut up, mut down, mut none) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..4 {
            client.output(&mut up);
            server.open(&std::mem::take(&mut up), &mut none).unwrap();
            server.output(&mut down);
            client.open(&std::mem::take(&mut down), &mut none).unwrap();
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        session
    }
}

// === impl TlsSession ===

impl TlsSession {
    pub(super) fn client(&self) -> Tls {
        Tls::client(Arc::clone(&self.client), name()).unwrap()
    }

    pub(super) fn upstream(&self) -> UpstreamTls {
        UpstreamTls::new(Arc::clone(&self.client), name())
    }

    pub(super) fn protection(&self) -> Protection {
        Protection { tls: self.server.clone(), require_resumption: true, handshake: LONG }
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

// === impl Peer ===

impl Peer {
    pub(super) async fn shake_hands(&mut self) {
        crate::tls::handshake(&self.stream, self.tls.as_mut().unwrap()).await.unwrap();
    }

    /// Sends in pieces of random size, each sealed on its own if there is TLS.
    pub(super) async fn send(&mut self, bytes: &[u8], most: usize) {
        let (mut rest, mut seed) = (bytes, bytes.len() as u64 + 1);
        while !rest.is_empty() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (now, later) = rest.split_at((1 + (seed >> 33) as usize % most).min(rest.len()));
            let sealed = self.sealed(now);
            self.stream.write_all(&sealed).await.unwrap();
            rest = later;
        }
    }

    pub(super) fn sealed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match &mut self.tls {
            Some(tls) => tls.seal(bytes, &mut out),
            None => out.extend(bytes),
        }
        out
    }

    /// Ends in order: close_notify if there is TLS, and FIN.
    pub(super) async fn end(&mut self) {
        self.notify().await;
        self.stream.shutdown().await.unwrap();
    }

    pub(super) async fn notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            let mut out = Vec::new();
            tls.close(&mut out);
            self.stream.write_all(&out).await.unwrap();
        }
    }

    /// All that comes, and what comes last.
    pub(super) async fn read_to_end(&mut self) -> (Vec<u8>, Last) {
        self.read_by(65_536).await
    }

    pub(super) async fn read_by(&mut self, size: usize) -> (Vec<u8>, Last) {
        let (mut plain, mut chunk) = (Vec::new(), vec![0; size]);
        loop {
            match timeout(LONG, self.stream.read(&mut chunk)).await.expect("no end comes") {
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                    return (plain, Last::Reset);
                }
                Ok(0) => {
                    let notified = self.tls.as_mut().is_some_and(Tls::peer_closed);
                    return (plain, if notified { Last::Notified } else { Last::Fin });
                }
                Ok(count) => match &mut self.tls {
                    Some(tls) => tls.open(&chunk[..count], &mut plain).unwrap(),
                    None => plain.extend(&chunk[..count]),
                },
            }
        }
    }

    pub(super) fn reset(self) {
        data_socket::reset(self.stream);
    }
}

// === impl Line ===

impl Line {
    /// Both connections are open, in active mode.
    pub(super) async fn open(upstream_tls: Option<UpstreamTls>) -> Self {
        let [client, upstream] = [listen(), listen()];
        let mut data = DataConnections::new();
        let dial = Dial { tls: upstream_tls, ..dial(&upstream) };
        data.await_transfer(callback(&client), dial);
        data.call_back();
        assert_eq!(next(&mut data).await, DataEvent::Opened);
        let client = Peer { stream: client.accept().await.unwrap().0, tls: None };
        let upstream = Peer { stream: upstream.accept().await.unwrap().0, tls: None };
        Self { data, client, upstream }
    }

    /// Its relay has begun; TLS is ready to shake hands on those sides that have it.
    pub(super) async fn running(
        direction: Direction,
        ascii: bool,
        client: Option<&TlsSession>,
        upstream: Option<&TlsSession>,
    ) -> Self {
        let mut line = Self::open(upstream.map(TlsSession::upstream)).await;
        line.client.tls = client.map(TlsSession::client);
        line.upstream.tls = upstream.map(|session| session.server.connection().unwrap());
        let protection = client.map(TlsSession::protection);
        line.relay(Course { direction, ascii, protection, rate: None }, LONG);
        line
    }

    pub(super) fn relay(&mut self, course: Course, idle: Duration) {
        self.data.relay(course, Arc::default(), idle);
    }

    /// Shakes hands on all sides that have TLS.
    pub(super) async fn shake_hands(&mut self) {
        let Self { data, client, upstream } = self;
        let shaken = async {
            tokio::join!(
                async {
                    if client.tls.is_some() {
                        client.shake_hands().await;
                    }
                },
                async {
                    if upstream.tls.is_some() {
                        upstream.shake_hands().await;
                    }
                }
            )
        };
        tokio::select! {
            _ = shaken => {}
            event = data.next() => panic!("{event:?}"),
        }
    }

    /// The sender and the receiver, and what they go through.
    pub(super) fn ends(
        &mut self,
        direction: Direction,
    ) -> (&mut DataConnections, &mut Peer, &mut Peer) {
        match direction {
            Direction::Upload => (&mut self.data, &mut self.client, &mut self.upstream),
            _ => (&mut self.data, &mut self.upstream, &mut self.client),
        }
    }
}

pub(super) fn listen() -> TcpListener {
    data_socket::listen(LOCALHOST, 0, 16).unwrap()
}

pub(super) fn callback(client: &TcpListener) -> Callback {
    Callback { to: client.local_addr().unwrap(), from: LOCALHOST, source_port: 0 }
}

pub(super) fn dial(upstream: &TcpListener) -> Dial {
    Dial {
        to: upstream.local_addr().unwrap(),
        from: LOCALHOST,
        source: SourceCount::of_nobody(),
        timeout: LONG,
        tls: None,
    }
}

pub(super) async fn next(data: &mut DataConnections) -> DataEvent {
    timeout(LONG, data.next()).await.expect("nothing happens")
}

/// Text with ends of lines of every kind, at every offset a mistake is likely to confuse.
pub(super) fn content(size: usize) -> Vec<u8> {
    (0..size as u32)
        .map(|n| match n.wrapping_mul(2_654_435_761) >> 24 {
            0..20 => b'\n',
            20..36 => b'\r',
            byte => byte as u8,
        })
        .collect()
}
