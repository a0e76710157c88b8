//! Rates of a rule, on every way that bytes can take.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::rules;
use crate::harness::certificates::Authority;
use crate::harness::ftp::{Ftp, finish};
use crate::harness::ftps::Tls;
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};
use crate::harness::{address, bytes};

const RATE: usize = 2 << 20;
const SIZE: usize = 5 << 20;

/// Runs a transfer of so many bytes, which may take no less than the rate says, but for the burst
/// that it allows, and no more than a fifth longer: that once in three times, for this machine may be
/// busy with other tests.
#[track_caller]
fn assert_paced(what: &str, bytes: usize, mut run: impl FnMut()) {
    let expected = Duration::from_secs_f64(bytes as f64 / RATE as f64);
    let least = expected - Duration::from_millis(150);
    let took = (0..3).map(|_| {
        let started = Instant::now();
        run();
        let took = started.elapsed();
        eprintln!("{what}: {took:.2?} for {expected:.2?}");
        assert!(took > least, "{what}: {took:?}, not {expected:?}");
        took
    });
    let paced = took.into_iter().any(|took| took < expected * 12 / 10);
    assert!(paced, "{what}: never in {:?}", expected * 12 / 10);
}

#[test]
fn a_rate_holds_in_both_directions_spliced_within_tls_and_in_ascii() {
    let server = Server::start(Kind::ProFtpd);
    let authority = Authority::new();
    // Without line ends, so that ASCII makes them neither more nor fewer.
    let content: Vec<u8> = bytes(5, SIZE).iter().map(|byte| byte | 0x40).collect();
    server.write("down", &content);
    let lines = "upload_rate = \"2MiB\"\ndownload_rate = \"2MiB\"";
    let gateways = [(); 3].map(|()| {
        Gateway::to(&server)
            .certified(&authority)
            .listener("tls = \"optional\"")
            .set("access", &rules("allow", &[("slow", lines)]))
            .start()
    });
    thread::scope(|scope| {
        for (number, name) in ["TYPE I", "TYPE A"].into_iter().enumerate() {
            let (gateway, content, server) = (&gateways[number], &content, &server);
            scope.spawn(move || {
                let mut client = Ftp::login(gateway.address, server);
                client.command(name).expect(&[200]);
                let file = format!("up-{number}");
                assert_paced(&format!("{name}, up"), SIZE, || {
                    let reply = client.upload(&format!("STOR {file}"), content);
                    reply.expect(&[226]);
                });
                assert!(server.read(&file) == *content);
                assert_paced(&format!("{name}, down"), SIZE, || {
                    let (got, reply) = client.download("RETR down");
                    reply.expect(&[226]);
                    assert!(got == *content);
                });
            });
        }
        let (gateway, content, server, authority) = (&gateways[2], &content, &server, &authority);
        scope.spawn(move || {
            let tls = Tls::new(authority, gateway.address.ip());
            let mut client = Ftp::private(gateway.address, &tls, server.kind.user());
            assert_paced("TLS, up", SIZE, || {
                let reply = client.upload("STOR up-tls", content, &tls);
                reply.expect(&[226]);
            });
            assert!(server.read("up-tls") == *content);
            assert_paced("TLS, down", SIZE, || {
                let (got, reply) = client.download("RETR down", &tls);
                reply.expect(&[226]);
                assert!(got == *content);
            });
        });
    });
}

#[test]
fn the_sessions_of_a_rule_share_its_rate_and_others_do_not() {
    let server = Server::start(Kind::ProFtpd);
    let content = bytes(6, 2 << 20);
    let listener = SocketAddr::from((address::unused(), 2121));
    let lines = format!("listeners = [\"{listener}\"]\nupload_rate = \"2MiB\"");
    let gateway = Gateway::to(&server)
        .also_listening(&listener.to_string(), "")
        .set("access", &rules("allow", &[("slow", &lines)]))
        .start();
    let client = |to| Mutex::new(Ftp::login(to, &server));
    let upload = |client: &Mutex<Ftp>, name: &str| {
        client.lock().unwrap().upload(&format!("STOR {name}"), &content).expect(&[226]);
    };
    let clients = [(); 3].map(|()| client(listener));
    let together = || {
        thread::scope(|scope| {
            for (number, client) in clients.iter().enumerate() {
                scope.spawn(move || upload(client, &format!("slow-{number}")));
            }
        });
    };
    assert_paced("three uploads", 3 * content.len(), together);
    let (free, started) = (client(gateway.address), Instant::now());
    upload(&free, "free");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
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
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
