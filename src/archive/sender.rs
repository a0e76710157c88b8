//! From the spool to S3, the oldest batch first.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::batch::Name;
use super::spool::Spool;
use crate::aws::AwsError;
use crate::aws::s3::Bucket;
use crate::config;

/// How long to wait after a first failure; twice as long after each further one, give or take a fifth.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often to look for what another process has closed or left.
const LOOK: Duration = Duration::from_secs(15);

/// Where batches go.
pub(super) trait Store {
    /// Keeps these lines under a key that nobody else uses; that they are there already will do.
    async fn keep(&self, key: &str, lines: Vec<u8>) -> Result<(), AwsError>;
}

/// What sends them.
#[derive(Debug)]
pub(super) struct Sender<S> {
    spool: Arc<Spool>,
    store: S,
    bucket: String,
    prefix: String,
    node: String,
    pause: Duration,
    failing: bool,
}

/// What came of a batch.
enum Sent {
    Done,
    /// It is somebody else's.
    Passed,
    /// Its file is in the way of no other one.
    Stuck(String),
    /// Nor will S3 take the others.
    Failed(String),
}

impl Store for Bucket {
    async fn keep(&self, key: &str, lines: Vec<u8>) -> Result<(), AwsError> {
        // False: this batch was written before, and nobody heard of it.
        self.create(key, lines).await.map(|_| ())
    }
}

// === impl Sender ===

impl<S: Store> Sender<S> {
    pub(super) fn new(
        spool: Arc<Spool>,
        store: S,
        config: &config::AuditArchive,
        node: &str,
    ) -> Self {
        let config::AuditArchive { bucket, prefix, .. } = config;
        Self {
            spool,
            store,
            bucket: bucket.clone(),
            prefix: prefix.clone(),
            node: node.into(),
            pause: FIRST_PAUSE,
            failing: false,
        }
    }

    /// Sends what is closed until `closing`, and gives itself back for what is left then.
    pub(super) async fn run(mut self, closing: CancellationToken) -> Self {
        loop {
            let good = self.send_all().await;
            let waiting = async {
                if good {
                    let _ = timeout(LOOK, self.spool.closed.notified()).await;
                } else {
                    sleep(self.pause.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
                }
            };
            tokio::select! {
                () = waiting => {}
                () = closing.cancelled() => return self,
            }
            self.pause = if good { FIRST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        }
    }

    /// Sends all that is closed now, up to the first that S3 does not take. Says whether all could be sent.
    pub(super) async fn send_all(&mut self) -> bool {
        let reason = match self.try_all().await {
            Ok(()) if self.failing => {
                self.failing = false;
                info!("audit lines are sent to S3 again");
                return true;
            }
            Ok(()) => return true,
            Err(reason) => reason,
        };
        // Once per episode.
        if !self.failing {
            self.failing = true;
            warn!(reason, "audit lines cannot be sent to S3: they stay in the spool");
        }
        false
    }

    async fn try_all(&self) -> Result<(), String> {
        let names = self.survey().await?;
        let mut stuck = Ok(());
        for name in &names {
            match self.send(name).await {
                Sent::Done => self.spool.metrics.archive_sent(true),
                Sent::Passed => {}
                Sent::Stuck(reason) => {
                    self.spool.metrics.archive_sent(false);
                    stuck = stuck.and_then(|()| Err(format!("{}: {reason}", name.as_str())));
                }
                Sent::Failed(reason) => {
                    self.spool.metrics.archive_sent(false);
                    return Err(reason);
                }
            }
        }
        if !names.is_empty() {
            self.survey().await?;
        }
        stuck
    }

    async fn survey(&self) -> Result<Vec<Name>, String> {
        self.on_disk(Spool::survey).await
    }

    async fn send(&self, name: &Name) -> Sent {
        let taken = name.clone();
        let mut held = match self.on_disk(move |spool| spool.take(&taken)).await {
            Ok(Some(held)) => held,
            Ok(None) => return Sent::Passed,
            Err(reason) => return Sent::Stuck(reason),
        };
        let lines = std::mem::take(&mut held.lines);
        let (is_empty, torn) = (lines.is_empty(), held.torn);
        if !is_empty {
            let key = name.key(&self.prefix, &self.node);
            if let Err(error) = self.store.keep(&key, lines).await {
                return Sent::Failed(self.told(&error));
            }
        }
        let removed = name.clone();
        let removed = self.on_disk(move |spool| spool.remove(&removed)).await;
        drop(held);
        if torn && removed.is_ok() {
            self.spool.metrics.archive_dropped();
        }
        match removed {
            Ok(()) if is_empty => Sent::Passed,
            Ok(()) => Sent::Done,
            Err(reason) => Sent::Stuck(reason),
        }
    }

    /// Does something to the spool where nobody is kept waiting by a slow disk.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let spool = Arc::clone(&self.spool);
        let done = spawn_blocking(move || work(&spool)).await;
        let done = done.map_err(|error| error.to_string())?;
        done.map_err(|error| format!("the spool: {error}"))
    }

    /// What went wrong, with what it takes.
    fn told(&self, error: &AwsError) -> String {
        let bucket = &self.bucket;
        match error.code() {
            Some("AccessDenied") => format!("bucket {bucket}: {error}: allow s3:PutObject"),
            Some("NoSuchBucket") => format!("bucket {bucket}: {error}: see audit.archive.bucket"),
            Some("PermanentRedirect") => {
                format!("bucket {bucket}: {error}: it is in another region; set AWS_REGION")
            }
            _ => format!("bucket {bucket}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests;
