//! The live sessions of this node, for whoever operates it.
//!
//! A session's task owns all its state and only publishes here what has changed, after each
//! command and each reply: it takes the lock of its own entry for some stores, never across an
//! await, and shares that lock with nobody but a reader of the list. Bytes on their way are not
//! published at all: a reader looks at the transfer's own counter.
//!
//! There are never more entries than `limits.sessions`, and an idle one takes some 300 bytes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use serde::Serialize;

use super::access::Target;
use super::orders::{Order, Orders};
use super::relay::Progress;
use crate::ftp::Direction;
use crate::ftp::dialogue::{Dialogue, InFlight};
use crate::lock::lock;
use crate::observe::history::Moved;

/// Bytes of a user's name that are kept: no real one is longer, and a client may send 4 KiB.
const USER: usize = 256;

/// The list; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    list: Arc<Mutex<List>>,
}

#[derive(Debug, Default)]
struct List {
    by_id: HashMap<u64, Arc<Entry>>,
    /// Whoever comes is to end at once.
    stopped: bool,
}

/// What is known of one session. The names of the fields are those of the admin API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionStatus {
    /// Its number on this node since it started, as in the log and the audit log.
    pub id: u64,
    /// The client's side of its control connection.
    pub client: SocketAddr,
    /// Where the client connected to.
    pub listener: SocketAddr,
    /// The argument of the last USER, as it came; what is no UTF-8 as U+FFFD.
    pub user: Option<String>,
    /// The endpoint that it is at, or was at when its upstream connection was lost.
    pub endpoint: SocketAddr,
    /// The version of TLS on the control connection, "1.2" or "1.3".
    pub tls: Option<&'static str>,
    /// When it began, in RFC 3339.
    #[serde(serialize_with = "crate::rfc3339::serialize")]
    pub since: SystemTime,
    /// What it does.
    pub state: SessionState,
    /// When the latest command came.
    #[serde(serialize_with = "crate::rfc3339::serialize_if_any")]
    pub last_command: Option<SystemTime>,
    /// Files that were moved whole.
    pub files: u64,
    /// Bytes of all its transfers, the current one and listings included.
    pub bytes: u64,
    /// The transfer that runs.
    pub transfer: Option<TransferStatus>,
}

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// The client has not logged in yet.
    Login,
    /// It waits for the client's next command.
    Idle,
    /// A command is being answered.
    Command,
    /// A transfer runs.
    Transfer,
}

/// A transfer that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransferStatus {
    /// RETR, STOR, STOU, APPE, LIST, NLST or MLSD.
    pub verb: &'static str,
    /// Its argument, as it came; what is no UTF-8 as U+FFFD.
    pub path: String,
    /// "upload", "download" or "listing".
    pub direction: &'static str,
    /// Bytes that have reached their receiver's socket so far.
    pub bytes: u64,
    /// How many there will be, if the client has said so.
    pub size: Option<u64>,
    /// When its command went upstream.
    #[serde(serialize_with = "crate::rfc3339::serialize")]
    pub since: SystemTime,
    /// Whether line ends are translated.
    pub ascii: bool,
    /// Whether the client's data connection is to be encrypted.
    pub tls: bool,
}

/// One session in the list. It is there until this is dropped.
#[derive(Debug)]
pub(super) struct Listed {
    sessions: Sessions,
    entry: Arc<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    client: SocketAddr,
    listener: SocketAddr,
    /// The listener, as the configuration has it.
    at: SocketAddr,
    since: SystemTime,
    orders: Orders,
    news: Mutex<News>,
}

/// What changes in a session's life.
#[derive(Debug)]
struct News {
    /// The first bytes of it; empty before USER.
    user: Box<[u8]>,
    endpoint: SocketAddr,
    tls: Option<&'static str>,
    state: SessionState,
    last_command: Option<SystemTime>,
    files: u64,
    bytes: u64,
    transfer: Option<Box<Current>>,
}

/// A transfer that runs.
#[derive(Debug)]
struct Current {
    verb: &'static str,
    path: Box<[u8]>,
    direction: Direction,
    size: Option<u64>,
    since: SystemTime,
    ascii: bool,
    private: bool,
    progress: Arc<Progress>,
}

// === impl Sessions ===

impl Sessions {
    /// All of them, in the order in which they came. Each is as it was at one instant, though not
    /// all at the same.
    pub fn list(&self) -> Vec<SessionStatus> {
        // Only the handles are taken under the lock that sessions need to come and go.
        let mut entries = self.all();
        entries.sort_unstable_by_key(|entry| entry.id);
        entries.iter().map(|entry| entry.status()).collect()
    }

    /// How many there are, and how many transfers run.
    pub fn count(&self) -> (usize, usize) {
        let entries = self.all();
        let transfers = entries.iter().filter(|entry| lock(&entry.news).transfer.is_some());
        (entries.len(), transfers.count())
    }

    /// Up to `limit` of them, those with a transfer before those without, and otherwise as in
    /// [`Sessions::list`]: what somebody looks at every second, however many there are.
    pub fn busiest(&self, limit: usize) -> Vec<SessionStatus> {
        let mut entries = self.all();
        entries.sort_by_cached_key(|entry| (lock(&entry.news).transfer.is_none(), entry.id));
        entries.truncate(limit);
        entries.iter().map(|entry| entry.status()).collect()
    }

    /// Bytes that running transfers have moved so far.
    pub fn moving(&self) -> Moved {
        let entries = self.all();
        let mut moved = Moved::default();
        for entry in entries {
            if let Some(current) = &lock(&entry.news).transfer {
                match current.direction {
                    Direction::Upload => moved.up += current.progress.delivered(),
                    Direction::Download | Direction::Listing => {
                        moved.down += current.progress.delivered();
                    }
                }
            }
        }
        moved
    }

    /// Whether it is in the list.
    pub fn contains(&self, id: u64) -> bool {
        self.lock().by_id.contains_key(&id)
    }

    /// Asks a session to end: its transfer is reset, its client is told 421. False if there is no
    /// such session.
    pub fn kill(&self, id: u64) -> bool {
        let entry = self.lock().by_id.get(&id).cloned();
        if let Some(entry) = &entry {
            entry.orders.give(Order::Kill);
        }
        entry.is_some()
    }

    /// The same for all that are meant by what an operator keeps out; gives their numbers.
    pub fn kill_all(&self, target: &Target) -> Vec<u64> {
        let entries = self.all();
        let meant = entries.iter().filter(|entry| match target {
            Target::Client(network) => network.contains(&entry.client.ip().to_canonical()),
            Target::Listener(listener) => *listener == entry.at,
            Target::User(_) => target.is_user(&lock(&entry.news).user),
        });
        let kill = |entry: &Arc<Entry>| {
            entry.orders.give(Order::Kill);
            entry.id
        };
        meant.map(kill).collect()
    }

    /// Asks all that there are now to end when they are idle.
    pub(super) fn drain(&self) {
        for entry in self.all() {
            entry.orders.give(Order::Drain);
        }
    }

    /// Asks all to end now, those included that are yet to come.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        for entry in self.all() {
            entry.orders.give(Order::Stop);
        }
    }

    /// Takes a session into the list.
    pub(super) fn enter(
        &self,
        id: u64,
        client: SocketAddr,
        listener: SocketAddr,
        at: SocketAddr,
        endpoint: SocketAddr,
    ) -> Listed {
        let news = News {
            user: Box::default(),
            endpoint,
            tls: None,
            state: SessionState::Login,
            last_command: None,
            files: 0,
            bytes: 0,
            transfer: None,
        };
        let entry = Arc::new(Entry {
            id,
            client,
            listener,
            at,
            since: SystemTime::now(),
            orders: Orders::default(),
            news: Mutex::new(news),
        });
        let mut list = self.lock();
        if list.stopped {
            entry.orders.give(Order::Stop);
        }
        list.by_id.insert(id, Arc::clone(&entry));
        Listed { sessions: self.clone(), entry }
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        self.lock().by_id.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        lock(&self.list)
    }
}

// === impl Listed ===

impl Listed {
    /// Takes it off the list before it is dropped.
    pub(super) fn leave(&self) {
        self.sessions.lock().by_id.remove(&self.entry.id);
    }

    /// Says where the session stands now; `commanded` if a command has come since.
    pub(super) fn publish(
        &self,
        dialogue: &Dialogue,
        endpoint: SocketAddr,
        tls: Option<&'static str>,
        commanded: bool,
    ) {
        let now = commanded.then(SystemTime::now);
        let user = dialogue.user();
        let user = user.get(..USER).unwrap_or(user);
        let mut news = lock(&self.entry.news);
        if *news.user != *user {
            news.user = user.into();
        }
        (news.endpoint, news.tls) = (endpoint, tls);
        news.last_command = now.or(news.last_command);
        news.state = match dialogue {
            _ if news.transfer.is_some() => SessionState::Transfer,
            dialogue if !dialogue.is_logged_in() => SessionState::Login,
            dialogue if dialogue.is_idle() => SessionState::Idle,
            _ => SessionState::Command,
        };
    }

    /// A transfer begins.
    pub(super) fn begin_transfer(&self, transfer: InFlight<'_>, progress: &Arc<Progress>) {
        let InFlight { verb, path, direction, ascii, private, announced } = transfer;
        let current = Box::new(Current {
            verb: verb.as_str(),
            path: path.into(),
            direction,
            // Line ends that are translated change it.
            size: announced.filter(|_| !ascii),
            since: SystemTime::now(),
            ascii,
            private,
            progress: Arc::clone(progress),
        });
        let mut news = lock(&self.entry.news);
        news.transfer = Some(current);
        news.state = SessionState::Transfer;
    }

    /// It has ended, with so many bytes moved; `whole` if they are a whole file.
    pub(super) fn end_transfer(&self, bytes: u64, whole: bool) {
        let mut news = lock(&self.entry.news);
        news.transfer = None;
        news.bytes += bytes;
        news.files += u64::from(whole);
        news.state = SessionState::Command;
    }

    /// What is wanted of the session from outside.
    pub(super) fn orders(&self) -> impl Future<Output = Order> + use<> {
        let entry = Arc::clone(&self.entry);
        poll_fn(move |context| entry.orders.poll_next(context))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.leave();
    }
}

// === impl Entry ===

impl Entry {
    fn status(&self) -> SessionStatus {
        let news = lock(&self.news);
        let transfer = news.transfer.as_ref().map(|current| TransferStatus {
            verb: current.verb,
            path: String::from_utf8_lossy(&current.path).into_owned(),
            direction: current.direction.as_str(),
            bytes: current.progress.delivered(),
            size: current.size,
            since: current.since,
            ascii: current.ascii,
            tls: current.private,
        });
        let user = (!news.user.is_empty()).then(|| String::from_utf8_lossy(&news.user));
        SessionStatus {
            id: self.id,
            client: self.client,
            listener: self.listener,
            user: user.map(Into::into),
            endpoint: news.endpoint,
            tls: news.tls,
            since: self.since,
            state: news.state,
            last_command: news.last_command,
            files: news.files,
            bytes: news.bytes + transfer.as_ref().map_or(0, |transfer| transfer.bytes),
            transfer,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::ftp::command::Verb;

    fn enter(sessions: &Sessions, id: u64) -> Listed {
        let at = |last: u8, port| SocketAddr::from(([192, 0, 2, last], port));
        sessions.enter(id, at(1, 40_000), at(2, 21), at(0, 21), at(3, 21))
    }

    #[test]
    fn sessions_are_listed_in_order_while_they_last() {
        let sessions = Sessions::default();
        let (second, first) = (enter(&sessions, 9), enter(&sessions, 4));
        let ids = || sessions.list().iter().map(|session| session.id).collect::<Vec<_>>();
        assert_eq!(ids(), [4, 9]);
        drop(first);
        assert_eq!((ids(), sessions.count()), (vec![9], (1, 0)));
        assert!(sessions.contains(9) && !sessions.contains(4) && !sessions.kill(4));
        drop(second);
        assert!(sessions.list().is_empty());
    }

    #[test]
    fn a_transfer_counts_while_it_runs_and_after() {
        let sessions = Sessions::default();
        let session = enter(&sessions, 1);
        let progress = Arc::<Progress>::default();
        let (verb, direction) = (Verb::Stor, Direction::Upload);
        let transfer = InFlight {
            verb,
            path: b"a\x1b\xff",
            direction,
            ascii: false,
            private: false,
            announced: Some(9),
        };
        session.begin_transfer(transfer, &progress);
        assert_eq!(sessions.count(), (1, 1));
        let running = sessions.list().remove(0);
        assert_eq!(running.state, SessionState::Transfer);
        let transfer = running.transfer.unwrap();
        assert_eq!((&*transfer.path, transfer.size), ("a\u{1b}\u{fffd}", Some(9)));
        session.end_transfer(7, true);
        session.end_transfer(3, false);
        let ended = sessions.list().remove(0);
        assert_eq!((ended.files, ended.bytes, ended.transfer), (1, 10, None));
    }

    #[test]
    fn those_that_transfer_come_first_and_there_are_no_more_than_wanted() {
        let sessions = Sessions::default();
        let all: Vec<_> = (1..=5).map(|id| enter(&sessions, id)).collect();
        let progress = Arc::<Progress>::default();
        for (session, verb) in [(3, Verb::Stor), (1, Verb::Retr)] {
            let direction = verb.direction().unwrap();
            let transfer = InFlight {
                verb,
                path: b"a",
                direction,
                ascii: false,
                private: false,
                announced: None,
            };
            all[session].begin_transfer(transfer, &progress);
        }
        let busiest = |limit| -> Vec<_> {
            sessions.busiest(limit).iter().map(|session| session.id).collect()
        };
        assert_eq!(busiest(3), [2, 4, 1]);
        assert_eq!(busiest(9), [2, 4, 1, 3, 5]);
        assert_eq!(sessions.moving(), Moved::default());
    }

    #[test]
    fn orders_reach_whom_they_are_for() {
        let sessions = Sessions::default();
        let next = |session: &Listed| session.orders().now_or_never();
        let (one, other) = (enter(&sessions, 1), enter(&sessions, 2));
        assert!(sessions.kill(1) && sessions.kill(1));
        assert_eq!((next(&one), next(&one), next(&other)), (Some(Order::Kill), None, None));
        sessions.drain();
        let third = enter(&sessions, 3);
        let drain = Some(Order::Drain);
        assert_eq!((next(&one), next(&other), next(&third)), (drain, drain, None));
        sessions.stop();
        let late = enter(&sessions, 4);
        assert!([one, other, third, late].iter().all(|it| next(it) == Some(Order::Stop)));
    }

    #[test]
    fn an_idle_session_costs_some_hundred_bytes() {
        assert!(size_of::<Entry>() <= 320, "{}", size_of::<Entry>());
    }
}
