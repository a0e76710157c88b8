//! `ftpgate drain`, `resume` and `failover`: one order to the node's admin socket.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use hyper::Method;
use tokio::net::UnixStream;

use super::{ConfigFile, EX_CONFIG};
use crate::config::Config;
use crate::ha::ask::ask;

/// sysexits(3): no node answers.
const EX_UNAVAILABLE: u8 = 69;
/// Longer than any hand-over, and than a drain that waits for the clients' caches.
const LIMIT: Duration = Duration::from_secs(300);

/// What every order takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The node's admin socket, if it is not the one in the configuration file.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// What `ftpgate drain` takes besides.
#[derive(Debug, clap::Args)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    arguments: Arguments,
    /// Even if the peer cannot serve: clients will find nobody.
    #[arg(long)]
    force: bool,
}

/// Lets the peer take over, then refuses new clients.
pub(super) fn drain(arguments: &DrainArguments) -> ExitCode {
    order(&arguments.arguments, if arguments.force { "/drain/force" } else { "/drain" })
}

/// Takes clients again.
pub(super) fn resume(arguments: &Arguments) -> ExitCode {
    order(arguments, "/resume")
}

/// Lets the peer take over.
pub(super) fn fail_over(arguments: &Arguments) -> ExitCode {
    order(arguments, "/failover")
}

/// Prints what the node says: exit code 0 if it does what it was asked, 1 if it refuses, 69 if no
/// node answers, 78 if the configuration does not say where.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer")]
fn order(arguments: &Arguments, path: &str) -> ExitCode {
    let socket = match &arguments.socket {
        Some(socket) => socket.clone(),
        None => match Config::load(&arguments.file.config) {
            Ok(Config { admin: Some(admin), .. }) => admin.socket,
            Ok(_) => {
                eprintln!("error: [admin] is off in {}", arguments.file.config.display());
                return ExitCode::from(EX_CONFIG);
            }
            Err(error) => {
                eprint!("{error}");
                return ExitCode::from(EX_CONFIG);
            }
        },
    };
    match send(&socket, path) {
        Ok((true, text)) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Ok((false, text)) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(EX_UNAVAILABLE)
        }
    }
}

/// Whether the node does it, and what it says.
fn send(socket: &Path, path: &str) -> anyhow::Result<(bool, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = UnixStream::connect(socket).await.with_context(|| {
            format!(
                "no node answers at {}: is `ftpgate serve` running, and may you open it?",
                socket.display()
            )
        })?;
        let answer = ask(stream, Method::POST, path, LIMIT).await?;
        let text = ["done", "error"].iter().find_map(|key| answer.body.get(key)?.as_str());
        let text =
            text.ok_or_else(|| anyhow!("what answers at {} is no ftpgate", socket.display()))?;
        Ok((answer.status == 200, text.to_owned()))
    })
}
