//! The endpoints: how they are, who is there, and how they are reached.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use prometheus::{GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::labels::{ConnectResult, Stage, call_result};
use super::{Maker, Metrics};

/// Seconds that connecting to an endpoint may take.
const CONNECT_SECONDS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 10.0];
/// The result of a probe without a failed stage.
const PROBE_OK: &str = "ok";

/// The metrics of it.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    connects: IntCounterVec,
    connect_seconds: Histogram,
    connections: IntGaugeVec,
    port_limit: IntGauge,
    pub(super) port_allocation_errors: IntCounter,
    endpoint_healthy: IntGaugeVec,
    endpoint_sessions: IntGaugeVec,
    probes: IntCounterVec,
    probe_stage_seconds: GaugeVec,
    dns_lookups: IntCounterVec,
}

impl Upstream {
    pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        Ok(Self {
            connects: make.counters(
                "upstream_connects_total",
                "Attempts to reach an endpoint, up to its banner.",
                &["endpoint", "result"],
            )?,
            connect_seconds: make.histogram(
                "upstream_connect_seconds",
                "From the attempt to the endpoint's banner.",
                &CONNECT_SECONDS,
            )?,
            connections: make.gauges(
                "upstream_connections",
                "Control and data connections to endpoints open now, by the address they leave from.",
                &["source"],
            )?,
            port_limit: make.gauge(
                "upstream_port_limit",
                "Ephemeral ports that each source address has for one destination.",
            )?,
            port_allocation_errors: make.counter(
                "port_allocation_errors_total",
                "Connections that failed because their source address had no port left.",
            )?,
            endpoint_healthy: make.gauges(
                "endpoint_healthy",
                "1 for an endpoint that serves, 0 for one that is initial, unhealthy or draining.",
                &["endpoint"],
            )?,
            endpoint_sessions: make.gauges(
                "endpoint_sessions",
                "Sessions at an endpoint now, those being connected included.",
                &["endpoint"],
            )?,
            probes: make.counters(
                "probes_total",
                "Probes, by the stage that failed, or ok.",
                &["endpoint", "result"],
            )?,
            probe_stage_seconds: make.float_gauges(
                "probe_stage_seconds",
                "How long each stage of the latest probe took.",
                &["endpoint", "stage"],
            )?,
            dns_lookups: make.counters(
                "dns_lookups_total",
                "Lookups of endpoint names.",
                &["name", "result"],
            )?,
        })
    }
}

impl Metrics {
    /// An attempt to reach an endpoint is over.
    pub fn upstream_connected(
        &self,
        endpoint: SocketAddr,
        result: ConnectResult,
        duration: Duration,
    ) {
        self.upstream.connects.with_label_values(&[&*endpoint.to_string(), result.as_str()]).inc();
        if result == ConnectResult::NoPort {
            self.upstream.port_allocation_errors.inc();
        }
        if result == ConnectResult::Ok {
            self.upstream.connect_seconds.observe(duration.as_secs_f64());
        }
    }

    /// The count of connections from a source address, or of those whose address the kernel chose.
    pub fn upstream_connections(&self, source: Option<IpAddr>) -> IntGauge {
        let source = source.map_or_else(|| "auto".to_owned(), |address| address.to_string());
        self.upstream.connections.with_label_values(&[&source])
    }

    /// Ephemeral ports that a source address has for one destination.
    pub fn upstream_port_limit(&self, ports: i64) {
        self.upstream.port_limit.set(ports);
    }

    /// There is a new endpoint.
    pub fn endpoint_added(&self, endpoint: SocketAddr) {
        let endpoint = endpoint.to_string();
        for result in ConnectResult::ALL {
            self.upstream.connects.with_label_values(&[&*endpoint, result.as_str()]);
        }
        for result in Stage::ALL.map(Stage::as_str).into_iter().chain([PROBE_OK]) {
            self.upstream.probes.with_label_values(&[&*endpoint, result]);
        }
    }

    /// An endpoint is gone for good.
    pub fn endpoint_removed(&self, endpoint: SocketAddr) {
        let endpoint = endpoint.to_string();
        // Each of these fails only if there was no such series.
        let _ = self.upstream.endpoint_healthy.remove_label_values(&[&endpoint]);
        let _ = self.upstream.endpoint_sessions.remove_label_values(&[&endpoint]);
        for result in ConnectResult::ALL {
            let _ = self.upstream.connects.remove_label_values(&[&*endpoint, result.as_str()]);
        }
        let _ = self.upstream.probes.remove_label_values(&[&*endpoint, PROBE_OK]);
        for stage in Stage::ALL {
            let _ = self.upstream.probes.remove_label_values(&[&*endpoint, stage.as_str()]);
            let _ = self
                .upstream
                .probe_stage_seconds
                .remove_label_values(&[&*endpoint, stage.as_str()]);
        }
    }

    /// An endpoint is healthy, or not.
    pub fn endpoint_healthy(&self, endpoint: SocketAddr, healthy: bool) {
        let gauge = self.upstream.endpoint_healthy.with_label_values(&[&endpoint.to_string()]);
        gauge.set(healthy.into());
    }

    /// The count of sessions at an endpoint.
    pub fn endpoint_sessions(&self, endpoint: SocketAddr) -> IntGauge {
        self.upstream.endpoint_sessions.with_label_values(&[&endpoint.to_string()])
    }

    /// A probe is over.
    pub fn probed(
        &self,
        endpoint: SocketAddr,
        stages: &[(Stage, Duration)],
        failed: Option<Stage>,
    ) {
        let endpoint = endpoint.to_string();
        let result = failed.map_or(PROBE_OK, Stage::as_str);
        self.upstream.probes.with_label_values(&[&*endpoint, result]).inc();
        for (stage, took) in stages {
            let gauge =
                self.upstream.probe_stage_seconds.with_label_values(&[&*endpoint, stage.as_str()]);
            gauge.set(took.as_secs_f64());
        }
    }

    /// An endpoint's name was looked up.
    pub fn dns_lookup(&self, name: &str, good: bool) {
        for result in [true, false].map(call_result) {
            self.upstream.dns_lookups.with_label_values(&[name, result]);
        }
        self.upstream.dns_lookups.with_label_values(&[name, call_result(good)]).inc();
    }

    /// A name is no longer an endpoint's: its series go.
    pub fn name_removed(&self, name: &str) {
        for result in [true, false].map(call_result) {
            // It fails only if there was no such series.
            let _ = self.upstream.dns_lookups.remove_label_values(&[name, result]);
        }
    }
}
