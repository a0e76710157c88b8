//! What systemd is told, and the sockets that it opens.

use std::net::{IpAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::ftp::Ftp;
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};
use crate::harness::{PATIENCE, eventually};

/// Where systemd listens.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, directory }
    }

    fn path(&self) -> String {
        self.directory.path().join("notify").display().to_string()
    }

    /// The next message that is no sign of life.
    fn hear(&self) -> Vec<String> {
        loop {
            let mut bytes = [0; 4096];
            let count = self.socket.recv(&mut bytes).unwrap();
            let lines = String::from_utf8(bytes[..count].to_vec()).unwrap();
            let lines: Vec<_> = lines.lines().map(str::to_owned).collect();
            if lines != ["WATCHDOG=1"] {
                return lines;
            }
        }
    }

    /// Waits for so many signs of life, and tells how long that took.
    fn signs_of_life(&self, count: usize) -> Duration {
        let began = Instant::now();
        for _ in 0..count {
            let mut bytes = [0; 4096];
            let length = self.socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"WATCHDOG=1\n");
        }
        began.elapsed()
    }
}

fn ready(pid: u32) -> Vec<String> {
    let status = concat!("STATUS=serving, version ", env!("CARGO_PKG_VERSION"));
    vec![format!("MAINPID={pid}"), "READY=1".into(), status.into()]
}

#[test]
fn systemd_is_told_of_each_process_each_reload_and_the_end() {
    let server = Server::start(Kind::ProFtpd);
    let manager = Manager::new();
    let mut gateway = Gateway::to(&server).env("NOTIFY_SOCKET", manager.path()).start();
    assert_eq!(manager.hear(), ready(gateway.process.id()));
    gateway.sighup();
    let reloading = manager.hear();
    assert_eq!(reloading[0], "RELOADING=1");
    assert!(reloading[1].starts_with("MONOTONIC_USEC="), "{reloading:?}");
    assert_eq!(manager.hear(), ready(gateway.process.id()));
    let mut session = Ftp::login(gateway.address, &server);
    let mut before = gateway.hand_over();
    // The old one says so first: systemd need not listen to any other (NotifyAccess=main).
    assert_eq!(manager.hear(), [format!("MAINPID={}", gateway.process.id())]);
    assert_eq!(manager.hear(), ready(gateway.process.id()));
    // The old one is not the service any more, and its end is nobody's business.
    session.command("QUIT").expect(&[221]);
    assert_eq!(before.wait().code(), Some(0));
    gateway.sigterm();
    let stopping = manager.hear();
    assert_eq!(stopping[0], "STOPPING=1");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn the_watchdog_hears_of_the_process_that_serves_only() {
    let server = Server::start(Kind::ProFtpd);
    let manager = Manager::new();
    let mut gateway = Gateway::to(&server)
        .env("NOTIFY_SOCKET", manager.path())
        .env("WATCHDOG_USEC", "200000")
        .start();
    manager.hear();
    let took = manager.signs_of_life(10);
    assert!(took >= Duration::from_millis(500), "one each 100 ms: {took:?}");
    let _session = Ftp::login(gateway.address, &server);
    let before = gateway.hand_over();
    gateway.sigkill();
    eventually("the old process to know", || {
        before.output().contains("the process that has taken over has ended").then_some(())
    });
    // What is on the way is read; then there is silence.
    manager.socket.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    while manager.socket.recv(&mut [0; 4096]).is_ok() {}
}

#[test]
fn sockets_that_systemd_opens_are_taken_and_clients_come_before_the_process_is_there() {
    let server = Server::start(Kind::ProFtpd);
    let mut gateway = Gateway::to(&server).activated(2121).activated(9121).activated(8192);
    gateway = gateway.passive("8192");
    let mut gateway = gateway.start();
    let mut session = Ftp::login(gateway.address, &server);
    session.upload("STOR activated", b"activated").expect(&[226]);
    assert_eq!(server.read("activated"), b"activated");
    assert_eq!(gateway.get("/livez").0, 200);
    // They are bound once: had they been bound again, this would not have gone well.
    let before = gateway.hand_over();
    session.upload("STOR later", b"later").expect(&[226]);
    drop(before);
}

#[test]
fn a_socket_that_nobody_wants_is_told() {
    let server = Server::start(Kind::ProFtpd);
    let mut gateway = Gateway::to(&server).activated(2121).activated(2999).start_only();
    assert_eq!(gateway.wait().code(), Some(1));
    let host: IpAddr = gateway.address.ip();
    let told = format!("a socket that listens on {host}:2999, which is no [[listener]]");
    assert!(gateway.log().contains(&told), "{}", gateway.log());
    assert!(TcpStream::connect(gateway.address).is_err());
}
