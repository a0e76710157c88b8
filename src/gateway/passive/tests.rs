//! The pool over real sockets of many client addresses.
//!
//! Each test has a local address of its own, so that all can have the nine ports at once.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::ProxyProtocol;

/// Longer than anything takes that goes right.
const LONG: Duration = Duration::from_secs(30);

/// A pool that accepts, and what it has counted.
struct Served {
    ip: IpAddr,
    pool: PassivePool,
    patience: Patience,
    metrics: Metrics,
    closed: CancellationToken,
    tasks: TaskTracker,
}

impl Served {
    fn new(ip: [u8; 4], reservation: Duration, wait: Duration) -> Self {
        let (ip, metrics) = (IpAddr::from(ip), Metrics::new().unwrap());
        let (pool, patience) = (bind(ip, metrics.clone()).unwrap(), Patience { wait, reservation });
        let (closed, tasks) = (CancellationToken::new(), TaskTracker::new());
        pool.serve(&tasks, &closed, &tasks, &closed);
        assert_eq!(tasks.len(), 10, "one for each port, and one for those that rest");
        tasks.close();
        Self { ip, pool, patience, metrics, closed, tasks }
    }

    fn metric(&self, name: &str) -> String {
        let text = String::from_utf8(self.metrics.render().unwrap()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("no such metric").to_owned()
    }

    fn strangers(&self) -> String {
        self.metric("ftpgate_passive_strangers_total")
    }

    async fn reserve(&self, client: IpAddr) -> Result<Reservation, Exhausted> {
        self.pool.reserve(client, self.patience).await
    }

    async fn connect(&self, client: IpAddr, port: u16) -> TcpStream {
        data_socket::dial(SocketAddr::new(self.ip, port), client, 0, LONG).await.unwrap()
    }
}

fn bind(ip: IpAddr, metrics: Metrics) -> Result<PassivePool, BindError> {
    let none = ProxyProtocol { trusted: Vec::new(), timeout: LONG };
    PassivePool::bind(
        ip,
        8192..=8200,
        Balancers::new(&none),
        &mut Inherited::default(),
        metrics,
        Threads::here(),
    )
}

fn client(n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    Ipv4Addr::new(127, 77, high, low).into()
}

async fn is_reset(mut stream: TcpStream) -> bool {
    let read = timeout(LONG, stream.read(&mut [0])).await.expect("it stays open");
    read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn five_hundred_data_connections_of_a_hundred_clients_reach_their_sessions() {
    let served = Arc::new(Served::new([127, 66, 0, 1], LONG, LONG));
    let mut sessions = tokio::task::JoinSet::new();
    for n in 0..500_u16 {
        let served = Arc::clone(&served);
        sessions.spawn(async move {
            let client = client(n % 100);
            let mut reservation = served.reserve(client).await.unwrap();
            let mut theirs = served.connect(client, reservation.port()).await;
            theirs.write_all(&n.to_be_bytes()).await.unwrap();
            let mut ours = reservation.accepted().await.unwrap();
            let mut read = [0; 2];
            ours.read_exact(&mut read).await.unwrap();
            assert_eq!(u16::from_be_bytes(read), n);
            assert_eq!(ours.peer_addr().unwrap(), theirs.local_addr().unwrap());
            assert!(reservation.accepted().await.is_err());
        });
    }
    sessions.join_all().await;
    assert_eq!(served.strangers(), "0");
    assert_eq!(served.metric("ftpgate_passive_ports_reserved"), "0");
}

#[tokio::test]
async fn thirty_transfers_of_one_client_run_at_once_on_nine_ports() {
    let served = Served::new([127, 66, 0, 2], LONG, LONG);
    let mut running = Vec::new();
    let mut ports: HashMap<u16, usize> = HashMap::new();
    for _ in 0..30 {
        let mut reservation = served.reserve(client(1)).await.unwrap();
        *ports.entry(reservation.port()).or_default() += 1;
        let theirs = served.connect(client(1), reservation.port()).await;
        running.push((reservation.accepted().await.unwrap(), theirs, reservation));
    }
    assert_eq!(ports.len(), 9);
    assert!(ports.values().all(|&times| times == 3 || times == 4), "{ports:?}");
}

#[tokio::test]
async fn the_tenth_reservation_of_one_address_waits_in_turn_or_is_told_that_there_is_none() {
    let served = Served::new([127, 66, 0, 3], LONG, Duration::from_millis(50));
    let mut nine = Vec::new();
    for _ in 0..9 {
        nine.push(served.reserve(client(1)).await.unwrap());
    }
    let ports: HashSet<u16> = nine.iter().map(Reservation::port).collect();
    assert_eq!(ports.len(), 9);
    assert_eq!(served.reserve(client(1)).await.unwrap_err(), Exhausted);
    // Another address is not concerned.
    served.reserve(client(2)).await.unwrap();

    let patient = Served::new([127, 66, 0, 4], LONG, LONG);
    let mut nine = Vec::new();
    for _ in 0..9 {
        nine.push(patient.reserve(client(1)).await.unwrap());
    }
    let (mut left, mut first, mut second) = (
        Box::pin(patient.reserve(client(1))),
        Box::pin(patient.reserve(client(1))),
        Box::pin(patient.reserve(client(1))),
    );
    for waiter in [&mut left, &mut first, &mut second] {
        assert!(is_pending(waiter).await);
    }
    drop(left);
    let freed = nine.pop().unwrap().port();
    assert!(is_pending(&mut second).await);
    assert_eq!(first.await.unwrap().port(), freed);
    // The first is gone again, and so its port goes on.
    assert_eq!(second.await.unwrap().port(), freed);
}

/// Whether a future that has just been polled is not done.
async fn is_pending<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(future.as_mut().poll(context).is_pending())
    })
    .await
}

#[tokio::test]
async fn a_stranger_is_reset_and_disturbs_nobody() {
    let served = Served::new([127, 66, 0, 5], LONG, LONG);
    let mut reservation = served.reserve(client(1)).await.unwrap();
    let port = reservation.port();
    let unreserved = if port == 8192 { 8193 } else { 8192 };
    assert!(is_reset(served.connect(client(2), port).await).await);
    assert!(is_reset(served.connect(client(1), unreserved).await).await);
    let _theirs = served.connect(client(1), port).await;
    let ours = reservation.accepted().await.unwrap();
    assert!(is_reset(served.connect(client(1), port).await).await);
    assert_eq!(ours.peer_addr().unwrap().ip(), client(1));
    assert_eq!(served.strangers(), "3");
}

#[tokio::test]
async fn a_reservation_expires_and_frees_its_port() {
    let served = Served::new([127, 66, 0, 6], Duration::from_millis(20), LONG);
    for _ in 0..10 {
        let mut reservation = served.reserve(client(1)).await.unwrap();
        assert_eq!(reservation.accepted().await.unwrap_err(), Expired);
        assert_eq!(reservation.accepted().await.unwrap_err(), Expired);
    }
}

#[tokio::test]
async fn a_connection_that_comes_too_late_is_not_taken_for_the_next_sessions() {
    let served = Arc::new(Served::new([127, 66, 0, 11], LONG, LONG));
    let mut nine = Vec::new();
    for _ in 0..9 {
        nine.push(served.reserve(client(1)).await.unwrap());
    }
    let pool = Arc::clone(&served);
    let waiting = tokio::spawn(async move { pool.reserve(client(1)).await });
    let port = nine.pop().unwrap().port();
    assert!(is_reset(served.connect(client(1), port).await).await);
    assert_eq!(served.strangers(), "1");
    // Whoever waits has the port at once, as nobody else can come any more.
    let mut next = waiting.await.unwrap().unwrap();
    assert_eq!(next.port(), port);
    let theirs = served.connect(client(1), port).await;
    assert_eq!(next.accepted().await.unwrap().peer_addr().unwrap(), theirs.local_addr().unwrap());
}

#[tokio::test]
async fn waiting_for_the_data_connection_may_be_interrupted() {
    let served = Served::new([127, 66, 0, 7], LONG, LONG);
    let mut reservation = served.reserve(client(1)).await.unwrap();
    let theirs = served.connect(client(1), reservation.port()).await;
    let ours = loop {
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            result = reservation.accepted() => break result.unwrap(),
        }
    };
    assert_eq!(ours.peer_addr().unwrap(), theirs.local_addr().unwrap());
}

#[tokio::test]
async fn a_connection_whose_session_has_gone_is_reset() {
    let served = Served::new([127, 66, 0, 8], LONG, LONG);
    let reservation = served.reserve(client(1)).await.unwrap();
    let theirs = served.connect(client(1), reservation.port()).await;
    drop(reservation);
    assert!(is_reset(theirs).await);
}

#[tokio::test]
async fn an_ipv4_client_of_an_ipv6_socket_is_the_same_client() {
    let served = Served::new([127, 66, 0, 9], LONG, LONG);
    let IpAddr::V4(v4) = client(1) else { unreachable!() };
    let mut reservation = served.reserve(v4.to_ipv6_mapped().into()).await.unwrap();
    let _theirs = served.connect(client(1), reservation.port()).await;
    reservation.accepted().await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_free_again_when_the_pool_has_closed() {
    let served = Served::new([127, 66, 0, 10], LONG, LONG);
    let error = bind(served.ip, served.metrics.clone()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("passive port 8192 of 127.66.0.10"), "{text}");
    assert!(text.contains("change passive.ports"), "{text}");
    served.closed.cancel();
    served.tasks.wait().await;
    served.pool.close();
    bind(served.ip, served.metrics.clone()).unwrap();
}
