//! Sessions that outlive their endpoint: the client notices nothing, or is told the truth.

use std::io::{Read, Write};
use std::thread;

use tempfile::TempDir;

use crate::harness::canned::Answer::{Leave, Say};
use crate::harness::canned::CannedServer;
use crate::harness::ftp::Ftp;
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::{bytes, eventually};

const RESUMED: &str = "ftpgate_session_resumes_total{result=\"resumed\"}";
const FAILED: &str = "ftpgate_session_resumes_total{result=\"failed\"}";

/// Two endpoints over one directory, as Transfer Family's are over one bucket.
struct Pair {
    _root: TempDir,
    first: Server,
    second: Server,
}

impl Pair {
    fn start(kind: Kind) -> Self {
        let root = tempfile::tempdir().unwrap();
        let start = || Server::options(kind).root(root.path()).start();
        let (first, second) = (start(), start());
        Self { first, second, _root: root }
    }

    /// A gateway that prefers the first.
    fn gateway(&self) -> GatewayOptions<'static> {
        Gateway::to(&self.first).or_to(&self.second)
    }
}

#[test]
fn an_idle_session_outlives_its_server_with_directory_and_type() {
    thread::scope(|scope| {
        for kind in Kind::ALL {
            scope.spawn(move || outlives(kind));
        }
    });
}

fn outlives(kind: Kind) {
    let mut pair = Pair::start(kind);
    pair.first.create_dir("in");
    pair.first.create_dir("in/tray");
    let gateway = pair.gateway().start();
    let mut client = Ftp::login(gateway.address, &pair.first);
    client.command("TYPE I").expect(&[200]);
    client.command("CWD in").expect(&[250]);
    client.command("CWD tray").expect(&[250]);
    let there = client.command("PWD").text;

    pair.first.sigkill();
    assert_eq!(client.command("PWD").text, there, "{kind:?}");
    let content = bytes(1, 100_000);
    client.upload("STOR file", &content).expect(&[226]);
    assert_eq!(pair.second.read("in/tray/file"), content, "{kind:?}");
    let (read, reply) = client.download("RETR file");
    assert_eq!((read, reply.code), (content, 226), "{kind:?}");
    client.command("QUIT").expect(&[221]);

    assert_eq!(gateway.metric(RESUMED), 1.0);
    let endpoint = pair.second.address.to_string();
    assert!(gateway.audit_lines(2).iter().all(|line| line["endpoint"] == endpoint.as_str()));
    assert!(!gateway.log().contains(PASSWORD), "no password in any log line");
}

#[test]
fn the_idle_sessions_of_a_lost_server_all_go_on_at_once() {
    let mut pair = Pair::start(Kind::ApacheFtpServer);
    pair.first.create_dir("in");
    let gateway = pair.gateway().start();
    let mut clients: Vec<Ftp> =
        (0..500).map(|_| Ftp::login(gateway.address, &pair.first)).collect();
    for client in &mut clients {
        client.command("CWD in").expect(&[250]);
    }
    let series = format!("ftpgate_endpoint_sessions{{endpoint=\"{}\"}}", pair.first.address);
    assert_eq!(gateway.metric(&series), 250.0, "the sessions are spread over both");
    pair.first.sigkill();
    for client in &mut clients {
        client.send("PWD");
    }
    for client in &mut clients {
        let reply = client.reply().expect(&[257]);
        assert!(reply.text.contains("\"/in\""), "{}", reply.text);
    }
    assert_eq!((gateway.metric(RESUMED), gateway.metric(FAILED)), (250.0, 0.0));
}

#[test]
fn a_session_outlives_its_server_in_the_middle_of_its_login() {
    let mut pair = Pair::start(Kind::ApacheFtpServer);
    let gateway = pair.gateway().start();
    let mut client = Ftp::connect(gateway.address);
    client.command(&format!("USER {}", pair.first.kind.user())).expect(&[331]);
    pair.first.sigkill();
    client.command(&format!("PASS {PASSWORD}")).expect(&[230]);
    client.upload("STOR file", b"content").expect(&[226]);
    assert_eq!(pair.second.read("file"), b"content");
}

#[test]
fn a_second_login_in_a_session_never_makes_it_go_on_elsewhere() {
    thread::scope(|scope| {
        for kind in Kind::ALL {
            scope.spawn(move || logs_in_twice(kind));
        }
    });
}

/// Some servers refuse it, some are then in the first directory, some in the last one.
fn logs_in_twice(kind: Kind) {
    let mut pair = Pair::start(kind);
    pair.first.create_dir("in");
    let gateway = pair.gateway().start();
    let mut client = Ftp::login(gateway.address, &pair.first);
    client.command("CWD in").expect(&[250]);
    client.command(&format!("USER {}", kind.user()));
    client.command(&format!("PASS {PASSWORD}"));
    let there = client.command("PWD");
    pair.first.sigkill();
    let later = client.command("PWD");
    assert!(later.code == 421 || later.text == there.text, "{kind:?}: {}", later.text);
}

#[test]
fn a_lost_session_holds_no_place_and_its_passive_port_is_gone() {
    let mut pair = Pair::start(Kind::ApacheFtpServer);
    let gateway = pair.gateway().start();
    let mut client = Ftp::login(gateway.address, &pair.first);
    client.pasv();
    let sessions = |server: &Server| {
        gateway.metric(&format!("ftpgate_endpoint_sessions{{endpoint=\"{}\"}}", server.address))
    };
    assert_eq!((sessions(&pair.first), sessions(&pair.second)), (1.0, 0.0));
    pair.first.sigkill();
    eventually("its place to be free", || (sessions(&pair.first) == 0.0).then_some(()));
    client.command("STOR file").expect(&[425]);
    assert_eq!(sessions(&pair.second), 0.0, "that took no server");
    client.upload("STOR file", b"content").expect(&[226]);
    assert_eq!((sessions(&pair.first), sessions(&pair.second)), (0.0, 1.0));
    let (from, to) = (pair.first.address, pair.second.address);
    let resumed = format!("resume succeeded=true from={from} endpoint={to}");
    assert!(gateway.log().contains(&resumed), "{}", gateway.log());
}

#[test]
fn a_transfer_that_loses_its_server_is_told_and_can_be_done_again() {
    let content = bytes(2, 8 << 20);
    for upload in [true, false] {
        let mut pair = Pair::start(Kind::ApacheFtpServer);
        pair.first.write("down", &content);
        let gateway = pair.gateway().start();
        let mut client = Ftp::login(gateway.address, &pair.first);
        client.command("TYPE I").expect(&[200]);
        let mut data = client.begin(if upload { "STOR up" } else { "RETR down" });
        if upload {
            data.write_all(&content[..1 << 20]).unwrap();
        } else {
            data.read_exact(&mut vec![0; 1 << 20]).unwrap();
        }
        pair.first.sigkill();
        let reply = client.final_reply().expect(&[426]);
        assert!(reply.text.starts_with("426 "), "{}", reply.text);
        if !upload {
            assert!(data.read_to_end(&mut Vec::new()).is_err(), "a reset, no end of file");
        }
        // The same session, the same file, the other server.
        if upload {
            client.upload("STOR up", &content).expect(&[226]);
            assert!(pair.second.read("up") == content);
        } else {
            let (read, reply) = client.download("RETR down");
            assert!(read == content && reply.code == 226);
        }
        assert_eq!(gateway.audit_lines(2)[0]["outcome"], "upstream-failed");
        assert_eq!(gateway.audit_lines(2)[1]["outcome"], "complete");
    }
}

#[test]
fn a_restart_that_was_lost_never_stores_at_the_wrong_place() {
    let mut pair = Pair::start(Kind::ProFtpd);
    pair.first.write("file", b"0123456789");
    let gateway = pair.gateway().start();
    let mut client = Ftp::login(gateway.address, &pair.first);
    client.command("TYPE I").expect(&[200]);
    client.command("REST 5").expect(&[350]);
    pair.first.sigkill();
    let address = client.pasv();
    let data = client.open(address);
    let reply = client.command("STOR file").expect(&[451]);
    assert!(reply.text.contains("send REST again"), "{}", reply.text);
    drop(data);
    assert_eq!(pair.second.read("file"), b"0123456789");

    client.command("REST 5").expect(&[350]);
    let (read, _) = client.download("RETR file");
    assert_eq!(read, b"56789");

    // The same for a rename whose first half was lost.
    let third = Server::options(Kind::ProFtpd).root(&pair.second.root).start();
    let gateway = Gateway::to(&pair.second).or_to(&third).start();
    let mut client = Ftp::login(gateway.address, &pair.second);
    client.command("RNFR file").expect(&[350]);
    pair.second.sigkill();
    eventually("the loss to be seen", || {
        gateway.log().contains("the upstream connection is lost").then_some(())
    });
    let reply = client.command("RNTO other").expect(&[503]);
    assert!(reply.text.contains("send RNFR again"), "{}", reply.text);
    client.command("RNFR file").expect(&[350]);
    client.command("RNTO other").expect(&[250]);
    assert_eq!(third.read("other"), b"0123456789");
}

/// A gateway before these two, and a client that has logged in at the first.
fn canned(first: &CannedServer, second: &CannedServer) -> (Gateway, Ftp) {
    let gateway = Gateway::to_address(first.address).or_to_address(second.address).start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    (gateway, client)
}

#[test]
fn a_command_whose_answer_was_lost_is_repeated_only_if_it_does_no_harm() {
    let dying = |verb| CannedServer::script().on(verb, &[Leave]).start();
    let second = CannedServer::script().says("SIZE", b"213 7\r\n").start();
    let first = dying("SIZE");
    let (_gateway, mut client) = canned(&first, &second);
    assert_eq!(client.command("SIZE file").text, "213 7\r\n");

    let (first, second) = (dying("DELE"), CannedServer::script().start());
    let (_gateway, mut client) = canned(&first, &second);
    let reply = client.command("DELE file").expect(&[451]);
    assert!(reply.text.contains("not known whether"), "{}", reply.text);
    client.command("NOOP").expect(&[200]);
    assert_eq!(second.heard(), ["USER anyone", "PASS secret", "TYPE I", "NOOP"]);
}

#[test]
fn settings_are_replayed_before_the_command_that_needs_them() {
    let first = CannedServer::script().on("NOOP", &[Leave]).start();
    let second = CannedServer::script().start();
    let (_gateway, mut client) = canned(&first, &second);
    for line in ["OPTS UTF8 ON", "TYPE A", "TYPE I", "LANG en", "CWD /a", "SITE UMASK 022", "NOOP"]
    {
        client.command(line).expect(&[200]);
    }
    assert_eq!(
        second.heard(),
        [
            "USER anyone",
            "PASS secret",
            "TYPE I",
            "OPTS UTF8 ON",
            "LANG en",
            "SITE UMASK 022",
            "CWD /a",
            "NOOP"
        ]
    );
}

#[test]
fn a_login_that_is_no_longer_good_ends_the_session_after_one_try() {
    let first = CannedServer::script().on("NOOP", &[Leave]).start();
    let second = CannedServer::script().says("PASS", b"530 no\r\n").start();
    let (gateway, mut client) = canned(&first, &second);
    let reply = client.command("NOOP").expect(&[421]);
    assert!(reply.text.contains("no longer accepts the login"), "{}", reply.text);
    assert!(client.is_closed());
    assert_eq!(second.times("PASS secret"), 1);
    assert_eq!(gateway.metric(FAILED), 1.0);
}

#[test]
fn an_idle_session_costs_no_login_until_its_client_speaks() {
    let first = CannedServer::script().on("SITE", &[Say(b"200 ok\r\n"), Leave]).start();
    let second = CannedServer::script().start();
    let (gateway, mut client) = canned(&first, &second);
    client.command("SITE ONE").expect(&[200]);
    client.send("SITE TWO");
    client.reply().expect(&[451]);
    eventually("the loss to be seen", || {
        gateway.log().contains("the upstream connection is lost").then_some(())
    });
    client.command("QUIT").expect(&[221]);
    assert!(second.heard().is_empty(), "nor for a good-bye");
}

#[test]
fn switched_off_it_ends_the_session_as_the_server_did() {
    let first = CannedServer::script().on("NOOP", &[Leave]).start();
    let second = CannedServer::script().start();
    let gateway = Gateway::to_address(first.address)
        .or_to_address(second.address)
        .set("upstream", "resume = false")
        .start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    client.command("NOOP").expect(&[421]);
    assert!(second.heard().is_empty());
}
