//! Hand-overs from one process of this node to the next.

use prometheus::{IntCounterVec, IntGauge};

use super::labels::call_result;
use super::{Maker, Metrics};

/// The metrics of it.
#[derive(Debug, Clone)]
pub(super) struct Handover {
    handovers: IntCounterVec,
    older_processes: IntGauge,
}

impl Handover {
    pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        Ok(Self {
            handovers: make.counters(
                "handovers_total",
                "Hand-overs: to this process, and from it to one that failed.",
                &["result"],
            )?,
            older_processes: make.gauge(
                "older_processes",
                "Older processes of this node that still finish their sessions.",
            )?,
        })
    }

    /// Shows them before the first one.
    pub(super) fn show_zeroes(&self) {
        for good in [true, false] {
            self.handovers.with_label_values(&[call_result(good)]);
        }
    }
}

impl Metrics {
    /// This process has taken over, or one has not taken over from it.
    pub fn handed_over(&self, good: bool) {
        self.handover.handovers.with_label_values(&[call_result(good)]).inc();
    }

    /// So many older processes are left.
    pub fn older_processes(&self, count: usize) {
        self.handover.older_processes.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
