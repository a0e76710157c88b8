//! `ftpgate sessions`: who is here and what they do, and the end of one of them.

use std::io::{IsTerminal, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::node::{Node, NodeArguments, Trouble, finish, run};
use super::output::{
    BUSY, Cell, ODD, PLAIN, Table, ago, count, duration, print, print_json, safe, size,
};

/// The cursor to the first line, and everything below it away.
const CLEAR: &str = "\x1b[H\x1b[J";

/// What it takes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArguments,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// End sessions: transfers are reset, and clients told 421.
    Kill(KillArguments),
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    #[command(flatten)]
    node: NodeArguments,
    #[command(flatten)]
    filter: Filter,
    /// Show them again and again, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// How often.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// One line of JSON; with --watch one each time.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, clap::Args)]
struct Filter {
    /// Only this user's.
    #[arg(long)]
    user: Option<String>,
    /// Only those from this address, address and port, or network.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<Place>,
    /// Only those at this endpoint.
    #[arg(long, value_name = "ADDRESS")]
    endpoint: Option<Place>,
}

#[derive(Debug, clap::Args)]
struct KillArguments {
    /// Their numbers, as `ftpgate sessions` lists them.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<u64>,
    #[command(flatten)]
    node: NodeArguments,
    /// One line of JSON: which ended, and which did not and why.
    #[arg(long)]
    json: bool,
}

/// Where somebody may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Address(IpAddr),
    Network(IpNet),
    Socket(SocketAddr),
}

/// A session, as the admin API has it.
#[derive(Debug, Deserialize)]
struct Session {
    id: u64,
    client: SocketAddr,
    listener: SocketAddr,
    user: Option<String>,
    endpoint: SocketAddr,
    tls: Option<String>,
    since: String,
    state: String,
    last_command: Option<String>,
    files: u64,
    bytes: u64,
    transfer: Option<Transfer>,
}

#[derive(Debug, Deserialize)]
struct Transfer {
    verb: String,
    path: String,
    bytes: u64,
    since: String,
    ascii: bool,
    tls: bool,
}

/// Lists sessions, or ends some.
pub(super) fn sessions(arguments: &Arguments) -> ExitCode {
    finish(run(async {
        match &arguments.command {
            Some(Command::Kill(arguments)) => kill(arguments).await,
            None if arguments.list.watch => watch(&arguments.list).await,
            None => {
                let list = &arguments.list;
                let (all, json) = (fetch(&list.node.node()?, &list.filter).await?, list.json);
                show(&all, json)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }))
}

/// The end by Ctrl-C is a good one.
async fn watch(arguments: &ListArguments) -> Result<ExitCode, Trouble> {
    let node = arguments.node.node()?;
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Trouble::Refused(format!("no signals: {error}")))?;
    let clears = !arguments.json && std::io::stdout().is_terminal();
    loop {
        let round = async {
            let answer = fetch(&node, &arguments.filter).await?;
            if clears {
                // Not through what takes colours away: this one is wanted without colours too.
                let _ = std::io::stdout().write_all(CLEAR.as_bytes());
            }
            let apart = if clears || arguments.json { "" } else { "\n" };
            let is_read = show(&answer, arguments.json)? && print(apart);
            if is_read {
                sleep(arguments.interval).await;
            }
            Ok(is_read)
        };
        tokio::select! {
            is_read = round => if !is_read? { return Ok(ExitCode::SUCCESS) },
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn kill(arguments: &KillArguments) -> Result<ExitCode, Trouble> {
    let node = arguments.node.node()?;
    let (mut ended, mut failed) = (Vec::new(), Vec::new());
    for id in &arguments.ids {
        match node.ask(Method::DELETE, &format!("/sessions/{id}")).await {
            Ok(_) => ended.push(id),
            Err(Trouble::Refused(error)) => failed.push((id, error)),
            Err(trouble) => return Err(trouble),
        }
    }
    let failures = failed.iter().map(|(id, error)| json!({ "id": id, "error": error }));
    if arguments.json {
        print_json(&json!({ "ended": ended, "failed": failures.collect::<Vec<_>>() }));
    } else {
        let told: String = ended.iter().map(|id| format!("session {id} is ended\n")).collect();
        print(&told);
        failed.iter().for_each(|(_, error)| complain(error));
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stderr, reason = "a command's answer")]
fn complain(error: &str) {
    eprintln!("error: {}", safe(error));
}

/// The node's answer, with those sessions only that are asked for.
async fn fetch(node: &Node, filter: &Filter) -> Result<Value, Trouble> {
    let mut answer = node.ask(Method::GET, "/sessions").await?;
    match answer.get_mut("sessions").and_then(Value::as_array_mut) {
        Some(sessions) => sessions.retain(|session| filter.takes(session)),
        None => return Err(node.stranger()),
    }
    Ok(answer)
}

/// Says whether anybody still reads.
fn show(answer: &Value, json: bool) -> Result<bool, Trouble> {
    if json {
        return Ok(print_json(answer));
    }
    let list = answer.get("sessions").map(Vec::<Session>::deserialize).unwrap_or(Ok(Vec::new()));
    let list = list.map_err(|error| {
        Trouble::Unavailable(format!("what answers is no ftpgate of this version: {error}"))
    })?;
    Ok(print(&told(&list)))
}

fn told(sessions: &[Session]) -> String {
    if sessions.is_empty() {
        return "no sessions\n".into();
    }
    // Worth a column only where there are several.
    let listeners = sessions.windows(2).any(|two| match two {
        [one, other] => one.listener != other.listener,
        _ => false,
    });
    let mut titles = vec!["ID", "USER", "CLIENT"];
    titles.extend(listeners.then_some("LISTENER"));
    titles.extend(["ENDPOINT", "TLS", "STATE", ">AGE", ">QUIET", ">FILES", ">BYTES", "TRANSFER"]);
    // Numbers at the right have their title there, too.
    let mut table = Table::new(&titles);
    for session in sessions {
        table.row(row(session, listeners));
    }
    let transfers = sessions.iter().filter(|session| session.transfer.is_some()).count();
    let (all, moving) = (count(sessions.len(), "session"), count(transfers, "transfer"));
    format!("{}{all}, {moving}\n", table.render())
}

fn row(session: &Session, listener: bool) -> Vec<Cell> {
    let age = |time: &str| ago(time).map_or_else(|| "-".into(), duration);
    let style = match session.state.as_str() {
        "transfer" => BUSY,
        "login" => ODD,
        _ => PLAIN,
    };
    let mut cells = vec![
        Cell::new(&session.id.to_string()),
        Cell::or_dash(session.user.as_deref()),
        Cell::new(&session.client.to_string()),
    ];
    cells.extend(listener.then(|| Cell::new(&session.listener.to_string())));
    cells.extend([
        Cell::new(&session.endpoint.to_string()),
        Cell::or_dash(session.tls.as_deref()),
        Cell::new(&session.state).style(style),
        Cell::number(age(&session.since)),
        // Since the last command; before the first one, since it came.
        Cell::number(age(session.last_command.as_deref().unwrap_or(&session.since))),
        Cell::number(session.files),
        Cell::number(size(session.bytes)),
    ]);
    cells.extend(session.transfer.as_ref().map(|transfer| Cell::new(&moving(transfer))));
    cells
}

/// `STOR in/voice.csv, 12.3 MiB in 4s (3.1 MiB/s), ascii, tls`
fn moving(transfer: &Transfer) -> String {
    let Transfer { verb, path, bytes, since, ascii, tls } = transfer;
    let time = ago(since).unwrap_or_default();
    let per_second = (*bytes as f64 / time.as_secs_f64().max(0.001)) as u64;
    let path = if path.is_empty() { String::new() } else { format!(" {path}") };
    let (amount, speed) = (size(*bytes), size(per_second));
    let mut told = format!("{verb}{path}, {amount} in {} ({speed}/s)", duration(time));
    told += if *ascii { ", ascii" } else { "" };
    told += if *tls { ", tls" } else { "" };
    told
}

// === impl Filter, Place ===

impl Filter {
    fn takes(&self, session: &Value) -> bool {
        let at = |key: &str| session.get(key)?.as_str()?.parse::<SocketAddr>().ok();
        let is_at = |place: Option<Place>, key: &str| {
            place.is_none_or(|place| at(key).is_some_and(|address| place.has(address)))
        };
        let user = session.get("user").and_then(Value::as_str);
        (self.user.is_none() || self.user.as_deref() == user)
            && is_at(self.client, "client")
            && is_at(self.endpoint, "endpoint")
    }
}

impl Place {
    fn has(self, address: SocketAddr) -> bool {
        match self {
            Self::Address(ip) => ip == address.ip(),
            Self::Network(network) => network.contains(&address.ip()),
            Self::Socket(socket) => socket == address,
        }
    }
}

impl std::str::FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.parse().map(Self::Address).ok();
        let network = || text.parse().map(Self::Network).ok();
        let socket = || text.parse().map(Self::Socket).ok();
        address.or_else(network).or_else(socket).ok_or(
            "expected an address, an address with its port, or a network: 10.1.2.3, 10.1.2.3:21, 10.1.0.0/16",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(user: &str, client: &str) -> Value {
        json!({
            "id": 7, "client": client, "listener": "10.2.1.10:21", "user": user,
            "endpoint": "10.2.3.4:21", "tls": null, "since": "2999-01-01T00:00:00Z",
            "state": "transfer", "last_command": null, "files": 2, "bytes": 3072,
            "transfer": {
                "verb": "STOR", "path": "a\u{1b}[31m", "direction": "upload", "bytes": 2048,
                "since": "2999-01-01T00:00:00Z", "ascii": true, "tls": false,
            },
        })
    }

    #[test]
    fn a_session_is_a_line() {
        let list = [Session::deserialize(session("ann\r", "10.1.2.3:4000")).unwrap()];
        let shown = anstream::adapter::strip_str(&told(&list)).to_string();
        assert_eq!(
            shown,
            "ID  USER       CLIENT         ENDPOINT     TLS  STATE     AGE  QUIET  FILES    BYTES  TRANSFER
7   ann\\u000d  10.1.2.3:4000  10.2.3.4:21  -    transfer   0s     0s      2  3.0 KiB  STOR a\\u001b[31m, 2.0 KiB in 0s (2.0 MiB/s), ascii
1 session, 1 transfer
"
        );
        assert_eq!(told(&[]), "no sessions\n");
    }

    #[test]
    fn filters_take_what_they_name() {
        let session = session("ann", "10.1.2.3:4000");
        let takes = |user: Option<&str>, client: Option<&str>, endpoint: Option<&str>| {
            let place = |text: Option<&str>| text.map(|text| text.parse().unwrap());
            let user = user.map(Into::into);
            Filter { user, client: place(client), endpoint: place(endpoint) }.takes(&session)
        };
        assert!(takes(None, None, None));
        assert!(takes(Some("ann"), Some("10.1.2.3"), Some("10.2.3.4:21")));
        assert!(takes(None, Some("10.1.0.0/16"), Some("10.2.3.4")));
        assert!(!takes(Some("an"), None, None));
        assert!(!takes(None, Some("10.1.2.3:4001"), None));
        assert!(!takes(None, None, Some("10.2.3.4:990")));
        assert!("gateway".parse::<Place>().is_err());
    }
}
