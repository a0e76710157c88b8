//! `ftpgate status`: what a node says of itself and of its pair.

use std::process::ExitCode;

use anstyle::Style;
use hyper::Method;
use serde_json::Value;

use super::endpoints;
use super::node::{NodeArguments, finish, run};
use super::output::{
    BAD, Cell, GOOD, ODD, PLAIN, TITLE, Table, ago, count, duration, print, print_json,
};

/// What it takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    node: NodeArguments,
    /// One line of JSON, as `/readyz` has it and more.
    #[arg(long)]
    json: bool,
}

/// Prints the role of the node and why, what its pair looks like, and its endpoints.
pub(super) fn status(arguments: &Arguments) -> ExitCode {
    finish(run(async {
        let status = arguments.node.node()?.ask(Method::GET, "/status").await?;
        if arguments.json {
            print_json(&status);
        } else {
            let (lines, endpoints) = (lines(&status), endpoints::table(&status));
            print(&format!("{}\n{}", lines.render(), endpoints.render()));
        }
        Ok(ExitCode::SUCCESS)
    }))
}

/// One line for each thing; what is not configured has none.
fn lines(status: &Value) -> Table {
    let mut table = Table::untitled();
    let mut line = |name: &str, what: String, style: Style| {
        table.row(vec![Cell::new(name).style(TITLE), Cell::new(&what).style(style)]);
    };
    let text = |pointer: &str| text(status, pointer);
    let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64);
    let is = |pointer: &str| status.pointer(pointer).and_then(Value::as_bool) == Some(true);
    let troubled = |pointer: &str| status.pointer(pointer).is_some_and(Value::is_string);
    let trouble = |pointer: &str| match status.pointer(pointer).and_then(Value::as_str) {
        Some(trouble) => format!("; {trouble}"),
        None => String::new(),
    };
    let up = ago(text("/since")).map(duration).unwrap_or_default();
    line("node", format!("{}, version {}, up {up}", text("/node"), text("/version")), PLAIN);
    let role = match text("/role") {
        "active" => GOOD,
        "draining" => ODD,
        _ => PLAIN,
    };
    line("role", format!("{}: {}", text("/role"), text("/reason")), role);
    match is("/ready") {
        true => line("ready", "yes".into(), GOOD),
        false => line("ready", format!("no: {}", failed_checks(status)), BAD),
    }
    let of =
        |pointer: &str| usize::try_from(number(pointer).unwrap_or_default()).unwrap_or_default();
    let transfers = count(of("/transfers"), "transfer");
    line("sessions", format!("{}, {transfers}", of("/sessions")), PLAIN);
    let older = status.get("older").and_then(Value::as_array);
    if let Some(older) = older.filter(|older| !older.is_empty()) {
        let one = |older: &Value| {
            let pid = older.get("pid").and_then(Value::as_i64).unwrap_or_default();
            format!("process {pid} (version {})", self::text(older, "/version"))
        };
        let all: Vec<String> = older.iter().map(one).collect();
        line("older", format!("{} still finish their sessions", all.join(", ")), ODD);
    }
    if status.get("lease").is_some() {
        let generation = number("/generation").unwrap_or_default();
        let who = if is("/lease/held") { "this node" } else { text("/lease/holder") };
        let what = format!(
            "{who} ({}), generation {generation}{}",
            text("/lease/state"),
            trouble("/lease/trouble")
        );
        line("lease", what, if troubled("/lease/trouble") { ODD } else { PLAIN });
    }
    if status.get("steering").is_some() {
        let here = if is("/steered") { " (this node)" } else { "" };
        let what = format!("{}{here}{}", text("/steering/target"), trouble("/steering/trouble"));
        line("steering", what, if troubled("/steering/trouble") { ODD } else { PLAIN });
    }
    if status.get("name").is_some() {
        let addresses = status.pointer("/name/addresses").and_then(Value::as_array);
        let addresses: Vec<&str> =
            addresses.into_iter().flatten().filter_map(Value::as_str).collect();
        let here = if is("/name/here") { " (this node)" } else { "" };
        let addresses = if addresses.is_empty() { "-".into() } else { addresses.join(", ") };
        let what = format!("{}: {addresses}{here}{}", text("/name/name"), trouble("/name/trouble"));
        line("name", what, if troubled("/name/trouble") { ODD } else { PLAIN });
    }
    if status.get("peer").is_some() {
        let ready = is("/peer/ready");
        let what = format!(
            "{} at {}: {}, {}{}",
            text("/peer/node"),
            text("/peer/address"),
            text("/peer/role"),
            if ready { "ready" } else { "not ready" },
            trouble("/peer/trouble")
        );
        line("peer", what, if ready { GOOD } else { ODD });
    }
    table
}

fn failed_checks(status: &Value) -> String {
    let checks = status.get("checks").and_then(Value::as_array).into_iter().flatten();
    let failed = checks.filter(|check| check.get("ok") != Some(&Value::Bool(true)));
    let told: Vec<String> = failed
        .map(|check| format!("{}: {}", text(check, "/name"), text(check, "/detail")))
        .collect();
    told.join("; ")
}

/// The string there, or a dash.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_of_a_pair_tells_all_that_is_configured() {
        let status = json!({
            "node": "gateway-a", "version": "1.2.3", "since": "2999-01-01T00:00:00Z",
            "role": "standby", "reason": "gateway-c holds the lease", "ready": false,
            "checks": [
                { "name": "listeners", "ok": true, "detail": "accepting" },
                { "name": "endpoints", "ok": false, "detail": "0 of 2 healthy" },
            ],
            "sessions": 3, "transfers": 1, "older": [{ "pid": 77, "version": "1.2.2" }], "generation": 7, "steered": false,
            "lease": { "held": false, "holder": "gateway-c", "state": "held", "trouble": "S3: 503" },
            "steering": { "target": "10.2.2.10", "trouble": null },
            "name": { "name": "gw.internal", "addresses": ["10.2.2.10"], "here": false },
            "peer": { "address": "10.2.2.10:9121", "node": "gateway-c", "role": "active",
                      "ready": true, "trouble": null },
        });
        let shown = anstream::adapter::strip_str(&lines(&status).render()).to_string();
        assert_eq!(
            shown,
            "node      gateway-a, version 1.2.3, up 0s
role      standby: gateway-c holds the lease
ready     no: endpoints: 0 of 2 healthy
sessions  3, 1 transfer
older     process 77 (version 1.2.2) still finish their sessions
lease     gateway-c (held), generation 7; S3: 503
steering  10.2.2.10
name      gw.internal: 10.2.2.10
peer      gateway-c at 10.2.2.10:9121: active, ready
"
        );
    }
}
