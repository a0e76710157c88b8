//! Servers behind the gateway that are dead, slow or say strange things: the client notices
//! nothing, or is told in one reply.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::harness::canned::Answer::{Leave, Say};
use crate::harness::canned::{CONTENT, CannedServer, Script};
use crate::harness::ftp::{End, Ftp, connect, read_to_end};
use crate::harness::gateway::Gateway;
use crate::harness::scripted::{listen, mute};
use crate::harness::{address, eventually};

/// A gateway before such a server, and a client that has logged in there.
fn session(script: Script) -> (CannedServer, Gateway, Ftp) {
    let server = script.start();
    let gateway = Gateway::to_address(server.address).start();
    let client = login(&gateway);
    (server, gateway, client)
}

fn login(gateway: &Gateway) -> Ftp {
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    client
}

/// Whether the data connection of a listing works.
fn assert_lists(client: &mut Ftp) {
    let (listing, reply) = client.download("LIST");
    assert_eq!((listing.as_slice(), reply.code), (CONTENT, 226));
}

#[test]
fn a_server_that_does_not_serve_is_passed_over_and_the_client_never_sees_it() {
    let nobody = SocketAddr::from((address::unused(), 2121));
    let dead: [(&str, SocketAddr, Duration); 7] = [
        ("connect-error", nobody, Duration::ZERO),
        ("banner-error", listen(drop), Duration::ZERO),
        (
            "banner-error",
            listen(|mut stream| drop(stream.write_all(b"SSH-2.0-nothing here\r\n"))),
            Duration::ZERO,
        ),
        (
            "refused",
            listen(|mut stream| drop(stream.write_all(b"421 too many\r\n"))),
            Duration::ZERO,
        ),
        ("banner-timeout", mute(), Duration::from_millis(400)),
        // It says 120 and never 220.
        (
            "banner-timeout",
            CannedServer::script().banner(b"120 soon\r\n").start().address,
            Duration::from_millis(400),
        ),
        // A banner that never ends.
        (
            "banner-error",
            listen(|mut stream| {
                let _ = stream.write_all(b"220-x\r\n");
                while stream.write_all(&[b'x'; 4096]).is_ok() {}
            }),
            Duration::ZERO,
        ),
    ];
    let live = CannedServer::script().banner(b"220 the live one\r\n").start();
    for (result, endpoint, wait) in dead {
        let gateway = Gateway::to_address(endpoint)
            .or_to_address(live.address)
            .set("upstream", "banner_timeout = \"400ms\"")
            .start();
        let series = format!(
            "ftpgate_upstream_connects_total{{endpoint=\"{endpoint}\",result=\"{result}\"}}"
        );
        // For a while after the first time it is tried last, that is not at all.
        for attempt in 0..2 {
            let started = Instant::now();
            assert_eq!(Ftp::knock(gateway.address).reply().text, "220 the live one\r\n");
            let took = started.elapsed();
            assert!(attempt > 0 || took >= wait, "{result}: {took:?}");
            assert!(attempt == 0 || wait.is_zero() || took < wait, "{result} again: {took:?}");
            assert_eq!(gateway.metric(&series), 1.0);
        }
    }
}

#[test]
fn a_connection_attempt_into_the_void_is_given_up_in_time() {
    // A full queue of connections: the kernel drops further SYNs.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from((address::unused(), 2121)).into()).unwrap();
    full.listen(0).unwrap();
    let endpoint = full.local_addr().unwrap().as_socket().unwrap();
    let _queued = TcpStream::connect(endpoint).unwrap();
    let live = CannedServer::script().start();
    let gateway = Gateway::to_address(endpoint)
        .or_to_address(live.address)
        .set("upstream", "connect_timeout = \"300ms\"")
        .start();
    let started = Instant::now();
    login(&gateway);
    let took = started.elapsed();
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn where_no_server_serves_the_client_is_told_in_time() {
    let nobody = SocketAddr::from((address::unused(), 2121));
    let gateway = Gateway::to_address(nobody)
        .or_to_address(mute())
        .set("upstream", "banner_timeout = \"200ms\"")
        .start();
    let started = Instant::now();
    let mut client = Ftp::knock(gateway.address);
    let reply = client.reply();
    assert_eq!(reply.text, "421 No FTP server can be reached now; try again later.\r\n");
    assert!(client.is_closed());
    // Each endpoint is tried three times.
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_server_that_failed_is_first_again_after_a_while() {
    let first = SocketAddr::from((address::unused(), 2121));
    let second = CannedServer::script().banner(b"220 second\r\n").start();
    let gateway = Gateway::to_address(first)
        .or_to_address(second.address)
        .set("upstream", "retry_after = \"2s\"")
        .start();
    let banner = || Ftp::knock(gateway.address).reply().text;
    let started = Instant::now();
    assert_eq!(banner(), "220 second\r\n");
    let _first = CannedServer::script().banner(b"220 first\r\n").start_at(first);
    eventually("the first server's turn", || (banner() == "220 first\r\n").then_some(()));
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
}

#[test]
fn the_host_in_a_227_is_not_trusted() {
    for announced in [
        &b"227 ok (0,0,0,0,{high,low})\r\n"[..],
        // Another zone's address, one that leads nowhere, an attacker's choice.
        b"227 ok (10,2,4,99,{high,low})\r\n",
        b"227 ok (255,255,255,255,{high,low})\r\n",
        b"227 ok (127,0,0,1,{high,low})\r\n",
        // Spellings of old servers.
        b"227 Entering Passive Mode 127,0,0,1,{high,low}.\r\n",
        b"227-see (1,1,1,1,1,1)\r\n227 =1,2,3,4,{high,low}\r\n",
    ] {
        let script = CannedServer::script().says("EPSV", b"500 what?\r\n").says("PASV", announced);
        assert_lists(&mut session(script).2);
    }
}

#[test]
fn an_announced_host_is_used_where_the_operator_trusts_it() {
    let server = CannedServer::script()
        .says("EPSV", b"500 what?\r\n")
        .says("PASV", b"227 ok (127,0,0,1,{high,low})\r\n")
        .says("LIST", b"425 nobody came\r\n")
        .start();
    let gateway =
        Gateway::to_address(server.address).set("upstream", "passive_host = \"announced\"").start();
    let mut client = login(&gateway);
    // The reset may be there before connect(2) has returned.
    match connect(client.pasv(), None) {
        Ok(data) => assert_eq!(read_to_end(data).1, End::Reset),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    client.command("LIST").expect(&[425]);
    assert!(!server.was_dialled());
}

#[test]
fn a_server_without_a_good_229_is_asked_for_a_227_and_only_once_per_session() {
    for answer in [
        &b"500 unknown\r\n"[..],
        b"502 not implemented\r\n",
        b"522 use (2)\r\n",
        b"200 ok\r\n",
        b"229 Entering Extended Passive Mode\r\n",
        b"229 ok (|||0|)\r\n",
        b"229 ok (|||70000|)\r\n",
        b"229 ok (|||80\r\n",
    ] {
        let (server, _gateway, mut client) = session(CannedServer::script().says("EPSV", answer));
        let address = client.epsv();
        let data = client.open(address);
        client.command("LIST").expect(&[150]);
        assert_eq!(read_to_end(data), (CONTENT.to_vec(), End::Fin));
        client.reply().expect(&[226]);
        assert_lists(&mut client);
        assert_eq!(
            (server.times("EPSV"), server.times("PASV")),
            (1, 2),
            "{}",
            answer.escape_ascii()
        );
    }
}

#[test]
fn a_227_without_an_address_is_relayed_as_it_is() {
    for answer in [
        &b"227 Entering Passive Mode (1,2,3,4,5,600)\r\n"[..],
        b"227 Entering Passive Mode (1,2,3,4,5)\r\n",
        b"227 Entering Passive Mode (1,2,3,4,0,0)\r\n",
        b"227 Entering Passive Mode\r\n",
        b"227-(1,2,3,4,5,6)\n227 \xe9\n",
    ] {
        let script = CannedServer::script().says("EPSV", b"500 what?\r\n").says("PASV", answer);
        let (server, _gateway, client) = session(script);
        assert_hears(client.stream(), "PASV", answer);
        assert_hears(client.stream(), "LIST", b"425 Use PASV, EPSV, PORT or EPRT first.\r\n");
        assert_eq!(server.times("LIST"), 0);
    }
}

/// Sends a line and reads as many bytes as are expected, and those.
fn assert_hears(mut stream: &TcpStream, line: &str, expected: &[u8]) {
    if !line.is_empty() {
        stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }
    let mut heard = vec![0; expected.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{line}");
}

#[test]
fn a_port_out_of_range_is_never_dialled() {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address)
        // Below those that the kernel gives away.
        .set("upstream", "passive_ports = \"2000-2999\"")
        .start();
    let mut client = login(&gateway);
    for command in ["PASV", "EPSV"] {
        let reply = client.command(command);
        assert_eq!(reply.text, "425 The FTP server announced a port that it may not use.\r\n");
    }
    client.command("LIST").expect(&[425]);
    client.command("QUIT").expect(&[221]);
    assert!(!server.was_dialled());
}

#[test]
fn a_server_without_a_free_port_is_asked_again_and_the_client_sees_only_the_outcome() {
    let busy = Say(b"425 Can't open passive connection.\r\n");
    let soon = [busy, busy, busy, Say(b"229 ok (|||{port}|)\r\n")];
    let (server, _gateway, mut client) = session(CannedServer::script().on("EPSV", &soon));
    assert_lists(&mut client);
    assert_eq!(server.times("EPSV"), 4);

    let (server, _gateway, mut client) = session(CannedServer::script().on("EPSV", &[busy]));
    let reply = client.command("PASV");
    assert_eq!(reply.text, "425 Can't open passive connection.\r\n");
    assert_eq!(server.times("EPSV"), 7);
    client.command("NOOP").expect(&[200]);
}

/// Banners and replies that come out as they went in.
const VERBATIM: [(&str, &[u8]); 8] = [
    // Not only a transfer may be told to wait.
    ("CWD", b"150 looking\r\n250 there\r\n"),
    ("LANG", b"214-The following\r\n  USER PASS\r\n214-more\r\n214 end\r\n"),
    ("SITE", b"200 caf\xe9 \xff raw Latin-1\r\n"),
    ("SYST", b"215 bare line feed\n"),
    ("STAT", b"211-status\n 220 inner\r\n211\r\n"),
    ("PWD", b"257 \"/a \"\"quoted\"\" name\"  \r\n"),
    // Only the reply to our own PASV is an address (VU#328867).
    ("NOOP", b"227 Entering Passive Mode (1,2,3,4,5,6)\r\n"),
    ("MDTM", b"213-\r\n227 Entering Passive Mode (1,2,3,4,5,6)\r\n229 (|||99|)\r\n213 end\r\n"),
];

#[test]
fn replies_come_byte_for_byte_however_they_are_split() {
    let banner = b"220-Willkommen, gr\xfc\xdf Gott\r\n 220 not yet\n220-nor now\r\n220 ready\r\n";
    let plain = VERBATIM
        .into_iter()
        .fold(CannedServer::script(), |script, (verb, answer)| script.says(verb, answer));
    let early = [&b"120 in a minute\r\n"[..], banner].concat();
    for script in [plain.clone().banner(banner), plain.banner(&early).in_pieces()] {
        let server = script.start();
        let gateway = Gateway::to_address(server.address).start();
        let stream = connect(gateway.address, None).unwrap();
        assert_hears(&stream, "", banner);
        assert_hears(&stream, "USER anyone", b"331 password\r\n");
        assert_hears(&stream, "PASS word", b"230 in\r\n");
        for (verb, answer) in VERBATIM {
            assert_hears(&stream, verb, answer);
        }
        assert_hears(&stream, "LIST", b"425 Use PASV, EPSV, PORT or EPRT first.\r\n");
        assert_lists(&mut login(&gateway));
    }
}

#[test]
fn a_reply_that_nobody_asked_for_does_not_shift_the_others() {
    let script = CannedServer::script()
        .says("NOOP", b"200 ok\r\n226 unasked\r\n250 unasked\r\n")
        .says("PWD", b"257 \"/\"\r\n");
    let (_server, _gateway, mut client) = session(script);
    for _ in 0..10 {
        client.command("NOOP").expect(&[200]);
        client.command("PWD").expect(&[257]);
    }
}

#[test]
fn a_server_that_leaves_or_talks_nonsense_ends_the_session_with_421() {
    let closed = "421 The FTP server closed the connection.\r\n";
    for (answer, told, end) in [
        (Leave, closed, "upstream-closed"),
        (Say(b"421 maintenance\r\n"), "421 maintenance\r\n", "upstream-closed"),
        (
            Say(b"HTTP/1.1 400 Bad Request\r\n"),
            "421 The FTP server sent a line that is no FTP reply.\r\n",
            "protocol-error",
        ),
    ] {
        let (_server, gateway, mut client) = session(CannedServer::script().on("NOOP", &[answer]));
        assert_eq!(client.command("NOOP").text, told);
        assert!(client.is_closed());
        let series = format!("ftpgate_session_ends_total{{reason=\"{end}\"}}");
        eventually("the session to end", || (gateway.metric(&series) == 1.0).then_some(()));
    }
    // It leaves while nobody asks it anything.
    let (_server, _gateway, mut client) =
        session(CannedServer::script().on("TYPE", &[Say(b"200 ok\r\n421 bye\r\n")]));
    assert_eq!(client.reply().text, "421 bye\r\n");
    assert!(client.is_closed());
}
