//! Amazon S3: the objects of one bucket.

use std::env;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{ATTEMPTS, AwsError, sdk_config};

const SERVICE: &str = "S3";

/// A bucket; nothing is asked before its first use.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    timeout: Duration,
    attempts: u32,
    client: OnceCell<Client>,
}

/// An object and S3's name for this version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its entity tag, quotes and all, not to be understood.
    pub etag: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// On what a PutObject depends (Amazon S3 User Guide, "Conditional writes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    /// `If-None-Match: *`: there is no object of that key.
    Absent,
    /// `If-Match`: its version has this entity tag.
    Unchanged(&'a str),
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
        Self { name: name.into(), timeout, attempts: ATTEMPTS, client: OnceCell::new() }
    }

    /// The same, but nothing is sent twice: whether a repeated conditional write found the first
    /// one's work or another node's, nobody could tell.
    pub fn without_retries(name: &str, timeout: Duration) -> Self {
        Self { attempts: 1, ..Self::new(name, timeout) }
    }

    /// An object, or nothing if there is none of that key (GetObject). Of a larger object only the
    /// first `limit` bytes and some more.
    ///
    /// # Errors
    ///
    /// [`AwsError`]. To a role without `s3:ListBucket` S3 answers `AccessDenied` instead of nothing.
    pub async fn get(&self, key: &str, limit: usize) -> Result<Option<Object>, AwsError> {
        let answer = self.client().await?.get_object().bucket(&self.name).key(key).send().await;
        let (mut body, etag) = match answer {
            Ok(object) => (object.body, object.e_tag.unwrap_or_default()),
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
            Ok(Some(Object { etag, content }))
        };
        let read = timeout(self.timeout, read).await;
        let read = read.unwrap_or_else(|_| Err("the object did not come in time".into()));
        read.map_err(|cause: String| AwsError::Unreachable { service: SERVICE, cause })
    }

    /// Writes an object if `condition` holds (PutObject), and tells its entity tag.
    ///
    /// # Errors
    ///
    /// [`AwsError`]; its status is 412 if the condition does not hold, 409 if another write was
    /// faster, 404 if the object to be replaced is gone.
    pub async fn put_if(
        &self,
        key: &str,
        condition: Condition<'_>,
        content: Vec<u8>,
    ) -> Result<String, AwsError> {
        let put = self.client().await?.put_object().bucket(&self.name).key(key);
        let put = match condition {
            Condition::Absent => put.if_none_match("*"),
            Condition::Unchanged(etag) => put.if_match(etag),
        };
        let answer = put.content_type("application/json").body(content.into()).send().await;
        let done = answer.map_err(|error| AwsError::of(SERVICE, &error))?;
        done.e_tag.ok_or_else(|| AwsError::Unreachable {
            service: SERVICE,
            cause: "it answers without an entity tag".into(),
        })
    }

    /// Writes lines of JSON as an object, if there is none of that key (PutObject). Says whether it did.
    ///
    /// # Errors
    ///
    /// [`AwsError`]; its status is 409 if another write of that key was under way.
    pub async fn create(&self, key: &str, lines: Vec<u8>) -> Result<bool, AwsError> {
        let put = self.client().await?.put_object().bucket(&self.name).key(key).if_none_match("*");
        let answer = put.content_type("application/x-ndjson").body(lines.into()).send().await;
        match answer.map_err(|error| AwsError::of(SERVICE, &error)) {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(412) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many bytes an object has, or nothing if there is none of that key (HeadObject).
    ///
    /// # Errors
    ///
    /// [`AwsError`]. To a role without `s3:ListBucket` S3 answers 403 instead of nothing.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, AwsError> {
        let answer = self.client().await?.head_object().bucket(&self.name).key(key).send().await;
        match answer {
            Ok(object) => {
                let size = object.content_length.and_then(|size| u64::try_from(size).ok());
                let cause = || "it answers without a length".to_owned();
                let unknown = || AwsError::Unreachable { service: SERVICE, cause: cause() };
                size.map(Some).ok_or_else(unknown)
            }
            Err(error) => {
                let missing = error.as_service_error().is_some_and(|error| error.is_not_found());
                if missing { Ok(None) } else { Err(AwsError::of(SERVICE, &error)) }
            }
        }
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
            let config = sdk_config(self.timeout, self.attempts).await?;
            // What is no bucket's host name in DNS has the bucket in the path.
            let elsewhere = config.endpoint_url().is_some()
                || env::var_os("AWS_ENDPOINT_URL_S3").is_some_and(|url| !url.is_empty());
            let config = Builder::from(&config).force_path_style(elsewhere).build();
            Ok(Client::from_conf(config))
        };
        self.client.get_or_try_init(make).await
    }
}
