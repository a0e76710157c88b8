//! AWS Secrets Manager.

use std::time::Duration;

use data_encoding::BASE64;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::endpoint::Service;
use super::refusal::Refusal;
use super::signed::{Api, Request};
use super::{ATTEMPTS, AwsError};

const SECRETS_MANAGER: Service =
    Service { name: "Secrets Manager", prefix: "secretsmanager", global: false, fips_in_gov: true };

/// Secrets Manager; nothing is asked before its first use.
#[derive(Debug)]
pub struct SecretsManager {
    api: Api,
}

/// A secret has one or the other.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Value {
    secret_string: Option<SecretString>,
    /// In Base64.
    secret_binary: Option<SecretString>,
}

impl SecretsManager {
    /// Each answer comes within `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { api: Api::new(SECRETS_MANAGER, timeout, ATTEMPTS) }
    }

    /// The current version of a secret, by name or ARN (GetSecretValue). Nothing if it is binary
    /// and no text in UTF-8.
    ///
    /// # Errors
    ///
    /// [`AwsError`]; its code is `ResourceNotFoundException` if there is no such secret.
    pub async fn get(&self, id: &str) -> Result<Option<SecretString>, AwsError> {
        let request = json!({ "SecretId": id }).to_string();
        let request = Request::json("secretsmanager.GetSecretValue", request);
        let answer = self.api.ask(&request).await?.map_err(Refusal::into_error)?;
        text(&Zeroizing::new(answer)).map_err(|NoSecret| self.api.nonsense(&NoSecret))
    }
}

/// An answer has no secret in it. The parser's own error may quote the answer and is not passed on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no secret in it")]
struct NoSecret;

/// The text in an answer to GetSecretValue.
fn text(answer: &str) -> Result<Option<SecretString>, NoSecret> {
    let value: Value = serde_json::from_str(answer).map_err(|_| NoSecret)?;
    if value.secret_string.is_some() {
        return Ok(value.secret_string);
    }
    let binary = value.secret_binary.ok_or(NoSecret)?;
    let bytes = BASE64.decode(binary.expose_secret().as_bytes()).map_err(|_| NoSecret)?;
    let bytes = Zeroizing::new(bytes);
    Ok(str::from_utf8(&bytes).ok().map(SecretString::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> Result<Option<String>, NoSecret> {
        let secret = text(answer)?;
        Ok(secret.map(|secret| secret.expose_secret().to_owned()))
    }

    #[test]
    fn a_secret_is_read_whether_it_is_text_or_binary() {
        let text = r#"{"ARN": "arn:aws:…", "Name": "a", "SecretString": "{\"Password\": \"x\"}"}"#;
        assert_eq!(read(text), Ok(Some(r#"{"Password": "x"}"#.into())));
        assert_eq!(read(r#"{"SecretBinary": "c2VjcmV0"}"#), Ok(Some("secret".into())));
        assert_eq!(read(r#"{"SecretBinary": "//4="}"#), Ok(None), "no text");
    }

    #[test]
    fn an_answer_without_a_secret_is_none_and_is_not_quoted() {
        for answer in
            ["", "secret", "{}", r#"{"SecretString": 5}"#, r#"{"SecretBinary": "secret!"}"#]
        {
            assert_eq!(read(answer), Err(NoSecret), "{answer}");
        }
    }
}
