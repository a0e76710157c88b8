//! The probe's password: read from where the configuration says, and read again when it is old or
//! was refused. It is in no log and no error; those name the place.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::aws::secrets::SecretsManager;
use crate::config::{Secret, SecretSource};
use crate::lock::lock;
use crate::observe::log::one_line;

/// The largest content that is taken for a secret, in bytes; that of Secrets Manager, too.
const SIZE: u64 = 64 * 1024;
/// How long the last good one is used before the next try, when it could not be read again.
const RETRY: Duration = Duration::from_secs(30);
/// The key that Transfer Family's custom identity providers keep a user's password under.
const TRANSFER_KEY: &str = "Password";

/// A password that keeps itself up to date.
#[derive(Debug)]
pub(super) struct Password {
    config: Secret,
    /// How long reading it may take.
    limit: Duration,
    secrets: SecretsManager,
    known: Mutex<Option<Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    secret: Arc<SecretString>,
    read_again: Instant,
}

impl Password {
    /// Reads nothing yet; later, each time within `limit`.
    pub(super) fn new(config: &Secret, limit: Duration) -> Self {
        Self {
            config: config.clone(),
            limit,
            secrets: SecretsManager::new(limit),
            known: Mutex::default(),
        }
    }

    /// The password; the last good one if it is to be read again and cannot be.
    pub(super) async fn get(&self) -> Result<Arc<SecretString>, String> {
        let known = self.known();
        if let Some(Known { secret, read_again }) = &known
            && Instant::now() < *read_again
        {
            return Ok(Arc::clone(secret));
        }
        match (self.read().await, known) {
            (Ok(secret), _) => Ok(self.keep(secret, self.config.refresh)),
            (Err(reason), None) => Err(reason),
            (Err(reason), Some(Known { secret, .. })) => {
                warn!(reason = %one_line(&reason), "the probe's password cannot be read again: the last one is used");
                self.set(Known {
                    secret: Arc::clone(&secret),
                    read_again: Instant::now() + RETRY.min(self.config.refresh),
                });
                Ok(secret)
            }
        }
    }

    /// Another password than the one refused, if there is one by now. To try the same again would
    /// only bring the user's account nearer to being locked.
    pub(super) async fn other_than(&self, refused: &SecretString) -> Option<Arc<SecretString>> {
        let differs = |secret: &SecretString| secret.expose_secret() != refused.expose_secret();
        // Another endpoint's probe may have read it again already.
        if let Some(Known { secret, .. }) = self.known().filter(|known| differs(&known.secret)) {
            return Some(secret);
        }
        match self.read().await {
            Ok(secret) => {
                let changed = differs(&secret);
                if changed {
                    info!(source = %one_line(&self.place()), "the probe's password has changed");
                }
                Some(self.keep(secret, self.config.refresh)).filter(|_| changed)
            }
            Err(reason) => {
                warn!(reason = %one_line(&reason), "the probe's password was refused and cannot be read again");
                None
            }
        }
    }

    fn known(&self) -> Option<Known> {
        lock(&self.known).clone()
    }

    fn set(&self, known: Known) {
        *lock(&self.known) = Some(known);
    }

    fn keep(&self, secret: SecretString, refresh: Duration) -> Arc<SecretString> {
        let secret = Arc::new(secret);
        let read_again = Instant::now() + refresh;
        self.set(Known { secret: Arc::clone(&secret), read_again });
        secret
    }

    /// Where it is kept, for the operator.
    fn place(&self) -> String {
        match &self.config.source {
            SecretSource::Credential(name) => format!("systemd credential {name}"),
            SecretSource::Environment(name) => format!("environment variable {name}"),
            SecretSource::File(path) => format!("file {}", path.display()),
            SecretSource::SecretsManager(id) => format!("secret {id}"),
        }
    }

    async fn read(&self) -> Result<SecretString, String> {
        let content = self.content().await;
        let secret = content.and_then(|content| password_in(&content, self.key()));
        secret.map_err(|reason| format!("the password: {}: {reason}", self.place()))
    }

    fn key(&self) -> Option<&str> {
        match (&self.config.key, &self.config.source) {
            (Some(key), _) => Some(key),
            (None, SecretSource::SecretsManager(_)) => Some(TRANSFER_KEY),
            (None, _) => None,
        }
    }

    /// What a file holds, which may be on a filesystem that hangs.
    async fn file(&self, path: PathBuf) -> Result<SecretString, String> {
        let read = timeout(self.limit, read_file(path)).await;
        read.unwrap_or_else(|_| Err(format!("nothing within {:?}", self.limit)))
    }

    async fn content(&self) -> Result<SecretString, String> {
        match &self.config.source {
            SecretSource::Environment(name) => match std::env::var(name) {
                Ok(content) => Ok(content.into()),
                Err(std::env::VarError::NotPresent) => Err("it is not set".into()),
                Err(std::env::VarError::NotUnicode(_)) => Err("it is no text in UTF-8".into()),
            },
            SecretSource::File(path) => self.file(path.clone()).await,
            SecretSource::Credential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    format!(
                        "$CREDENTIALS_DIRECTORY is not set: add LoadCredential={name}:… to the unit"
                    )
                })?;
                self.file(Path::new(&directory).join(name)).await
            }
            SecretSource::SecretsManager(id) => match self.secrets.get(id).await {
                Ok(Some(content)) => Ok(content),
                Ok(None) => Err("it is binary: store it as text".into()),
                Err(error) => Err(match error.code() {
                    Some("AccessDeniedException") => {
                        format!("{error}: allow secretsmanager:GetSecretValue to this node's role")
                    }
                    Some("ResourceNotFoundException") => {
                        format!("{error}: there is no such secret in this region and account")
                    }
                    _ => error.to_string(),
                }),
            },
        }
    }
}

/// The password in a secret's content: all of it but the line end that editors add, or the string
/// under `key` of a JSON object.
fn password_in(content: &SecretString, key: Option<&str>) -> Result<SecretString, String> {
    let content = content.expose_secret();
    let password = match key {
        None => {
            let line = content.strip_suffix('\n').unwrap_or(content);
            SecretString::from(line.strip_suffix('\r').unwrap_or(line))
        }
        Some(key) => string_under(key, content)?,
    };
    match password.expose_secret() {
        "" => Err("it is empty".into()),
        text if text.contains(['\r', '\n', '\0']) => {
            Err("FTP cannot send it: it has a line end or a NUL inside".into())
        }
        _ => Ok(password),
    }
}

/// The string under `key`. The other strings are dropped unwiped, as they are no password; the
/// parser's errors may quote the content and are not passed on.
fn string_under(key: &str, content: &str) -> Result<SecretString, String> {
    let no_object = |_| format!("it is no JSON object, and key = {key:?} asks for one");
    let mut object: std::collections::HashMap<String, serde_json::Value> =
        serde_json::from_str(content).map_err(no_object)?;
    match object.remove(key) {
        Some(serde_json::Value::String(password)) => Ok(password.into()),
        Some(_) => Err(format!("what its key {key:?} has is no string")),
        None => Err(format!("it has no key {key:?}")),
    }
}

async fn read_file(path: PathBuf) -> Result<SecretString, String> {
    let read = tokio::task::spawn_blocking(move || {
        // A pipe would hold this thread for ever.
        if !path.metadata()?.is_file() {
            return Err(std::io::Error::other("it is no regular file"));
        }
        let mut content = Zeroizing::new(String::with_capacity(4096));
        File::open(path)?.take(SIZE + 1).read_to_string(&mut content)?;
        if content.len() as u64 > SIZE {
            return Err(std::io::Error::other("it is too large to be a password"));
        }
        Ok(SecretString::from(content.as_str()))
    });
    let read = read.await.map_err(|error| error.to_string())?;
    read.map_err(|error| error.to_string())
}
