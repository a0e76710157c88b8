//! `ftpgate upgrade`: the running process starts the program at its own path again, which takes over.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::getpid;
use serde::Serialize;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tracing::info;

use super::{Handover, Outcome};
use crate::systemd;

/// How long the new program may take to look at its configuration.
const CHECK: Duration = Duration::from_secs(30);
/// How long it may take to serve.
const LIMIT: Duration = Duration::from_secs(90);
/// How long its last words may take when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// This program, by the name that it was started by: what stands there later is its next version.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    configuration: PathBuf,
}

/// An upgrade that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upgraded {
    /// One line for people.
    pub done: String,
    /// The new process.
    pub pid: i32,
    /// Its version.
    pub version: String,
}

/// The old process serves on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// One runs already.
    #[error("an upgrade is under way")]
    Busy,
    /// The new program finds fault with the configuration.
    #[error("{path} does not take the configuration: {why}; version {} serves on", env!("CARGO_PKG_VERSION"))]
    Check {
        /// Which program.
        path: String,
        /// What it says.
        why: String,
    },
    /// It cannot be started.
    #[error("cannot start {path}: {why}; version {} serves on", env!("CARGO_PKG_VERSION"))]
    Start {
        /// Which program.
        path: String,
        /// Why.
        why: String,
    },
    /// It did not take over.
    #[error("the new process {pid} did not take over: {why}; version {} serves on", env!("CARGO_PKG_VERSION"))]
    Failed {
        /// Which one.
        pid: u32,
        /// Its last words.
        why: String,
    },
}

// === impl Program ===

impl Program {
    /// The running one, with its own arguments.
    pub fn running(configuration: &Path) -> Self {
        let mut arguments = env::args_os();
        let name = arguments.next().map(PathBuf::from).unwrap_or_default();
        Self {
            path: find(&name),
            arguments: arguments.collect(),
            configuration: configuration.into(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.stdin(Stdio::null());
        for variable in systemd::OWN_VARIABLES {
            command.env_remove(variable);
        }
        command
    }

    /// Asks the new program whether it could do with the configuration.
    async fn check(&self) -> Result<(), UpgradeError> {
        let path = self.path.display().to_string();
        let mut command = self.command();
        command.arg("check").arg("--config").arg(&self.configuration).kill_on_drop(true);
        let failed = |why: String| UpgradeError::Check { path: path.clone(), why };
        let output = match timeout(CHECK, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(UpgradeError::Start { path, why: error.to_string() }),
            Err(_) => return Err(failed(format!("no answer within {CHECK:?}"))),
        };
        if output.status.success() {
            return Ok(());
        }
        Err(failed(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()))
    }

    fn start(&self) -> Result<Child, UpgradeError> {
        self.command().args(&self.arguments).spawn().map_err(|error| UpgradeError::Start {
            path: self.path.display().to_string(),
            why: error.to_string(),
        })
    }
}

/// Where a program is, as it was called: links are not followed, as they may lead to another version
/// later.
fn find(name: &Path) -> PathBuf {
    let called = if name.components().count() > 1 {
        std::path::absolute(name).ok()
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
    };
    called.or_else(|| env::current_exe().ok()).unwrap_or_else(|| name.into())
}

// === impl Handover ===

impl Handover {
    /// Starts the program anew and waits until it has taken over.
    ///
    /// # Errors
    ///
    /// If it did not; then this process serves on.
    pub async fn upgrade(&self) -> Result<Upgraded, UpgradeError> {
        let inner = &self.inner;
        let Ok(_one) = inner.upgrading.try_lock() else { return Err(UpgradeError::Busy) };
        inner.program.check().await?;
        let mut outcomes = inner.outcome.subscribe();
        let mut child = inner.program.start()?;
        let number = child.id().unwrap_or_default();
        let pid = i32::try_from(number).unwrap_or_default();
        inner.expected.store(pid, Ordering::Relaxed);
        info!(pid, path = %inner.program.path.display(), "upgrading");
        let failed = |why| Err(UpgradeError::Failed { pid: number, why });
        let is_its = |outcome: &Option<Outcome>| matches!(outcome, Some(its) if its.pid == pid);
        let heard =
            async { outcomes.wait_for(is_its).await.ok().and_then(|outcome| outcome.clone()) };
        let mut heard = Box::pin(heard);
        let ended = tokio::select! {
            outcome = &mut heard => Ok(outcome),
            status = child.wait() => Err(Some(status)),
            () = sleep(LIMIT) => Err(None),
        };
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(Some(status)) => match timeout(LAST_WORDS, heard).await {
                Ok(Some(Outcome { result: Err(why), .. })) => return failed(why),
                Ok(_) | Err(_) => return failed(format!("it ended ({})", describe(status))),
            },
            Err(None) => {
                let _ = child.start_kill();
                return failed(format!("not within {LIMIT:?}, and so it was ended"));
            }
        };
        let version = match outcome.map(|outcome| outcome.result) {
            Some(Ok(version)) => version,
            Some(Err(why)) => {
                // It may have gone on by itself, as another node.
                let _ = child.start_kill();
                return failed(why);
            }
            None => return failed("nobody knows".into()),
        };
        let (old, own) = (env!("CARGO_PKG_VERSION"), getpid().as_raw_nonzero());
        let done = format!(
            "version {old} (process {own}) has handed over to version {version} (process {pid})"
        );
        Ok(Upgraded { done, pid, version })
    }
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}
