//! The archive of the audit log, and the uploads that are looked for in their buckets.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::labels::{Verification, call_result};
use super::{Maker, Metrics};

/// The metrics of it.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    batches: IntCounterVec,
    dropped: IntCounter,
    spool: IntGauge,
    spool_limit: IntGauge,
    oldest: IntGauge,
    verified: IntCounterVec,
    to_verify: IntGauge,
}

impl Proof {
    pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        let proof = Self {
            batches: make.counters(
                "audit_archive_batches_total",
                "Attempts to send a batch of audit lines to S3.",
                &["result"],
            )?,
            dropped: make.counter(
                "audit_archive_dropped_total",
                "Audit lines that are not archived because the spool was full or could not be written.",
            )?,
            spool: make.gauge(
                "audit_archive_spool_bytes",
                "Bytes of audit lines that S3 does not have yet.",
            )?,
            spool_limit: make.gauge(
                "audit_archive_spool_limit_bytes",
                "The most that the spool may hold; 0 if nothing is archived.",
            )?,
            oldest: make.gauge(
                "audit_archive_oldest_timestamp_seconds",
                "When the oldest audit line was recorded that S3 does not have yet; 0 if it has all.",
            )?,
            verified: make.counters(
                "uploads_verified_total",
                "Uploads that got 226, by what their bucket shows.",
                &["result"],
            )?,
            to_verify: make
                .gauge("uploads_to_verify", "Uploads that are looked for in their bucket now.")?,
        };
        for good in [true, false] {
            proof.batches.with_label_values(&[call_result(good)]);
        }
        for result in Verification::ALL {
            proof.verified.with_label_values(&[result.as_str()]);
        }
        Ok(proof)
    }
}

impl Metrics {
    /// A batch was sent, or could not be.
    pub fn archive_sent(&self, good: bool) {
        self.proof.batches.with_label_values(&[call_result(good)]).inc();
    }

    /// A line is not archived.
    pub fn archive_dropped(&self) {
        self.proof.dropped.inc();
    }

    /// The spool may hold so many bytes.
    pub fn archive_limit(&self, bytes: u64) {
        self.proof.spool_limit.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The spool holds so many bytes.
    pub fn archive_spool_bytes(&self, bytes: u64) {
        self.proof.spool.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The same, the oldest of them since then.
    pub fn archive_spool(&self, bytes: u64, oldest: Option<SystemTime>) {
        self.archive_spool_bytes(bytes);
        let since = oldest.and_then(|oldest| oldest.duration_since(UNIX_EPOCH).ok());
        let seconds = since.and_then(|since| i64::try_from(since.as_secs()).ok());
        self.proof.oldest.set(seconds.unwrap_or_default());
    }

    /// What became of an upload.
    pub fn verified(&self, result: Verification) {
        self.proof.verified.with_label_values(&[result.as_str()]).inc();
    }

    /// So many are being looked for.
    pub fn to_verify(&self, count: usize) {
        self.proof.to_verify.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
