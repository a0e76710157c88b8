//! When each endpoint is probed: at once, then at every interval, and soon after a client failed
//! there. What a probe does is [`crate::probe`]'s business.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::Upstream;
use super::endpoints::{Endpoint, EndpointStatus};
use super::health::Change;
use crate::config::Depth;
use crate::probe::{Report, Target};

/// A client's failure hastens the next probe to this long after the latest one, at the soonest.
const SOONEST: Duration = Duration::from_secs(1);

/// What a probe that somebody has asked for has found. The names of the fields are those of the
/// admin API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probed {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// The name that led there, if one did.
    pub name: Option<String>,
    /// Its availability zone, if known.
    pub zone: Option<String>,
    /// How deep it went: a value of `probe.depth`.
    pub depth: &'static str,
    /// Whether every stage went well.
    pub ok: bool,
    /// Whether it counts for the endpoint's health, as an ordinary probe does.
    pub counted: bool,
    /// The stages, in their order, up to the first that failed.
    pub stages: Vec<ProbedStage>,
}

/// One stage of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbedStage {
    /// Its name.
    pub stage: &'static str,
    /// Whether it went well.
    pub ok: bool,
    /// How long it took, if it did.
    pub seconds: Option<f64>,
    /// Why it did not.
    pub reason: Option<String>,
}

/// Nothing is probed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProbed {
    /// Nothing has that address or name.
    #[error("there is no endpoint {0}")]
    Unknown(String),
    /// No name has been resolved yet.
    #[error("no endpoint is known yet: no name has been resolved")]
    Nobody,
    /// There is no ordinary probe here.
    #[error("probe.depth is \"off\": say how deep to go")]
    Off,
}

impl Upstream {
    /// Probes the endpoint of that address, with or without its port, or those of that name; all of
    /// them if nothing is said. It is the ordinary probe, and counts as one, unless a depth is
    /// asked for.
    ///
    /// Must be called within a Tokio runtime. Dropped, it lets the probes end by themselves.
    ///
    /// # Errors
    ///
    /// If there is nothing to probe.
    pub async fn probe_now(
        &self,
        which: Option<&str>,
        depth: Option<Depth>,
    ) -> Result<Vec<Probed>, NotProbed> {
        let ordinary = depth.is_none();
        let depth = depth.unwrap_or(self.inner.probe.depth);
        if depth == Depth::Off {
            return Err(NotProbed::Off);
        }
        let mut endpoints = self.inner.endpoints.snapshot().to_vec();
        if let Some(which) = which {
            endpoints.retain(|endpoint| endpoint.is(which));
        }
        if endpoints.is_empty() {
            return Err(which.map_or(NotProbed::Nobody, |which| NotProbed::Unknown(which.into())));
        }
        let probes: Vec<_> = (endpoints.into_iter())
            .map(|endpoint| {
                let upstream = self.clone();
                tokio::spawn(async move {
                    let counted = ordinary && !endpoint.is_draining();
                    let report = match counted {
                        true => probe_once(&upstream, &endpoint).await,
                        false => look(&upstream, &endpoint, depth).await,
                    };
                    Probed::new(&endpoint, depth, counted, report)
                })
            })
            .collect();
        let mut results = Vec::with_capacity(probes.len());
        for probe in probes {
            // It fails only if the runtime ends.
            results.extend(probe.await);
        }
        Ok(results)
    }
}

impl Probed {
    fn new(endpoint: &Endpoint, depth: Depth, counted: bool, report: Report) -> Self {
        let EndpointStatus { address, name, zone, .. } = endpoint.status();
        let ok = report.failure.is_none();
        let done = report.stages.into_iter().map(|(stage, took)| ProbedStage {
            stage: stage.as_str(),
            ok: true,
            seconds: Some(took.as_secs_f64()),
            reason: None,
        });
        let failed = report.failure.map(|failure| ProbedStage {
            stage: failure.stage.as_str(),
            ok: false,
            seconds: None,
            reason: Some(failure.reason),
        });
        let stages = done.chain(failed).collect();
        Self { endpoint: address, name, zone, depth: depth.as_str(), ok, counted, stages }
    }
}

/// Starts a task for every endpoint that comes up; each ends when its endpoint is gone.
pub(super) async fn probe_all(upstream: Upstream, tasks: TaskTracker, closed: CancellationToken) {
    let mut table = upstream.inner.endpoints.watch();
    let mut probed: Vec<(SocketAddr, CancellationToken)> = Vec::new();
    loop {
        let there = table.borrow_and_update().clone();
        probed.retain(|(_, gone)| !gone.is_cancelled());
        for endpoint in there.iter() {
            if probed.iter().any(|(address, _)| *address == endpoint.address) {
                continue;
            }
            probed.push((endpoint.address, endpoint.gone.clone()));
            let (upstream, endpoint) = (upstream.clone(), Arc::clone(endpoint));
            let (gone, closed) = (endpoint.gone.clone(), closed.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = probe(&upstream, &endpoint) => {}
                    () = gone.cancelled() => {}
                    () = closed.cancelled() => {}
                }
            });
        }
        if table.changed().await.is_err() {
            return;
        }
    }
}

/// Probes one endpoint, for ever.
async fn probe(upstream: &Upstream, endpoint: &Endpoint) {
    let interval = upstream.inner.probe.interval;
    loop {
        if !endpoint.is_draining() {
            probe_once(upstream, endpoint).await;
        }
        let next = tokio::time::Instant::now() + jittered(interval);
        tokio::select! {
            () = sleep_until(next) => {}
            () = async {
                sleep(SOONEST.min(interval)).await;
                endpoint.doubt.notified().await;
            } => {}
        }
    }
}

/// One ordinary probe, which counts.
async fn probe_once(upstream: &Upstream, endpoint: &Endpoint) -> Report {
    let inner = &upstream.inner;
    let address = endpoint.address;
    let report = look(upstream, endpoint, inner.probe.depth).await;
    let stages = report.stages.iter().map(|(stage, took)| (stage.as_str(), *took)).collect();
    endpoint.set_stages(stages);
    inner.metrics.probed(
        address,
        &report.stages,
        report.failure.as_ref().map(|failure| failure.stage),
    );
    match &report.failure {
        None => {
            let change = endpoint.learn(|health| health.probe_passed(inner.probe.rise));
            if change == Some(Change::BecameHealthy) {
                info!(endpoint = %address, "endpoint is healthy");
            }
        }
        Some(failure) => {
            let reason = format!("{}: {}", failure.stage.as_str(), failure.reason);
            let change =
                endpoint.learn(|health| health.probe_failed(inner.probe.fall, reason.clone()));
            if change == Some(Change::BecameUnhealthy) {
                warn!(endpoint = %address, reason, "endpoint is unhealthy");
            } else {
                info!(endpoint = %address, reason, "probe failed");
            }
        }
    }
    report
}

/// One probe, of which nobody learns but the caller.
async fn look(upstream: &Upstream, endpoint: &Endpoint, depth: Depth) -> Report {
    let inner = &upstream.inner;
    let target = Target {
        endpoint: endpoint.address,
        source: inner.sources.for_probe(endpoint.address),
        tls: upstream.tls(endpoint),
    };
    inner.prober.probe(target, depth).await
}

/// The interval, give or take a fifth: nodes that started together shall not probe together.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.8 + 0.4 * fastrand::f64())
}
