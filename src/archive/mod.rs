//! The audit log's way to S3.
//!
//! Each line is in a file of the spool before it is sent, and that file goes only when S3 has it: a
//! crash, a restart or S3 itself for a day costs no line. Sessions hand records to a bounded queue and
//! wait for nothing, and neither does the audit log's own file.
//!
//! | file | what it holds |
//! |---|---|
//! | `batch` | the name of a batch, here and in the bucket |
//! | `spool` | the directory: what is there, who writes it, how much it may hold |
//! | `sender` | from there to S3 |
//!
//! Several processes of one node may share the directory, while one hands over to the next. A batch
//! belongs to whoever has its file locked: to its writer until it is closed, then to one sender at a
//! time. A lock ends with its process, so whatever a dead one has left is sent by any other. A batch
//! that is sent twice, since nobody heard of the first time, has the same key: S3 keeps one.

mod batch;
mod sender;
mod spool;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::aws::s3::Bucket;
use crate::config;
use crate::observe::audit::{Message, QUEUE};
use crate::observe::metrics::Metrics;
use sender::Sender;
use spool::{Spool, Writer};

/// How long one batch may take.
const PUT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last batches may take, when the process ends. What is left is the next one's.
const LAST_BATCHES: Duration = Duration::from_secs(10);

/// A running archive.
#[derive(Debug)]
pub struct Archive {
    queue: SyncSender<Message>,
    writer: JoinHandle<()>,
    sender: task::JoinHandle<Sender<Bucket>>,
    closing: CancellationToken,
}

// === impl Archive ===

impl Archive {
    /// Starts what writes and what sends. S3 is not asked yet.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If the spool's directory is not there and cannot be made, or cannot be read.
    pub fn open(config: &config::AuditArchive, node: &str, metrics: Metrics) -> io::Result<Self> {
        let spool = Arc::new(Spool::open(config, metrics)?);
        let (queue, messages) = sync_channel(QUEUE);
        let writer = Writer::new(Arc::clone(&spool), config);
        let writer = std::thread::Builder::new()
            .name("audit-spool".into())
            .spawn(move || writer.run(&messages))?;
        let bucket = Bucket::new(&config.bucket, PUT_TIMEOUT);
        let sender = Sender::new(spool, bucket, config, node);
        let closing = CancellationToken::new();
        let sender = tokio::spawn(sender.run(closing.clone()));
        Ok(Self { queue, writer, sender, closing })
    }

    /// Where records go.
    pub fn queue(&self) -> SyncSender<Message> {
        self.queue.clone()
    }

    /// Spools what was recorded before and tries to send it.
    pub async fn finish(self) {
        let Self { queue, writer, sender, closing } = self;
        // Both fail only if the thread has ended already.
        let written = task::spawn_blocking(move || {
            let _ = queue.send(Message::End);
            let _ = writer.join();
        });
        let _ = written.await;
        closing.cancel();
        let last = async {
            match sender.await {
                Ok(mut sender) => sender.send_all().await,
                Err(_) => false,
            }
        };
        if !timeout(LAST_BATCHES, last).await.unwrap_or(false) {
            warn!("audit lines are left in the spool: this node's next process sends them");
        }
    }
}
