//! The certificate that clients are shown: taken up anew while sessions run, never worse than the
//! last good one, and looked at before anything starts. And what TLS is to a session that outlives
//! its server.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::before_canned;
use crate::harness::canned::CONTENT;
use crate::harness::certificates::{Authority, Certificate};
use crate::harness::ftp::Ftp;
use crate::harness::ftps::{Secure, Tls};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::{bytes, eventually};

/// sysexits(3): the configuration is wrong.
const EX_CONFIG: i32 = 78;
const REFUSED: &str = "the new certificate cannot be used; keeping the old one";

/// What a client of now is shown, as DER.
fn shown(gateway: &Gateway, authority: &Authority) -> Vec<u8> {
    let tls = Tls::new(authority, gateway.address.ip());
    of(&Ftp::explicit(gateway.address, &tls))
}

fn of(client: &Ftp<Secure>) -> Vec<u8> {
    client.tls().peer_certificates().unwrap()[0].to_vec()
}

/// As those do who renew certificates: nobody ever sees half a file.
fn put(content: &[u8], at: &Path) {
    let beside = at.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(&beside, at).unwrap();
}

#[test]
fn a_new_certificate_is_shown_to_new_sessions_while_running_ones_go_on() {
    let authority = Authority::new();
    let (_server, gateway) = before_canned(&authority);
    let gateway = gateway.set("tls", "reload = \"100ms\"").start();
    let files = gateway.certificate.as_ref().unwrap();
    let issue = || authority.issue(&[&gateway.address.ip().to_string()]);
    let renew = |new: &Certificate| {
        put(&fs::read(&new.key).unwrap(), &files.key);
        put(&fs::read(&new.certificate).unwrap(), &files.certificate);
    };
    let refusals = || gateway.log().matches(REFUSED).count();

    let tls = Tls::new(&authority, gateway.address.ip());
    let mut running = Ftp::private(gateway.address, &tls, "anyone");
    let goes_on = |running: &mut Ftp<Secure>| {
        running.upload("STOR file", b"content", &tls).expect(&[226]);
        assert_eq!(running.download("RETR file", &tls).0, CONTENT);
    };
    let mut last = of(&running);
    goes_on(&mut running);
    for _ in 0..2 {
        renew(&issue());
        last = eventually("the new certificate", || {
            let now = shown(&gateway, &authority);
            (now != last).then_some(now)
        });
        goes_on(&mut running);
    }
    // None of these will do: each is reported, and nobody is shown it.
    let other = issue();
    for broken in [
        &b""[..],
        b"no certificate",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &fs::read(&other.certificate).unwrap(),
    ] {
        let before = refusals();
        put(broken, &files.certificate);
        eventually("the refusal to be logged", || (refusals() > before).then_some(()));
        assert_eq!(shown(&gateway, &authority), last);
        goes_on(&mut running);
    }
    let before = refusals();
    fs::remove_file(&files.certificate).unwrap();
    eventually("the refusal to be logged", || (refusals() > before).then_some(()));
    assert_eq!(shown(&gateway, &authority), last);
    renew(&issue());
    eventually("the good one to be taken up", || {
        (shown(&gateway, &authority) != last).then_some(())
    });
    goes_on(&mut running);
}

#[test]
fn a_certificate_that_will_not_do_is_told_with_file_and_remedy_by_check_and_serve_alike() {
    let authority = Authority::new();
    let [good, other] = [(); 2].map(|()| authority.issue(&["127.0.0.1"]));
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("empty"), "").unwrap();
    fs::write(path("garbage"), "-----BEGIN CERTIFICATE-----\n!\n").unwrap();
    let missing = path("missing");
    for (certificate, key, told) in [
        (&missing, &good.key, &["tls.certificate", "missing", "write the path of a PEM file"][..]),
        (&path("empty"), &good.key, &["tls.certificate", "empty", "BEGIN CERTIFICATE"]),
        (&path("garbage"), &good.key, &["tls.certificate", "garbage", "write the path"]),
        (&good.key, &good.key, &["tls.certificate", "key.pem", "BEGIN CERTIFICATE"]),
        (&good.certificate, &missing, &["tls.key", "missing", "private key"]),
        (&good.certificate, &path("empty"), &["tls.key", "empty", "private key"]),
        (&good.certificate, &good.certificate, &["tls.key", "certificate.pem", "private key"]),
        (&good.certificate, &other.key, &["tls.certificate and tls.key", "certificate's own"]),
    ] {
        let text = format!(
            "[http]\nenabled = false\n[admin]\nenabled = false\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"required\"\n\
             [passive]\nports = \"8192-8192\"\n[[upstream.endpoint]]\naddress = \"10.2.3.10:21\"\n\
             [tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            certificate.display(),
            key.display()
        );
        fs::write(path("ftpgate.toml"), text).unwrap();
        for subcommand in ["check", "serve"] {
            let output = Command::new("timeout")
                .args(["--kill-after=1", "30", env!("CARGO_BIN_EXE_ftpgate"), subcommand])
                .arg("--config")
                .arg(path("ftpgate.toml"))
                .output()
                .unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(EX_CONFIG), "{subcommand}: {complaint}");
            assert_eq!(output.stdout, b"", "{subcommand}");
            for part in told {
                assert!(complaint.contains(part), "{subcommand}: no {part:?} in {complaint}");
            }
        }
    }
}

#[test]
fn a_session_within_tls_outlives_its_server() {
    let authority = Authority::new();
    for implicit in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let start = || Server::options(Kind::ApacheFtpServer).root(root.path()).start();
        let (mut first, second) = (start(), start());
        first.create_dir("in");
        let mode = if implicit { "tls = \"implicit\"" } else { "tls = \"required\"" };
        let gateway =
            Gateway::to(&first).or_to(&second).certified(&authority).listener(mode).start();
        let tls = Tls::new(&authority, gateway.address.ip());
        let mut client = match implicit {
            true => Ftp::implicit(gateway.address, &tls),
            false => Ftp::explicit(gateway.address, &tls),
        };
        client.log_in(&first);
        client.protect();
        client.command("CWD in").expect(&[250]);
        let content = bytes(6, 200_000);
        client.upload("STOR before", &content, &tls).expect(&[226]);
        first.sigkill();
        assert!(client.command("PWD").text.contains("/in"));
        // PROT P still counts.
        client.upload("STOR after", &content, &tls).expect(&[226]);
        assert!(second.read("in/after") == content);
        assert!(client.download("RETR before", &tls).0 == content);
        client.command("QUIT").expect(&[221]);
        let resumed = "ftpgate_session_resumes_total{result=\"resumed\"}";
        assert_eq!(gateway.metric(resumed), 1.0);
        assert!(!gateway.log().contains(PASSWORD), "no password in any log line");
    }
}
