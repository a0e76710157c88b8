//! What is kept out: blocks and bans, and how they come and go.

use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::sessions::{LIMIT, LOOK};
use super::{Node, json, refuse};
use crate::config::is_message;
use crate::gateway::{Ban, Block, BlockError, Target};
use crate::handover::Process;
use crate::rfc3339;

/// What may stand behind the question mark.
const EXPECTED: &str =
    "expected for=SECONDS, message=TEXT, keep=true, end_sessions=true, joined by &";

#[derive(Serialize)]
struct List {
    node: String,
    blocks: Vec<Block>,
    bans: Vec<Ban>,
}

/// How somebody is to be blocked.
#[derive(Debug, Default, PartialEq, Eq)]
struct Order {
    duration: Option<Duration>,
    message: Option<String>,
    keep: bool,
    end_sessions: bool,
}

pub(super) async fn list(State(node): State<Node>) -> Response {
    let (blocks, bans) = node.access.list();
    json(StatusCode::OK, &List { node: node.name(), blocks, bans })
}

/// Answers when the sessions that are to end have ended.
pub(super) async fn block(
    State(node): State<Node>,
    Path((kind, what)): Path<(String, String)>,
    uri: Uri,
) -> Response {
    let (target, order) = match target(&node, &kind, &what)
        .and_then(|target| Ok((target, order(uri.query().unwrap_or_default())?)))
    {
        Ok(asked) => asked,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    let since = SystemTime::now();
    let until = order.duration.map(|duration| since.checked_add(duration));
    if until.is_some_and(|until| !until.is_some_and(rfc3339::can_tell)) {
        return refuse(StatusCode::BAD_REQUEST, "no calendar goes as far as that: leave for= out");
    }
    let until = until.flatten();
    let Order { duration, message, keep, end_sessions } = order;
    let block = Block { target: target.clone(), message, since, until, keep };
    let access = node.access.clone();
    if let Err(refused) = carry_out(move || access.block(block)).await {
        return refused;
    }
    info!(%target, ?duration, keep, end_sessions, "an operator blocks");
    let mut done = format!("{target} is blocked");
    if let Some(duration) = duration {
        done += &format!(" for {}", humantime::format_duration(duration));
    }
    if keep {
        done += ", also after a restart";
    }
    let older = node.handover.older();
    let mut ended = Vec::new();
    if end_sessions {
        ended = node.sessions.kill_all(&target);
        let deadline = Instant::now() + LIMIT;
        while ended.iter().any(|&id| node.sessions.contains(id)) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        let left = ended.iter().filter(|&&id| node.sessions.contains(id)).count();
        done += &match (ended.len(), left) {
            (1, 0) => "; 1 session is ended".into(),
            (all, 0) => format!("; {all} sessions are ended"),
            (all, left) => format!("; {all} sessions are told to end, {left} have not yet"),
        };
    }
    // They judge by what they knew when this process took over.
    for Process { pid, .. } in older {
        done += &format!("; not in process {pid}, which finishes its sessions");
    }
    json(StatusCode::OK, &serde_json::json!({ "done": done, "ended": ended }))
}

pub(super) async fn unblock(
    State(node): State<Node>,
    Path((kind, what)): Path<(String, String)>,
) -> Response {
    let target = match Target::parse(&kind, &what) {
        Ok(target) => target,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    let (access, lifted) = (node.access.clone(), target.clone());
    match carry_out(move || access.unblock(&lifted)).await {
        Ok(true) => {
            info!(%target, "an operator unblocks");
            json(
                StatusCode::OK,
                &serde_json::json!({ "done": format!("{target} is blocked no more") }),
            )
        }
        Ok(false) => {
            let why = format!("{target} is not blocked: `ftpgate blocks` lists what is");
            refuse(StatusCode::NOT_FOUND, &why)
        }
        Err(refused) => refused,
    }
}

/// Does what may wait for a disk.
async fn carry_out<T: Send + 'static>(
    order: impl FnOnce() -> Result<T, BlockError> + Send + 'static,
) -> Result<T, Response> {
    match spawn_blocking(order).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(refuse(StatusCode::CONFLICT, &error.to_string())),
        Err(error) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())),
    }
}

/// What is to be blocked, which must be there if it is a listener.
fn target(node: &Node, kind: &str, what: &str) -> Result<Target, String> {
    let target = Target::parse(kind, what)?;
    match &target {
        Target::Listener(listener) if !node.listeners.contains(listener) => {
            let there: Vec<String> = node.listeners.iter().map(ToString::to_string).collect();
            Err(format!("there is no listener {what}; there is {}", there.join(", ")))
        }
        _ => Ok(target),
    }
}

fn order(query: &str) -> Result<Order, String> {
    let mut order = Order::default();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let unknown = || format!("{part}: {EXPECTED}");
        let (key, value) = part.split_once('=').ok_or_else(unknown)?;
        let value = percent_decode_str(value).decode_utf8().map_err(|_| unknown())?;
        match (key, &*value) {
            ("for", seconds) => {
                let seconds = seconds.parse().ok().filter(|&seconds| seconds > 0);
                let seconds =
                    seconds.ok_or_else(|| format!("for={value}: no number of seconds"))?;
                order.duration = Some(Duration::from_secs(seconds));
            }
            ("message", text) if is_message(text) => order.message = Some(text.into()),
            ("message", _) => {
                return Err(
                    "the message: write one line of at most 200 bytes, without control characters"
                        .into(),
                );
            }
            ("keep", "true") => order.keep = true,
            ("end_sessions", "true") => order.end_sessions = true,
            _ => return Err(unknown()),
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_from_its_query() {
        assert_eq!(order(""), Ok(Order::default()));
        let all = "for=7200&message=Back%20at%206%20%26%20later&keep=true&end_sessions=true";
        let expected = Order {
            duration: Some(Duration::from_secs(7200)),
            message: Some("Back at 6 & later".into()),
            keep: true,
            end_sessions: true,
        };
        assert_eq!(order(all), Ok(expected));
        for bad in [
            "for=0",
            "for=2h",
            "for",
            "message=",
            "message=a%0d%0ab",
            "keep=yes",
            "forever=true",
            "message=%ff",
        ] {
            assert!(order(bad).is_err(), "{bad}");
        }
    }
}
