//! A changed configuration, taken up while sessions run.
//!
//! All of the file is read and checked first, with the certificate that it names, and then put to
//! use at one stroke: a bad file changes nothing. New sessions get what is new; those that run keep
//! what they began with. What a running node cannot take up stays as it is, and is told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::{info, warn};

use super::Shared;
use super::settings::Settings;
use crate::config::{Config, ConfigError};
use crate::lock::lock;
use crate::observe::events::{About, Tone};
use crate::observe::log::LogLevel;
use crate::tls::{Acceptor, CertificateError};
use crate::upstream::ResolverError;

/// Takes up a changed configuration; clones share it.
#[derive(Debug, Clone)]
pub struct Reload {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    path: PathBuf,
    /// What there is now. Held during a reload, so that there is one at a time.
    config: Mutex<Config>,
    log: LogLevel,
}

/// A reload that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// One line for people.
    pub done: String,
    /// The tables with changes that take a restart.
    pub needs_restart: Vec<&'static str>,
}

/// A file that cannot be taken up. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file itself.
    #[error("{0}nothing has changed")]
    Config(ConfigError),
    /// The certificate that it names.
    #[error("{0}; nothing has changed")]
    Certificate(#[from] CertificateError),
    /// Names of endpoints, where there were none before.
    #[error("{0}; nothing has changed")]
    Resolver(#[from] ResolverError),
}

// === impl Reload ===

impl Reload {
    pub(super) fn new(shared: Arc<Shared>, path: &Path, config: Config, log: LogLevel) -> Self {
        let config = Mutex::new(config);
        Self { inner: Arc::new(Inner { shared, path: path.into(), config, log }) }
    }

    /// Reads the file and takes up what is new in it. Call it where waiting for a disk does no harm.
    ///
    /// # Errors
    ///
    /// [`ReloadError`].
    pub fn run(&self) -> Result<Reloaded, ReloadError> {
        let result = self.inner.run();
        self.inner.shared.metrics.config_reload(result.is_ok());
        let told = result
            .as_ref()
            .map_or("the configuration cannot be taken up: `ftpgate check` says why", |reloaded| {
                &reloaded.done
            });
        let events = self.inner.shared.metrics.events();
        events.changed(About::Configuration, Tone::of(result.is_ok()), told);
        match &result {
            Ok(Reloaded { needs_restart, .. }) if needs_restart.is_empty() => {
                info!("the configuration is taken up");
            }
            Ok(Reloaded { needs_restart, .. }) => {
                warn!(
                    ?needs_restart,
                    "the configuration is taken up, but for what needs a restart"
                );
            }
            Err(error) => warn!(%error, "the configuration cannot be taken up"),
        }
        result
    }
}

impl Inner {
    fn run(&self) -> Result<Reloaded, ReloadError> {
        let mut current = lock(&self.config);
        let new = Config::load(&self.path).map_err(ReloadError::Config)?;
        // Before anything is changed: it may be what is wrong.
        let certificate = new.tls.as_ref().map(Acceptor::load).transpose()?;
        let taken = current.taking_up(&new);
        let needs_restart = taken.differences(&new);
        self.shared.upstream.take_up(&taken)?;

        if let (Some(acceptor), Some(certificate)) = (&self.shared.tls, &certificate) {
            acceptor.replace(certificate);
        }
        self.shared.take_up(&taken);
        self.log.set(&taken.log.level);
        *current = taken;
        let done = match needs_restart.as_slice() {
            [] => "the configuration is taken up".into(),
            tables => format!(
                "the configuration is taken up, but for changes in {} that need a restart",
                tables.join(", ")
            ),
        };
        Ok(Reloaded { done, needs_restart })
    }
}

impl Shared {
    /// New sessions get this from now on.
    fn take_up(&self, config: &Config) {
        self.admission.limit(&config.limits);
        self.metrics.sessions_limit(config.limits.sessions);
        let settings = Arc::new(Settings::new(config, &self.access));
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }
}
