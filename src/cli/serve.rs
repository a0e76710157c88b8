//! `ftpgate serve`: read like a table of contents.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::num::NonZeroU8;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::EX_CONFIG;
use crate::archive::Archive;
use crate::config::{Admin, AuditArchive, Config};
use crate::gateway::{BindError, Gateway, Inherited, Reload, Threads};
use crate::ha::Pair;
use crate::handover::{self, Bell, Handover, Others, Predecessor, Program};
use crate::http::{self, admin};
use crate::observe::audit::{AuditLog, AuditWriter};
use crate::observe::log::{self, LogLevel};
use crate::observe::metrics::Metrics;
use crate::observe::panic;
use crate::systemd;

/// File descriptors that are not a session's: listeners, the log, the runtime, connections over HTTP.
const OWN_DESCRIPTORS: u64 = 128 + http::CONNECTIONS as u64;
/// File descriptors of a session that transfers through a pipe.
const SESSION_DESCRIPTORS: u64 = 6;

/// How long a process that takes over waits for its endpoints to be looked at, and how often it asks.
const LOOKING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Serves until SIGTERM or SIGINT, drains, and says how it went by its exit code.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
pub(super) fn serve(path: &Path, version: &'static str) -> ExitCode {
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
    // Before there are other threads: it changes the environment.
    let activated = match systemd::activated() {
        Ok(activated) => activated,
        Err(error) => {
            error!(%error, "a socket that systemd passes is not for TCP: change the socket unit");
            return ExitCode::FAILURE;
        }
    };
    raise_descriptor_limit(config.limits.sessions);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(path, config, log, activated, version)) {
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

/// What everything runs on but the sessions of other threads.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// As many threads for sessions as are told, or as there are cores.
fn threads(told: Option<NonZeroU8>) -> anyhow::Result<Threads> {
    let cores = || {
        thread::available_parallelism()
            .map_or(NonZeroU8::MIN, |cores| NonZeroU8::try_from(cores).unwrap_or(NonZeroU8::MAX))
    };
    Threads::start(told.unwrap_or_else(cores)).context("cannot start the threads of sessions")
}

/// Gets the sockets, from the process before if there is one, which is told if this one fails.
async fn run(
    path: &Path,
    config: Config,
    log: LogLevel,
    activated: Vec<StdTcpListener>,
    version: &'static str,
) -> anyhow::Result<()> {
    let shutdown = shutdown_on_signal()?;
    let mut inherited = Inherited::default();
    for listener in activated {
        inherited.activate(listener)?;
    }
    let mut predecessor = handover::knock(&config, &mut inherited).await?;
    let started = start(path, config, log, &mut inherited, predecessor.as_mut()).await;
    // What this configuration does not name: clients would wait there for nobody.
    drop(inherited);
    let node = match started {
        Ok(node) => node,
        Err(error) => {
            if let Some(predecessor) = predecessor {
                predecessor.give_up(format!("{error:#}")).await;
            }
            return Err(error);
        }
    };
    if let Some(predecessor) = predecessor {
        node.gateway.prepare();
        // Clients shall find endpoints that have been looked at, as they do now.
        let looked = async {
            while !node.gateway.health().has_looked() {
                sleep(LOOK).await;
            }
        };
        let _ = timeout(LOOKING, looked).await;
        node.handover.take_over(predecessor).await?;
    }
    node.serve(shutdown, version).await
}

/// What is there before clients are taken.
struct Node {
    name: String,
    gateway: Gateway,
    pair: Pair,
    handover: Handover,
    reload: Reload,
    writer: Option<AuditWriter>,
    archive: Option<Archive>,
    http: Option<(TcpListener, http::Node)>,
    /// With the path of the socket.
    admin: Option<(UnixListener, PathBuf)>,
    bell: Option<Bell>,
    /// Cancelled at the end.
    closed: CancellationToken,
    /// Also when another process has taken over.
    public: CancellationToken,
}

async fn start(
    path: &Path,
    config: Config,
    log: LogLevel,
    inherited: &mut Inherited,
    mut predecessor: Option<&mut Predecessor>,
) -> anyhow::Result<Node> {
    let metrics = Metrics::new()?;
    panic::watch(&metrics);
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
    let archive = open_archive(&config, &metrics)?;
    let audit = match &archive {
        Some(archive) => audit.archived(archive.queue()),
        None => audit,
    };
    let threads = threads(config.node.threads)?;
    let gateway = Gateway::bind(&config, inherited, metrics.clone(), audit, threads)?;
    let pair = Pair::new(&config, &gateway, metrics.clone())?;
    let http = match &config.http {
        Some(http) => {
            let node = http::Node::new(http, &gateway, pair.clone(), metrics.clone());
            Some((listen_http(http.address, inherited)?, node))
        }
        None => None,
    };
    if let [first, ..] = *inherited.unclaimed() {
        bail!(
            "systemd passes a socket that listens on {first}, which is no [[listener]], passive port or \
             http.address: change the socket unit or the configuration"
        );
    }
    let handed = predecessor.as_mut().and_then(|predecessor| predecessor.admin.take());
    let admin = config.admin.as_ref().and_then(|config| bind_admin(config, handed));
    let others = Others {
        http: http.as_ref().map(|(http, _)| http.as_fd().try_clone_to_owned()).transpose()?,
        admin: admin.as_ref().map(|(admin, _)| admin.as_fd().try_clone_to_owned()).transpose()?,
    };
    let closed = CancellationToken::new();
    let public = closed.child_token();
    let program = Program::running(path);
    let handover = Handover::new(&gateway, pair.clone(), others, program, metrics, public.clone());
    let name = config.node.name.clone();
    let reload = gateway.reload(path, config, log);
    let bell = predecessor.and_then(|predecessor| predecessor.bell.take());
    Ok(Node {
        name,
        gateway,
        pair,
        handover,
        reload,
        writer,
        archive,
        http,
        admin,
        bell,
        closed,
        public,
    })
}

impl Node {
    /// Serves to the end: SIGTERM, or that of the sessions when another process has taken over.
    async fn serve(self, shutdown: CancellationToken, version: &'static str) -> anyhow::Result<()> {
        let Self { gateway, pair, closed, public, .. } = self;
        let (tasks, answers) = (TaskTracker::new(), TaskTracker::new());
        gateway.prepare();
        // A node that could not serve yet would give its lease up.
        gateway.open();
        pair.run(&tasks, &closed);
        reload_on_signal(self.reload.clone(), public.clone(), version)?;
        if let Some((listener, node)) = self.http {
            answers.spawn(http::serve(listener, node, public.clone()));
        }
        if let Some((listener, socket)) = self.admin {
            let node = admin::Node::new(&gateway, pair.clone(), self.reload, self.handover.clone());
            answers.spawn(admin::serve(listener, node, public.clone()));
            self.handover.listen(&socket, self.bell, &closed);
        }
        for address in gateway.addresses() {
            info!(node = self.name, "listening: {address}");
        }
        systemd::ready(version);
        let threads = gateway.threads();
        let watchdog = systemd::keep_watchdog(move || threads.clone().turn());
        tokio::spawn(public.clone().run_until_cancelled_owned(watchdog));
        let stopped = CancellationToken::new();
        let leave = async {
            shutdown.cancelled().await;
            // Another process has the role, and is the one that systemd knows.
            if !public.is_cancelled() {
                systemd::stopping();
                pair.stop().await;
            }
            stopped.cancel();
            std::future::pending().await
        };
        tokio::select! {
            () = gateway.run_opened(stopped.clone()) => {}
            () = leave => {}
        }
        // Health is answered to the end, so that a check sees "draining" and not a dead node.
        closed.cancel();
        for tasks in [tasks, answers] {
            tasks.close();
            tasks.wait().await;
        }
        if let Some(writer) = self.writer {
            writer.finish();
        }
        if let Some(archive) = self.archive {
            archive.finish().await;
        }
        Ok(())
    }
}

/// The archive of the audit log, if there is to be one.
fn open_archive(config: &Config, metrics: &Metrics) -> anyhow::Result<Option<Archive>> {
    let archive = config.audit.as_ref().and_then(|audit| audit.archive.as_ref());
    let open = |archive: &AuditArchive| {
        let spool = archive.spool.display();
        Archive::open(archive, &config.node.name, metrics.clone())
            .with_context(|| format!("cannot open the spool of the audit archive {spool}"))
    };
    archive.map(open).transpose()
}

/// The admin socket, that of the process before if there was one. A node that cannot be administered
/// still serves.
fn bind_admin(config: &Admin, handed: Option<StdUnixListener>) -> Option<(UnixListener, PathBuf)> {
    let listener = match handed {
        Some(listener) => {
            listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener))
        }
        None => admin::bind(&config.socket),
    };
    match listener {
        Ok(listener) => Some((listener, config.socket.clone())),
        Err(error) => {
            warn!(
                socket = %config.socket.display(), %error,
                "no admin socket, so no `ftpgate status` and `drain`: change admin.socket, or turn it off"
            );
            None
        }
    }
}

fn listen_http(address: SocketAddr, inherited: &mut Inherited) -> anyhow::Result<TcpListener> {
    let listener = match inherited.take(address) {
        Some(listener) => Ok(listener),
        None => StdTcpListener::bind(address),
    };
    let listener = listener
        .and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        })
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

/// Takes up the configuration at each SIGHUP. systemd is told so by the process that it knows.
fn reload_on_signal(
    reload: Reload,
    public: CancellationToken,
    version: &'static str,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let (reload, known) = (reload.clone(), !public.is_cancelled());
            if known {
                systemd::reloading();
            }
            // It tells by itself how it went.
            let _ = tokio::task::spawn_blocking(move || reload.run()).await;
            if known {
                systemd::ready(version);
            }
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
