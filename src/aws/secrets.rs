//! AWS Secrets Manager.

use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use secrecy::SecretString;
use tokio::sync::OnceCell;

use super::{ATTEMPTS, AwsError, sdk_config};

const SERVICE: &str = "Secrets Manager";

/// Secrets Manager; nothing is asked before its first use.
#[derive(Debug)]
pub struct SecretsManager {
    timeout: Duration,
    client: OnceCell<Client>,
}

impl SecretsManager {
    /// Each answer comes within `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, client: OnceCell::new() }
    }

    /// The current version of a secret, by name or ARN (GetSecretValue). Nothing if it is binary
    /// and no text in UTF-8.
    ///
    /// # Errors
    ///
    /// [`AwsError`]; its code is `ResourceNotFoundException` if there is no such secret.
    pub async fn get(&self, id: &str) -> Result<Option<SecretString>, AwsError> {
        let make = || async { Ok(Client::new(&sdk_config(self.timeout, ATTEMPTS).await?)) };
        let client = self.client.get_or_try_init(make).await?;
        let answer = client.get_secret_value().secret_id(id).send().await;
        let answer = answer.map_err(|error| AwsError::of(SERVICE, &error))?;
        let text = answer.secret_string.or_else(|| {
            let bytes = answer.secret_binary?.into_inner();
            String::from_utf8(bytes).ok()
        });
        Ok(text.map(SecretString::from))
    }
}
