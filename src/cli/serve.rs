//! `ftpgate serve`: read like a table of contents.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::EX_CONFIG;
use crate::config::{Admin, Config};
use crate::gateway::{BindError, Gateway, Reload};
use crate::ha::Pair;
use crate::http::{self, admin};
use crate::observe::audit::AuditLog;
use crate::observe::log::{self, LogLevel};
use crate::observe::metrics::Metrics;

/// File descriptors that are not a session's: listeners, the log, the runtime.
const OWN_DESCRIPTORS: u64 = 128;
/// File descriptors of a session that transfers through a pipe.
const SESSION_DESCRIPTORS: u64 = 6;

/// Serves until SIGTERM or SIGINT, drains, and says how it went by its exit code.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
pub(super) fn serve(path: &Path) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            eprint!("{error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    let log = match log::init(&config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!(
                "no journal to log to ({error}): run under systemd, or write log.format = \"text\""
            );
            return ExitCode::FAILURE;
        }
    };
    raise_descriptor_limit(config.limits.sessions);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(path, config, log)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            match error.downcast_ref() {
                // The configuration names it, and `ftpgate check` finds it, too.
                Some(BindError::Certificate(_)) => ExitCode::from(EX_CONFIG),
                // Somebody must look at it: trying again would not help.
                Some(BindError::State(_)) => ExitCode::from(EX_CONFIG),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(path: &Path, config: Config, log: LogLevel) -> anyhow::Result<()> {
    let shutdown = shutdown_on_signal()?;
    let metrics = Metrics::new()?;
    let (audit, writer) = match &config.audit {
        Some(audit) => {
            let name = audit
                .path
                .as_ref()
                .map_or_else(|| "standard output".into(), |path| path.display().to_string());
            let (log, writer) = AuditLog::open(audit, metrics.clone())
                .with_context(|| format!("cannot open the audit log {name}"))?;
            (log, Some(writer))
        }
        None => (AuditLog::disabled(metrics.clone()), None),
    };
    let gateway = Gateway::bind(&config, metrics.clone(), audit)?;
    let pair = Pair::new(&config, &gateway, metrics.clone())?;
    let (tasks, closed) = (TaskTracker::new(), CancellationToken::new());
    let reload = gateway.reload(path, config.clone(), log);
    reload_on_signal(reload.clone())?;
    if let Some(config) = &config.http {
        let listener = listen_http(config.address).await?;
        let node = http::Node::new(config, &gateway, pair.clone(), metrics);
        tokio::spawn(http::serve(listener, node, closed.clone()));
    }
    if let Some(config) = &config.admin {
        serve_admin(config, admin::Node::new(&gateway, pair.clone(), reload), closed.clone());
    }
    pair.run(&tasks, &closed);
    for address in gateway.addresses() {
        info!(node = config.node.name, "listening: {address}");
    }
    let stopped = CancellationToken::new();
    let leave = async {
        shutdown.cancelled().await;
        pair.stop().await;
        stopped.cancel();
    };
    tokio::join!(gateway.run(stopped.clone()), leave);
    // Health is answered to the end, so that a check sees "draining" and not a dead node.
    closed.cancel();
    tasks.close();
    tasks.wait().await;
    if let Some(writer) = writer {
        writer.finish();
    }
    Ok(())
}

/// A node that cannot be administered still serves.
fn serve_admin(config: &Admin, node: admin::Node, closed: CancellationToken) {
    let socket = config.socket.display();
    match admin::bind(&config.socket) {
        Ok(listener) => {
            tokio::spawn(admin::serve(listener, node, closed));
        }
        Err(error) => warn!(
            %socket, %error,
            "no admin socket, so no `ftpgate status` and `drain`: change admin.socket, or turn it off"
        ),
    }
}

async fn listen_http(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on http.address {address}"))?;
    info!("http: {}", listener.local_addr().unwrap_or(address));
    Ok(listener)
}

/// Cancelled by the first SIGTERM or SIGINT; the second ends the process at once.
fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                token.cancel();
            } else {
                warn!("asked to stop twice: ending at once, transfers are reset");
                std::process::exit(1);
            }
        }
    });
    Ok(shutdown)
}

/// Takes up the configuration at each SIGHUP.
fn reload_on_signal(reload: Reload) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let reload = reload.clone();
            // It tells by itself how it went.
            let _ = tokio::task::spawn_blocking(move || reload.run()).await;
        }
    });
    Ok(())
}

/// Raises the soft limit of file descriptors to the hard one, and says so if it is still too low.
fn raise_descriptor_limit(sessions: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let wanted =
        (sessions as u64).saturating_mul(SESSION_DESCRIPTORS).saturating_add(OWN_DESCRIPTORS);
    if let Some(allowed) = getrlimit(Resource::Nofile).current
        && allowed < wanted
    {
        warn!(
            allowed,
            wanted,
            "too few file descriptors for limits.sessions: raise LimitNOFILE of the service or lower the limit"
        );
    }
}
