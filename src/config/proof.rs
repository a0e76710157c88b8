//! What is left of a transfer: its audit line, and the proof that its file has arrived.

use std::path::PathBuf;
use std::time::Duration;

/// `[audit]`: one line per transfer.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    /// The file, or `None` for standard output.
    pub path: Option<PathBuf>,
    /// The shape of a line.
    pub format: AuditFormat,
    /// Where lines are kept besides, if anywhere.
    pub archive: Option<AuditArchive>,
}

/// The shape of an audit line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditFormat {
    /// One JSON object.
    Json,
    /// The xferlog(5) of wu-ftpd and ProFTPD.
    Xferlog,
}

/// `[audit.archive]`: lines go to S3 in batches.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditArchive {
    /// The bucket.
    pub bucket: String,
    /// What keys begin with: nothing, or something with a slash at its end.
    pub prefix: String,
    /// A batch is closed so long after its first line.
    pub interval: Duration,
    /// Or before it would have more bytes.
    pub batch: u64,
    /// The directory of batches that S3 does not have yet.
    pub spool: PathBuf,
    /// Bytes of all of them; at least one batch.
    pub limit: u64,
}

/// `[verify]`: uploads are looked for in their buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Verify {
    /// The directory in which a session begins, if it is known.
    pub home: Option<String>,
    /// How long after its 226 a file may be missing or differ.
    pub wait: Duration,
    /// What the upstream's directories stand for; at least one.
    pub directories: Vec<VerifyDirectory>,
}

/// `[[verify.directory]]`: a directory of the upstream and what it stands for. In its path and its
/// prefix `${user}` is the name of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyDirectory {
    /// Absolute.
    pub path: String,
    /// The bucket.
    pub bucket: String,
    /// What keys there begin with: nothing, or something with a slash at its end.
    pub prefix: String,
}
