//! Many at once, who want too much of something: it is bounded, and others are served meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::iter::repeat;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::case::{LITTLE, left, resting};
use crate::harness::canned::{CONTENT, CannedServer};
use crate::harness::certificates::Authority;
use crate::harness::ftp::{Ftp, connect, reset};
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::{PATIENCE, address, bytes, eventually};

/// Sessions, or what wants to be one, at once.
const MANY: usize = 100;
/// KiB that one of them may take.
const EACH: i64 = 32;

fn before_canned() -> (CannedServer, GatewayOptions<'static>) {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address).set("log", "level = \"info\"");
    (server, gateway)
}

/// Memory that a gateway takes at its most for what is done, in KiB.
fn peak_of(gateway: &Gateway, what: impl FnOnce()) -> i64 {
    let before = gateway.resident_kib();
    gateway.forget_peak();
    what();
    gateway.peak_kib() - before
}

/// Somebody else is served, and at once.
#[track_caller]
fn assert_served(gateway: &Gateway) {
    let started = Instant::now();
    let mut client = Ftp::connect_from(address::unused().into(), gateway.address);
    client.log_in_as("good");
    let (content, reply) = client.download("RETR f");
    assert_eq!((content.as_slice(), reply.code), (CONTENT, 226));
    client.command("QUIT").expect(&[221]);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// All of them can be open here, too.
fn open_many() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
}

#[test]
fn thousands_over_a_limit_are_told_so_and_cost_nothing() {
    for (limit, others) in [("sessions_per_client = 1", true), ("sessions = 1", false)] {
        let (_server, gateway) = before_canned();
        let gateway = gateway.set("limits", limit).start();
        let descriptors = resting(&gateway);
        let first = Ftp::connect(gateway.address);
        let peak = peak_of(&gateway, || {
            for _ in 0..40 {
                let crowd: Vec<TcpStream> =
                    (0..50).map(|_| connect(gateway.address, None).unwrap()).collect();
                for mut one in crowd {
                    let mut told = String::new();
                    one.read_to_string(&mut told).unwrap();
                    assert!(told.starts_with("421 Too many sessions"), "told {told:?}");
                }
            }
            if others {
                assert_served(&gateway);
            }
        });
        assert!(peak < LITTLE, "{peak} KiB");
        drop(first);
        assert_eq!(left(&gateway, descriptors), Vec::<String>::new());
        assert_served(&gateway);
    }
}

/// Connects and is gone again, by RST; that may be seen as early as here.
fn come_and_go(to: SocketAddr, from: IpAddr) {
    match connect(to, Some(from)) {
        Ok(stream) => reset(stream),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn thousands_that_come_and_go_end_no_listener_and_leave_nothing() {
    let (_server, gateway) = before_canned();
    // So many of them may have a session at once, before it is seen that they have gone.
    let gateway = gateway.set("limits", "sessions_per_client = 20").start();
    let descriptors = resting(&gateway);
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    let reserved = client.pasv();
    let peak = peak_of(&gateway, || {
        // To the control port, a port that somebody waits at, and one where nobody does.
        let free = if reserved.port() == 8192 { 8193 } else { 8192 };
        for to in [gateway.address, reserved, SocketAddr::new(reserved.ip(), free)] {
            let stranger = address::unused().into();
            (0..2000).for_each(|_| come_and_go(to, stranger));
            assert_served(&gateway);
        }
    });
    assert!(peak < LITTLE, "{peak} KiB");
    // The one that waits has lost nothing by it.
    let mut data = client.open(reserved);
    client.command("RETR f").expect(&[150]);
    let mut content = Vec::new();
    data.read_to_end(&mut content).unwrap();
    assert_eq!(content, CONTENT);
    client.reply().expect(&[226]);
    assert!(gateway.metric("ftpgate_passive_strangers_total") >= 2000.0);
    drop((client, data));
    assert_eq!(left(&gateway, descriptors), Vec::<String>::new());
}

/// Byte by byte a ClientHello that never comes to its end, or a line, until all have been ended.
fn dribble(mut all: Vec<TcpStream>) {
    let mut bytes = b"\x16\x03\x01\x40\x00\x01".iter().copied().chain(repeat(0));
    let deadline = Instant::now() + PATIENCE;
    for stream in &all {
        stream.set_nonblocking(true).unwrap();
    }
    while !all.is_empty() {
        assert!(Instant::now() < deadline, "{} are still there", all.len());
        let byte = bytes.next().unwrap();
        all.retain_mut(|stream| {
            let _ = stream.write(&[byte]);
            loop {
                match stream.read(&mut [0; 256]) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                    Ok(0) | Err(_) => return false,
                }
            }
        });
        thread::sleep(Duration::from_millis(100));
    }
}

/// Slow loris: by the control connection, the handshake, and the data connection.
#[test]
fn hundreds_that_dribble_are_ended_in_time_and_take_little_memory() {
    open_many();
    let authority = Authority::new();
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address)
        .certified(&authority)
        .listener("tls = \"optional\"")
        .also_listening("2990", "tls = \"implicit\"")
        .set("timeouts", "login = \"2s\"\ntls_handshake = \"2s\"\ndata_idle = \"2s\"")
        .set("log", "level = \"info\"")
        .start();
    let descriptors = resting(&gateway);
    let peak = peak_of(&gateway, || {
        let stalled: Vec<(Ftp, TcpStream)> = (0..MANY)
            .map(|_| {
                let mut client = Ftp::connect_from(address::unused().into(), gateway.address);
                client.log_in_as("anyone");
                let mut data = client.begin("STOR f");
                data.write_all(&bytes(41, 1000)).unwrap();
                (client, data)
            })
            .collect();
        let implicit = SocketAddr::new(gateway.address.ip(), 2990);
        let before_login = (0..MANY).map(|_| connect(gateway.address, None).unwrap());
        let in_handshake = (0..MANY).map(|_| connect(implicit, None).unwrap());
        let dribbling = before_login.chain(in_handshake).collect();
        thread::scope(|scope| {
            scope.spawn(|| dribble(dribbling));
            assert_served(&gateway);
        });
        for (mut client, data) in stalled {
            client.reply().expect(&[426]);
            client.command("NOOP").expect(&[200]);
            drop(data);
        }
    });
    assert!(peak < 3 * MANY as i64 * EACH, "{peak} KiB");
    assert_eq!(server.stored(), 0, "what stalled was taken for complete");
    assert_eq!(left(&gateway, descriptors), Vec::<String>::new());
    assert_served(&gateway);
}

#[test]
fn one_client_that_wants_every_port_has_nine_and_keeps_none_from_others() {
    open_many();
    let (_server, gateway) = before_canned();
    let gateway = gateway.set("passive", "wait = \"2s\"").start();
    let descriptors = resting(&gateway);
    let greedy = address::unused().into();
    let mut sessions: Vec<Ftp> = (0..MANY)
        .map(|_| {
            let mut client = Ftp::connect_from(greedy, gateway.address);
            client.log_in_as("anyone");
            client
        })
        .collect();
    let peak = peak_of(&gateway, || {
        sessions.iter_mut().for_each(|session| session.send("PASV"));
        eventually("nine to be taken", || {
            (gateway.metric("ftpgate_passive_ports_reserved") == 9.0).then_some(())
        });
        (0..20).for_each(|_| assert_served(&gateway));
        let replies: Vec<u16> =
            sessions.iter_mut().map(|session| session.reply().expect(&[227, 425]).code).collect();
        assert_eq!(replies.iter().filter(|&&code| code == 227).count(), 9);
    });
    assert!(peak < LITTLE, "{peak} KiB");
    drop(sessions);
    assert_eq!(left(&gateway, descriptors), Vec::<String>::new());
}

#[test]
fn users_verbs_names_and_addresses_add_no_series_to_the_metrics() {
    let server = CannedServer::script().says("PASS", b"530 no\r\n").start();
    let open = CannedServer::script().start();
    for to in [server.address, open.address] {
        let gateway = Gateway::to_address(to).set("log", "level = \"info\"").start();
        let visit = |number: usize| {
            let mut client = Ftp::connect_from(address::unused().into(), gateway.address);
            client.command(&format!("USER user-{number}")).expect(&[331]);
            let is_in = client.command("PASS x").expect(&[230, 530]).code == 230;
            client.command(&format!("V{number} x")).expect(&[200]);
            if is_in {
                client.command(&format!("RETR file-{number}")).expect(&[425]);
            }
            client.command(&format!("EPRT |1|10.0.0.{}|6000|", number % 255)).expect(&[504]);
            if number.is_multiple_of(2) {
                client.command("QUIT").expect(&[221]);
            }
        };
        let series = || {
            let (_, metrics) = gateway.get("/metrics");
            metrics.lines().filter(|line| !line.starts_with('#')).count()
        };
        let ended = |count: f64| {
            eventually("all sessions to end", || {
                let all = gateway.metric("ftpgate_sessions_total") == count;
                (all && gateway.metric("ftpgate_sessions") == 0.0).then_some(())
            });
        };
        (0..2).for_each(visit);
        ended(2.0);
        let before = series();
        (2..500).for_each(visit);
        ended(500.0);
        assert_eq!(series(), before);
    }
}

#[test]
fn without_a_descriptor_left_nothing_spins_and_everything_works_again_after_it() {
    let (_server, gateway) = before_canned();
    let gateway = gateway.start();
    let descriptors = resting(&gateway);
    let pid = Pid::from_raw(i32::try_from(gateway.process.id()).unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = |most| Rlimit { current: Some(most), maximum };
    let usual = prlimit(pid, Resource::Nofile, limit(descriptors as u64 + 4)).unwrap();
    let waiting: Vec<TcpStream> =
        (0..50).map(|_| connect(gateway.address, None).unwrap()).collect();
    gateway.logs("accept failed");
    let failed = || gateway.log().matches("accept failed").count();
    let before = failed();
    thread::sleep(Duration::from_secs(1));
    // Ten times, as the pause is a tenth of a second; a listener that spins fails thousands of times.
    let times = failed() - before;
    assert!(times < 20, "{times} times");
    drop(waiting);
    assert_eq!(
        prlimit(pid, Resource::Nofile, usual).unwrap().current,
        Some(descriptors as u64 + 4)
    );
    assert_eq!(left(&gateway, descriptors), Vec::<String>::new());
    assert_served(&gateway);
}

#[test]
fn however_many_keep_http_connections_the_oldest_give_way_and_a_health_check_is_answered() {
    open_many();
    let (_server, gateway) = before_canned();
    let gateway = gateway.start();
    let descriptors = resting(&gateway);
    // Each waits with half a request.
    let mut crowd: Vec<TcpStream> =
        (0..1000).map(|_| gateway.ask("GET /livez HTTP/1.1\r\n")).collect();
    assert_eq!(gateway.get("/livez").0, 200);
    assert_served(&gateway);
    eventually("all but 256 to be gone", || {
        (gateway.descriptors() <= descriptors + 256).then_some(())
    });
    for young in &mut crowd[800..] {
        young.write_all(b"\r\n").unwrap();
        let mut answer = [0; 12];
        young.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    drop(crowd);
    assert_eq!(left(&gateway, descriptors), Vec::<String>::new());
}
