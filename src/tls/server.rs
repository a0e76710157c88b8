//! TLS with clients: the certificate, and what ties data connections to their control connection.
//!
//! Each session has a configuration of its own, with its own keys for tickets. A TLS session that
//! resumes under it can only be the one that this session's control connection began, so whoever
//! resumes is the same client: with nine ports known to all, an address is not much of a proof.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::CertifiedKey;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Tls, expiry, versions};
use crate::config;
use crate::config::TlsVersion;
use crate::observe::metrics::Metrics;

/// TLS 1.2 sessions that one control connection may leave: itself, and each data connection.
const SESSIONS: usize = 16;
/// Tickets that a connection of TLS 1.3 leaves, for clients that use each only once.
const TICKETS: usize = 8;
/// What clients may call what they speak, if they say (ALPN): a browser that was led here must not
/// take the answers for a web server's (the ALPACA attack).
const PROTOCOLS: [&[u8]; 2] = [b"ftp", b"ftp-data"];

/// The certificate that clients are shown, as it is now.
#[derive(Debug)]
pub struct Acceptor {
    current: RwLock<Current>,
}

/// A certificate in use.
#[derive(Debug, Clone)]
struct Current {
    /// Where it is from.
    settings: Arc<config::Tls>,
    config: Arc<ServerConfig>,
    /// When it or one of those that lead to its root runs out, if that is known.
    expires: Option<SystemTime>,
}

/// What one session's connections are made by.
#[derive(Debug, Clone)]
pub struct SessionTls {
    config: Arc<ServerConfig>,
    without_tickets: Arc<ServerConfig>,
}

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file of the certificate.
    #[error("tls.certificate {}: {source}; write the path of a PEM file that this process may read", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// There is none in it.
    #[error("tls.certificate {}: no certificate in it; it must hold a block that begins with -----BEGIN CERTIFICATE-----", .0.display())]
    Empty(PathBuf),
    /// The file of the key.
    #[error("tls.key {}: {source}; write the path of a PEM file with a private key that this process may read", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The two together.
    #[error("tls.certificate and tls.key: {0}; the key must be the certificate's own")]
    Pair(#[from] rustls::Error),
}

// === impl Acceptor ===

impl Acceptor {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn load(config: &config::Tls) -> Result<Self, CertificateError> {
        Ok(Self { current: RwLock::new(read(&Arc::new(config.clone()))?) })
    }

    /// From now on new sessions are shown what `new` has, and its files are looked at.
    pub fn replace(&self, new: &Self) {
        self.set(new.current());
    }

    /// For a new session, with the certificate of now.
    ///
    /// # Errors
    ///
    /// There is no randomness for its keys.
    pub fn session(&self) -> Result<SessionTls, rustls::Error> {
        let mut config = ServerConfig::clone(&self.current().config);
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.ticketer = Ticketer::new()?;
        config.send_tls13_tickets = TICKETS;
        let mut without_tickets = config.clone();
        without_tickets.send_tls13_tickets = 0;
        Ok(SessionTls { config: Arc::new(config), without_tickets: Arc::new(without_tickets) })
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Looks at the files from time to time, and takes up what is new. What cannot be used is
    /// reported once, and clients go on to be shown what there was.
    pub async fn follow_files(&self, metrics: &Metrics) {
        metrics.certificate_expires(self.current().expires);
        let mut seen = stamp(&self.current().settings);
        loop {
            sleep(self.current().settings.reload.max(Duration::from_millis(10))).await;
            let settings = self.current().settings;
            let stamp = stamp(&settings);
            if stamp == seen {
                continue;
            }
            seen = stamp;
            match read(&settings) {
                Ok(new) => {
                    metrics.certificate_expires(new.expires);
                    self.set(new);
                    info!(certificate = %settings.certificate.display(), "a new certificate");
                }
                Err(error) => {
                    warn!(%error, "the new certificate cannot be used; keeping the old one")
                }
            }
        }
    }

    fn set(&self, new: Current) {
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = new;
    }
}

/// By which a change of the files is seen.
fn stamp(settings: &config::Tls) -> [Option<(u64, u64, i64, i64)>; 2] {
    let stamp = |meta: Metadata| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    [&settings.certificate, &settings.key].map(|path| fs::metadata(path).ok().map(stamp))
}

// === impl SessionTls ===

impl SessionTls {
    /// One connection, which a client is about to begin.
    ///
    /// # Errors
    ///
    /// Those of rustls, for a configuration that cannot work.
    pub fn connection(&self) -> Result<Tls, rustls::Error> {
        Tls::server(Arc::clone(&self.config))
    }

    /// One that gives no tickets of TLS 1.3, but takes them: for a client that need not read.
    ///
    /// # Errors
    ///
    /// Those of rustls, for a configuration that cannot work.
    pub fn connection_without_tickets(&self) -> Result<Tls, rustls::Error> {
        Tls::server(Arc::clone(&self.without_tickets))
    }
}

fn read(config: &Arc<config::Tls>) -> Result<Current, CertificateError> {
    let certificates = certificates(&config.certificate)?;
    let expires = certificates.iter().filter_map(|one| expiry::not_after(one)).min();
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|source| CertificateError::Key { path: config.key.clone(), source })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certified = CertifiedKey::from_der(certificates, key, &provider)?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(config.min_version, TlsVersion::Tls13))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Current { settings: Arc::clone(config), config: Arc::new(server), expires })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unreadable = |source| CertificateError::Certificate { path: path.into(), source };
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
    let certificates = certificates.map_err(unreadable)?;
    if certificates.is_empty() {
        Err(CertificateError::Empty(path.into()))
    } else {
        Ok(certificates)
    }
}
