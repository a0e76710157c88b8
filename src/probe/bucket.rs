//! The bucket's side of a round trip: a canary arrives, is the same, and goes; those that probes
//! have left behind are swept up.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::canary::{Canaries, Canary};
use crate::aws::AwsError;
use crate::aws::s3;
use crate::config;
use crate::lock::lock;

/// How long to wait before asking for a canary again, at first; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often leftovers are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// A younger canary may be under way in another process of this node, which takes over or is about
/// to end. Longer than clocks may differ: S3 refuses requests from more than 15 minutes away.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(1800);
/// The permissions that it takes.
const GET: &str = "s3:GetObject";
const DELETE: &str = "s3:DeleteObject";
const LIST: &str = "s3:ListBucket";
/// Canaries that one sweep deletes.
const SWEPT: usize = 100;

/// The bucket behind the FTP service.
#[derive(Debug)]
pub(super) struct Bucket {
    bucket: s3::Bucket,
    config: config::Bucket,
    next_sweep: Mutex<Option<Instant>>,
}

impl Bucket {
    /// Each call to S3 is over within `limit`.
    pub(super) fn new(config: &config::Bucket, limit: Duration) -> Self {
        Self {
            bucket: s3::Bucket::new(&config.name, limit),
            config: config.clone(),
            next_sweep: Mutex::default(),
        }
    }

    /// Waits for the canary, for `limit`, and gives what has arrived.
    pub(super) async fn arrival(
        &self,
        canary: &Canary,
        limit: Duration,
    ) -> Result<Vec<u8>, String> {
        let key = self.key(&canary.name);
        let mut latest = Err(format!("S3 did not answer within {limit:?}"));
        let wait = async {
            let mut pause = FIRST_PAUSE;
            loop {
                match self.get(&key, canary.content.len()).await {
                    Ok(Some(content)) => return Ok(content),
                    Ok(None) => latest = Ok(()),
                    Err(error) if is_final(&error) => return Err(self.told(GET, &error)),
                    Err(error) => latest = Err(self.told(GET, &error)),
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        match timeout(limit, wait).await {
            Ok(arrived) => arrived,
            Err(_) => Err(latest.err().unwrap_or_else(|| {
                let config::Bucket { name, prefix } = &self.config;
                format!("it did not come to s3://{name}/{prefix} within {limit:?} of its 226")
            })),
        }
    }

    /// The object, if it is there.
    async fn get(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>, AwsError> {
        let answer = self.bucket.get(key, limit).await.map(|object| Some(object?.content));
        // A role that may list only what starts like a canary is denied what is not there, too.
        if answer.as_ref().is_err_and(is_denied)
            && self.bucket.list(key).await.is_ok_and(|listed| listed.is_empty())
        {
            return Ok(None);
        }
        answer
    }

    /// Deletes the canary.
    pub(super) async fn delete(&self, canary: &Canary) -> Result<(), String> {
        let deleted = self.bucket.delete(&self.key(&canary.name)).await;
        deleted.map_err(|error| self.told(DELETE, &error))
    }

    /// Deletes what earlier probes of this node have left behind, if it is time to look for it.
    /// A canary can be left by a process that was killed, or by an endpoint that brought it late.
    pub(super) async fn sweep(&self, canaries: &Canaries, limit: Duration) {
        if !self.is_time_to_sweep() {
            return;
        }
        match timeout(limit, self.sweep_now(canaries)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => info!(count, "deleted canaries that earlier probes had left"),
            Ok(Err(reason)) => warn!(reason, "canaries that earlier probes left are not deleted"),
            Err(_) => warn!("canaries that earlier probes left are not all deleted in time"),
        }
    }

    async fn sweep_now(&self, canaries: &Canaries) -> Result<usize, String> {
        let listed = self.bucket.list(&self.key(canaries.prefix())).await;
        let listed = listed.map_err(|error| self.told(LIST, &error))?;
        let mut count = 0;
        for object in listed {
            let name = object.key.strip_prefix(&self.config.prefix).unwrap_or_default();
            let age = object.modified.and_then(|time| SystemTime::now().duration_since(time).ok());
            if !canaries.is_left_over(name) || age.is_none_or(|age| age < LEFT_OVER_AFTER) {
                continue;
            }
            let deleted = self.bucket.delete(&object.key).await;
            deleted.map_err(|error| self.told(DELETE, &error))?;
            count += 1;
            if count == SWEPT {
                break;
            }
        }
        Ok(count)
    }

    /// Says yes once in every interval.
    fn is_time_to_sweep(&self) -> bool {
        let mut next = lock(&self.next_sweep);
        let now = Instant::now();
        let due = next.is_none_or(|next| next <= now);
        if due {
            *next = Some(now + SWEEP_INTERVAL);
        }
        due
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.config.prefix)
    }

    /// What went wrong, with what it takes.
    fn told(&self, permission: &str, error: &AwsError) -> String {
        let name = &self.config.name;
        match error.code() {
            Some("AccessDenied") if permission == GET => format!(
                "bucket {name}: {error}: allow {GET}, and {LIST}, without which nobody can tell what is not there"
            ),
            Some("AccessDenied") => format!("bucket {name}: {error}: allow {permission}"),
            Some("NoSuchBucket") => format!("bucket {name}: {error}: see probe.bucket"),
            Some("PermanentRedirect") => {
                format!("bucket {name}: {error}: it is in another region; set AWS_REGION")
            }
            _ => format!("bucket {name}: {error}"),
        }
    }
}

/// Whether it is of no use to ask again for this canary. What S3 cannot do now it may do in a
/// moment, and what it denies may only not be there yet.
fn is_final(error: &AwsError) -> bool {
    match error {
        AwsError::NoRegion => true,
        AwsError::Refused { status, .. } => *status < 500 && !is_denied(error),
        AwsError::Unreachable { .. } => false,
    }
}

fn is_denied(error: &AwsError) -> bool {
    error.code() == Some("AccessDenied")
}
