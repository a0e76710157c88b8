//! TLS with the upstream.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::Tls;

/// What data connections to a TLS upstream are made by: they resume its control connection's
/// session.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

// === impl UpstreamTls ===

impl UpstreamTls {
    #[cfg(test)]
    pub(crate) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Self {
        Self { config, name }
    }

    /// One connection, which we are about to begin.
    ///
    /// # Errors
    ///
    /// Those of rustls, for a configuration that cannot work.
    pub fn connection(&self) -> Result<Tls, rustls::Error> {
        Tls::client(Arc::clone(&self.config), self.name.clone())
    }
}
