//! Every metric of this node, in one place.
//!
//! Label values come from enums, from the configuration and from the endpoints that there are,
//! never from a client: the number of series is bounded. An endpoint that is gone takes its series
//! with it.

mod access;
mod counts;
mod handover;
mod labels;
mod maker;
mod pair;
mod passive;
mod proof;
mod settings;
mod totals;
mod upstream;

use std::time::Duration;

use prometheus::{
    Encoder, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::ftp::dialogue::{CallbackRefusal, DataFailure, Outcome};
use crate::ftp::{Direction, SessionEnd};
use crate::observe::events::Events;

use access::Access;
use handover::Handover;
pub use labels::{
    ConnectResult, Connection, Denial, HeaderRefusal, LeaseResult, Refusal, Stage, Verification,
};
use labels::{call_result, login_result, resume_result};
use maker::Maker;
use pair::Pair;
use passive::Passive;
use proof::Proof;
pub use settings::NodeInfo;
use settings::Settings;
pub use totals::Totals;
use upstream::Upstream;

/// Seconds that a transfer may take: a small file on a near client to a backup over night.
const TRANSFER_SECONDS: [f64; 11] =
    [0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 14_400.0];

/// The metrics; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    sessions: IntGauge,
    sessions_total: IntCounter,
    sessions_refused: IntCounterVec,
    session_ends: IntCounterVec,
    session_resumes: IntCounterVec,
    logins: IntCounterVec,
    transfers: IntGauge,
    transfers_total: IntCounterVec,
    transfer_bytes: IntCounterVec,
    transfer_seconds: HistogramVec,
    data_resets: IntCounterVec,
    callbacks_refused: IntCounterVec,
    tls_handshakes: IntCounterVec,
    tls_failures: IntCounterVec,
    proxy_protocol_refused: IntCounterVec,
    audit_dropped: IntCounter,
    panics: IntCounter,
    tasks: IntGauge,
    access: Access,
    handover: Handover,
    pair: Pair,
    passive: Passive,
    proof: Proof,
    settings: Settings,
    upstream: Upstream,
    events: Events,
}

// === impl Metrics ===

impl Metrics {
    /// All metrics, at zero, in a registry of their own.
    pub fn new() -> Result<Self, prometheus::Error> {
        let make = Maker { registry: Registry::new_custom(Some("ftpgate".into()), None)? };
        let metrics = Self {
            sessions: make.gauge("sessions", "Sessions open now.")?,
            sessions_total: make
                .counter("sessions_total", "Sessions that got an upstream connection.")?,
            sessions_refused: make.counters(
                "sessions_refused_total",
                "Clients that got 421 instead of a session.",
                &["reason"],
            )?,
            session_ends: make.counters(
                "session_ends_total",
                "Sessions ended, by reason.",
                &["reason"],
            )?,
            session_resumes: make.counters(
                "session_resumes_total",
                "Sessions whose upstream was lost and that went on at another connection, or could not.",
                &["result"],
            )?,
            logins: make.counters(
                "logins_total",
                "Logins that the upstream answered.",
                &["result"],
            )?,
            transfers: make.gauge("transfers", "Transfer commands in flight now.")?,
            transfers_total: make.counters(
                "transfers_total",
                "Transfers ended.",
                &["direction", "outcome"],
            )?,
            transfer_bytes: make.counters(
                "transfer_bytes_total",
                "Bytes moved on data connections of ended transfers.",
                &["direction"],
            )?,
            transfer_seconds: make.histograms(
                "transfer_duration_seconds",
                "From the transfer command to its final reply.",
                &["direction"],
                &TRANSFER_SECONDS,
            )?,
            data_resets: make.counters(
                "data_resets_total",
                "Transfers cut short, by the side that broke.",
                &["side"],
            )?,
            callbacks_refused: make.counters(
                "callbacks_refused_total",
                "PORT and EPRT commands that could do harm and were refused.",
                &["reason"],
            )?,
            tls_handshakes: make.counters(
                "tls_handshakes_total",
                "TLS handshakes with clients.",
                &["connection", "version", "resumed"],
            )?,
            tls_failures: make.counters(
                "tls_failures_total",
                "TLS handshakes with clients that failed, and connections that did not keep to TLS.",
                &["connection"],
            )?,
            proxy_protocol_refused: make.counters(
                "proxy_protocol_refused_total",
                "Connections closed for their PROXY protocol header or for the lack of one.",
                &["reason"],
            )?,
            audit_dropped: make.counter(
                "audit_dropped_total",
                "Audit lines lost because the log could not be written.",
            )?,
            panics: make.counter("panics_total", "Panics, each of which is a bug.")?,
            tasks: make.gauge("tasks", "Tasks now: sessions, transfers, the background.")?,
            access: Access::new(&make)?,
            handover: Handover::new(&make)?,
            pair: Pair::new(&make)?,
            passive: Passive::new(&make)?,
            proof: Proof::new(&make)?,
            settings: Settings::new(&make)?,
            upstream: Upstream::new(&make)?,
            events: Events::default(),
            registry: make.registry,
        };
        metrics.show_zeroes();
        let build = Opts::new("build_info", "The version of this node.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build = IntGauge::with_opts(build)?;
        build.set(1);
        metrics.registry.register(Box::new(build))?;
        Ok(metrics)
    }

    /// Every series that can be known beforehand is there from the start, so that a rate over it
    /// is right from the first event on.
    fn show_zeroes(&self) {
        for reason in Refusal::ALL {
            self.sessions_refused.with_label_values(&[reason.as_str()]);
        }
        for reason in HeaderRefusal::ALL {
            self.proxy_protocol_refused.with_label_values(&[reason.as_str()]);
        }
        for end in SessionEnd::ALL {
            self.session_ends.with_label_values(&[end.as_str()]);
        }
        for succeeded in [true, false] {
            self.session_resumes.with_label_values(&[resume_result(succeeded)]);
        }
        for accepted in [true, false] {
            self.logins.with_label_values(&[login_result(accepted)]);
        }
        for direction in Direction::ALL {
            for outcome in Outcome::ALL {
                self.transfers_total.with_label_values(&[direction.as_str(), outcome.as_str()]);
            }
            self.transfer_bytes.with_label_values(&[direction.as_str()]);
            self.transfer_seconds.with_label_values(&[direction.as_str()]);
        }
        for reason in CallbackRefusal::ALL {
            self.callbacks_refused.with_label_values(&[reason.as_str()]);
        }
        for connection in Connection::ALL.map(Connection::as_str) {
            self.tls_failures.with_label_values(&[connection]);
            for version in ["1.2", "1.3"] {
                for resumed in ["true", "false"] {
                    self.tls_handshakes.with_label_values(&[connection, version, resumed]);
                }
            }
        }
        for failure in DataFailure::ALL {
            self.data_resets.with_label_values(&[failure.as_str()]);
        }
        for good in [true, false] {
            self.settings.show_zeroes(good);
        }
        self.handover.show_zeroes();
        self.pair.show_zeroes();
    }

    /// How many transfers have ended so.
    fn ended(&self, outcome: Outcome) -> u64 {
        let labels = Direction::ALL.map(|direction| [direction.as_str(), outcome.as_str()]);
        labels.map(|labels| self.transfers_total.with_label_values(&labels).get()).iter().sum()
    }

    /// Bytes of transfers that have ended.
    fn bytes(&self, direction: Direction) -> u64 {
        self.transfer_bytes.with_label_values(&[direction.as_str()]).get()
    }

    /// Clients that got no session.
    fn refused(&self) -> u64 {
        let count = |reason: Refusal| self.sessions_refused.with_label_values(&[reason.as_str()]);
        Refusal::ALL.map(|reason| count(reason).get()).iter().sum()
    }

    /// Logins that the upstream has refused.
    fn failed_logins(&self) -> u64 {
        self.logins.with_label_values(&[login_result(false)]).get()
    }

    /// What has happened of late. It goes the way of the counts, since whoever counts a change has
    /// it to tell.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        encoder.encode(&self.registry.gather(), &mut text)?;
        // The process metrics keep their conventional names, without our prefix.
        encoder.encode(&prometheus::gather(), &mut text)?;
        Ok(text)
    }

    /// How many tasks there are.
    pub fn tasks(&self, count: usize) {
        self.tasks.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A session has its upstream.
    pub fn session_started(&self) {
        self.sessions.inc();
        self.sessions_total.inc();
    }

    /// A session that [`Metrics::session_started`] has ended.
    pub fn session_ended(&self, end: SessionEnd) {
        self.sessions.dec();
        self.session_ends.with_label_values(&[end.as_str()]).inc();
    }

    /// A client got 421.
    pub fn session_refused(&self, reason: Refusal) {
        self.sessions_refused.with_label_values(&[reason.as_str()]).inc();
        self.events.refused(reason);
    }

    /// A session whose upstream was lost has gone on, or could not.
    pub fn session_resumed(&self, succeeded: bool) {
        self.session_resumes.with_label_values(&[resume_result(succeeded)]).inc();
    }

    /// The upstream has answered a login.
    pub fn login(&self, accepted: bool) {
        self.logins.with_label_values(&[login_result(accepted)]).inc();
    }

    /// A transfer command has gone upstream.
    pub fn transfer_started(&self) {
        self.transfers.inc();
    }

    /// A transfer that [`Metrics::transfer_started`] has ended.
    pub fn transfer_ended(
        &self,
        direction: Direction,
        outcome: Outcome,
        bytes: u64,
        duration: Duration,
    ) {
        self.transfers.dec();
        self.transfers_total.with_label_values(&[direction.as_str(), outcome.as_str()]).inc();
        self.transfer_bytes.with_label_values(&[direction.as_str()]).inc_by(bytes);
        self.transfer_seconds
            .with_label_values(&[direction.as_str()])
            .observe(duration.as_secs_f64());
    }

    /// A transfer command was answered here and never went upstream.
    pub fn transfer_refused(&self, direction: Direction, outcome: Outcome) {
        self.transfers_total.with_label_values(&[direction.as_str(), outcome.as_str()]).inc();
    }

    /// A transfer was cut short.
    pub fn data_reset(&self, failure: DataFailure) {
        self.data_resets.with_label_values(&[failure.as_str()]).inc();
    }

    /// A PORT or EPRT that could do harm was refused.
    pub fn callback_refused(&self, reason: CallbackRefusal) {
        self.callbacks_refused.with_label_values(&[reason.as_str()]).inc();
    }

    /// A TLS handshake with a client is done.
    pub fn tls_handshake(&self, connection: Connection, version: &'static str, resumed: bool) {
        let resumed = if resumed { "true" } else { "false" };
        self.tls_handshakes.with_label_values(&[connection.as_str(), version, resumed]).inc();
    }

    /// A client did not shake hands, or did not keep to TLS.
    pub fn tls_failed(&self, connection: Connection) {
        self.tls_failures.with_label_values(&[connection.as_str()]).inc();
    }

    /// A connection was closed for its PROXY protocol header or for the lack of one.
    pub fn proxy_protocol_refused(&self, reason: HeaderRefusal) {
        self.proxy_protocol_refused.with_label_values(&[reason.as_str()]).inc();
    }

    /// An audit line was lost.
    pub fn audit_dropped(&self) {
        self.audit_dropped.inc();
    }

    /// Some task has panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_from_the_start_under_its_prefix() {
        let text = String::from_utf8(Metrics::new().unwrap().render().unwrap()).unwrap();
        for series in [
            "ftpgate_sessions 0",
            "ftpgate_sessions_refused_total{reason=\"client-limit\"} 0",
            "ftpgate_sessions_refused_total{reason=\"rule-limit\"} 0",
            "ftpgate_logins_denied_total{reason=\"blocked\"} 0",
            "ftpgate_bans 0",
            "ftpgate_session_ends_total{reason=\"quit\"} 0",
            "ftpgate_logins_total{result=\"accepted\"} 0",
            "ftpgate_transfers_total{direction=\"upload\",outcome=\"complete\"} 0",
            "ftpgate_transfer_bytes_total{direction=\"download\"} 0",
            "ftpgate_data_resets_total{side=\"upstream\"} 0",
            "ftpgate_passive_strangers_total 0",
            "ftpgate_proxy_protocol_refused_total{reason=\"untrusted\"} 0",
            "ftpgate_audit_dropped_total 0",
            "ftpgate_panics_total 0",
            "ftpgate_tasks ",
            concat!("ftpgate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "process_open_fds ",
        ] {
            assert!(text.contains(series), "{series} is missing in\n{text}");
        }
    }
}
