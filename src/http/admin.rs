//! The admin socket: what changes something on a node. Who may open it may use it.
//!
//! | route | what it does |
//! |---|---|
//! | `GET /status` | the same JSON as `/readyz`, always with 200 |
//! | `POST /drain`, `POST /drain/force` | [`Pair::drain`] |
//! | `POST /resume` | [`Pair::resume`] |
//! | `POST /failover` | [`Pair::fail_over`] |
//!
//! An order that is refused is answered 409, with the reason.

use std::fs::{DirBuilder, Permissions, remove_file, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{json, report};
use crate::gateway::Health;
use crate::ha::{Done, OrderError, Pair};

/// The owner and the group.
const SOCKET_MODE: u32 = 0o660;
/// The directory of the socket, if it has to be made.
const DIRECTORY_MODE: u32 = 0o750;

#[derive(Clone)]
struct Node {
    health: Health,
    pair: Pair,
}

/// Makes the socket, and its directory if need be. One that a killed process has left is replaced.
///
/// Must be called within a Tokio runtime.
///
/// # Errors
///
/// If it cannot be made, or a running process listens there.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another ftpgate listens there"));
    }
    match remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Serves until `shutdown` is cancelled.
pub async fn serve(
    listener: UnixListener,
    health: Health,
    pair: Pair,
    shutdown: CancellationToken,
) {
    let router = Router::new()
        .route("/status", get(status))
        .route("/drain", post(drain))
        .route("/drain/force", post(drain_by_force))
        .route("/resume", post(resume))
        .route("/failover", post(fail_over))
        .with_state(Node { health, pair });
    tokio::select! {
        result = axum::serve(listener, router).into_future() => if let Err(error) = result {
            error!(%error, "the admin socket ended");
        },
        () = shutdown.cancelled() => {}
    }
}

async fn status(State(node): State<Node>) -> Response {
    json(StatusCode::OK, &report(&node.health, &node.pair))
}

async fn drain(State(node): State<Node>) -> Response {
    answer(node.pair.drain(false).await)
}

async fn drain_by_force(State(node): State<Node>) -> Response {
    answer(node.pair.drain(true).await)
}

async fn resume(State(node): State<Node>) -> Response {
    answer(node.pair.resume())
}

async fn fail_over(State(node): State<Node>) -> Response {
    answer(node.pair.fail_over().await)
}

fn answer(result: Result<Done, OrderError>) -> Response {
    match result {
        Ok(done) => json(StatusCode::OK, &done),
        Err(error) => {
            json(StatusCode::CONFLICT, &serde_json::json!({ "error": error.to_string() }))
        }
    }
}
