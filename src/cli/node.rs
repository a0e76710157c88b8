//! Which node a subcommand asks, and what it means when that does not answer as hoped.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::net::UnixStream;

use super::output::safe;
use super::{ConfigFile, EX_CONFIG, EX_UNAVAILABLE};
use crate::config::Config;
use crate::ha::ask::ask_at_length;

/// Longer than any hand-over, than a drain that waits for the clients' caches, and than a probe.
const LIMIT: Duration = Duration::from_secs(300);
/// More than the list of as many sessions as one node can have.
const MOST: usize = 256 * 1024 * 1024;

/// Which node.
#[derive(Debug, clap::Args)]
pub(super) struct NodeArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The node's admin socket, if it is not the one in the configuration file.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// A node to ask.
#[derive(Debug)]
pub(super) struct Node {
    socket: PathBuf,
}

/// Why a subcommand cannot do what it should; each is an exit code.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The configuration does not say where the node is: 78.
    Config(String),
    /// The node refuses, or what it did has failed: 1.
    Refused(String),
    /// No node answers: 69.
    Unavailable(String),
}

impl NodeArguments {
    /// The node whose socket is given, or stands in the configuration file.
    pub(super) fn node(&self) -> Result<Node, Trouble> {
        if let Some(socket) = &self.socket {
            return Ok(Node { socket: socket.clone() });
        }
        let path = &self.file.config;
        match Config::load(path) {
            Ok(Config { admin: Some(admin), .. }) => Ok(Node { socket: admin.socket }),
            Ok(_) => Err(Trouble::Config(format!("error: [admin] is off in {}", path.display()))),
            Err(error) => Err(Trouble::Config(error.to_string().trim_end().into())),
        }
    }
}

impl Node {
    /// Asks, and gives the answer if it is one of success.
    pub(super) async fn ask(&self, method: Method, path: &str) -> Result<Value, Trouble> {
        let at = self.socket.display();
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            Trouble::Unavailable(match error.kind() {
                io::ErrorKind::PermissionDenied => format!(
                    "you may not open {at}: it belongs to the user and the group of `ftpgate serve`"
                ),
                _ => format!("no node answers at {at}: is `ftpgate serve` running? ({error})"),
            })
        })?;
        let answer = ask_at_length(stream, method, path, LIMIT, MOST).await;
        let answer = answer.map_err(|error| Trouble::Unavailable(format!("{at}: {error}")))?;
        match answer.body.get("error").and_then(Value::as_str) {
            Some(error) if answer.status != 200 => Err(Trouble::Refused(error.into())),
            _ if answer.status == 200 && answer.body.is_object() => Ok(answer.body),
            _ => Err(self.stranger()),
        }
    }

    /// Somebody else has answered.
    pub(super) fn stranger(&self) -> Trouble {
        let at = self.socket.display();
        Trouble::Unavailable(format!("what answers at {at} is no ftpgate of this version"))
    }
}

/// Runs what a subcommand does.
pub(super) fn run<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Trouble::Refused(error.to_string()))?.block_on(work)
}

/// Says what is wrong, if something is, and by which exit code.
#[expect(clippy::print_stderr, reason = "a command's answer")]
pub(super) fn finish(result: Result<ExitCode, Trouble>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(Trouble::Config(report)) => {
            // It has lines of its own.
            eprintln!("{report}");
            ExitCode::from(EX_CONFIG)
        }
        Err(Trouble::Refused(why)) => {
            eprintln!("error: {}", safe(&why));
            ExitCode::FAILURE
        }
        Err(Trouble::Unavailable(why)) => {
            eprintln!("error: {}", safe(&why));
            ExitCode::from(EX_UNAVAILABLE)
        }
    }
}
