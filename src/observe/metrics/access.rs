//! Who is kept out, and what rules count.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::labels::Denial;
use super::{Maker, Metrics};

/// The metrics of it.
#[derive(Debug, Clone)]
pub(super) struct Access {
    logins_denied: IntCounterVec,
    bans: IntGauge,
    bans_total: IntCounter,
    blocks: IntGaugeVec,
    commands_denied: IntCounterVec,
    transfers_denied: IntCounterVec,
    sessions: IntGaugeVec,
    transfers: IntGaugeVec,
}

impl Access {
    pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        let access = Self {
            logins_denied: make.counters(
                "logins_denied_total",
                "Logins refused by the gateway at USER, of which the upstream has not heard.",
                &["reason"],
            )?,
            bans: make.gauge("bans", "Client addresses that are banned now.")?,
            bans_total: make.counter("bans_total", "Client addresses that were banned.")?,
            blocks: make.gauges("blocks", "Blocks set by an operator.", &["kind"])?,
            commands_denied: make.counters(
                "commands_denied_total",
                "Commands that a rule does not allow.",
                &["rule"],
            )?,
            transfers_denied: make.counters(
                "transfers_denied_total",
                "Transfers answered 450, as a rule allows no more at once.",
                &["rule"],
            )?,
            sessions: make.gauges("rule_sessions", "Sessions under a rule now.", &["rule"])?,
            transfers: make.gauges(
                "rule_transfers",
                "Transfers now under a rule that limits them.",
                &["rule"],
            )?,
        };
        for denial in Denial::ALL {
            access.logins_denied.with_label_values(&[denial.as_str()]);
        }
        Ok(access)
    }
}

impl Metrics {
    /// A login was refused at USER.
    pub fn login_denied(&self, denial: Denial) {
        self.access.logins_denied.with_label_values(&[denial.as_str()]).inc();
    }

    /// A client was banned.
    pub fn banned(&self) {
        self.access.bans_total.inc();
    }

    /// So many clients are banned.
    pub fn bans(&self, count: usize) {
        self.access.bans.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many blocks of that kind hold.
    pub fn blocks(&self, kind: &'static str, count: usize) {
        let gauge = self.access.blocks.with_label_values(&[kind]);
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A command was refused for a rule.
    pub fn command_denied(&self, rule: &str) {
        self.access.commands_denied.with_label_values(&[rule]).inc();
    }

    /// A transfer was refused for a rule.
    pub fn transfer_denied(&self, rule: &str) {
        self.access.transfers_denied.with_label_values(&[rule]).inc();
    }

    /// There is a new rule; gives the counts of its sessions and of its transfers.
    pub fn rule_added(&self, rule: &str) -> (IntGauge, IntGauge) {
        self.access.commands_denied.with_label_values(&[rule]);
        self.access.transfers_denied.with_label_values(&[rule]);
        let count = |gauges: &IntGaugeVec| gauges.with_label_values(&[rule]);
        (count(&self.access.sessions), count(&self.access.transfers))
    }

    /// A rule is gone for good.
    pub fn rule_removed(&self, rule: &str) {
        // Each of these fails only if there was no such series.
        let _ = self.access.commands_denied.remove_label_values(&[rule]);
        let _ = self.access.transfers_denied.remove_label_values(&[rule]);
        let _ = self.access.sessions.remove_label_values(&[rule]);
        let _ = self.access.transfers.remove_label_values(&[rule]);
    }
}
