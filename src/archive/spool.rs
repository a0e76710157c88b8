//! The spool: a directory of batches that S3 does not have yet.
//!
//! When it is full, new lines are not spooled. The oldest could give way to them, but the newest are
//! those that the audit log's own file still has, before it is rotated away; nobody who moves many
//! files can push out the lines of what was done before; and a gap has a beginning and an end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::sync::Notify;
use tracing::{error, info};

use super::batch::Name;
use crate::config;
use crate::observe::audit::{Message, json_line};
use crate::observe::metrics::Metrics;

/// The directory, if it has to be made.
const DIRECTORY_MODE: u32 = 0o750;
/// How often a full spool is looked at again.
const LOOK: Duration = Duration::from_millis(500);

/// The directory.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    limit: u64,
    /// What it holds: as it was last looked at, and what this process has written since.
    used: AtomicU64,
    /// A batch has been closed.
    pub(super) closed: Notify,
    pub(super) metrics: Metrics,
}

/// A closed batch in the hands of this process, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    /// Whole lines.
    pub(super) lines: Vec<u8>,
    /// Its writer was killed in the middle of one more.
    pub(super) torn: bool,
    _locked: File,
}

/// What writes lines to it.
#[derive(Debug)]
pub(super) struct Writer {
    spool: Arc<Spool>,
    interval: Duration,
    size: u64,
    process: u64,
    /// Batches so far.
    count: u32,
    open: Option<Open>,
    looked: Instant,
    /// Lines that were lost since this is so.
    failing: u64,
}

/// The batch that is being written.
#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    due: Instant,
}

/// A line could not be spooled.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error("it has reached audit.archive.limit")]
    Full,
    #[error(transparent)]
    Disk(#[from] io::Error),
}

// === impl Spool ===

impl Spool {
    pub(super) fn open(config: &config::AuditArchive, metrics: Metrics) -> io::Result<Self> {
        let directory = config.spool.clone();
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&directory)?;
        metrics.archive_limit(config.limit);
        let (limit, used) = (config.limit, AtomicU64::new(0));
        let spool = Self { directory, limit, used, closed: Notify::new(), metrics };
        spool.survey()?;
        Ok(spool)
    }

    /// Looks at what is there; all batches by age, also those that are being written.
    pub(super) fn survey(&self) -> io::Result<Vec<Name>> {
        let (mut names, mut used) = (Vec::new(), 0);
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_str().and_then(Name::parse);
            // One that is not there any more has been sent by another process.
            if let (Some(name), Ok(metadata)) = (name, entry.metadata()) {
                used += metadata.len();
                names.push(name);
            }
        }
        names.sort();
        self.used.store(used, Ordering::Relaxed);
        self.metrics.archive_spool(used, names.first().and_then(Name::time));
        Ok(names)
    }

    /// Takes a batch that nobody writes and nobody else sends.
    pub(super) fn take(&self, name: &Name) -> io::Result<Option<Held>> {
        // For writing, too: on NFS an exclusive lock takes that (flock(2)).
        let mut file = match OpenOptions::new().read(true).write(true).open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Another process may have sent it between these two.
        if file.metadata()?.nlink() == 0 {
            return Ok(None);
        }
        let mut lines = Vec::new();
        file.read_to_end(&mut lines)?;
        let whole = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let torn = whole < lines.len();
        lines.truncate(whole);
        Ok(Some(Held { lines, torn, _locked: file }))
    }

    /// Takes one away for good, while it is held.
    pub(super) fn remove(&self, name: &Name) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.directory.join(name.as_str())
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.used.load(Ordering::Relaxed).saturating_add(bytes) <= self.limit
    }
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(spool: Arc<Spool>, config: &config::AuditArchive) -> Self {
        Self {
            spool,
            interval: config.interval,
            size: config.batch,
            process: fastrand::u64(..),
            count: 0,
            open: None,
            looked: Instant::now(),
            failing: 0,
        }
    }

    /// Writes what comes, until the end is told.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let message = match &self.open {
                Some(open) => {
                    messages.recv_timeout(open.due.saturating_duration_since(Instant::now()))
                }
                None => messages.recv().map_err(RecvTimeoutError::from),
            };
            match message {
                Ok(Message::Record(record)) => self.keep(json_line(&record).as_bytes()),
                Err(RecvTimeoutError::Timeout) => self.close(),
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return self.close(),
            }
            if self.open.as_ref().is_some_and(|open| open.due <= Instant::now()) {
                self.close();
            }
        }
    }

    fn keep(&mut self, line: &[u8]) {
        match self.write(line) {
            Ok(()) => {
                let lost = std::mem::take(&mut self.failing);
                if lost > 0 {
                    info!(lost, "audit lines are archived again");
                }
            }
            Err(error) => {
                self.spool.metrics.archive_dropped();
                // Once per episode.
                if self.failing == 0 {
                    let spool = self.spool.directory.display();
                    error!(%error, %spool, "the spool takes no audit lines: they are not archived until it does");
                }
                self.failing += 1;
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> Result<(), Unwritten> {
        let length = line.len() as u64;
        if self.open.as_ref().is_some_and(|open| open.size + length > self.size) {
            self.close();
        }
        self.find_room(length)?;
        let open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let open = self.open.insert(open);
        if let Err(error) = open.file.write_all(line) {
            // No part of a line stays, or no other comes behind it: whoever sends it leaves it out.
            if open.file.set_len(open.size).is_err() {
                self.close();
            }
            return Err(error.into());
        }
        open.size += length;
        let used = self.spool.used.fetch_add(length, Ordering::Relaxed) + length;
        self.spool.metrics.archive_spool_bytes(used);
        Ok(())
    }

    /// A full spool may have been sent since it was last looked at.
    fn find_room(&mut self, bytes: u64) -> Result<(), Unwritten> {
        if !self.spool.has_room(bytes) && self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.spool.survey()?;
        }
        if self.spool.has_room(bytes) { Ok(()) } else { Err(Unwritten::Full) }
    }

    fn begin(&mut self) -> io::Result<Open> {
        self.count += 1;
        let name = Name::new(SystemTime::now(), self.process, self.count);
        let path = self.spool.path(&name);
        // It is locked before it has a name that senders look for.
        let new = path.with_extension("new");
        let file = OpenOptions::new().append(true).create_new(true).mode(0o640).open(&new)?;
        let named = flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(io::Error::from)
            .and_then(|()| fs::rename(&new, path));
        if let Err(error) = named {
            let _ = fs::remove_file(new);
            return Err(error);
        }
        // It only counts; what is wrong shows when it is done again.
        let _ = self.spool.survey();
        Ok(Open { file, size: 0, due: Instant::now() + self.interval })
    }

    /// Closes the batch, which unlocks it, and has it sent.
    fn close(&mut self) {
        if self.open.take().is_some() {
            self.spool.closed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
