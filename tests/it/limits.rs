//! Limits and time-outs: who exceeds them is told why, and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::canned::CannedServer;
use crate::harness::ftp::{Ftp, connect, fin};
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::scripted::{Cut, ScriptedServer};
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::{address, bytes, eventually};

/// Memory that a gateway may take in KiB for whatever one client does.
const LITTLE: i64 = 2048;

/// A gateway before a plain canned server.
fn gateway() -> (CannedServer, GatewayOptions<'static>) {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address);
    (server, gateway)
}

fn login(gateway: &Gateway) -> Ftp {
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    client
}

/// What a client is told that gets no session.
fn refusal(gateway: &Gateway) -> String {
    let mut client = Ftp::knock(gateway.address);
    let text = client.reply().expect(&[421]).text;
    assert!(client.is_closed());
    text
}

#[test]
fn sessions_over_a_limit_get_421_with_the_reason_and_a_place_comes_back() {
    for (limit, reason, label) in [
        ("sessions = 2", "421 Too many sessions; try again later.\r\n", "limit"),
        (
            "sessions_per_client = 2",
            "421 Too many sessions from your address; try again later.\r\n",
            "client-limit",
        ),
    ] {
        let gateway = gateway().1.set("limits", limit).start();
        let mut first = Ftp::connect(gateway.address);
        let second = Ftp::connect(gateway.address);
        assert_eq!(refusal(&gateway), reason);
        let refused = format!("ftpgate_sessions_refused_total{{reason=\"{label}\"}}");
        assert_eq!(gateway.metric(&refused), 1.0);
        if label == "client-limit" {
            Ftp::connect_from(address::unused().into(), gateway.address);
        }
        // One leaves in order, the other does not.
        first.command("QUIT").expect(&[221]);
        drop((first, second));
        eventually("the places to come back", || {
            (gateway.metric("ftpgate_sessions") == 0.0).then_some(())
        });
        let _again = [(); 2].map(|()| login(&gateway));
    }
}

#[test]
fn a_client_without_a_server_behind_the_gateway_gets_421() {
    let gateway = Gateway::to_address((address::unused(), 2121).into()).start();
    assert_eq!(refusal(&gateway), "421 No FTP server can be reached now; try again later.\r\n");
}

#[test]
fn each_time_out_says_what_it_was() {
    let gateway = gateway().1.set("timeouts", "idle = \"300ms\"").start();
    let mut idle = login(&gateway);
    assert_eq!(idle.reply().text, "421 Idle for too long.\r\n");
    assert!(idle.is_closed());

    let silent = CannedServer::script().says("NOOP", b"").start();
    let gateway = Gateway::to_address(silent.address).set("timeouts", "reply = \"300ms\"").start();
    let mut client = login(&gateway);
    assert_eq!(client.command("NOOP").text, "421 The FTP server does not answer.\r\n");
    assert!(client.is_closed());
}

#[test]
fn a_client_that_does_not_come_to_its_data_port_gets_425_and_keeps_its_session() {
    let server = Server::start(Kind::ApacheFtpServer);
    server.write("file", b"x");
    let gateway = Gateway::to(&server).set("timeouts", "data_connect = \"300ms\"").start();
    for command in ["STOR never", "RETR file", "LIST"] {
        let mut client = Ftp::login(gateway.address, &server);
        client.pasv();
        client.send(command);
        let reply = client.final_reply();
        assert_eq!(reply.text, "425 Can't open data connection: nobody came to it in time.\r\n");
        if command != "STOR never" {
            let (content, reply) = client.download("RETR file");
            assert_eq!((content.as_slice(), reply.code), (&b"x"[..], 226), "after {command}");
        }
    }
}

#[test]
fn the_login_time_out_runs_whatever_the_client_does_but_log_in() {
    let refusing = CannedServer::script().says("PASS", b"530 no\r\n").start();
    let gateway =
        Gateway::to_address(refusing.address).set("timeouts", "login = \"500ms\"").start();
    /// Says something every now and then, until told that it is over.
    fn nag(gateway: &Gateway, what: &str) -> String {
        let started = Instant::now();
        let mut client = connect(gateway.address, None).unwrap();
        let mut writer = client.try_clone().unwrap();
        let (mut told, mut part) = (String::new(), [0; 256]);
        client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        while !told.contains("\n421 ") {
            assert!(started.elapsed() < Duration::from_secs(10), "{told}");
            let _ = writer.write_all(what.as_bytes());
            match client.read(&mut part) {
                Ok(count) => told += &String::from_utf8_lossy(&part[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{told}"),
            }
        }
        assert!(started.elapsed() > Duration::from_millis(450), "{told}");
        told
    }
    for (what, seen) in
        [("", "220"), ("x", "220"), ("NOOP\r\n", "200"), ("USER a\r\nPASS b\r\n", "530")]
    {
        let told = nag(&gateway, what);
        assert!(
            told.contains(seen) && told.ends_with("421 No login in time.\r\n"),
            "{what}: {told}"
        );
    }
    let ends = gateway.metric("ftpgate_session_ends_total{reason=\"login-timeout\"}");
    assert!(ends >= 3.0, "{ends}");
}

#[test]
fn the_idle_time_out_does_not_run_during_a_transfer() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).set("timeouts", "idle = \"400ms\"").start();
    let mut client = Ftp::login(gateway.address, &server);
    let mut data = client.begin("STOR slow");
    let started = Instant::now();
    let content = bytes(1, 40);
    for byte in content.chunks(1) {
        data.write_all(byte).unwrap();
        thread::sleep(Duration::from_millis(30));
    }
    assert!(started.elapsed() > Duration::from_millis(800));
    fin(&data);
    client.final_reply().expect(&[226]);
    assert_eq!(server.read("slow"), content);
    assert_eq!(client.reply().text, "421 Idle for too long.\r\n");
}

#[test]
fn a_flood_of_commands_is_slowed_down_and_not_refused() {
    let gateway = gateway().1.set("limits", "commands_per_second = 50").start();
    let mut client = login(&gateway);
    let started = Instant::now();
    // The first second's worth is free.
    client.stream().write_all("NOOP\r\n".repeat(150).as_bytes()).unwrap();
    (0..150).for_each(|_| drop(client.reply().expect(&[200])));
    assert!(started.elapsed() > Duration::from_millis(1500), "{:?}", started.elapsed());
}

#[test]
fn a_client_over_its_pace_is_not_read() {
    let gateway = gateway().1.set("limits", "commands_per_second = 1").start();
    let client = login(&gateway);
    let mut stream = client.stream();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let (flood, mut sent) = (b"NOOP\r\n".repeat(100_000), 0);
    let full = loop {
        match stream.write(&flood[sent % flood.len()..]) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < 40 << 20, "the gateway has taken {sent} bytes of commands");
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_flood_of_commands_is_answered_in_order_and_takes_no_memory() {
    let counting = CannedServer::script().says("SIZE", b"213 {argument}\r\n").start();
    let gateway = Gateway::to_address(counting.address)
        .set("limits", "commands_per_second = 1000000")
        .start();
    let mut client = login(&gateway);
    let mut writer = client.stream().try_clone().unwrap();
    let before = gateway.resident_kib();
    // Answers of the gateway's own must keep their place among the server's.
    let flood: String = (0..10_000).map(|number| format!("SIZE {number}\r\nMODE Z\r\n")).collect();
    let flood = thread::spawn(move || writer.write_all(flood.as_bytes()).unwrap());
    for number in 0..10_000 {
        assert_eq!(client.reply().text, format!("213 {number}\r\n"));
        client.reply().expect(&[504]);
    }
    flood.join().unwrap();
    let grown = gateway.resident_kib() - before;
    assert!(grown < LITTLE, "{grown} KiB for a flood of commands");
}

#[test]
fn memory_of_sessions_that_have_ended_goes_back_to_the_system() {
    let gateway = gateway().1.start();
    let sessions: Vec<_> = (0..400).map(|_| login(&gateway)).collect();
    let most = gateway.anonymous_kib();
    drop(sessions);
    // What has grown for good, such as the logs' buffers, is nearly as much as so few sessions take:
    // of 5,000 all but a twentieth goes back.
    eventually("the memory to go back", || (most - gateway.anonymous_kib() > 400).then_some(()));
}

#[test]
fn an_endless_reply_ends_the_session_and_takes_no_memory() {
    let endless = ScriptedServer::start(Cut::EndlessReply);
    let gateway =
        Gateway::to_address(endless.address()).set("limits", "reply_size = 65536").start();
    let mut client = login(&gateway);
    let before = gateway.resident_kib();
    let reply = client.command("NOOP").expect(&[421]);
    assert_eq!(reply.text, "421 The FTP server sent a reply larger than limits.reply_size.\r\n");
    let grown = gateway.resident_kib() - before;
    assert!(grown < LITTLE, "{grown} KiB for an endless reply");
}

#[test]
fn a_line_that_is_no_command_is_answered_once_and_never_reaches_the_server() {
    let (server, options) = gateway();
    let gateway = options.set("limits", "line_length = 512").start();
    let mut client = login(&gateway);
    let heard = server.heard().len();
    let before = gateway.resident_kib();
    let long = |length: usize| [&b"STAT "[..], &vec![b'x'; length - 5], b"\r\n"].concat();
    let too_long = "500 Command line too long.\r\n";
    for (line, told) in [
        (long(513), too_long),
        (long(1 << 20), too_long),
        // Nor does its tail count as a command.
        ([vec![b'x'; 8 << 20], b" \rDELE all\r\n".to_vec()].concat(), too_long),
        (b"DELE a\0b\r\n".to_vec(), "501 Not forwarded: a NUL inside the line.\r\n"),
        (
            b"CWD x\rDELE y\r\n".to_vec(),
            "501 Not forwarded: a carriage return inside the line.\r\n",
        ),
        (b"PWD\r\r\n".to_vec(), "501 Not forwarded: a carriage return inside the line.\r\n"),
        (b"\r\n".to_vec(), "500 Empty command line.\r\n"),
        (b" \t\n".to_vec(), "500 Empty command line.\r\n"),
    ] {
        client.stream().write_all(&line).unwrap();
        let shown = line[..line.len().min(20)].escape_ascii().to_string();
        assert_eq!(client.reply().text, told, "{shown}");
        client.command("NOOP").expect(&[200]);
    }
    let grown = gateway.resident_kib() - before;
    assert!(grown < LITTLE, "{grown} KiB for long lines");
    assert_eq!(server.heard()[heard..], ["NOOP"; 8]);
    // The limit itself still passes, whatever ends the line.
    for end in ["\r\n", "\n"] {
        let line = String::from_utf8(long(512)).unwrap().trim_end().to_owned();
        client.stream().write_all(format!("{line}{end}").as_bytes()).unwrap();
        client.reply().expect(&[200]);
        assert_eq!(server.heard().pop().unwrap(), line);
    }
}

#[test]
fn a_web_browser_is_told_where_it_is_and_nothing_of_it_reaches_the_server() {
    let (server, options) = gateway();
    let gateway = options.start();
    for request in [
        "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n",
        // A page that would have the browser speak FTP.
        "POST / HTTP/1.1\r\nHost: gateway\r\n\r\nUSER anyone\r\nPASS word\r\nDELE all\r\n",
        "CONNECT inside:22 HTTP/1.1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\n\r\n",
    ] {
        let mut client = connect(gateway.address, None).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut told = String::new();
        client.read_to_string(&mut told).unwrap();
        assert_eq!(told, "220 canned\r\n500 This is an FTP gateway.\r\n");
    }
    assert!(server.heard().is_empty(), "{:?}", server.heard());
}

#[test]
fn the_place_of_a_client_that_reads_nothing_comes_back() {
    let (_server, options) = gateway();
    let gateway =
        options.set("limits", "sessions = 1").set("timeouts", "login = \"500ms\"").start();
    // It reads not even its banner, and closes nothing.
    let deaf = connect(gateway.address, None).unwrap();
    eventually("its session", || (gateway.metric("ftpgate_sessions") == 1.0).then_some(()));
    eventually("its end", || (gateway.metric("ftpgate_sessions") == 0.0).then_some(()));
    let mut next = login(&gateway);
    next.command(&format!("SITE {PASSWORD}")).expect(&[200]);
    drop(deaf);
}
