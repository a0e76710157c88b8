//! `ftpgate block`, `unblock` and `blocks`: what is kept out for a while.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::node::{NodeArguments, Trouble, finish, run};
use super::output::{Cell, ODD, Table, ago, duration, print, print_json};
use super::status::text;

/// Who or what.
#[derive(Debug, clap::Args)]
struct Target {
    /// What kind of thing.
    kind: Kind,
    /// Which: a listener's address and port, a client's address or network, or a user's name, in which
    /// * stands for anything.
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    what: String,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Listener,
    Client,
    User,
}

/// What `block` takes.
#[derive(Debug, clap::Args)]
pub(super) struct BlockArguments {
    #[command(flatten)]
    target: Target,
    /// Until so much later; else until it is lifted.
    #[arg(long = "for", value_name = "DURATION", value_parser = span)]
    duration: Option<Duration>,
    /// What they are told: one line.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Also after a restart.
    #[arg(long)]
    keep: bool,
    /// End the sessions that there are: transfers are reset, and clients told 421.
    #[arg(long)]
    end_sessions: bool,
    #[command(flatten)]
    node: NodeArguments,
}

/// What `unblock` takes.
#[derive(Debug, clap::Args)]
pub(super) struct UnblockArguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    node: NodeArguments,
}

/// What `blocks` takes.
#[derive(Debug, clap::Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    node: NodeArguments,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

/// A whole number of seconds, at least one: that is what the node counts in.
fn span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.as_secs() > 0 => Ok(Duration::from_secs(duration.as_secs())),
        Ok(_) => Err("write at least 1s".into()),
        Err(_) => Err("write a number and a unit, such as 30m, 2h or 3days".into()),
    }
}

/// Keeps somebody or something out.
pub(super) fn block(arguments: &BlockArguments) -> ExitCode {
    let mut query = Vec::new();
    if let Some(duration) = arguments.duration {
        query.push(format!("for={}", duration.as_secs()));
    }
    if let Some(message) = &arguments.message {
        query.push(format!("message={}", utf8_percent_encode(message, NON_ALPHANUMERIC)));
    }
    if arguments.keep {
        query.push("keep=true".into());
    }
    if arguments.end_sessions {
        query.push("end_sessions=true".into());
    }
    let path = format!("{}?{}", path(&arguments.target), query.join("&"));
    order(&arguments.node, Method::POST, &path)
}

/// Lets them in again.
pub(super) fn unblock(arguments: &UnblockArguments) -> ExitCode {
    order(&arguments.node, Method::DELETE, &path(&arguments.target))
}

/// Prints what is kept out.
pub(super) fn blocks(arguments: &ListArguments) -> ExitCode {
    finish(run(async {
        let answer = arguments.node.node()?.ask(Method::GET, "/blocks").await?;
        match arguments.json {
            true => print_json(&answer),
            false => print(&told(&answer)),
        };
        Ok(ExitCode::SUCCESS)
    }))
}

fn path(Target { kind, what }: &Target) -> String {
    let kind = match kind {
        Kind::Listener => "listener",
        Kind::Client => "client",
        Kind::User => "user",
    };
    format!("/blocks/{kind}/{}", utf8_percent_encode(what, NON_ALPHANUMERIC))
}

/// Prints what the node says.
fn order(arguments: &NodeArguments, method: Method, path: &str) -> ExitCode {
    finish(run(async {
        let node = arguments.node()?;
        let answer = node.ask(method, path).await?;
        let done = answer.get("done").and_then(Value::as_str);
        print(&format!("{}\n", done.ok_or_else(|| node.stranger())?));
        Ok::<_, Trouble>(ExitCode::SUCCESS)
    }))
}

fn told(answer: &Value) -> String {
    let list = |key: &str| answer.get(key).and_then(Value::as_array).into_iter().flatten();
    let mut table = Table::new(&["KIND", "WHAT", ">AGE", ">LEFT", "KEPT", "MESSAGE"]);
    let mut any = false;
    for block in list("blocks") {
        any = true;
        let kept = block.get("keep").and_then(Value::as_bool).unwrap_or_default();
        let mut row = vec![
            Cell::new(text(block, "/kind")),
            Cell::new(text(block, "/what")),
            Cell::number(ago(text(block, "/since")).map_or_else(|| "-".into(), duration)),
            Cell::number(left(text(block, "/until"))),
            Cell::new(if kept { "yes" } else { "no" }),
        ];
        row.extend(block.get("message").and_then(Value::as_str).map(Cell::new));
        table.row(row);
    }
    for ban in list("bans") {
        any = true;
        let client = text(ban, "/client");
        let client = client.strip_suffix("/32").unwrap_or(client);
        table.row(vec![
            Cell::new("ban").style(ODD),
            Cell::new(client),
            Cell::number("-"),
            Cell::number(left(text(ban, "/until"))),
            Cell::new("no"),
        ]);
    }
    if any { table.render() } else { "nothing is blocked\n".into() }
}

/// The time until then, or a dash if there is no end.
fn left(until: &str) -> String {
    let until = humantime::parse_rfc3339(until).ok();
    let left = until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
    left.map_or_else(|| "-".into(), duration)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_and_bans_stand_in_one_table() {
        let answer = json!({
            "blocks": [
                { "kind": "client", "what": "10.1.0.0/16", "message": "Gone\u{1b}[2J.", "keep": true,
                  "since": "2999-01-01T00:00:00Z", "until": null },
                { "kind": "user", "what": "acme-*", "message": null, "keep": false,
                  "since": "2999-01-01T00:00:00Z", "until": "2020-01-01T00:00:00Z" },
            ],
            "bans": [{ "client": "192.0.2.7/32", "until": "2020-01-01T00:00:00Z" }],
        });
        let shown = anstream::adapter::strip_str(&told(&answer)).to_string();
        assert_eq!(
            shown,
            "KIND    WHAT         AGE  LEFT  KEPT  MESSAGE
client  10.1.0.0/16   0s     -  yes   Gone\\u001b[2J.
user    acme-*        0s    0s  no
ban     192.0.2.7      -    0s  no
"
        );
        assert_eq!(told(&json!({ "blocks": [], "bans": [] })), "nothing is blocked\n");
    }

    #[test]
    fn a_span_is_a_whole_number_of_seconds() {
        assert_eq!(span("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(span("1500ms"), Ok(Duration::from_secs(1)));
        assert!(span("100ms").is_err() && span("2").is_err() && span("later").is_err());
    }
}
