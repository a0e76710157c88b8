//! When each endpoint is probed: at once, then at every interval, and soon after a client failed
//! there. What a probe does is [`crate::probe`]'s business.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::Upstream;
use super::endpoints::Endpoint;
use super::health::Change;
use crate::probe::Target;

/// A client's failure hastens the next probe to this long after the latest one, at the soonest.
const SOONEST: Duration = Duration::from_secs(1);

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

async fn probe_once(upstream: &Upstream, endpoint: &Endpoint) {
    let inner = &upstream.inner;
    let address = endpoint.address;
    let target = Target {
        endpoint: address,
        source: inner.sources.for_probe(address),
        tls: upstream.tls(endpoint),
    };
    let report = inner.prober.probe(target).await;
    let stages = report.stages.iter().map(|(stage, took)| (stage.as_str(), *took)).collect();
    endpoint.set_stages(stages);
    inner.metrics.probed(
        address,
        &report.stages,
        report.failure.as_ref().map(|failure| failure.stage),
    );
    match report.failure {
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
}

/// The interval, give or take a fifth: nodes that started together shall not probe together.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.8 + 0.4 * fastrand::f64())
}
