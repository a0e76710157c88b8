//! The pair: role, lease, steering, peer, and what CloudWatch is told.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::labels::call_result;
use super::{LeaseResult, Maker, Metrics};

/// The metrics of it.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    role: IntGaugeVec,
    role_changes: IntCounterVec,
    lease_held: IntGauge,
    lease_generation: IntGauge,
    lease_requests: IntCounterVec,
    steering_calls: IntCounterVec,
    steered_here: IntGauge,
    clients_sent_here: IntGauge,
    peer_up: IntGauge,
    peer_ready: IntGauge,
    cloudwatch_reports: IntCounterVec,
    cloudwatch_dropped: IntCounter,
}

impl Pair {
    pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        Ok(Self {
            role: make.gauges("role", "1 for the role that this node has.", &["role"])?,
            role_changes: make.counters(
                "role_changes_total",
                "Changes of this node's role, by the new one.",
                &["role"],
            )?,
            lease_held: make.gauge("lease_held", "1 while this node holds the lease.")?,
            lease_generation: make.gauge(
                "lease_generation",
                "How often the lease has changed hands, as this node saw it last.",
            )?,
            lease_requests: make.counters(
                "lease_requests_total",
                "Requests to S3 about the lease.",
                &["operation", "result"],
            )?,
            steering_calls: make.counters(
                "steering_calls_total",
                "Calls that look at or move the record or the routes.",
                &["operation", "result"],
            )?,
            steered_here: make.gauge(
                "steered_here",
                "1 if the record or the routes named this node when it last looked or moved them.",
            )?,
            clients_sent_here: make
                .gauge("clients_sent_here", "1 if the clients' name resolves to this node.")?,
            peer_up: make.gauge("peer_up", "1 if the peer answers.")?,
            peer_ready: make.gauge("peer_ready", "1 if the peer can serve, as it said lately.")?,
            cloudwatch_reports: make.counters(
                "cloudwatch_reports_total",
                "PutMetricData requests.",
                &["result"],
            )?,
            cloudwatch_dropped: make.counter(
                "cloudwatch_dropped_total",
                "Reports that CloudWatch never got and that were given up.",
            )?,
        })
    }

    /// The series that can be known beforehand.
    pub(super) fn show_zeroes(&self) {
        for good in [true, false] {
            self.lease_requests.with_label_values(&["read", call_result(good)]);
            for operation in ["look", "move"] {
                self.steering_calls.with_label_values(&[operation, call_result(good)]);
            }
            self.cloudwatch_reports.with_label_values(&[call_result(good)]);
        }
        for result in [LeaseResult::Ok, LeaseResult::Refused, LeaseResult::Unknown] {
            self.lease_requests.with_label_values(&["write", result.as_str()]);
        }
    }
}

impl Metrics {
    /// This node has that one of these roles now.
    pub fn role(&self, role: &'static str, all: &[&'static str]) {
        for one in all {
            self.pair.role.with_label_values(&[one]).set((*one == role).into());
            self.pair.role_changes.with_label_values(&[one]);
        }
        self.pair.role_changes.with_label_values(&[role]).inc();
    }

    /// The lease, as this node knows it.
    pub fn lease(&self, held: bool, generation: u64) {
        self.pair.lease_held.set(held.into());
        self.pair.lease_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// The lease was read, or could not be.
    pub fn lease_read(&self, good: bool) {
        self.pair.lease_requests.with_label_values(&["read", call_result(good)]).inc();
    }

    /// A write of the lease is over.
    pub fn lease_written(&self, result: LeaseResult) {
        self.pair.lease_requests.with_label_values(&["write", result.as_str()]).inc();
    }

    /// What steers clients was looked at, and whether that succeeded.
    pub fn steering_looked(&self, good: bool) {
        self.pair.steering_calls.with_label_values(&["look", call_result(good)]).inc();
    }

    /// What steers clients was moved here, or could not be.
    pub fn steering_moved(&self, good: bool) {
        self.pair.steering_calls.with_label_values(&["move", call_result(good)]).inc();
    }

    /// Whether what steers clients names this node.
    pub fn steered_here(&self, here: bool) {
        self.pair.steered_here.set(here.into());
    }

    /// Whether the clients' name resolves to this node.
    pub fn clients_sent_here(&self, here: bool) {
        self.pair.clients_sent_here.set(here.into());
    }

    /// Whether the peer answers, and can serve.
    pub fn peer(&self, up: bool, ready: bool) {
        self.pair.peer_up.set(up.into());
        self.pair.peer_ready.set(ready.into());
    }

    /// A report to CloudWatch was taken, or not.
    pub fn cloudwatch_reported(&self, good: bool) {
        self.pair.cloudwatch_reports.with_label_values(&[call_result(good)]).inc();
    }

    /// A report to CloudWatch was given up.
    pub fn cloudwatch_dropped(&self) {
        self.pair.cloudwatch_dropped.inc();
    }
}
