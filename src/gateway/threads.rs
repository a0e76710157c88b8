//! The threads that sessions run on. Each session stays on one of them, with all its connections: what
//! moves a small file is a dozen short steps, and one thread that wakes another for each of them costs
//! more than the step.
//!
//! The first is the runtime that everything else runs on, too; the others have a runtime of their own
//! and nothing but sessions. A passive port belongs to one of them, which accepts on it; sessions
//! prefer the ports of their own thread.

use std::io;
use std::iter;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::time::interval;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What spreads numbers evenly over all threads, and those of every second or third session, too: 2^64 by
/// the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Less than nearly all that sessions wait for, and so long that nobody sees the turns it takes.
const TICK: Duration = Duration::from_secs(1);

/// The threads of one gateway; clones share them.
#[derive(Debug, Clone)]
pub struct Threads {
    all: Arc<[Thread]>,
    /// Those that are only for sessions end when nobody has it any more.
    _running: Arc<DropGuard>,
}

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    sessions: AtomicUsize,
}

/// Where a session runs, among whose sessions it counts until this is dropped.
#[derive(Debug)]
pub(super) struct Chosen {
    all: Arc<[Thread]>,
    index: usize,
}

impl Threads {
    /// The runtime of the caller, and as many threads of their own that it makes this `count`.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start(count: NonZeroU8) -> io::Result<Self> {
        let ended = CancellationToken::new();
        let others = (1..count.get()).map(|number| {
            let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
            let (handle, ended) = (runtime.handle().clone(), ended.clone());
            let run = move || runtime.block_on(ended.run_until_cancelled(tick()));
            thread::Builder::new().name(format!("sessions-{number}")).spawn(run)?;
            Ok(handle)
        });
        let runtimes = iter::once(Ok(Handle::current())).chain(others);
        let all = runtimes.map(|it| it.map(Thread::new)).collect::<io::Result<_>>()?;
        Ok(Self { all, _running: Arc::new(ended.drop_guard()) })
    }

    /// The caller's runtime alone.
    ///
    /// Must be called within a Tokio runtime.
    pub fn here() -> Self {
        let all = Arc::new([Thread::new(Handle::current())]);
        Self { all, _running: Arc::new(CancellationToken::new().drop_guard()) }
    }

    /// Where a session of that number shall run: where there are the fewest. Of those it is any, as clients
    /// often have one session to look and one to transfer, and all that transfer should not meet.
    pub(super) fn choose(&self, id: u64) -> Chosen {
        let spread = u128::from(id.wrapping_mul(GOLDEN)) * self.all.len() as u128;
        // Less than their number.
        let first = (spread >> 64) as usize;
        let sessions = |(_, thread): &(usize, &Thread)| thread.sessions.load(Ordering::Relaxed);
        let (before, after) = self.all.split_at(first);
        let in_turn = after.iter().zip(first..).chain(before.iter().zip(0..));
        let fewest = in_turn.map(|(thread, index)| (index, thread)).min_by_key(sessions);
        let index = fewest.map_or(0, |(index, thread)| {
            thread.sessions.fetch_add(1, Ordering::Relaxed);
            index
        });
        Chosen { all: Arc::clone(&self.all), index }
    }

    /// Where that passive port is accepted on.
    pub(super) fn of_port(&self, port: u16) -> Handle {
        let thread = self.all.get(usize::from(port) % self.all.len());
        thread.map_or_else(Handle::current, |thread| thread.runtime.clone())
    }

    /// Whether that passive port is accepted on where the caller runs.
    pub(super) fn is_own(&self, port: u16) -> bool {
        self.all.len() == 1 || is_here(&self.of_port(port))
    }

    /// Has a connection that came to a passive port watched where the caller runs.
    pub(super) fn take_from_port(&self, port: u16, stream: TcpStream) -> io::Result<TcpStream> {
        if self.is_own(port) { Ok(stream) } else { TcpStream::from_std(stream.into_std()?) }
    }

    /// Resolves when each of them has had a turn, so it does not hang.
    pub async fn turn(self) {
        self.each(|| ()).await;
    }

    /// Has each of them do that, one after the other: what it gave.
    pub(super) async fn each<T: Send + 'static>(&self, work: fn() -> T) -> Vec<T> {
        let mut given = Vec::new();
        for thread in self.all.iter() {
            // Fails only if the thread ends.
            given.extend(thread.runtime.spawn(async move { work() }).await);
        }
        given
    }

    /// How many tasks there are on all of them.
    pub(super) fn tasks(&self) -> usize {
        self.all.iter().map(|thread| thread.runtime.metrics().num_alive_tasks()).sum()
    }
}

impl Thread {
    fn new(runtime: Handle) -> Self {
        Self { runtime, sessions: AtomicUsize::new(0) }
    }
}

impl Chosen {
    /// The runtime of that thread.
    pub(super) fn runtime(&self) -> Handle {
        let thread = self.all.get(self.index);
        thread.map_or_else(Handle::current, |thread| thread.runtime.clone())
    }

    /// Has a connection that came to the caller's thread watched there.
    pub(super) fn adopt(&self, stream: TcpStream) -> io::Result<TcpStream> {
        let runtime = self.runtime();
        if is_here(&runtime) {
            return Ok(stream);
        }
        let stream = stream.into_std()?;
        let _within = runtime.enter();
        TcpStream::from_std(stream)
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if let Some(thread) = self.all.get(self.index) {
            thread.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Has a timer end at each [`TICK`]. When one is set that would be the next to end, tokio calls the kernel
/// and has a turn for nothing; so sessions set theirs behind this one.
async fn tick() {
    let mut tick = interval(TICK);
    loop {
        tick.tick().await;
    }
}

/// Whether the caller runs there.
fn is_here(runtime: &Handle) -> bool {
    runtime.id() == Handle::current().id()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    use super::*;

    fn three() -> Threads {
        Threads::start(NonZeroU8::new(3).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_session_runs_where_there_are_the_fewest() {
        let threads = three();
        let mut chosen: Vec<_> = (1..=30).map(|id| threads.choose(id)).collect();
        let count = |chosen: &[Chosen], index| chosen.iter().filter(|it| it.index == index).count();
        assert_eq!([0, 1, 2].map(|index| count(&chosen, index)), [10; 3]);
        assert!(chosen.iter().any(|it| is_here(&it.runtime())));
        chosen.retain(|it| it.index != 1);
        for id in 31..=40 {
            chosen.push(threads.choose(id));
            assert_eq!(chosen.last().unwrap().index, 1);
        }
    }

    #[tokio::test]
    async fn the_second_sessions_of_all_clients_do_not_meet_on_one_thread() {
        let threads = Threads::start(NonZeroU8::new(2).unwrap()).unwrap();
        let chosen: Vec<_> = (1..=100).map(|id| threads.choose(id)).collect();
        let second = chosen.iter().skip(1).step_by(2);
        let on_first = second.filter(|it| it.index == 0).count();
        assert!((20..=30).contains(&on_first), "{on_first} of 50");
    }

    #[tokio::test]
    async fn each_passive_port_has_one_thread() {
        let threads = three();
        let own = |threads: &Threads| (8192..=8200).filter(|port| threads.is_own(*port)).count();
        assert_eq!(own(&threads), 3);
        let elsewhere = threads.clone();
        let there = threads.of_port(8192).spawn(async move { own(&elsewhere) });
        assert_eq!(there.await.unwrap(), 3);
        assert_eq!(own(&Threads::here()), 9);
    }

    #[tokio::test]
    async fn a_connection_is_served_where_its_session_runs() {
        let threads = three();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut chosen = Vec::new();
        for id in 0..3 {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            chosen.push(threads.choose(id));
            let thread = chosen.last().unwrap();
            let mut stream = thread.adopt(stream).unwrap();
            let served = thread.runtime().spawn(async move {
                let mut word = [0; 4];
                stream.read_exact(&mut word).await.unwrap();
                stream.write_all(&word).await.unwrap();
            });
            client.write_all(b"word").await.unwrap();
            let mut echo = String::new();
            client.read_to_string(&mut echo).await.unwrap();
            assert_eq!(echo, "word");
            served.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_thread_that_hangs_has_no_turn() {
        let threads = three();
        let (entered, inside) = oneshot::channel();
        let (leave, left) = std::sync::mpsc::channel::<()>();
        let stuck = threads.of_port(8192).spawn(async move {
            entered.send(()).unwrap();
            left.recv()
        });
        inside.await.unwrap();
        assert!(threads.tasks() >= 1);
        let other = threads.clone();
        let turn = tokio::spawn(other.turn());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!turn.is_finished());
        leave.send(()).unwrap();
        turn.await.unwrap();
        stuck.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_threads_end_when_nobody_has_them_any_more() {
        let threads = three();
        let (sender, ended) = oneshot::channel::<()>();
        drop(threads.of_port(8192).spawn(async move {
            let _sender = sender;
            std::future::pending::<()>().await;
        }));
        drop(threads);
        assert!(ended.await.is_err(), "the task was dropped with its runtime");
    }
}
