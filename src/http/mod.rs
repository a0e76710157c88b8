//! Health, metrics and the status page over HTTP, read-only; what changes something goes over
//! [`admin`]'s socket.
//!
//! | route | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process answers |
//! | `GET /readyz` | 200 if this node can serve and is not leaving, else 503; JSON with each check, endpoint and the pair |
//! | `GET /activez` | 200 if it is ready and active, else 503; JSON with the role and its reason |
//! | `GET /metrics` | the Prometheus text format |
//! | `GET /`, `GET /events` | the status page, unless `http.page` is false |

pub mod admin;
mod connections;
mod page;

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::{Listener, Serve};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::config::Http;
use crate::gateway::{Check, Gateway, Health, Sessions};
use crate::ha::role::Role;
use crate::ha::{Pair, Status};
use crate::observe::metrics::Metrics;
use crate::rfc3339;
use crate::upstream::EndpointStatus;
use connections::BoundedListener;
pub use connections::CONNECTIONS;
use page::Page;

/// How long open answers may take once the node has stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What is shown over HTTP.
#[derive(Debug, Clone)]
pub struct Node {
    metrics: Metrics,
    health: Health,
    pair: Pair,
    page: Option<Page>,
}

impl Node {
    /// A node that has just started.
    pub fn new(config: &Http, gateway: &Gateway, pair: Pair, metrics: Metrics) -> Self {
        let page = config.page.then(|| Page::new(gateway, pair.clone(), metrics.clone()));
        Self { metrics, health: gateway.health(), pair, page }
    }
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

/// What a node says of itself to who may ask more.
#[derive(Serialize)]
struct FullReport {
    version: &'static str,
    since: String,
    /// How many there are.
    sessions: usize,
    transfers: usize,
    #[serde(flatten)]
    report: Report,
}

impl FullReport {
    fn new(health: &Health, pair: &Pair, sessions: &Sessions, since: SystemTime) -> Self {
        let (sessions, transfers) = sessions.count();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            since: rfc3339::text(since),
            sessions,
            transfers,
            report: report(health, pair),
        }
    }
}

/// Serves until `shutdown` is cancelled.
pub async fn serve(listener: TcpListener, node: Node, shutdown: CancellationToken) {
    let listener = BoundedListener::new(listener);
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/activez", get(activez))
        .route("/metrics", get(render_metrics))
        .with_state(node.clone());
    let Some(page) = node.page else {
        return serve_until(axum::serve(listener, router), shutdown).await;
    };
    let router = router.merge(page.router(&shutdown));
    tokio::select! {
        () = serve_until(axum::serve(listener, router), shutdown) => {}
        () = page.run() => {}
    }
}

/// Answers until `shutdown`, and then what has been asked already.
async fn serve_until<L: Listener<Addr: Debug>>(
    server: Serve<L, Router, Router>,
    shutdown: CancellationToken,
) {
    let stopped = shutdown.clone();
    let server = server.with_graceful_shutdown(shutdown.cancelled_owned());
    let grace = async {
        stopped.cancelled().await;
        // A client that keeps its connection open must not keep the node.
        sleep(LAST_ANSWERS).await;
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
