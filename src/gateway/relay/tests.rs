//! The relay over real sockets, on each of its paths.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;
use crate::gateway::data_socket;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longer than anything takes that goes right.
const LONG: Duration = Duration::from_secs(30);
/// More than all socket buffers of a narrow line hold.
const FLOOD: usize = 16 * 1024 * 1024;

/// A way that bytes can take.
#[derive(Debug, Clone, Copy)]
struct Path {
    name: &'static str,
    bulk: u64,
    pipes: usize,
}

const PATHS: [Path; 4] = [
    Path { name: "copy", bulk: u64::MAX, pipes: 0 },
    Path { name: "splice", bulk: 0, pipes: 1 << 20 },
    Path { name: "hybrid", bulk: BULK, pipes: 4 << 20 },
    Path { name: "no pipe left", bulk: BULK, pipes: 0 },
];

/// Which data connection the gateway has accepted, and which dialled.
#[derive(Debug, Clone, Copy)]
enum Direction {
    Download,
    Upload,
}

const DIRECTIONS: [Direction; 2] = [Direction::Download, Direction::Upload];

/// Sender → `from`, `to` → receiver; the middle two are the gateway's.
struct Line {
    sender: TcpStream,
    from: TcpStream,
    to: TcpStream,
    receiver: TcpStream,
}

/// The outer ends of a line whose relay runs, and the relay's result, after which both inner
/// ends have been dropped or, if it went well, finished.
struct Running {
    sender: TcpStream,
    receiver: TcpStream,
    relay: tokio::task::JoinHandle<Result<(), RelayError>>,
}

impl Line {
    async fn new(direction: Direction) -> Self {
        let (from, sender) = connection().await;
        let (receiver, to) = connection().await;
        match direction {
            Direction::Upload => Self { sender, from, to, receiver },
            Direction::Download => Self { sender: from, from: sender, to: receiver, receiver: to },
        }
    }

    /// A line whose socket buffers do not grow.
    async fn narrow(direction: Direction) -> Self {
        let line = Self::new(direction).await;
        for stream in [&line.sender, &line.from, &line.to, &line.receiver] {
            SockRef::from(stream).set_recv_buffer_size(200_000).unwrap();
            SockRef::from(stream).set_send_buffer_size(200_000).unwrap();
        }
        line
    }

    fn run(self, path: Path, idle: Duration) -> Running {
        self.run_at(path, None, idle)
    }

    fn run_at(self, path: Path, rate: Option<Arc<Rate>>, idle: Duration) -> Running {
        let Self { sender, from, to, receiver } = self;
        let relay = tokio::spawn(async move {
            let (pipes, progress) = (PipeBudget::new(path.pipes), Progress::default());
            let result =
                relay_with(path.bulk, &from, &to, &pipes, rate.as_deref(), idle, &progress).await;
            assert_eq!(pipes.left(), path.pipes, "a pipe leaked");
            if result.is_ok() {
                data_socket::finish(&to);
                data_socket::finish(&from);
            }
            result
        });
        Running { sender, receiver, relay }
    }
}

/// An accepted and a dialled data connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = data_socket::listen(LOCALHOST, 0, 16).unwrap();
    let dialled =
        data_socket::dial(listener.local_addr().unwrap(), LOCALHOST, 0, LONG).await.unwrap();
    (listener.accept().await.unwrap().0, dialled)
}

/// How the relay ended; it must have by now.
async fn ended(relay: tokio::task::JoinHandle<Result<(), RelayError>>) -> Result<(), End> {
    timeout(LONG, relay).await.expect("the relay hangs").unwrap().map_err(|error| error.end())
}

async fn read_to_end(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("no end comes");
    read.map(|_| bytes)
}

async fn sees_reset(stream: &mut TcpStream) -> bool {
    read_to_end(stream).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// Bytes that differ at every offset a mistake is likely to confuse.
fn content(size: usize) -> Vec<u8> {
    (0..size as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Sends as much as the line takes while nobody reads, then leaves the rest.
async fn clog(stream: &mut TcpStream, bytes: &[u8]) {
    let quiet = Duration::from_millis(100);
    let mut rest = bytes;
    while let Ok(Ok(sent)) = timeout(quiet, stream.write(rest)).await {
        rest = &rest[sent..];
    }
    assert!(!rest.is_empty(), "the line cannot be clogged");
}

#[tokio::test]
async fn every_byte_arrives_before_fin_whatever_its_size_and_pieces() {
    let sizes = [0, 1, 1448, 32_767, 32_768, 32_769, 131_071, 131_072, 131_073, 1 << 20, 5_000_001];
    for (path, direction) in PATHS.into_iter().flat_map(|p| DIRECTIONS.map(|d| (p, d))) {
        for size in sizes {
            let mut line = Line::new(direction).await.run(path, LONG);
            let sent = content(size);
            let send = async {
                let (mut rest, mut seed) = (sent.as_slice(), size as u64 + 1);
                while !rest.is_empty() {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let piece = 1 + (seed >> 33) as usize % 200_000;
                    let (now, later) = rest.split_at(piece.min(rest.len()));
                    line.sender.write_all(now).await.unwrap();
                    rest = later;
                }
                line.sender.shutdown().await.unwrap();
            };
            let ((), received) = tokio::join!(send, read_to_end(&mut line.receiver));
            assert!(received.unwrap() == sent, "{}, {direction:?}, {size}", path.name);
            assert_eq!(ended(line.relay).await, Ok(()), "{}", path.name);
        }
    }
}

#[tokio::test]
async fn a_reset_sender_resets_the_receiver() {
    for (path, direction) in PATHS.into_iter().flat_map(|p| DIRECTIONS.map(|d| (p, d))) {
        for size in [0, 1, 100_000, 3_000_000] {
            let mut line = Line::new(direction).await.run(path, LONG);
            let sent = content(size);
            let send = async {
                line.sender.write_all(&sent).await.unwrap();
                data_socket::reset(line.sender);
            };
            let ((), reset) = tokio::join!(send, sees_reset(&mut line.receiver));
            assert!(reset, "{}, {direction:?}, {size}: the receiver saw a clean end", path.name);
            assert_eq!(ended(line.relay).await, Err(End::From), "{}, {size}", path.name);
        }
    }
}

#[tokio::test]
async fn a_reset_sender_is_noticed_while_the_receiver_takes_nothing() {
    for (path, direction) in PATHS.into_iter().flat_map(|p| DIRECTIONS.map(|d| (p, d))) {
        let mut line = Line::narrow(direction).await.run(path, LONG);
        clog(&mut line.sender, &vec![0; FLOOD]).await;
        data_socket::reset(line.sender);
        assert_eq!(ended(line.relay).await, Err(End::From), "{}", path.name);
        assert!(sees_reset(&mut line.receiver).await, "{}, {direction:?}", path.name);
    }
}

#[tokio::test]
async fn a_reset_receiver_resets_the_silent_sender() {
    for (path, direction) in PATHS.into_iter().flat_map(|p| DIRECTIONS.map(|d| (p, d))) {
        for size in [0, 1, 200_000] {
            let mut line = Line::new(direction).await.run(path, LONG);
            let sent = content(size);
            let mut received = vec![0; size];
            let read = line.receiver.read_exact(&mut received);
            tokio::try_join!(line.sender.write_all(&sent), read).unwrap();
            assert!(received == sent);
            data_socket::reset(line.receiver);
            assert_eq!(ended(line.relay).await, Err(End::To), "{}, {size}", path.name);
            assert!(sees_reset(&mut line.sender).await, "{}, {direction:?}, {size}", path.name);
        }
    }
}

#[tokio::test]
async fn a_reset_from_before_the_relay_began_is_not_missed() {
    for path in PATHS {
        let line = Line::new(Direction::Upload).await;
        data_socket::reset(line.sender);
        line.from.ready(Interest::ERROR).await.unwrap();
        let Line { from, to, mut receiver, .. } = line;
        let (pipes, progress) = (PipeBudget::new(path.pipes), Progress::default());
        let result = relay_with(path.bulk, &from, &to, &pipes, None, LONG, &progress).await;
        assert_eq!(result.unwrap_err().end(), End::From, "{}", path.name);
        drop(to);
        assert!(sees_reset(&mut receiver).await, "{}", path.name);

        let line = Line::new(Direction::Download).await;
        data_socket::reset(line.receiver);
        line.to.ready(Interest::ERROR).await.unwrap();
        let result =
            relay_with(path.bulk, &line.from, &line.to, &pipes, None, LONG, &progress).await;
        assert_eq!(result.unwrap_err().end(), End::To, "{}", path.name);
    }
}

#[tokio::test]
async fn a_receiver_that_resets_with_bytes_on_the_way_resets_the_sender() {
    for (path, direction) in PATHS.into_iter().flat_map(|p| DIRECTIONS.map(|d| (p, d))) {
        let mut line = Line::narrow(direction).await.run(path, LONG);
        clog(&mut line.sender, &vec![0; FLOOD]).await;
        data_socket::reset(line.receiver);
        assert_eq!(ended(line.relay).await, Err(End::To), "{}", path.name);
        assert!(sees_reset(&mut line.sender).await, "{}, {direction:?}", path.name);
    }
}

#[tokio::test]
async fn a_receiver_may_send_fin_and_still_receive_until_it_resets() {
    for path in PATHS {
        let mut line = Line::new(Direction::Upload).await.run(path, LONG);
        line.receiver.shutdown().await.unwrap();
        let mut received = vec![0; 200_000];
        for _ in 0..2 {
            let send = line.sender.write_all(&[7; 200_000]);
            tokio::try_join!(send, line.receiver.read_exact(&mut received)).unwrap();
        }
        assert!(!line.relay.is_finished(), "{}", path.name);
        data_socket::reset(line.receiver);
        assert_eq!(ended(line.relay).await, Err(End::To), "{}", path.name);
    }
}

#[tokio::test]
async fn a_reset_after_fin_does_not_cut_what_came_before_it() {
    for path in PATHS {
        let mut line = Line::narrow(Direction::Upload).await;
        let mut before = 0;
        while let Ok(sent) = line.to.try_write(&[1; 65_536]) {
            before += sent;
        }
        line.sender.write_all(&[2; 1000]).await.unwrap();
        line.sender.shutdown().await.unwrap();
        while !line.from.ready(Interest::READABLE).await.unwrap().is_read_closed() {
            yield_now().await;
        }
        let mut line = line.run(path, LONG);
        data_socket::reset(line.sender);
        // The relay has taken what there is and waits for the receiver.
        yield_now().await;
        let received = read_to_end(&mut line.receiver).await.unwrap();
        assert_eq!(received.len(), before + 1000, "{}", path.name);
        assert_eq!(ended(line.relay).await, Ok(()), "{}", path.name);
    }
}

#[tokio::test]
async fn a_receiver_that_reads_byte_by_byte_gets_all() {
    for path in PATHS {
        let mut line = Line::narrow(Direction::Download).await.run(path, LONG);
        let sent = content(1_000_000);
        let send = async {
            line.sender.write_all(&sent).await.unwrap();
            line.sender.shutdown().await.unwrap();
        };
        let receive = async {
            let (mut received, mut byte) = (Vec::new(), [0]);
            while line.receiver.read(&mut byte).await.unwrap() > 0 {
                received.extend(byte);
            }
            received
        };
        let ((), received) = tokio::join!(send, receive);
        assert!(received == sent, "{}", path.name);
        assert_eq!(ended(line.relay).await, Ok(()), "{}", path.name);
    }
}

#[tokio::test]
async fn silence_and_a_receiver_that_takes_nothing_are_idle() {
    for path in PATHS {
        let silent = Line::new(Direction::Upload).await.run(path, Duration::from_millis(50));
        assert_eq!(ended(silent.relay).await, Err(End::Idle), "{}", path.name);

        let line = Line::narrow(Direction::Download).await.run(path, Duration::from_millis(50));
        let (mut sender, flood) = (line.sender, vec![0; FLOOD]);
        let send = tokio::spawn(async move { sender.write_all(&flood).await });
        assert_eq!(ended(line.relay).await, Err(End::Idle), "{}", path.name);
        assert!(send.await.unwrap().is_err(), "{}", path.name);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_move_now_and_then_are_not_idle() {
    let (progress, idle) = (Progress::default(), Duration::from_secs(60));
    let start = Instant::now();
    let dribble = async {
        for _ in 0..10 {
            sleep(idle * 9 / 10).await;
            progress.stir(1);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = dribble => unreachable!(),
        () = stalled(&progress, idle) => {}
    }
    let silence = start.elapsed() - 10 * (idle * 9 / 10);
    assert!(silence >= idle && silence <= idle * 5 / 4, "{silence:?}");
}

fn rate(per_second: u64) -> Option<Arc<Rate>> {
    let rate = Rate::new(Instant::now());
    rate.set(per_second);
    Some(Arc::new(rate))
}

#[tokio::test]
async fn a_rate_holds_on_every_path_and_the_wait_for_it_is_not_idle() {
    for path in PATHS {
        let idle = Duration::from_millis(20);
        let mut line = Line::new(Direction::Upload).await.run_at(path, rate(400_000), idle);
        let (sent, started) = (content(200_000), Instant::now());
        line.sender.write_all(&sent).await.unwrap();
        line.sender.shutdown().await.unwrap();
        assert!(read_to_end(&mut line.receiver).await.unwrap() == sent, "{}", path.name);
        assert_eq!(ended(line.relay).await, Ok(()), "{}", path.name);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(370), "{}: {took:?}", path.name);
    }
}

#[tokio::test]
async fn an_end_that_breaks_during_the_wait_for_a_rate_is_noticed() {
    for path in PATHS {
        for end in [End::From, End::To] {
            // One piece of it takes minutes.
            let mut line = Line::new(Direction::Upload).await.run_at(path, rate(1), LONG);
            line.sender.write_all(&content(5000)).await.unwrap();
            line.receiver.read_exact(&mut [0; 512]).await.unwrap();
            let (broken, whole) = match end {
                End::From => (line.sender, line.receiver),
                _ => (line.receiver, line.sender),
            };
            data_socket::reset(broken);
            assert_eq!(ended(line.relay).await, Err(end), "{}", path.name);
            drop(whole);
        }
    }
}

#[tokio::test]
async fn only_bulk_takes_a_pipe_and_a_dropped_relay_gives_it_back() {
    let mut line = Line::new(Direction::Upload).await;
    let (pipes, progress) = (PipeBudget::new(4 << 20), Progress::default());
    let moved = |target: usize| {
        let (pipes, progress) = (&pipes, &progress);
        async move {
            while progress.delivered() < target as u64 {
                yield_now().await;
            }
            pipes.left()
        }
    };
    {
        let relay = relay(&line.from, &line.to, &pipes, None, LONG, &progress);
        tokio::pin!(relay);
        let small = BULK as usize - 1;
        line.sender.write_all(&vec![0; small]).await.unwrap();
        let left = tokio::select! { _ = &mut relay => unreachable!(), left = moved(small) => left };
        assert_eq!(left, 4 << 20);
        line.sender.write_all(&[0; 2]).await.unwrap();
        let all = small + 2;
        let left = tokio::select! { _ = &mut relay => unreachable!(), left = moved(all) => left };
        assert!(left < 4 << 20);
    }
    assert_eq!(pipes.left(), 4 << 20);
}

#[test]
fn pipes_get_smaller_and_then_end_when_the_budget_does() {
    let budget = PipeBudget::new(2 << 20);
    let mut pipes = Vec::new();
    while let Some(pipe) = budget.pipe() {
        pipes.push(pipe);
    }
    // One of 1 MiB, and the other half in pieces of 256 KiB.
    assert_eq!((pipes.len(), budget.left()), (5, 0));
    pipes.clear();
    assert_eq!(budget.left(), 2 << 20);
}

#[test]
fn a_relay_is_small_while_it_waits() {
    fn size_of<T>(_: fn(&'static TcpStream) -> T) -> usize {
        size_of_val(&std::mem::MaybeUninit::<T>::uninit())
    }
    static PIPES: std::sync::LazyLock<PipeBudget> = std::sync::LazyLock::new(PipeBudget::default);
    static PROGRESS: std::sync::LazyLock<Progress> = std::sync::LazyLock::new(Progress::default);
    let size = size_of(|stream| relay(stream, stream, &PIPES, None, LONG, &PROGRESS));
    assert!(size <= 1024, "{size} bytes");
}
