//! `ftpgate probe`: one probe of endpoints now.

use std::process::ExitCode;

use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::node::{NodeArguments, finish, run};
use super::output::{BAD, Cell, GOOD, Table, print, print_json, took};
use super::status::text;

/// What it takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The endpoint's address, with or without its port, or its name; all of them by default.
    endpoint: Option<String>,
    /// How deep to go, instead of as deep as probe.depth; such a probe does not count for the
    /// endpoint's health.
    #[arg(long, value_parser = ["tcp", "banner", "login", "list", "round-trip"])]
    depth: Option<String>,
    #[command(flatten)]
    node: NodeArguments,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

/// Prints each stage's result. A probe that failed is a failure.
pub(super) fn probe(arguments: &Arguments) -> ExitCode {
    finish(run(async {
        let mut path = String::from("/probe");
        if let Some(endpoint) = &arguments.endpoint {
            path += &format!("/{}", utf8_percent_encode(endpoint, NON_ALPHANUMERIC));
        }
        if let Some(depth) = &arguments.depth {
            path += &format!("?depth={depth}");
        }
        let answer = arguments.node.node()?.ask(Method::POST, &path).await?;
        match arguments.json {
            true => print_json(&answer),
            false => print(&table(&answer).render()),
        };
        let ok = answer.get("ok").and_then(Value::as_bool) == Some(true);
        Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }))
}

fn table(answer: &Value) -> Table {
    let mut table = Table::new(&["ENDPOINT", "ZONE", "DEPTH", "RESULT", "STAGES"]);
    for result in answer.get("results").and_then(Value::as_array).into_iter().flatten() {
        let verdict = match result.get("ok").and_then(Value::as_bool) {
            Some(true) => Cell::new("ok").style(GOOD),
            _ => Cell::new("failed").style(BAD),
        };
        let stages = result.get("stages").and_then(Value::as_array).into_iter().flatten();
        let stages: Vec<String> = stages.map(stage).collect();
        table.row(vec![
            Cell::new(text(result, "/endpoint")),
            Cell::new(text(result, "/zone")),
            Cell::new(text(result, "/depth")),
            verdict,
            Cell::new(&stages.join(", ")),
        ]);
    }
    table
}

fn stage(stage: &Value) -> String {
    let name = text(stage, "/stage");
    match stage.get("seconds").and_then(Value::as_f64) {
        Some(seconds) => format!("{name} {}", took(seconds)),
        None => format!("{name}: {}", text(stage, "/reason")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_probe_that_failed_says_where_and_why() {
        let answer = json!({ "ok": false, "results": [
            { "endpoint": "10.2.3.4:21", "zone": "a", "depth": "login", "ok": false, "stages": [
                { "stage": "connect", "ok": true, "seconds": 0.0004, "reason": null },
                { "stage": "banner", "ok": false, "seconds": null, "reason": "nothing within 5s" },
            ]},
        ]});
        let shown = anstream::adapter::strip_str(&table(&answer).render()).to_string();
        assert_eq!(
            shown,
            "ENDPOINT     ZONE  DEPTH  RESULT  STAGES
10.2.3.4:21  a     login  failed  connect 0.4 ms, banner: nothing within 5s
"
        );
    }
}
