//! TLS with the upstream: whom it trusts, and what ties a session's data connections to its
//! control connection.
//!
//! FTP servers demand that a data connection resumes the TLS session of its control connection, as
//! Transfer Family does by default: it proves to them that both are the same client's. So each
//! upstream session has a store of its own, from which the first connection can resume nothing and
//! every later one that first one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{ClientSessionStore, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use tracing::warn;

use super::Tls;
use super::store::SessionStore;
use super::versions;
use crate::config;

/// Begins TLS with the upstream as `[upstream.tls]` says.
#[derive(Debug, Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    /// The one that all endpoints' certificates must have, if it is told.
    name: Option<ServerName<'static>>,
    implicit: bool,
    roots: usize,
}

/// What one upstream session's connections are made by: the control connection first, then each
/// data connection, which resumes. Clones share the session's store.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    store: Arc<SessionStore>,
    name: ServerName<'static>,
    implicit: bool,
}

/// There is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file.
    #[error("upstream.tls.ca {}: {source}; write the path of a PEM file that this process may read", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// There is none in it.
    #[error("upstream.tls.ca {}: no certificate in it; it must hold a block that begins with -----BEGIN CERTIFICATE-----", .0.display())]
    Empty(PathBuf),
    /// One in it is broken.
    #[error("upstream.tls.ca {}: certificate {number}: {source}; write the certificates of authorities, as they have issued them", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// Why.
        source: Error,
    },
    /// The system has none.
    #[error(
        "upstream.tls.ca: this system has no certificate authorities ({0}); install its package of them (ca-certificates), or write the path of a PEM file"
    )]
    System(String),
    /// `upstream.tls.server_name`.
    #[error("upstream.tls.server_name {0:?}: no DNS name and no IP address")]
    Name(String),
    /// The two sides' versions.
    #[error("upstream.tls: {0}")]
    Config(#[from] Error),
}

// === impl Connector ===

impl Connector {
    /// Reads the certificates of those who are trusted.
    ///
    /// # Errors
    ///
    /// [`TrustError`].
    pub fn load(tls: &config::UpstreamTls) -> Result<Self, TrustError> {
        let roots = match &tls.ca {
            Some(path) => roots_of_file(path)?,
            None => roots_of_system()?,
        };
        let count = roots.len();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(tls.min_version, tls.max_version))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = tls.server_name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| TrustError::Name(name.clone()))
        });
        Ok(Self {
            config: Arc::new(config),
            name: name.transpose()?,
            implicit: tls.implicit,
            roots: count,
        })
    }

    /// For a new session with an endpoint: its certificate must have the configured name, else the
    /// DNS name that led there, else its address.
    pub fn session(&self, name: Option<&str>, address: IpAddr) -> UpstreamTls {
        let mut config = ClientConfig::clone(&self.config);
        let store = Arc::new(SessionStore::default());
        config.resumption = Resumption::store(Arc::clone(&store) as Arc<dyn ClientSessionStore>);
        let of_endpoint = || ServerName::try_from(name?.to_owned()).ok();
        let name = self.name.clone().or_else(of_endpoint);
        UpstreamTls {
            config: Arc::new(config),
            store,
            name: name.unwrap_or_else(|| ServerName::IpAddress(address.to_canonical().into())),
            implicit: self.implicit,
        }
    }

    /// How many authorities are trusted.
    pub fn roots(&self) -> usize {
        self.roots
    }
}

// === impl UpstreamTls ===

impl UpstreamTls {
    /// A session whose server is known by that name.
    #[cfg(test)]
    pub(crate) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self { config, store: Arc::default(), name, implicit: false }
    }

    /// One connection. The session's first one does a whole handshake, later ones resume, as long
    /// as what the server sends on each is fed to its [`Tls`]: the ticket for the next may be there.
    ///
    /// # Errors
    ///
    /// Those of rustls, for a configuration that cannot work.
    pub fn connection(&self) -> Result<Tls, Error> {
        if self.store.has_run_out() {
            warn!(
                "the upstream has sent no TLS ticket for another data connection, and may refuse it: if it does, write upstream.tls.max_version = \"1.2\""
            );
        }
        Tls::client(Arc::clone(&self.config), self.name.clone())
    }

    /// Whether TLS begins with the first byte, and not by AUTH.
    pub fn is_implicit(&self) -> bool {
        self.implicit
    }

    /// The name that the certificate must have.
    pub fn name(&self) -> String {
        self.name.to_str().into_owned()
    }

    /// The same for whoever brings TLS of its own.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

/// Why a handshake with a server failed, and what to do about it.
pub fn explain(error: &Error, name: &str) -> String {
    let remedy = match error {
        Error::InvalidCertificate(problem) => match problem {
            // The second, if the authority has changed its key and kept its name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "nobody who is trusted has issued it: write the authority that has into upstream.tls.ca".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("it is not for {name:?}: write a name that it has into upstream.tls.server_name")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server needs a new one, or this machine's clock is wrong".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "it is not valid yet, or this machine's clock is wrong".into()
            }
            _ => "the server needs another one".into(),
        },
        Error::InvalidMessage(_) => {
            "what it sends is no TLS: see upstream.tls.mode, which is for servers that begin with TLS if \"implicit\" and for AUTH TLS if \"explicit\"".into()
        }
        Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure)
        | Error::PeerIncompatible(_) => {
            "it speaks no TLS that is spoken here (1.2 or 1.3 with modern ciphers): see upstream.tls.min_version and max_version, or bring the server up to date".into()
        }
        _ => return error.to_string(),
    };
    format!("{error}: {remedy}")
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, TrustError> {
    let unreadable = |source| TrustError::File { path: path.into(), source };
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_file_iter(path).map_err(unreadable)?.enumerate()
    {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|source| TrustError::Certificate {
            path: path.into(),
            number: index + 1,
            source,
        })?;
    }
    if roots.is_empty() { Err(TrustError::Empty(path.into())) } else { Ok(roots) }
}

/// What of the system's certificates cannot be used is left out, as every client does.
fn roots_of_system() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".into(), ToString::to_string);
        return Err(TrustError::System(why));
    }
    Ok(roots)
}
