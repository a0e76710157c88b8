//! Two pools, of an older and a newer process, at the same ports. What they say to each other goes
//! from outbox to outbox here.

use std::net::Ipv4Addr;

use tokio::sync::mpsc;

use super::*;
use crate::config::ProxyProtocol;

/// Long before [`LONG`].
const SOON: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(30);
const A: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 66, 9, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 66, 9, 2));

/// A pool of one port, which accepts when it is told to.
struct Process {
    ip: IpAddr,
    pool: PassivePool,
    shut: CancellationToken,
    tasks: TaskTracker,
}

/// Both outboxes of a line, and what is in them.
struct Line {
    /// The older one has another.
    _to_newer: Outbox,
    from_older: mpsc::Receiver<Parcel>,
    to_older: Outbox,
    from_newer: mpsc::Receiver<Parcel>,
}

impl Process {
    fn new(ip: IpAddr, inherited: &mut Inherited) -> Self {
        let none = Balancers::new(&ProxyProtocol { trusted: Vec::new(), timeout: LONG });
        let metrics = Metrics::new().unwrap();
        let pool =
            PassivePool::bind(ip, 8192..=8192, none, inherited, metrics, Threads::here()).unwrap();
        Self { ip, pool, shut: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    /// The first process at that address, which accepts.
    fn first(last: u8) -> Self {
        let first = Self::new([127, 66, 1, last].into(), &mut Inherited::default());
        first.open();
        first
    }

    /// The next one, with copies of the sockets.
    fn next(&self) -> Self {
        let mut inherited = Inherited::default();
        for listener in self.pool.listeners() {
            let copy = std::os::fd::AsFd::as_fd(&*listener).try_clone_to_owned().unwrap();
            inherited.hand_over(copy.into()).unwrap();
        }
        Self::new(self.ip, &mut inherited)
    }

    fn open(&self) {
        self.pool.serve(&self.tasks, &self.shut, &self.tasks, &self.shut);
        self.tasks.close();
    }

    async fn shut(&self) {
        self.shut.cancel();
        self.tasks.wait().await;
    }

    async fn reserve(&self, client: IpAddr) -> Result<Reservation, Exhausted> {
        self.pool.reserve(client, Patience { wait: LONG, reservation: LONG }).await
    }

    async fn connect(&self, client: IpAddr) -> TcpStream {
        data_socket::dial(SocketAddr::new(self.ip, 8192), client, 0, LONG).await.unwrap()
    }

    /// Hands over: the entries, and the line from then on.
    async fn hand_over(&self, next: &Self, older: &[Outbox]) -> (Vec<Entry>, Line) {
        let ((to_newer, from_older), (to_older, from_newer)) = (Outbox::new(), Outbox::new());
        self.shut().await;
        let entries = self.pool.defer(&to_newer, older);
        for entry in entries.iter().filter(|entry| entry.older.is_none()) {
            next.pool.adopt(entry, &to_older);
        }
        (entries, Line { _to_newer: to_newer, from_older, to_older, from_newer })
    }
}

impl Line {
    /// What the older one says next reaches the newer one.
    async fn up(&mut self, newer: &Process) -> Note {
        let Parcel { note, socket } = self.from_older.recv().await.unwrap();
        newer.pool.hear_older(&self.to_older, note.clone(), socket);
        note
    }

    /// The other way.
    async fn down(&mut self, older: &Process) -> Note {
        let Parcel { note, socket } = self.from_newer.recv().await.unwrap();
        older.pool.hear_newer(note.clone(), socket);
        note
    }
}

/// A session asks, and what it says is heard; gives what it waits for.
async fn ask<F: Future + Unpin>(mut asking: F, heard: impl Future<Output = Note>) -> (Note, F) {
    tokio::select! {
        biased;
        _ = &mut asking => panic!("nobody can have answered"),
        note = heard => (note, asking),
    }
}

fn ends(one: &TcpStream, other: &TcpStream) -> bool {
    one.local_addr().unwrap() == other.peer_addr().unwrap()
}

#[tokio::test]
async fn what_was_reserved_and_what_will_be_is_the_newer_ones_to_say() {
    let old = Process::first(1);
    let mut before = old.reserve(A).await.unwrap();
    let new = old.next();
    let (entries, mut line) = old.hand_over(&new, &[]).await;
    assert_eq!(entries.len(), 1);
    old.pool.yield_up();
    new.open();
    // The port is the old session's, for its client, whoever wants it.
    let mut own = tokio::spawn({
        let pool = new.pool.clone();
        async move { pool.reserve(A, Patience { wait: LONG, reservation: LONG }).await }
    });
    tokio::task::yield_now().await;
    assert!(!own.is_finished());
    let client = new.connect(A).await;
    assert!(matches!(line.down(&old).await, Note::Data { .. }));
    assert!(ends(&before.accepted().await.unwrap(), &client));
    drop(before);
    let own = (&mut own).await.unwrap().unwrap();
    // An old session of the same client waits for it, and leaves; one of another client does not wait.
    let asking = Box::pin(old.reserve(A));
    let (note, asking) = ask(asking, line.up(&new)).await;
    assert!(matches!(note, Note::Reserve { .. }) && line.from_newer.is_empty());
    drop(asking);
    assert!(matches!(line.up(&new).await, Note::Release { .. }));
    let asking = Box::pin(old.reserve(B));
    let (note, asking) = ask(asking, line.up(&new)).await;
    assert!(matches!(note, Note::Reserve { .. }));
    let (note, granted) = tokio::join!(line.down(&old), asking);
    assert!(matches!(note, Note::Granted { port: 8192, .. }));
    drop(granted.unwrap());
    assert!(matches!(line.up(&new).await, Note::Release { .. }));
    drop(own);
    assert_eq!(new.reserve(A).await.unwrap().port(), 8192);
    assert_eq!(new.reserve(B).await.unwrap().port(), 8192);
}

#[tokio::test]
async fn a_third_process_hears_of_what_the_first_one_has() {
    let first = Process::first(2);
    let mut reserved = first.reserve(A).await.unwrap();
    let second = first.next();
    let (_, mut line) = first.hand_over(&second, &[]).await;
    first.pool.yield_up();
    second.open();
    let mut of_second = second.reserve(B).await.unwrap();
    let third = second.next();
    let (entries, mut second_line) =
        second.hand_over(&third, std::slice::from_ref(&line.to_older)).await;
    assert_eq!(entries.len(), 2);
    for entry in entries.iter().filter(|entry| entry.older == Some(0)) {
        third.pool.adopt(entry, &line.to_older);
    }
    second.pool.yield_up();
    third.open();
    let (a, b) = (third.connect(A).await, third.connect(B).await);
    line.down(&first).await;
    second_line.down(&second).await;
    assert!(ends(&reserved.accepted().await.unwrap(), &a));
    assert!(ends(&of_second.accepted().await.unwrap(), &b));
}

#[tokio::test]
async fn a_hand_over_that_comes_to_nothing_leaves_everything_as_it_would_have_been() {
    let old = Process::first(3);
    let mut reserved = old.reserve(A).await.unwrap();
    let leaving = old.reserve(B).await.unwrap();
    let new = old.next();
    let (_, mut line) = old.hand_over(&new, &[]).await;
    // Meanwhile one leaves, and another one wants the port.
    drop(leaving);
    let asking = old.reserve(B);
    tokio::pin!(asking);
    tokio::select! {
        biased;
        _ = &mut asking => panic!("nobody can have answered"),
        () = std::future::ready(()) => {}
    }
    drop(new);
    let mut unsent = Vec::new();
    while let Ok(parcel) = line.from_older.try_recv() {
        unsent.push(parcel);
    }
    assert_eq!(unsent.len(), 2);
    old.pool.authority().resume(unsent.into_iter());
    let (pool, shut, tasks) = (old.pool.clone(), CancellationToken::new(), TaskTracker::new());
    let again = Process { ip: old.ip, pool, shut, tasks };
    again.open();
    assert_eq!(asking.await.unwrap().port(), 8192);
    let client = again.connect(A).await;
    assert!(ends(&reserved.accepted().await.unwrap(), &client));
}

#[tokio::test]
async fn who_is_gone_holds_no_port_and_grants_none() {
    let old = Process::first(4);
    let _held = old.reserve(A).await.unwrap();
    let new = old.next();
    let (_, line) = old.hand_over(&new, &[]).await;
    old.pool.yield_up();
    new.open();
    new.pool.lose_older(&line.to_older);
    assert!(new.reserve(A).await.is_ok());
    let mut waiting = Box::pin(old.reserve(B));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("nobody can have answered"),
        () = std::future::ready(()) => {}
    }
    drop(line);
    old.pool.lose_newer();
    assert_eq!(timeout(SOON, waiting).await.unwrap().unwrap_err(), Exhausted);
    assert_eq!(old.reserve(B).await.unwrap_err(), Exhausted, "at once");
}

#[tokio::test]
async fn what_the_newer_one_does_not_have_is_refused() {
    let old = Process::first(5);
    let mut reserved = old.reserve(A).await.unwrap();
    let (to_newer, _from_older) = Outbox::new();
    let (to_older, mut from_newer) = Outbox::new();
    old.shut().await;
    let [entry] = &old.pool.defer(&to_newer, &[])[..] else { panic!("one entry") };
    old.pool.yield_up();
    // Its configuration names other ports.
    let elsewhere = Process::first(6);
    elsewhere.pool.adopt(&Entry { port: Some(9000), ..entry.clone() }, &to_older);
    let Parcel { note, socket } = from_newer.recv().await.unwrap();
    old.pool.hear_newer(note, socket);
    assert_eq!(timeout(SOON, reserved.accepted()).await.unwrap().unwrap_err(), Expired);
}
