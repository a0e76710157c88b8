//! Amazon S3: the objects of one bucket.

use std::env;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{AwsError, sdk_config};

const SERVICE: &str = "S3";

/// A bucket; nothing is asked before its first use.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    timeout: Duration,
    client: OnceCell<Client>,
}

/// An object, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its whole key.
    pub key: String,
    /// `LastModified`, by the clock of S3, to the second.
    pub modified: Option<SystemTime>,
}

impl Bucket {
    /// The bucket of that name; each operation is over within `timeout`.
    pub fn new(name: &str, timeout: Duration) -> Self {
        Self { name: name.into(), timeout, client: OnceCell::new() }
    }

    /// The content of an object, or nothing if there is none of that key (GetObject). Of a larger
    /// object only the first `limit` bytes and some more.
    ///
    /// # Errors
    ///
    /// [`AwsError`]. To a role without `s3:ListBucket` S3 answers `AccessDenied` instead of nothing.
    pub async fn get(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>, AwsError> {
        let answer = self.client().await?.get_object().bucket(&self.name).key(key).send().await;
        let mut body = match answer {
            Ok(object) => object.body,
            Err(error) => {
                let missing = error.as_service_error().is_some_and(|error| error.is_no_such_key());
                return if missing { Ok(None) } else { Err(AwsError::of(SERVICE, &error)) };
            }
        };
        let read = async {
            let mut content = Vec::new();
            while content.len() <= limit
                && let Some(chunk) = body.next().await
            {
                content.extend_from_slice(&chunk.map_err(|error| error.to_string())?);
            }
            Ok(content)
        };
        let read = timeout(self.timeout, read).await;
        let read = read.unwrap_or_else(|_| Err("the object did not come in time".into()));
        read.map(Some).map_err(|cause: String| AwsError::Unreachable { service: SERVICE, cause })
    }

    /// Deletes an object, if there is one of that key (DeleteObject).
    ///
    /// # Errors
    ///
    /// [`AwsError`].
    pub async fn delete(&self, key: &str) -> Result<(), AwsError> {
        let answer = self.client().await?.delete_object().bucket(&self.name).key(key).send().await;
        answer.map(|_| ()).map_err(|error| AwsError::of(SERVICE, &error))
    }

    /// The first thousand objects, or fewer, whose keys start with `prefix` (ListObjectsV2).
    ///
    /// # Errors
    ///
    /// [`AwsError`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, AwsError> {
        let list = self.client().await?.list_objects_v2().bucket(&self.name).prefix(prefix);
        let answer = list.send().await.map_err(|error| AwsError::of(SERVICE, &error))?;
        let objects = answer.contents.unwrap_or_default().into_iter();
        let listed = objects.filter_map(|object| {
            let modified = object.last_modified.and_then(|time| time.try_into().ok());
            Some(Listed { key: object.key?, modified })
        });
        Ok(listed.collect())
    }

    async fn client(&self) -> Result<&Client, AwsError> {
        let make = || async {
            let config = sdk_config(self.timeout).await?;
            // What is no bucket's host name in DNS has the bucket in the path.
            let elsewhere = config.endpoint_url().is_some()
                || env::var_os("AWS_ENDPOINT_URL_S3").is_some_and(|url| !url.is_empty());
            let config = Builder::from(&config).force_path_style(elsewhere).build();
            Ok(Client::from_conf(config))
        };
        self.client.get_or_try_init(make).await
    }
}
