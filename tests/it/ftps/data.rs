//! Who may bring or take a protected file: only whoever resumes the TLS session of the control
//! connection. Anybody else gets nothing of it, and what he brings is nowhere.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use super::{count, handshakes};
use crate::harness::certificates::Authority;
use crate::harness::ftp::{Ftp, connect, fin};
use crate::harness::ftps::{Secure, SecureEnd, Tls, VERSIONS, read_to_end};
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::tap::Tap;
use crate::harness::{PATIENCE, address, bytes, eventually};

const USER: &str = Kind::ApacheFtpServer.user();
const NO_TLS: &str = "ftpgate_tls_failures_total{connection=\"data\"}";
const SECRET: &[u8] = b"the content that nobody else may see";

/// A server with a secret, a tap before it, and a gateway that demands TLS.
fn scene(authority: &Authority) -> (Server, Tap, GatewayOptions<'_>) {
    let server = Server::start(Kind::ApacheFtpServer);
    server.write("secret", SECRET);
    let tap = Tap::before(server.address);
    let gateway = Gateway::to_address(tap.address())
        .certified(authority)
        .listener("tls = \"required\"")
        .set("timeouts", "tls_handshake = \"1s\"");
    (server, tap, gateway)
}

/// The transfer is refused with 425, and the session goes on with a good one.
#[track_caller]
fn assert_refused(client: &mut Ftp<Secure>, tls: &Tls) {
    client.reply().expect(&[425]);
    let (content, reply) = client.download("RETR secret", tls);
    assert_eq!((content.as_slice(), reply.code), (SECRET, 226));
}

/// Everything that comes until the end, whichever end it is.
fn all_of(data: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = data.read_to_end(&mut bytes);
    bytes
}

#[test]
fn another_tls_session_from_the_same_address_gets_and_brings_nothing() {
    let authority = Authority::new();
    let (_server, tap, gateway) = scene(&authority);
    let gateway = gateway.start();
    for (name, version) in VERSIONS {
        let own = || Tls::speaking(version, &authority, gateway.address.ip());
        let tls = own();
        let mut client = Ftp::private(gateway.address, &tls, USER);
        // A session with the same gateway that is another client's, and none at all.
        let theirs = own();
        let _other = Ftp::private(gateway.address, &theirs, USER);
        for (round, foreign) in [theirs, own()].iter().enumerate() {
            let address = client.pasv();
            let data = client.open(address);
            client.command("RETR secret").expect(&[150]);
            // Before it gets as far as to be given tickets, by which it could come again and resume.
            assert!(foreign.shake(data).is_err(), "a stranger's handshake was done");
            assert_refused(&mut client, &tls);

            let file = format!("stolen-{name}-{round}-");
            let address = client.pasv();
            let data = client.open(address);
            client.command(&format!("STOR {file}")).expect(&[150]);
            assert!(foreign.shake(data).is_err(), "a stranger's handshake was done");
            assert_refused(&mut client, &tls);
            let verdict = tap.verdict(&file);
            assert!(verdict >= 400, "the server said {verdict} to a stranger's upload");
        }
        assert_eq!(count(&gateway, &handshakes("data", name, false)), 0.0);
    }
    assert_eq!(gateway.metric("ftpgate_data_resets_total{side=\"not-resumed\"}"), 8.0);
}

#[test]
fn another_clients_address_is_a_stranger_with_tls_too() {
    let authority = Authority::new();
    let (_server, _tap, gateway) = scene(&authority);
    let gateway = gateway.start();
    let tls = Tls::new(&authority, gateway.address.ip());
    let mut client = Ftp::private(gateway.address, &tls, USER);
    let port = client.pasv();
    client.send("RETR secret");
    // The reset may be there as early as the connect.
    if let Ok(stranger) = connect(port, Some(address::unused().into())) {
        assert!(tls.shake(stranger).is_err(), "a stranger was let in");
    }
    eventually("the stranger to be counted", || {
        (gateway.metric("ftpgate_passive_strangers_total") == 1.0).then_some(())
    });
    let data = client.open(port);
    client.reply().expect(&[150]);
    let (content, end) = read_to_end(tls.shake(data).unwrap());
    assert_eq!((content.as_slice(), end), (SECRET, SecureEnd::Closed));
    client.reply().expect(&[226]);
}

#[test]
fn a_file_in_the_clear_is_refused_at_once_and_silence_in_time() {
    let authority = Authority::new();
    let (_server, tap, gateway) = scene(&authority);
    // So long that waiting for it would be seen.
    let gateway = gateway.also_listening("2990", "tls = \"implicit\"");
    let gateway = gateway.start();
    let tls = Tls::new(&authority, gateway.address.ip());
    let mut client = Ftp::private(gateway.address, &tls, USER);
    for (round, content) in
        [&b"just a text"[..], b"\x16\x03\x01 nearly TLS", b"\n", b"\x00\x01", SECRET]
            .into_iter()
            .enumerate()
    {
        let file = format!("clear-{round}-");
        let address = client.pasv();
        let mut data = client.open(address);
        client.command(&format!("STOR {file}")).expect(&[150]);
        data.write_all(content).unwrap();
        // As a client does that has sent its whole file.
        fin(&data);
        let back = all_of(&mut data);
        assert!(!contains(&back, content), "{back:?}");
        assert_refused(&mut client, &tls);
        assert!(tap.verdict(&file) >= 400);
    }
    // Without an end behind it, and for a download.
    for (round, command) in ["STOR", "RETR", "LIST"].into_iter().enumerate() {
        let file = format!("open-{round}-");
        let argument = if command == "STOR" { &*file } else { "secret" };
        let address = client.pasv();
        let mut data = client.open(address);
        client.command(&format!("{command} {argument}")).expect(&[150]);
        data.write_all(&[b'x'; 100]).unwrap();
        let back = all_of(&mut data);
        assert!(!contains(&back, SECRET), "{back:?}");
        assert_refused(&mut client, &tls);
    }
    assert_eq!(gateway.metric(NO_TLS), 8.0);
    for (round, command) in ["STOR", "RETR"].into_iter().enumerate() {
        let file = format!("silent-{round}-");
        let argument = if command == "STOR" { &*file } else { "secret" };
        let address = client.pasv();
        let mut data = client.open(address);
        let before = Instant::now();
        client.command(&format!("{command} {argument}")).expect(&[150]);
        assert_eq!(all_of(&mut data), b"");
        assert!(before.elapsed() < PATIENCE, "silence for {:?}", before.elapsed());
        assert_refused(&mut client, &tls);
        if command == "STOR" {
            assert!(tap.verdict(&file) >= 400);
        }
    }
    assert_eq!(gateway.metric(NO_TLS), 10.0);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn where_resumption_is_optional_a_session_of_its_own_will_do() {
    let authority = Authority::new();
    let (server, _tap, gateway) = scene(&authority);
    let gateway = gateway.set("tls", "resumption = \"optional\"").start();
    for (name, version) in VERSIONS {
        let own = || Tls::speaking(version, &authority, gateway.address.ip());
        let mut client = Ftp::private(gateway.address, &own(), USER);
        let (file, content) = (format!("fresh-{name}"), bytes(4, 100_000));
        client.upload(&format!("STOR {file}"), &content, &own()).expect(&[226]);
        assert!(server.read(&file) == content);
        assert!(client.download(&format!("RETR {file}"), &own()).0 == content);
        eventually("both handshakes to be counted", || {
            (count(&gateway, &handshakes("data", name, false)) == 2.0).then_some(())
        });
    }
}

/// Curl 7.88 says PROT P and then sends the file in the clear, in active mode.
#[test]
fn a_client_that_forgets_tls_in_active_mode_is_not_believed() {
    let authority = Authority::new();
    let (_server, tap, gateway) = scene(&authority);
    let gateway = gateway.start();
    let scratch = TempDir::new().unwrap();
    let local = scratch.path().join("local");
    std::fs::write(&local, bytes(5, 300_001)).unwrap();
    for (round, spoken) in ["--disable-eprt", "--eprt"].into_iter().enumerate() {
        let file = format!("forgotten-{round}-");
        let outcome = Command::new("curl")
            .args(["-q", "-sS", "--max-time", "60", "--ssl-reqd", "--ftp-port", "-", spoken])
            .args(["-u", &format!("{USER}:{PASSWORD}"), "--cacert"])
            .arg(&authority.file)
            .arg("-T")
            .arg(&local)
            .arg(format!("ftp://{}/{file}", gateway.address))
            .output()
            .unwrap();
        assert!(
            !outcome.status.success(),
            "this curl has learnt better: the matrix needs no other libcurl for it any more"
        );
        let verdict = tap.verdict(&file);
        assert!(verdict >= 400, "the server said {verdict} to a file in the clear");
        let audit = gateway.audit_line(&file);
        assert_eq!(audit["outcome"], "client-failed");
        // It may be gone before it is told.
        assert!(audit["reply"] == 425 || audit["reply"].is_null(), "{audit}");
        assert_eq!(gateway.metric(NO_TLS), (round + 1) as f64, "{outcome:?}");
    }
}
