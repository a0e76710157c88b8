//! The password that probes log in with: where it comes from, and that it is kept up to date.

use std::fs;
use std::thread;

use tempfile::TempDir;

use crate::harness::aws::{Moto, SECRET_KEY};
use crate::harness::eventually;
use crate::harness::gateway::Gateway;
use crate::harness::scripted::{listen_at, mutely};
use crate::harness::servers::{Kind, PASSWORD, Server};

#[test]
fn the_password_comes_from_a_file_the_environment_systemd_or_secrets_manager() {
    let server = Server::start(Kind::ApacheFtpServer);
    let scratch = TempDir::new().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = scratch.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let moto = Moto::start();
    moto.put_secret("plain", PASSWORD);
    moto.put_secret("number", r#"{"Password": 5}"#);
    moto.put_secret("keyless", r#"{"Role": "the-role-of-it"}"#);
    moto.put_secret("object", &format!(r#"{{"Password": "{PASSWORD}", "Role": "r"}}"#));
    moto.put_secret("pass", &format!(r#"{{"Password": "wrong-one", "pass": "{PASSWORD}"}}"#));
    // {"Password": "secret"} and two bytes that are no text.
    moto.put_binary_secret("binary", "eyJQYXNzd29yZCI6ICJzZWNyZXQifQ==");
    moto.put_binary_secret("bytes", "//4=");

    let healthy = "";
    let cases = [
        (format!("file = {:?}", file("plain", b"secret")), healthy),
        (format!("file = {:?}", file("line", b"secret\n")), healthy),
        (format!("file = {:?}", file("dos", b"secret\r\n")), healthy),
        (format!("file = {:?}\nkey = \"a\"", file("json", br#"{"a": "secret"}"#)), healthy),
        (format!("file = {:?}", scratch.path().join("none")), "none: No such file or directory"),
        (format!("file = {:?}", scratch.path()), ": it is no regular file"),
        (format!("file = {:?}", file("empty", b"\n")), "empty: it is empty"),
        (format!("file = {:?}", file("two", b"a-line\nanother-one\n")), "two: FTP cannot send it"),
        (
            format!("file = {:?}", file("latin", b"a-line\xe4\n")),
            "latin: stream did not contain valid UTF-8",
        ),
        (
            format!("file = {:?}", file("large", &[b'x'; 70_000])),
            "large: it is too large to be a password",
        ),
        (
            format!("file = {:?}\nkey = \"a\"", file("text", b"a-line")),
            "text: it is no JSON object, and key = \"a\" asks",
        ),
        ("environment = \"GIVEN\"".into(), healthy),
        ("environment = \"NOT_GIVEN\"".into(), "environment variable NOT_GIVEN: it is not set"),
        ("credential = \"plain\"".into(), healthy),
        ("credential = \"none\"".into(), "systemd credential none: No such file or directory"),
        ("secret = \"object\"".into(), healthy),
        ("secret = \"pass\"\nkey = \"pass\"".into(), healthy),
        ("secret = \"binary\"".into(), healthy),
        ("secret = \"bytes\"".into(), "secret bytes: it is binary: store it as text"),
        (
            "secret = \"plain\"".into(),
            "secret plain: it is no JSON object, and key = \"Password\" asks",
        ),
        ("secret = \"keyless\"".into(), "secret keyless: it has no key \"Password\""),
        ("secret = \"number\"".into(), "secret number: what its key \"Password\" has is no string"),
        (
            "secret = \"none\"".into(),
            "secret none: Secrets Manager answers ResourceNotFoundException: there is no such secret",
        ),
    ];
    thread::scope(|scope| {
        for (source, reason) in &cases {
            let (server, moto, scratch) = (&server, &moto, &scratch);
            scope.spawn(move || {
                let gateway = Gateway::probing(server.address, "login")
                    .in_aws()
                    .set("probe.password", source)
                    .env("GIVEN", PASSWORD)
                    .env("CREDENTIALS_DIRECTORY", scratch.path().to_str().unwrap())
                    .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", format!("http://{}", moto.address))
                    .start();
                if reason.is_empty() {
                    gateway.until_healthy(server.address);
                } else {
                    gateway.until_unhealthy(server.address, reason);
                    gateway.until_unhealthy(server.address, "login: the password: ");
                }
                let log = gateway.log();
                for secret in ["PASS secret", "a-line", "wrong-one", "the-role-of-it", SECRET_KEY] {
                    assert!(!log.contains(secret), "{source}: {log}");
                }
            });
        }
    });
}

#[test]
fn a_password_that_was_changed_in_secrets_manager_is_used_at_once() {
    let server = Server::start(Kind::ApacheFtpServer);
    let mut moto = Moto::start();
    let secret = "aws/transfer/s-0123456789abcdef0/alice";
    moto.put_secret(secret, r#"{"Password": "the-one-of-last-week"}"#);
    let gateway = Gateway::probing(server.address, "login")
        .in_aws()
        .set("probe.password", &format!("secret = \"{secret}\"\nrefresh = \"1h\""))
        .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", format!("http://{}", moto.address))
        .start();
    gateway.until_unhealthy(server.address, "login: 530: it refuses the user or the password");
    moto.put_secret(secret, &format!(r#"{{"Password": "{PASSWORD}"}}"#));
    gateway.until_healthy(server.address);
    assert!(gateway.log().contains("the probe's password has changed"));

    moto.sigkill();
    gateway.wait_for_probes(server.address, "ok", 3);
    assert!(!gateway.log().contains("the-one-of-last-week"), "{}", gateway.log());
}

#[test]
fn the_last_good_password_is_used_while_secrets_manager_does_not_answer() {
    let server = Server::start(Kind::ApacheFtpServer);
    let mut moto = Moto::start();
    moto.put_secret("alice", &format!(r#"{{"Password": "{PASSWORD}"}}"#));
    let gateway = Gateway::probing(server.address, "login")
        .in_aws()
        .set("probe.password", "secret = \"alice\"\nrefresh = \"300ms\"")
        .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", format!("http://{}", moto.address))
        .start();
    gateway.until_healthy(server.address);
    let moto_address = moto.address;
    moto.sigkill();
    let warning = "the probe's password cannot be read again: the last one is used";
    eventually("a refresh that fails", || gateway.log().contains(warning).then_some(()));
    // Nor if it does not even refuse the connection.
    listen_at(moto_address, mutely);
    gateway.wait_for_probes(server.address, "ok", 5);
    eventually("a refresh that gets no answer", || {
        gateway.log().contains("no answer in time").then_some(())
    });
    gateway.wait_for_probes(server.address, "ok", 2);
    assert_eq!(gateway.probes(server.address, "login"), 0);
}
