//! Rates of a rule, on every way that bytes can take.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::rules;
use crate::harness::bytes;
use crate::harness::certificates::Authority;
use crate::harness::ftp::{Ftp, finish};
use crate::harness::ftps::Tls;
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, PASSWORD, Server};

const RATE: usize = 2 << 20;
const SIZE: usize = 5 << 20;

/// What a transfer of so many bytes may take: at least what the rate says, up to the burst that it
/// allows, and at most a fifth more.
#[track_caller]
fn assert_paced(what: &str, bytes: usize, took: Duration) {
    let expected = Duration::from_secs_f64(bytes as f64 / RATE as f64);
    println!("{what}: {took:.2?} for {expected:.2?}");
    assert!(
        took > expected * 8 / 10 && took < expected * 12 / 10,
        "{what}: {took:?}, not {expected:?}"
    );
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let result = run();
    (result, started.elapsed())
}

#[test]
fn a_rate_holds_in_both_directions_spliced_within_tls_and_in_ascii() {
    let server = Server::start(Kind::ProFtpd);
    let authority = Authority::new();
    // Without line ends, so that ASCII makes them neither more nor fewer.
    let content: Vec<u8> = bytes(5, SIZE).iter().map(|byte| byte | 0x40).collect();
    server.write("down", &content);
    let lines = "upload_rate = \"2MiB\"\ndownload_rate = \"2MiB\"";
    let gateway = || {
        Gateway::to(&server)
            .certified(&authority)
            .listener("tls = \"optional\"")
            .set("access", &rules("allow", &[("slow", lines)]))
            .start()
    };
    thread::scope(|scope| {
        for (name, kind) in [("spliced", "TYPE I"), ("ASCII", "TYPE A")] {
            let (gateway, content, server) = (gateway(), &content, &server);
            scope.spawn(move || {
                let mut client = Ftp::login(gateway.address, server);
                client.command(kind).expect(&[200]);
                let (reply, took) = timed(|| client.upload(&format!("STOR up-{name}"), content));
                reply.expect(&[226]);
                assert_paced(&format!("{name} upload"), SIZE, took);
                assert!(server.read(&format!("up-{name}")) == *content);
                let ((got, reply), took) = timed(|| client.download("RETR down"));
                reply.expect(&[226]);
                assert!(got == *content);
                assert_paced(&format!("{name} download"), SIZE, took);
            });
        }
        let (gateway, content, server, authority) = (gateway(), &content, &server, &authority);
        scope.spawn(move || {
            let tls = Tls::new(authority, gateway.address.ip());
            let mut client = Ftp::private(gateway.address, &tls, server.kind.user());
            let (reply, took) = timed(|| client.upload("STOR up-tls", content, &tls));
            reply.expect(&[226]);
            assert_paced("TLS upload", SIZE, took);
            assert!(server.read("up-tls") == *content);
            let ((got, reply), took) = timed(|| client.download("RETR down", &tls));
            reply.expect(&[226]);
            assert!(got == *content);
            assert_paced("TLS download", SIZE, took);
        });
    });
}

#[test]
fn the_sessions_of_a_rule_share_its_rate_and_others_do_not() {
    let server = Server::start(Kind::ProFtpd);
    let content = bytes(6, 2 << 20);
    let lines = "clients = [\"127.0.0.0/8\"]\nlisteners = [\"LISTENER\"]\nupload_rate = \"2MiB\"";
    let listener = std::net::SocketAddr::from((crate::harness::address::unused(), 2121));
    let access = rules("allow", &[("slow", &lines.replace("LISTENER", &listener.to_string()))]);
    let gateway = Gateway::to(&server)
        .also_listening(&listener.to_string(), "")
        .set("access", &access)
        .start();
    let upload = |to, name: &str| {
        let mut client = Ftp::connect(to);
        client.command(&format!("USER {}", server.kind.user())).expect(&[331]);
        client.command(&format!("PASS {PASSWORD}")).expect(&[230]);
        client.command("TYPE I").expect(&[200]);
        client.upload(&format!("STOR {name}"), &content).expect(&[226]);
    };
    let ((), took) = timed(|| {
        thread::scope(|scope| {
            for name in ["a", "b", "c"] {
                let upload = &upload;
                scope.spawn(move || upload(listener, name));
            }
        });
    });
    assert_paced("three uploads", 3 * content.len(), took);
    // Many times as fast, however busy this machine is.
    let ((), free) =
        timed(|| (0..3).for_each(|number| upload(gateway.address, &format!("free-{number}"))));
    assert!(free < took, "{free:?} against {took:?}");
}

#[test]
fn a_transfer_that_waits_for_its_rate_is_not_idle_and_a_silent_one_is() {
    let server = Server::start(Kind::ProFtpd);
    // A piece of this rate takes longer than the idle time-out.
    let gateway = Gateway::to(&server)
        .set("access", &rules("allow", &[("crawl", "upload_rate = \"1KiB\"")]))
        .set("timeouts", "data_idle = \"200ms\"")
        .start();
    let mut client = Ftp::login(gateway.address, &server);
    let mut data = client.begin("STOR whole");
    data.write_all(&[7; 1500]).unwrap();
    finish(data);
    client.reply().expect(&[226]);
    assert_eq!(server.read("whole"), [7; 1500]);

    let mut data = client.begin("STOR silent");
    data.write_all(&[7; 10]).unwrap();
    client.final_reply().expect(&[426]);
    let error = data.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
