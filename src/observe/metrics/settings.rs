//! What a node is set up to do, so that alerts can tell too little from nothing to do: a node
//! without a peer has not lost it, and so many sessions are only many beside a limit.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::{Maker, Metrics};

/// The metrics of it.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    node: IntGaugeVec,
    sessions_limit: IntGauge,
    certificate_expiry: IntGaugeVec,
    reloads: IntCounterVec,
    last_reload: IntGauge,
}

/// A node and its place in a pair; what there is none of is empty.
#[derive(Debug, Clone, Copy)]
pub struct NodeInfo<'a> {
    /// `node.name`.
    pub node: &'a str,
    /// `ha.mode`.
    pub ha_mode: &'static str,
    /// What it moves to have the clients.
    pub steering: &'static str,
    /// `ha.name`.
    pub name: &'a str,
    /// `ha.peer`.
    pub peer: &'a str,
}

impl Settings {
    pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        Ok(Self {
            node: make.gauges(
                "node_info",
                "This node, what decides its role, what it moves to have the clients, their name and its peer.",
                &["node", "ha_mode", "steering", "name", "peer"],
            )?,
            sessions_limit: make.gauge("sessions_limit", "Sessions that this node takes.")?,
            // Without labels, and yet a family: it is not shown as 0 where there is no certificate.
            certificate_expiry: make.gauges(
                "tls_certificate_expiry_timestamp_seconds",
                "When the first of the certificates that clients are shown runs out.",
                &[],
            )?,
            reloads: make.counters(
                "config_reloads_total",
                "Attempts to take up a changed configuration.",
                &["result"],
            )?,
            last_reload: make.gauge(
                "config_last_reload_successful",
                "Whether the configuration file is what the node took up the last time it looked.",
            )?,
        })
    }
}

impl Settings {
    /// The series of one result, from the start.
    pub(super) fn show_zeroes(&self, good: bool) {
        // A node starts with what is in the file.
        self.last_reload.set(1);
        self.reloads.with_label_values(&[super::call_result(good)]);
    }
}

impl Metrics {
    /// What this node is.
    pub fn node(&self, info: NodeInfo<'_>) {
        let NodeInfo { node, ha_mode, steering, name, peer } = info;
        self.settings.node.with_label_values(&[node, ha_mode, steering, name, peer]).set(1);
    }

    /// So many sessions are taken.
    pub fn sessions_limit(&self, sessions: usize) {
        self.settings.sessions_limit.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    /// A changed configuration was taken up, or could not be.
    pub fn config_reload(&self, good: bool) {
        self.settings.reloads.with_label_values(&[super::call_result(good)]).inc();
        self.settings.last_reload.set(good.into());
    }

    /// Clients are shown certificates that are good until then, if that is known.
    pub fn certificate_expires(&self, at: Option<SystemTime>) {
        let seconds = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let seconds = seconds.and_then(|seconds| i64::try_from(seconds.as_secs()).ok());
        match seconds {
            Some(seconds) => {
                self.settings.certificate_expiry.with_label_values::<&str>(&[]).set(seconds);
            }
            None => self.settings.certificate_expiry.reset(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_expiry_is_shown_only_while_it_is_known() {
        let metrics = Metrics::new().unwrap();
        let shown = || {
            let text = String::from_utf8(metrics.render().unwrap()).unwrap();
            let name = "ftpgate_tls_certificate_expiry_timestamp_seconds ";
            text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
        };
        assert_eq!(shown(), None);
        metrics.certificate_expires(Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
        assert_eq!(shown().as_deref(), Some("1800000000"));
        metrics.certificate_expires(None);
        assert_eq!(shown(), None);
    }
}
