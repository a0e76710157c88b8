//! The admin socket: what an operator sees and changes of a node. Who may open it may use it.
//!
//! | route | what it does |
//! |---|---|
//! | `GET /status` | the same JSON as `/readyz`, always with 200, and with `version`, `pid`, `since`, `sessions`, `transfers`, `older[]` |
//! | `GET /sessions` | the live sessions |
//! | `DELETE /sessions/{id}` | ends one: its transfer is reset, its client is told 421 |
//! | `GET /blocks` | what is kept out: blocks and bans |
//! | `POST /blocks/{kind}/{what}` | keeps out, from now on, a `listener`, a `client` (address or network) or a `user` (`*` for anything) |
//! | `DELETE /blocks/{kind}/{what}` | lifts the block of exactly that; of a client also its ban |
//! | `GET /endpoints` | the endpoints, with the stages of the latest probe of each |
//! | `POST /probe`, `POST /probe/{endpoint}` | probes all endpoints, or those of that address or name, now |
//! | `POST /drain`, `POST /drain/force` | [`Pair::drain`] |
//! | `POST /resume` | [`Pair::resume`] |
//! | `POST /failover` | [`Pair::fail_over`] |
//! | `POST /upgrade` | [`Handover::upgrade`]; also `pid` and `version` of the new process |
//! | `POST /reload` | [`Reload::run`]; also `needs_restart[]`, tables with changes that are not taken up |
//!
//! Every answer is one JSON object. What was asked for in vain is answered by its `error`, one line
//! for people: 409 for an order that is refused, 404 for a session, endpoint or route that there is
//! not and a block to lift that there is not, 405 for another method than those above, 400 for a number, depth or block that is none. An order
//! that was carried out is answered by its `done`, likewise.
//!
//! Times are in RFC 3339, UTC, durations in seconds, sizes in bytes. A field of which nothing is
//! known is null. Later releases may add fields and routes, and change none.
//!
//! `GET /status`: `older[]` are the older processes of this node that still finish their sessions, with `pid`
//! and `version`.
//!
//! `GET /sessions`:
//!
//! | field | what it is |
//! |---|---|
//! | `node` | this node's name |
//! | `sessions[]` | [`SessionStatus`](crate::gateway::SessionStatus): those with an upstream connection, or that had one, in the order in which they came |
//! | `.id` | the number, as in logs and the audit log |
//! | `.client`, `.listener`, `.endpoint` | addresses with ports; the endpoint is the last one that it had |
//! | `.user` | the argument of the last USER, its first 256 bytes |
//! | `.tls` | version of TLS on the client's control connection |
//! | `.since`, `.last_command` | times |
//! | `.state` | `login`, `idle`, `command`, `transfer` |
//! | `.files`, `.bytes` | files that were moved whole; bytes of all transfers so far, also of listings |
//! | `.transfer` | what runs now, or null: `verb`, `path`, `direction` (`upload`, `download`, `listing`), `bytes`, `size` (if ALLO told it), `since`, `ascii`, `tls` |
//!
//! `GET /blocks`: `node`; `blocks[]` with `kind`, `what`, `message`, `since`, `until` (null: until it is lifted),
//! `keep` (whether it survives a restart); `bans[]` with `client` (a network) and `until`.
//!
//! `POST /blocks/client/10.1.0.0%2F16?for=7200&message=Back%20at%206&keep=true&end_sessions=true`: all of the
//! query may be left out; `for` is in seconds. With `end_sessions` the answer comes when the sessions that it
//! means have ended, and has their numbers in `ended[]`.
//!
//! `GET /endpoints`: `node`, and `endpoints[]` with `address`, `name`, `zone`, `state` (`initial`, `healthy`,
//! `unhealthy`, `draining`), `reason`, `sessions`, `stages` (seconds by stage of the latest probe), `probed`
//! (when that was).
//!
//! `POST /probe?depth=login`: the depth is one of `tcp`, `banner`, `login`, `list`, `round-trip`. Without it
//! the probe is the ordinary one, and counts for the endpoint's health; with it, it never does. The answer
//! comes when all probes are done: `node`, `ok` (of all), and `results[]` with `endpoint`, `name`, `zone`,
//! `depth`, `ok`, `counted`, and `stages[]` up to the first that failed, with `stage`, `ok`, `seconds`,
//! `reason`.

mod blocks;
mod sessions;
mod upstream;

use std::fs::{DirBuilder, Permissions, remove_file, set_permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{FullReport, json, serve_until};
use crate::gateway::{Access, Gateway, Health, Reload, Sessions};
use crate::ha::{Done, OrderError, Pair};
use crate::handover::{Handover, Process};
use crate::upstream::Upstream;

/// The owner and the group.
const SOCKET_MODE: u32 = 0o660;
/// The directory of the socket, if it has to be made.
const DIRECTORY_MODE: u32 = 0o750;

/// What the admin socket shows and changes.
#[derive(Debug, Clone)]
pub struct Node {
    health: Health,
    pair: Pair,
    sessions: Sessions,
    access: Access,
    /// As the configuration has them.
    listeners: Vec<SocketAddr>,
    upstream: Upstream,
    reload: Reload,
    handover: Handover,
    since: SystemTime,
}

impl Node {
    /// A node that has just started.
    pub fn new(gateway: &Gateway, pair: Pair, reload: Reload, handover: Handover) -> Self {
        Self {
            health: gateway.health(),
            pair,
            sessions: gateway.sessions(),
            access: gateway.access(),
            listeners: gateway.listeners(),
            upstream: gateway.upstream(),
            reload,
            handover,
            since: SystemTime::now(),
        }
    }

    fn name(&self) -> String {
        self.pair.status().node
    }
}

/// What a node says of itself here.
#[derive(Serialize)]
struct Report {
    pid: u32,
    older: Vec<Process>,
    #[serde(flatten)]
    report: FullReport,
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
pub async fn serve(listener: UnixListener, node: Node, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/status", get(status))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", delete(sessions::kill))
        .route("/blocks", get(blocks::list))
        .route("/blocks/{kind}/{what}", post(blocks::block).delete(blocks::unblock))
        .route("/endpoints", get(upstream::list))
        .route("/probe", post(upstream::probe_all))
        .route("/probe/{endpoint}", post(upstream::probe))
        .route("/drain", post(drain))
        .route("/drain/force", post(drain_by_force))
        .route("/resume", post(resume))
        .route("/failover", post(fail_over))
        .route("/reload", post(reload))
        .route_layer(from_fn_with_state(node.clone(), refuse_what_would_be_lost))
        .route("/upgrade", post(upgrade))
        .fallback(unknown)
        .method_not_allowed_fallback(unfit)
        .with_state(node);
    serve_until(axum::serve(listener, router), shutdown).await;
}

/// While a new process makes itself ready to take over it would hear nothing of an order given here.
async fn refuse_what_would_be_lost(
    State(node): State<Node>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::GET && node.handover.is_giving() {
        let why = "a new process is about to take over: give the order again in a moment";
        return refuse(StatusCode::CONFLICT, why);
    }
    next.run(request).await
}

async fn status(State(node): State<Node>) -> Response {
    let report = Report {
        pid: std::process::id(),
        older: node.handover.older(),
        report: FullReport::new(&node.health, &node.pair, &node.sessions, node.since),
    };
    json(StatusCode::OK, &report)
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

async fn reload(State(node): State<Node>) -> Response {
    match spawn_blocking(move || node.reload.run()).await {
        Ok(Ok(reloaded)) => json(StatusCode::OK, &reloaded),
        Ok(Err(error)) => refuse(StatusCode::CONFLICT, &error.to_string()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn upgrade(State(node): State<Node>) -> Response {
    match node.handover.upgrade().await {
        Ok(upgraded) => json(StatusCode::OK, &upgraded),
        Err(error) => refuse(StatusCode::CONFLICT, &error.to_string()),
    }
}

async fn unknown(uri: Uri) -> Response {
    refuse(StatusCode::NOT_FOUND, &format!("this node knows no {}", uri.path()))
}

async fn unfit(uri: Uri) -> Response {
    let why = format!("{} does not take this method", uri.path());
    refuse(StatusCode::METHOD_NOT_ALLOWED, &why)
}

fn answer(result: Result<Done, OrderError>) -> Response {
    match result {
        Ok(done) => json(StatusCode::OK, &done),
        Err(error) => refuse(StatusCode::CONFLICT, &error.to_string()),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    json(status, &serde_json::json!({ "error": why }))
}
