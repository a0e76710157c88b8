//! The lease object in S3: one GetObject or one conditional PutObject at a time, never repeated.

use std::time::Duration;

use tokio::time::timeout;

use super::protocol::{Content, Version, Written};
use crate::aws::AwsError;
use crate::aws::s3::{Bucket, Condition};
use crate::config;

/// More than a lease object ever has.
const LIMIT: usize = 16 * 1024;

/// Where the lease is.
#[derive(Debug)]
pub(super) struct Store {
    bucket: Bucket,
    key: String,
    timeout: Duration,
}

/// The lease could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoreError {
    /// S3 failed, or refused.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// There is something else.
    #[error("the object is no lease: choose another ha.lease.key, or delete it")]
    NoLease,
    /// Nothing came.
    #[error("S3 does not answer in time")]
    Silent,
}

impl Store {
    /// Nothing is asked yet; each request is given up after `limit`.
    pub(super) fn new(lease: &config::Lease, limit: Duration) -> Self {
        let bucket = Bucket::without_retries(&lease.bucket, limit);
        Self { bucket, key: lease.key.clone(), timeout: limit }
    }

    /// What the object says, or nothing if there is none.
    pub(super) async fn read(&self) -> Result<Option<Version>, StoreError> {
        let read = timeout(self.timeout, self.bucket.get(&self.key, LIMIT)).await;
        let Some(object) = read.map_err(|_| StoreError::Silent)?? else { return Ok(None) };
        let content = serde_json::from_slice(&object.content).map_err(|_| StoreError::NoLease)?;
        Ok(Some(Version { etag: object.etag, content }))
    }

    /// Writes it, if it still is the version expected; what went wrong comes with it.
    pub(super) async fn write(
        &self,
        expected: Option<&str>,
        content: &Content,
    ) -> (Written, Option<StoreError>) {
        let condition = expected.map_or(Condition::Absent, Condition::Unchanged);
        let text = serde_json::to_vec(content).unwrap_or_default();
        let put = self.bucket.put_if(&self.key, condition, text);
        match timeout(self.timeout, put).await {
            Ok(Ok(etag)) => (Written::Done(etag), None),
            Ok(Err(error)) => match error.status() {
                Some(404 | 409 | 412) => (Written::Refused, Some(error.into())),
                _ => (Written::Unknown, Some(error.into())),
            },
            Err(_) => (Written::Unknown, Some(StoreError::Silent)),
        }
    }
}
