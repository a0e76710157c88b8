//! The live sessions, and the end of one.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::{Node, json, refuse};
use crate::gateway::SessionStatus;

/// How long a session may take to end: it only has to hear of it.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
pub(super) const LOOK: Duration = Duration::from_millis(5);

#[derive(Serialize)]
struct List {
    node: String,
    sessions: Vec<SessionStatus>,
}

pub(super) async fn list(State(node): State<Node>) -> Response {
    json(StatusCode::OK, &List { node: node.name(), sessions: node.sessions.list() })
}

/// Answers when the session is over, so that who looks next does not find it.
pub(super) async fn kill(State(node): State<Node>, Path(id): Path<String>) -> Response {
    let Ok(number) = id.parse() else {
        return refuse(StatusCode::BAD_REQUEST, &format!("{id} is no number of a session"));
    };
    if !node.sessions.kill(number) {
        return refuse(StatusCode::NOT_FOUND, &format!("there is no session {id}"));
    }
    info!(session = number, "an operator ends a session");
    let until = Instant::now() + LIMIT;
    while node.sessions.contains(number) {
        if Instant::now() > until {
            let why = format!("session {id} has been told to end, and has not yet");
            return refuse(StatusCode::CONFLICT, &why);
        }
        sleep(LOOK).await;
    }
    json(StatusCode::OK, &serde_json::json!({ "done": format!("session {id} is ended") }))
}
