//! `ftpgate endpoints`: how each endpoint is, and how long the stages of its latest probe took.

use std::process::ExitCode;

use hyper::Method;
use serde_json::Value;

use super::node::{NodeArguments, finish, run};
use super::output::{BAD, Cell, GOOD, ODD, PLAIN, Table, ago, duration, print, print_json, took};
use super::status::text;
use crate::probe::Stage;

/// What it takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    node: NodeArguments,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the endpoints.
pub(super) fn endpoints(arguments: &Arguments) -> ExitCode {
    finish(run(async {
        let answer = arguments.node.node()?.ask(Method::GET, "/endpoints").await?;
        match arguments.json {
            true => print_json(&answer),
            false => print(&table(&answer).render()),
        };
        Ok(ExitCode::SUCCESS)
    }))
}

/// The endpoints of an answer that has some.
pub(super) fn table(answer: &Value) -> Table {
    let titles =
        ["ENDPOINT", "ZONE", "STATE", ">SESSIONS", "PROBED", "STAGES OF THE LATEST PROBE", "WHY"];
    let mut table = Table::new(&titles);
    let endpoints = answer.get("endpoints").and_then(Value::as_array);
    for endpoint in endpoints.into_iter().flatten() {
        let state = text(endpoint, "/state");
        let style = match state {
            "healthy" => GOOD,
            "unhealthy" => BAD,
            "draining" => ODD,
            _ => PLAIN,
        };
        let address = match text(endpoint, "/name") {
            "-" => text(endpoint, "/address").into(),
            name => format!("{} ({name})", text(endpoint, "/address")),
        };
        let probed = ago(text(endpoint, "/probed")).map(|ago| format!("{} ago", duration(ago)));
        let mut row = vec![
            Cell::new(&address),
            Cell::new(text(endpoint, "/zone")),
            Cell::new(state).style(style),
            Cell::number(endpoint.get("sessions").and_then(Value::as_u64).unwrap_or_default()),
            Cell::or_dash(probed.as_deref()),
            Cell::or_dash(Some(&stages(endpoint))),
        ];
        if let Some(reason) = endpoint.get("reason").and_then(Value::as_str) {
            row.push(Cell::new(reason));
        }
        table.row(row);
    }
    table
}

fn stages(endpoint: &Value) -> String {
    let done = endpoint.get("stages");
    let stages = Stage::ALL.into_iter().filter_map(|stage| {
        let seconds = done?.get(stage.as_str())?.as_f64()?;
        Some(format!("{} {}", stage.as_str(), took(seconds)))
    });
    stages.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stages_stand_in_the_order_in_which_they_are_gone_through() {
        let answer = json!({ "endpoints": [
            { "address": "10.2.3.4:21", "name": "ftp.internal", "zone": "a", "state": "healthy", "sessions": 12,
              "reason": null, "stages": { "banner": 0.02, "connect": 0.0004, "login": 1.5 },
              "probed": "2999-01-01T00:00:00Z" },
            { "address": "10.2.4.4:21", "name": null, "zone": null, "state": "unhealthy", "sessions": 0,
              "reason": "connect: refused\u{1b}[2J", "stages": {}, "probed": null },
        ]});
        let shown = anstream::adapter::strip_str(&table(&answer).render()).to_string();
        assert_eq!(
            shown,
            "ENDPOINT                    ZONE  STATE      SESSIONS  PROBED  STAGES OF THE LATEST PROBE                  WHY
10.2.3.4:21 (ftp.internal)  a     healthy          12  0s ago  connect 0.4 ms, banner 20 ms, login 1.50 s
10.2.4.4:21                 -     unhealthy         0  -       -                                           connect: refused\\u001b[2J
"
        );
    }
}
