//! `[audit]` and `[verify]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::NOWHERE;
use crate::config;
use crate::config::report::Fault;
use crate::config::values::{duration, size};

/// The longest time for which a batch may be open: alerts count on it.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
/// The largest batch: it is read into memory to be sent.
const LARGEST_BATCH: u64 = 64 << 20;
/// The smallest: it holds the longest line.
const SMALLEST_BATCH: u64 = 64 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    path: PathBuf,
    #[serde(default)]
    format: AuditFormat,
    archive: Option<Archive>,
}

#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum AuditFormat {
    #[default]
    Json,
    Xferlog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Archive {
    bucket: Spanned<String>,
    #[serde(default = "default_prefix")]
    prefix: Spanned<String>,
    #[serde(default = "default_interval")]
    interval: Spanned<Interval>,
    #[serde(default = "default_batch")]
    batch: Spanned<Size>,
    #[serde(default = "default_spool")]
    spool: Spanned<PathBuf>,
    #[serde(default = "default_limit")]
    limit: Spanned<Size>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verify {
    home: Option<Spanned<String>>,
    #[serde(default = "default_wait", deserialize_with = "duration")]
    wait: Duration,
    #[serde(default)]
    directory: Vec<Directory>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    path: Spanned<String>,
    bucket: Spanned<String>,
    #[serde(default = "no_prefix")]
    prefix: Spanned<String>,
}

/// Values whose places in the file are wanted.
#[derive(Debug, Deserialize, Clone, Copy)]
struct Interval(#[serde(deserialize_with = "duration")] Duration);
#[derive(Debug, Deserialize, Clone, Copy)]
struct Size(#[serde(deserialize_with = "size")] u64);

// === defaults ===

fn default_prefix() -> Spanned<String> {
    Spanned::new(NOWHERE, "ftpgate/audit/".into())
}

fn default_interval() -> Spanned<Interval> {
    Spanned::new(NOWHERE, Interval(Duration::from_secs(300)))
}

fn default_batch() -> Spanned<Size> {
    Spanned::new(NOWHERE, Size(4 << 20))
}

fn default_spool() -> Spanned<PathBuf> {
    Spanned::new(NOWHERE, "/var/lib/ftpgate/audit".into())
}

fn default_limit() -> Spanned<Size> {
    Spanned::new(NOWHERE, Size(256 << 20))
}

fn default_wait() -> Duration {
    Duration::from_secs(30)
}

fn no_prefix() -> Spanned<String> {
    Spanned::new(NOWHERE, String::new())
}

// === faults ===

impl Audit {
    pub(super) fn faults(&self) -> Vec<Fault> {
        self.archive.as_ref().map(Archive::faults).unwrap_or_default()
    }

    pub(super) fn into_config(self) -> config::Audit {
        config::Audit {
            path: (self.path != Path::new("-")).then_some(self.path),
            format: match self.format {
                AuditFormat::Json => config::AuditFormat::Json,
                AuditFormat::Xferlog => config::AuditFormat::Xferlog,
            },
            archive: self.archive.map(Archive::into_config),
        }
    }
}

impl Archive {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(bucket_fault(&self.bucket));
        faults.extend(prefix_fault(&self.prefix));
        if self.interval.get_ref().0 > LONGEST_INTERVAL {
            faults.push(Fault::at(
                self.interval.span(),
                "lines would be on this node alone for too long",
                "write at most \"1h\"; \"5m\" makes some 9,000 objects a month",
            ));
        }
        let batch = self.batch.get_ref().0;
        if !(SMALLEST_BATCH..=LARGEST_BATCH).contains(&batch) {
            faults.push(Fault::at(
                self.batch.span(),
                "audit.archive.batch must be from 64KiB to 64MiB",
                "\"4MiB\" holds some 15,000 lines",
            ));
        }
        if self.limit.get_ref().0 < batch {
            faults.push(Fault::at(
                self.limit.span(),
                "the spool would not hold one batch",
                "write more than audit.archive.batch: what comes while S3 cannot be reached must fit",
            ));
        }
        if self.spool.get_ref().as_os_str().is_empty() {
            faults.push(Fault::at(
                self.spool.span(),
                "an empty path",
                "write a directory that is this node's own",
            ));
        }
        faults
    }

    fn into_config(self) -> config::AuditArchive {
        config::AuditArchive {
            bucket: self.bucket.into_inner(),
            prefix: self.prefix.into_inner(),
            interval: self.interval.into_inner().0,
            batch: self.batch.into_inner().0,
            spool: self.spool.into_inner(),
            limit: self.limit.into_inner().0,
        }
    }
}

impl Verify {
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.directory.is_empty() {
            faults.push(Fault::whole(
                "[verify] does not say where files arrive",
                "add a [[verify.directory]] with a path and the bucket that it stands for",
            ));
        }
        let paths = self.directory.iter().map(|directory| &directory.path);
        for path in self.home.iter().chain(paths) {
            let text = path.get_ref();
            let is_odd = |name: &str| matches!(name, "." | "..") || name.contains(char::is_control);
            if !text.starts_with('/') || text.split('/').any(is_odd) {
                faults.push(Fault::at(
                    path.span(),
                    "this is no directory of the FTP service",
                    "write it as PWD tells it, such as \"/\" or \"/my-transfer-bucket/home/${user}\"",
                ));
            }
        }
        for Directory { bucket, prefix, .. } in &self.directory {
            faults.extend(bucket_fault(bucket));
            faults.extend(prefix_fault(prefix));
        }
        faults
    }

    pub(super) fn into_config(self) -> config::Verify {
        let directory = |directory: Directory| config::VerifyDirectory {
            path: directory.path.into_inner(),
            bucket: directory.bucket.into_inner(),
            prefix: directory.prefix.into_inner(),
        };
        config::Verify {
            home: self.home.map(Spanned::into_inner),
            wait: self.wait,
            directories: self.directory.into_iter().map(directory).collect(),
        }
    }
}

/// Amazon S3 User Guide, "General purpose bucket naming rules".
pub(super) fn bucket_fault(bucket: &Spanned<String>) -> Option<Fault> {
    let name = bucket.get_ref();
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = (3..=63).contains(&name.len())
        && name.bytes().all(|byte| is_plain(byte) || b".-".contains(&byte));
    (!good).then(|| {
        Fault::at(
            bucket.span(),
            "this is no name of an S3 bucket",
            "write the bucket's name alone: 3 to 63 lower-case letters, digits, dots and hyphens",
        )
    })
}

/// What stands before the names of files in their keys.
fn prefix_fault(prefix: &Spanned<String>) -> Option<Fault> {
    let text = prefix.get_ref();
    let good = (text.is_empty() || text.ends_with('/'))
        && !text.starts_with('/')
        && text.len() <= 512
        && !text.contains(char::is_control);
    (!good).then(|| {
        Fault::at(
            prefix.span(),
            "this is no prefix of keys in a bucket",
            "write what stands before a file's name in its key: \"\" or \"ftpgate/audit/\"",
        )
    })
}
