//! systemd: what this process tells it, and the sockets that it has opened. Without systemd there
//! is nobody to tell and nothing opened.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

/// Variables of its environment that are about one process only, and not about its children.
pub const OWN_VARIABLES: [&str; 4] = ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_PID"];

/// The sockets that were passed to this process (`LISTEN_FDS`).
///
/// # Errors
///
/// If one is not for TCP.
pub fn activated() -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    (0..passed.len()).filter_map(|index| passed.take_tcp_listener(index).transpose()).collect()
}

/// This process is the service from now on, and it serves, as that version.
pub fn ready(version: &str) {
    tell(&[
        NotifyState::MainPid(std::process::id()),
        NotifyState::Ready,
        NotifyState::Status(&format!("serving, version {version}")),
    ]);
}

/// Another process is the service from now on.
pub fn is_followed_by(pid: i32) {
    tell(&[NotifyState::MainPid(pid.unsigned_abs())]);
}

/// The configuration is being taken up; [`ready`] ends that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "no time for systemd"),
    }
}

/// It drains.
pub fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("draining: sessions may finish until drain.deadline"),
    ]);
}

/// Tells again and again that this process does not hang, as often as systemd wants to hear it, for ever;
/// each time when it has had its `turn`.
pub async fn keep_watchdog<F: Future<Output = ()>>(turn: impl Fn() -> F) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut due = interval((limit / 2).max(Duration::from_millis(1)));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        turn().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        debug!(%error, "systemd does not listen");
    }
}
