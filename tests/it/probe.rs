//! Probes up to a listing: how far each depth goes, and what is said of endpoints that fail.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;

use tempfile::TempDir;

use crate::harness::canned::Answer::{Leave, Say};
use crate::harness::canned::CannedServer;
use crate::harness::gateway::Gateway;
use crate::harness::probes::STAGES;
use crate::harness::scripted::{listen, mute};
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::{address, eventually};

#[test]
fn each_depth_goes_as_far_as_it_says() {
    let server = Server::start(Kind::ApacheFtpServer);
    for (depth, count) in [("tcp", 1), ("banner", 2), ("login", 3), ("list", 4)] {
        let gateway = Gateway::probing(server.address, depth).probe_password(PASSWORD).start();
        assert_eq!(gateway.until_healthy(server.address), STAGES[..count]);
        assert!(!gateway.log().contains(PASSWORD), "{}", gateway.log());
    }
}

#[test]
fn what_is_wrong_with_an_endpoint_is_named() {
    let garbage = |mut stream: TcpStream| drop(stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n"));
    let canned = |verb, text| CannedServer::script().says(verb, text).start();
    let banner = |text: &[u8]| CannedServer::script().banner(text).start();
    let leaving = |verb| CannedServer::script().on(verb, &[Leave]).start();
    let listing_without_end = listing_without_end();
    // What needs to be kept until the end.
    let servers = [
        ("banner", "banner: 421: it takes no more sessions", banner(b"421 full\r\n")),
        ("login", "banner: 421: it takes no more sessions", banner(b"421 full\r\n")),
        ("banner", "banner: its banner is a 550", banner(b"550 no\r\n")),
        ("login", "banner: its banner is a 550", banner(b"550 no\r\n")),
        ("login", "login: no login within 1s", canned("USER", b"")),
        ("login", "login: no login within 1s", canned("PASS", b"")),
        ("login", "login: 421: it takes no more sessions", canned("PASS", b"421 full\r\n")),
        (
            "login",
            "login: 530: it refuses the user or the password",
            canned("PASS", b"530 {argument}\r\n"),
        ),
        ("login", "login: 530: it refuses the user or the password", canned("USER", b"530 no\r\n")),
        ("login", "login: 332: it does not let the user in", canned("PASS", b"332 {argument}\r\n")),
        ("login", "login: it closed the connection", leaving("PASS")),
        ("login", "login: it does not speak FTP", canned("USER", b"what is that?\r\n")),
        (
            "list",
            "list: CWD to probe.directory: 550 no such \\u001b[31mthing",
            canned("CWD", b"550 no such \x1b[31mthing\r\n550 x\r\n"),
        ),
        ("list", "list: 550 no", canned("LIST", b"550 no\r\n")),
        ("list", "list: 425 no port", canned("EPSV", b"425 no port\r\n")),
        ("list", "list: it closed the connection", leaving("LIST")),
        ("list", "list: no listing, or no end of it, within 1s", canned("LIST", b"150 wait\r\n")),
    ];
    let listeners = [
        ("tcp", "connect: Connection refused", SocketAddr::from((address::unused(), 2121))),
        ("banner", "banner: nothing within 1s", mute()),
        ("login", "banner: nothing within 1s", mute()),
        ("banner", "banner: it does not speak FTP", listen(garbage)),
        ("login", "banner: it does not speak FTP", listen(garbage)),
        ("banner", "banner: it closed the connection without a banner", listen(drop)),
        ("login", "banner: it closed the connection", listen(drop)),
        ("banner", "banner: it does not speak FTP: a reply larger than", listen(endless_banner)),
        ("login", "banner: the server sent a reply larger than", listen(endless_banner)),
        ("list", "list: the listing is longer than 16 MiB", listing_without_end),
    ];
    let cases: Vec<(&str, &str, SocketAddr)> = servers
        .iter()
        .map(|(depth, reason, server)| (*depth, *reason, server.address))
        .chain(listeners)
        .collect();
    thread::scope(|scope| {
        for (depth, reason, endpoint) in cases {
            scope.spawn(move || {
                let password = "hunter2 and more";
                let gateway = Gateway::probing(endpoint, depth).probe_password(password).start();
                let reason = gateway.until_unhealthy(endpoint, reason);
                assert!(!reason.contains(char::is_control), "{reason:?}");
                assert!(!reason.contains("hunter2"), "{reason}");
                assert!(!gateway.log().contains("hunter2"), "{}", gateway.log());
            });
        }
    });
}

fn endless_banner(mut stream: TcpStream) {
    let _ = stream.write_all(b"220-x\r\n");
    while stream.write_all(&[b'x'; 65536]).is_ok() {}
}

/// A server whose listing never ends.
fn listing_without_end() -> SocketAddr {
    listen(|control| {
        let _ = serve_listing(&control, |mut data| while data.write_all(&[b'x'; 65536]).is_ok() {});
    })
}

/// Listings that `list` writes.
fn serve_listing(mut control: &TcpStream, list: impl Fn(TcpStream)) -> std::io::Result<()> {
    let data = TcpListener::bind((control.local_addr()?.ip(), 0))?;
    let port = data.local_addr()?.port();
    control.write_all(b"220 ready\r\n")?;
    for line in BufReader::new(control).lines() {
        let line = line?;
        let reply = match line.get(..4) {
            Some("USER") => "331 password".into(),
            Some("PASS") => "230 in".into(),
            Some("EPSV") => format!("229 ok (|||{port}|)"),
            Some("LIST") => "150 here".into(),
            _ => "200 ok".into(),
        };
        control.write_all(format!("{reply}\r\n").as_bytes())?;
        if line == "LIST" {
            list(data.accept()?.0);
            control.write_all(b"226 done\r\n")?;
        }
    }
    Ok(())
}

#[test]
fn what_an_endpoint_sends_without_end_is_not_kept() {
    for (depth, result, endpoint) in [
        ("banner", "banner", listen(endless_banner)),
        ("login", "banner", listen(endless_banner)),
        ("list", "list", listing_without_end()),
    ] {
        let gateway = Gateway::probing(endpoint, depth).probe_password(PASSWORD).start();
        gateway.wait_for_probes(endpoint, result, 3);
        let before = gateway.resident_kib();
        gateway.wait_for_probes(endpoint, result, 10);
        let grown = gateway.resident_kib() - before;
        assert!(grown < 4096, "{depth}: {grown} KiB");
    }
}

#[test]
fn a_probe_says_quit_and_dials_no_data_port_but_its_own() {
    for (depth, commands) in [
        ("banner", vec!["QUIT"]),
        ("login", vec!["USER alice", "PASS secret", "QUIT"]),
        ("list", vec!["USER alice", "PASS secret", "CWD /", "EPSV", "LIST", "QUIT"]),
    ] {
        let server = CannedServer::script().start();
        let gateway = Gateway::probing(server.address, depth).probe_password(PASSWORD).start();
        gateway.wait_for_probes(server.address, "ok", 1);
        assert_eq!(server.heard()[..commands.len()], commands);
        assert!(!server.was_dialled(), "{depth}");
    }
}

#[test]
fn a_listing_works_with_whatever_the_endpoint_offers() {
    for script in [
        // No EPSV; the host in its 227 is 0.0.0.0.
        CannedServer::script().says("EPSV", b"502 not implemented\r\n"),
        // No passive port for a moment.
        CannedServer::script().on(
            "EPSV",
            &[
                Say(b"425 Can't open passive connection.\r\n"),
                Say(b"425 Can't open passive connection.\r\n"),
                Say(b"229 ok (|||{port}|)\r\n"),
            ],
        ),
        // RFC 959 5.4: ready in a moment.
        CannedServer::script().banner(b"120-soon\r\n120 soon\r\n220-now\r\n220 now\r\n"),
        CannedServer::script().in_pieces(),
    ] {
        let server = script.start();
        let gateway = Gateway::probing(server.address, "list").probe_password(PASSWORD).start();
        gateway.until_healthy(server.address);
    }
}

#[test]
fn both_connections_of_a_probe_leave_from_the_source_address() {
    let source = address::unused();
    let listener = TcpListener::bind((address::unused(), 2121)).unwrap();
    let endpoint = listener.local_addr().unwrap();
    let (peers, seen) = channel();
    thread::spawn(move || {
        for control in listener.incoming().flatten() {
            let mut both = vec![control.peer_addr().unwrap().ip()];
            let (data_peers, data_seen) = channel();
            let _ = serve_listing(&control, |data| {
                data_peers.send(data.peer_addr().unwrap().ip()).unwrap();
            });
            both.extend(data_seen.try_iter());
            let _ = peers.send(both);
        }
    });
    let gateway = Gateway::probing(endpoint, "list")
        .probe_password(PASSWORD)
        .set("upstream", &format!("source_addresses = [\"{source}\"]"))
        .start();
    assert_eq!(seen.recv().unwrap(), [IpAddr::from(source); 2]);
    gateway.until_healthy(endpoint);
}

#[test]
fn a_refused_password_is_tried_again_only_if_it_has_changed() {
    let server = CannedServer::script().says("PASS", b"530 no\r\n").start();
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("password");
    fs::write(&file, "first\n").unwrap();
    let gateway = Gateway::probing(server.address, "login")
        .set("probe.password", &format!("file = \"{}\"", file.display()))
        .start();
    gateway.wait_for_probes(server.address, "login", 3);
    let pass = |heard: &[String]| -> Vec<String> {
        heard.iter().filter(|line| line.starts_with("PASS")).cloned().collect()
    };
    let heard = server.heard();
    assert!(pass(&heard).iter().all(|line| line == "PASS first"), "{heard:?}");
    let logins = |heard: &[String]| heard.iter().filter(|line| *line == "USER alice").count();
    assert!(pass(&heard).len() <= logins(&heard), "{heard:?}");
    let quits = heard.iter().filter(|line| *line == "QUIT").count();
    assert!(logins(&heard) - quits <= 1, "one login in each probe: {heard:?}");

    fs::write(&file, "second\n").unwrap();
    eventually("the other password", || {
        server.heard().contains(&"PASS second".into()).then_some(())
    });
    let after = server.times("PASS first");
    gateway.wait_for_probes(server.address, "login", 3);
    assert_eq!(server.times("PASS first"), after, "the old one is forgotten");
    assert!(!gateway.log().contains("second"), "{}", gateway.log());
}
