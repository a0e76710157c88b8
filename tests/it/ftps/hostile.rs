//! Whoever sits on the line, scans ports or does not keep to TLS: refused, counted, and without
//! harm to anybody else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{before_canned, count};
use crate::harness::canned::{CONTENT, Visit};
use crate::harness::certificates::Authority;
use crate::harness::eventually;
use crate::harness::ftp::{Ftp, connect};
use crate::harness::ftps::Tls;
use crate::harness::gateway::Gateway;

const FAILED: &str = "ftpgate_tls_failures_total{connection=\"control\"}";
const INJECTED: &str = "ftpgate_session_ends_total{reason=\"plaintext-behind-auth\"}";
const LATE: &str = "ftpgate_session_ends_total{reason=\"handshake-timeout\"}";
/// How many begin a handshake and stop.
const SLOW: usize = 200;

/// A client with protected data is served.
#[track_caller]
fn assert_served(gateway: &Gateway, authority: &Authority) {
    let tls = Tls::new(authority, gateway.address.ip());
    let mut client = Ftp::private(gateway.address, &tls, "good");
    let (content, reply) = client.download("RETR file", &tls);
    assert_eq!((content.as_slice(), reply.code), (CONTENT, 226));
    client.command("QUIT").expect(&[221]);
}

/// All that comes until the end, whichever that is.
fn told(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// CVE-2011-0411: what is put behind AUTH in the clear must not count within TLS.
#[test]
fn nothing_that_comes_behind_auth_in_the_clear_is_ever_heard() {
    let authority = Authority::new();
    let (server, gateway) = before_canned(&authority);
    let gateway = gateway.start();
    let attack = b"AUTH TLS\r\nUSER evil\r\n";
    for pieces in [
        vec![&attack[..]],
        vec![b"AUTH TLS\r\n", b"USER evil\r\n"],
        vec![b"AUTH TLS\r", b"\nUSER evil\r\n"],
        vec![b"AUTH", b" TLS\r\nU", b"SER evil\r\n"],
        vec![b"AUTH TLS\r\nU", b"SER evil\r\n"],
        vec![b"AUTH TLS\r\nUSER evil\r", b"\n"],
        vec![b"AUTH TLS\nUSER evil\n"],
        vec![b"FEAT\r\nAUTH TLS\r\nUSER evil\r\n"],
        vec![b"NOOP\r\nAUTH TLS\r\nUSER evil\r\nPASS x\r\nDELE file\r\n"],
        vec![b"AUTH TLS\r\n\r\nUSER evil\r\n"],
    ] {
        let mut client = connect(gateway.address, None).unwrap();
        client.set_nodelay(true).unwrap();
        let mut banner = [0; 12];
        client.read_exact(&mut banner).unwrap();
        for piece in pieces {
            // It may be closed already, and the rest find nobody.
            let _ = client.write_all(piece);
            // So that they arrive as they are, mostly; whatever arrives must not be heard.
            thread::sleep(Duration::from_millis(5));
        }
        let told = told(client);
        assert!(!told.contains("331"), "{told}");
    }
    // What comes in one segment is seen before 234; what comes later is no ClientHello.
    let injected = eventually("all to be counted", || {
        let injected = gateway.metric(INJECTED);
        (injected + gateway.metric(FAILED) == 10.0).then_some(injected)
    });
    assert!(injected >= 4.0, "{injected} were seen");
    let heard = server.heard();
    let harmless = |line: &String| ["FEAT", "NOOP"].contains(&line.as_str());
    assert!(heard.iter().all(harmless), "the server heard {heard:?}");

    let mut client = Ftp::connect(gateway.address);
    client.stream().write_all(attack).unwrap();
    client.reply().expect(&[421]);
    assert!(client.is_closed());
    drop(client);
    eventually("it to be counted", || (gateway.metric(INJECTED) == injected + 1.0).then_some(()));
    assert_served(&gateway, &authority);
}

#[test]
fn whoever_has_said_something_that_counts_cannot_begin_tls_any_more() {
    let authority = Authority::new();
    let (_server, gateway) = before_canned(&authority);
    let gateway = gateway.start();
    for line in [
        "USER evil",
        "REST 100",
        "TYPE A",
        "CWD /evil",
        "PASV",
        "EPSV ALL",
        "OPTS UTF8 ON",
        "ALLO 1",
        "RNFR a",
        "XYZZY",
    ] {
        let mut client = Ftp::connect(gateway.address);
        client.command(line);
        client.command("AUTH TLS").expect(&[503]);
        client.command("NOOP").expect(&[200]);
    }
}

#[test]
fn whoever_sends_no_client_hello_is_closed_and_counted() {
    let authority = Authority::new();
    let (server, gateway) = before_canned(&authority);
    let gateway = gateway.also_listening("2990", "tls = \"implicit\"").start();
    let garbage: [&[u8]; 6] = [
        b"USER anyone\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff",
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
        &[0; 100],
    ];
    for (round, bytes) in garbage.into_iter().enumerate() {
        let mut client = Ftp::connect(gateway.address);
        client.command("AUTH TLS").expect(&[234]);
        client.stream().write_all(bytes).unwrap();
        let told = told(client.stream().try_clone().unwrap());
        assert!(!told.contains("331"), "{round}: {told}");
        eventually("it to be counted", || {
            (gateway.metric(FAILED) == (round + 1) as f64).then_some(())
        });
    }
    assert_eq!(server.heard(), Vec::<String>::new());
    let before = server.visits().len();
    for (round, bytes) in garbage.into_iter().enumerate() {
        let mut client = connect((gateway.address.ip(), 2990).into(), None).unwrap();
        client.write_all(bytes).unwrap();
        told(client);
        eventually("it to be counted", || {
            (gateway.metric(FAILED) == (6 + round + 1) as f64).then_some(())
        });
    }
    assert_eq!(server.visits().len(), before, "a server was bothered for them");
    assert_served(&gateway, &authority);
}

/// What `openssl s_client` prints, told `input` on its control connection.
fn s_client(to: SocketAddr, options: &[&str], input: &str) -> String {
    let mut openssl = Command::new("timeout")
        .args(["--kill-after=1", "30", "openssl", "s_client"])
        .args(["-starttls", "ftp", "-connect", &to.to_string()])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have gone already.
    let mut stdin = openssl.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes());
    let output = openssl.wait_with_output().unwrap();
    drop(stdin);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_client_that_renegotiates_is_refused_and_harms_nobody() {
    let authority = Authority::new();
    let (_server, gateway) = before_canned(&authority);
    let gateway = gateway.start();
    let tls = Tls::new(&authority, gateway.address.ip());
    let mut bystander = Ftp::private(gateway.address, &tls, "good");
    for round in 1..=3 {
        let printed = s_client(gateway.address, &["-tls1_2"], "R\n");
        assert!(printed.contains("RENEGOTIATING"), "{printed}");
        assert!(printed.contains("no renegotiation"), "{printed}");
        eventually("its session to end", || {
            (gateway.metric("ftpgate_sessions") == 1.0).then_some(())
        });
        let (content, reply) = bystander.download("RETR file", &tls);
        assert_eq!((content.as_slice(), reply.code), (CONTENT, 226), "round {round}");
    }
    assert_served(&gateway, &authority);
}

#[test]
fn whoever_speaks_only_what_is_too_old_is_told_so() {
    let authority = Authority::new();
    let (_server, gateway) = before_canned(&authority);
    let gateway = gateway.start();
    let weak = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    let printed = s_client(gateway.address, &weak, "");
    assert!(printed.contains("SSL alert number"), "{printed}");
    assert_eq!(gateway.metric(FAILED), 1.0);

    let (_server, newer) = before_canned(&authority);
    let newer = newer.set("tls", "min_version = \"1.3\"").start();
    let printed = s_client(newer.address, &["-tls1_2"], "");
    assert!(printed.contains("SSL alert number"), "{printed}");
    assert_served(&newer, &authority);
}

/// The ALPACA attack: a browser must not take this for a web server.
#[test]
fn whoever_wants_to_speak_something_else_within_tls_is_refused() {
    let authority = Authority::new();
    let (_server, gateway) = before_canned(&authority);
    let gateway = gateway.start();
    let shake = |protocol: &str| {
        let tls = Tls::for_protocol(protocol, &authority, gateway.address.ip());
        let mut client = Ftp::connect(gateway.address);
        client.command("AUTH TLS").expect(&[234]);
        tls.shake(client.stream().try_clone().unwrap())
    };
    for protocol in ["http/1.1", "h2", "imap"] {
        let refused = shake(protocol).map(drop).unwrap_err().to_string();
        assert!(refused.contains("NoApplicationProtocol"), "{protocol}: {refused}");
    }
    let accepted = shake("ftp").unwrap();
    assert_eq!(accepted.conn.alpn_protocol(), Some(&b"ftp"[..]));
}

#[test]
fn hundreds_that_begin_a_handshake_and_stop_are_closed_in_time_and_others_are_served() {
    let authority = Authority::new();
    let (server, gateway) = before_canned(&authority);
    let gateway = gateway
        .also_listening("2990", "tls = \"implicit\"")
        .set("timeouts", "tls_handshake = \"1s\"")
        .start();
    let implicit: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut client = connect((gateway.address.ip(), 2990).into(), None).unwrap();
            client.write_all(b"\x16").unwrap();
            client
        })
        .collect();
    let controls =
        || server.visits().iter().filter(|visit| matches!(visit, Visit::Control(_))).count();
    assert_eq!(controls(), 0, "an endpoint is held by who has not shown that it speaks TLS");
    let explicit: Vec<_> = (0..SLOW)
        .map(|_| {
            let mut client = Ftp::connect(gateway.address);
            client.command("AUTH TLS").expect(&[234]);
            client.stream().write_all(b"\x16").unwrap();
            client.stream().try_clone().unwrap()
        })
        .collect();
    assert_served(&gateway, &authority);
    implicit.into_iter().chain(explicit).for_each(|client| {
        told(client);
    });
    eventually("all to be counted", || {
        let counted = (gateway.metric(FAILED), gateway.metric(LATE));
        (counted == (SLOW as f64, SLOW as f64)).then_some(())
    });
    assert_eq!(controls(), SLOW + 1);
    assert_eq!(gateway.metric("ftpgate_sessions"), 0.0);
    assert_eq!(count(&gateway, INJECTED), 0.0);
    assert_served(&gateway, &authority);
}
