//! The endpoints, and probes of them.

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;

use super::{Node, json, refuse};
use crate::config::Depth;
use crate::upstream::{EndpointStatus, NotProbed, Probed};

#[derive(Serialize)]
struct List {
    node: String,
    endpoints: Vec<EndpointStatus>,
}

#[derive(Serialize)]
struct Results {
    node: String,
    ok: bool,
    results: Vec<Probed>,
}

pub(super) async fn list(State(node): State<Node>) -> Response {
    json(StatusCode::OK, &List { node: node.name(), endpoints: node.health.endpoints() })
}

pub(super) async fn probe_all(State(node): State<Node>, uri: Uri) -> Response {
    answer(&node, None, &uri).await
}

pub(super) async fn probe(
    State(node): State<Node>,
    Path(endpoint): Path<String>,
    uri: Uri,
) -> Response {
    answer(&node, Some(&endpoint), &uri).await
}

async fn answer(node: &Node, endpoint: Option<&str>, uri: &Uri) -> Response {
    let depth = match depth(uri) {
        Ok(depth) => depth,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    match node.upstream.probe_now(endpoint, depth).await {
        Ok(results) => {
            let ok = results.iter().all(|result| result.ok);
            json(StatusCode::OK, &Results { node: node.name(), ok, results })
        }
        Err(error) => {
            let status = match error {
                NotProbed::Unknown(_) => StatusCode::NOT_FOUND,
                NotProbed::Nobody | NotProbed::Off => StatusCode::CONFLICT,
            };
            refuse(status, &error.to_string())
        }
    }
}

/// The depth that is asked for, if one is.
fn depth(uri: &Uri) -> Result<Option<Depth>, String> {
    let Some(query) = uri.query().filter(|query| !query.is_empty()) else { return Ok(None) };
    let asked = query.strip_prefix("depth=").unwrap_or_default();
    let known = |depth: &Depth| depth.as_str() == asked && *depth != Depth::Off;
    let depth = Depth::ALL.into_iter().find(known);
    depth
        .map(Some)
        .ok_or_else(|| format!("{query}: expected depth=tcp, banner, login, list or round-trip"))
}
