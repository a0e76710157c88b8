//! Health and metrics over HTTP, read-only.
//!
//! | route | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process answers |
//! | `GET /readyz` | 200 if this node can serve, else 503; JSON with each check and endpoint |
//! | `GET /metrics` | the Prometheus text format |

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
use crate::observe::metrics::Metrics;
use crate::upstream::EndpointStatus;

/// How long open answers may take once the node has stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Node {
    metrics: Metrics,
    health: Health,
}

/// Serves until `shutdown` is cancelled.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    health: Health,
    shutdown: CancellationToken,
) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state(Node { metrics, health });
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
    #[derive(Serialize)]
    struct Ready<'a> {
        ready: bool,
        checks: &'a [Check],
        endpoints: &'a [EndpointStatus],
    }
    let checks = node.health.checks();
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Ready { ready, checks: &checks, endpoints: &node.health.endpoints() })
}

async fn render_metrics(State(node): State<Node>) -> Response {
    // Some states change by time alone: looking at the endpoints brings their metrics up to date.
    node.health.endpoints();
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
