//! Health and metrics over HTTP, read-only; what changes something goes over [`admin`]'s socket.
//!
//! | route | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process answers |
//! | `GET /readyz` | 200 if this node can serve and is not leaving, else 503; JSON with each check, endpoint and the pair |
//! | `GET /activez` | 200 if it is ready and active, else 503; JSON with the role and its reason |
//! | `GET /metrics` | the Prometheus text format |

pub mod admin;

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::gateway::{Check, Health};
use crate::ha::role::Role;
use crate::ha::{Pair, Status};
use crate::observe::metrics::Metrics;
use crate::upstream::EndpointStatus;

/// How long open answers may take once the node has stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Node {
    metrics: Metrics,
    health: Health,
    pair: Pair,
}

/// What a node says of itself.
#[derive(Serialize)]
struct Report {
    ready: bool,
    checks: Vec<Check>,
    endpoints: Vec<EndpointStatus>,
    #[serde(flatten)]
    pair: Status,
}

/// Serves until `shutdown` is cancelled.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    health: Health,
    pair: Pair,
    shutdown: CancellationToken,
) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/activez", get(activez))
        .route("/metrics", get(render_metrics))
        .with_state(Node { metrics, health, pair });
    let stopped = shutdown.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    let grace = async {
        stopped.cancelled().await;
        // A client that keeps its connection open must not keep the node.
        let _ = timeout(LAST_ANSWERS, std::future::pending::<()>()).await;
    };
    tokio::select! {
        result = server.into_future() => if let Err(error) = result { error!(%error, "the HTTP server ended") },
        () = grace => {}
    }
}

async fn livez() -> Response {
    json(StatusCode::OK, &serde_json::json!({ "live": true }))
}

async fn readyz(State(node): State<Node>) -> Response {
    let report = report(&node.health, &node.pair);
    json(status(report.ready), &report)
}

async fn activez(State(node): State<Node>) -> Response {
    let Status { role, reason, node: name, .. } = node.pair.status();
    let ready = node.pair.is_ready();
    let active = ready && role == Role::Active;
    let answer = serde_json::json!({ "active": active, "node": name, "role": role, "reason": reason, "ready": ready });
    json(status(active), &answer)
}

fn report(health: &Health, pair: &Pair) -> Report {
    let mut checks = health.checks();
    let pair = pair.status();
    checks.push(Check {
        name: "role",
        ok: pair.role != Role::Draining,
        detail: format!("{}: {}", pair.role.as_str(), pair.reason),
    });
    let ready = checks.iter().all(|check| check.ok);
    Report { ready, checks, endpoints: health.endpoints(), pair }
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn render_metrics(State(node): State<Node>) -> Response {
    node.health.show();
    match node.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            error!(%error, "the metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
