//! How often memory is asked for: by the protocol for a command, for a transfer and for a session that
//! is idle, and by a whole gateway for a command. Each is exact, so that one more is seen. A test binary
//! of its own, as it has an allocator that counts (each thread's by itself).

// These lints spare functions marked #[test], but not what such functions call.
#![allow(missing_docs, clippy::unwrap_used, clippy::string_slice)]

#[expect(dead_code, reason = "ports of ::1 are for others")]
#[path = "it/harness/address.rs"]
mod address;
#[path = "../benches/common/session.rs"]
mod session;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::spawn;

use allocation_counter::{AllocationInfo, measure};
use ftpgate::config::Config;
use ftpgate::ftp::Dialogue;
use ftpgate::gateway::{Gateway, Inherited, Threads};
use ftpgate::observe::audit::AuditLog;
use ftpgate::observe::metrics::Metrics;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use session::Session;

/// What it takes when it is not the first of its kind, which makes room that stays.
fn counted(mut step: impl FnMut(&mut Session)) -> AllocationInfo {
    let mut session = Session::logged_in();
    step(&mut session);
    let (answers, complete) = (session.answers, session.complete);
    let counted = measure(|| step(&mut session));
    assert!(session.is_idle() && session.answers > answers, "it was not answered");
    assert!(complete == 0 || session.complete == complete + 1, "it was not complete");
    assert_eq!(counted.count_current, 0, "it leaves something behind");
    counted
}

#[test]
fn a_noop_takes_three_allocations() {
    // The client's line, the upstream's, and the reply.
    assert_eq!(counted(Session::noop).count_total, 3);
}

#[test]
fn a_transfer_takes_nine_allocations() {
    // Four of them for PASV, which is EPSV upstream, and both its replies. Then the client's command, the
    // upstream's, what is kept of the transfer, and the upstream's two replies.
    assert_eq!(counted(Session::download).count_total, 9);
    assert_eq!(counted(Session::upload).count_total, 9);
}

#[test]
fn an_idle_session_holds_little() {
    let mut session = None;
    let held = measure(|| session = Some(Session::logged_in()));
    assert!(session.is_some_and(|session| session.is_idle()));
    assert!(held.bytes_current <= 1024, "{} bytes", held.bytes_current);
    assert!(size_of::<Dialogue>() <= 640, "{} bytes", size_of::<Dialogue>());
}

#[test]
fn a_noop_takes_no_more_through_a_whole_gateway() {
    const COMMANDS: u64 = 1000;
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = runtime.block_on(async { gateway(upstream.local_addr().unwrap()) });
    let address = gateway.addresses().remove(0);
    spawn(move || answer(&upstream.accept().unwrap().0));
    runtime.spawn(gateway.run(CancellationToken::new()));
    let (ready, is_ready) = oneshot::channel();
    let (go, may_go) = mpsc::channel();
    let (done, is_done) = oneshot::channel();
    spawn(move || {
        let client = TcpStream::connect(address).unwrap();
        let mut replies = BufReader::new(&client);
        let mut say = |line: &str, code: &str| {
            (&client).write_all(line.as_bytes()).unwrap();
            let mut reply = String::new();
            replies.read_line(&mut reply).unwrap();
            assert!(reply.starts_with(code), "{line}{reply}");
        };
        say("", "220");
        say("USER ann\r\n", "331");
        say("PASS x\r\n", "230");
        ready.send(()).unwrap();
        may_go.recv().unwrap();
        (0..COMMANDS).for_each(|_| say("NOOP\r\n", "200"));
        done.send(()).unwrap();
    });
    runtime.block_on(is_ready).unwrap();
    let counted = measure(|| {
        go.send(()).unwrap();
        runtime.block_on(is_done).unwrap();
    });
    assert_eq!(counted.count_total / COMMANDS, 3, "{counted:?}");
}

/// One that looks after no health, so that nothing else is done in its thread.
fn gateway(upstream: SocketAddr) -> Gateway {
    let config = format!(
        r#"
            listener = [{{ address = "{}:2121" }}]
            upstream.endpoint = [{{ address = "{upstream}" }}]
            probe.depth = "off"
            admin.enabled = false
            http.enabled = false
        "#,
        address::unused()
    );
    let config = Config::parse(&config, "test").unwrap();
    let metrics = Metrics::new().unwrap();
    let audit = AuditLog::disabled(metrics.clone());
    Gateway::bind(&config, &mut Inherited::default(), metrics, audit, Threads::here()).unwrap()
}

/// An upstream that agrees to everything.
fn answer(mut gateway: &TcpStream) {
    gateway.write_all(b"220 ready\r\n").unwrap();
    for line in BufReader::new(gateway).lines() {
        let reply: &[u8] = match &line.unwrap()[..4] {
            "USER" => b"331 password\r\n",
            "PASS" => b"230 in\r\n",
            _ => b"200 ok\r\n",
        };
        gateway.write_all(reply).unwrap();
    }
}
