//! SIGTERM: nothing new, the old may finish until the deadline, and clients are told.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::harness::ftp::{End, Ftp, fin, read_to_end};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};
use crate::harness::{bytes, eventually};

/// More than the sockets on the way hold, so that a download still runs while nobody reads it.
const LARGE: usize = 24 << 20;
const STOPPING: &str = "421 This gateway is stopping; please connect again.\r\n";

#[test]
fn a_stopping_gateway_finishes_transfers_and_refuses_new_clients_with_the_reason() {
    let server = Server::start(Kind::ApacheFtpServer);
    let content = bytes(21, LARGE);
    server.write("large", &content);
    let mut gateway = Gateway::to(&server)
        .set("drain", "idle = \"200ms\"")
        .set("timeouts", "login = \"10m\"")
        .start();
    let mut idle = Ftp::login(gateway.address, &server);
    let mut stranger = Ftp::connect(gateway.address);
    let mut uploader = Ftp::login(gateway.address, &server);
    let mut upload = uploader.begin("STOR slow");
    upload.write_all(b"first ").unwrap();
    let mut downloader = Ftp::login(gateway.address, &server);
    let mut download = downloader.begin("RETR large");
    let mut received = vec![0; 1000];
    download.read_exact(&mut received).unwrap();

    gateway.sigterm();
    assert_eq!(idle.reply().text, STOPPING);
    assert!(idle.is_closed());
    let mut refused = Ftp::knock(gateway.address);
    assert_eq!(refused.reply().text, STOPPING);
    assert!(refused.is_closed());
    assert_eq!(gateway.metric("ftpgate_sessions_refused_total{reason=\"draining\"}"), 1.0);
    assert_eq!(gateway.get("/livez").0, 200);
    let (status, why) = gateway.get("/readyz");
    assert!(status == 503 && why.contains("draining: stopping"), "{status} {why}");

    upload.write_all(b"second").unwrap();
    fin(&upload);
    uploader.final_reply().expect(&[226]);
    assert_eq!(server.read("slow"), b"first second");
    assert_eq!(uploader.reply().text, STOPPING);
    let (rest, end) = read_to_end(download);
    received.extend(rest);
    assert!(received == content && end == End::Fin, "{} bytes, {end:?}", received.len());
    downloader.final_reply().expect(&[226]);
    assert_eq!(downloader.reply().text, STOPPING);
    // Nor does one that has not logged in have its whole login time-out.
    assert_eq!(stranger.reply().text, STOPPING);
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log());
}

#[test]
fn what_is_left_at_the_deadline_is_reset_and_told() {
    let server = Server::start(Kind::ApacheFtpServer);
    server.write("large", &bytes(22, LARGE));
    let deadline = Duration::from_millis(500);
    let mut gateway = Gateway::to(&server)
        .set("drain", &format!("deadline = \"{}ms\"", deadline.as_millis()))
        .start();
    let mut waiting = Ftp::login(gateway.address, &server);
    waiting.pasv();
    let mut transfers = ["STOR endless", "RETR large"].map(|command| {
        let mut client = Ftp::login(gateway.address, &server);
        let mut data = client.begin(command);
        data.write_all(b"a part").unwrap();
        (command, client, data)
    });
    gateway.sigterm();
    let asked = Instant::now();
    for (command, client, data) in &mut transfers {
        let told = client.final_reply().expect(&[426]).text;
        assert!(asked.elapsed() >= deadline, "{command}: {told}");
        assert_eq!(client.reply().text, STOPPING, "{command}");
        assert!(client.is_closed());
        assert_eq!(read_to_end(data.try_clone().unwrap()).1, End::Reset, "{command}");
    }
    assert_eq!(waiting.reply().text, STOPPING);
    // They keep their connections open, and that keeps the gateway only for a moment.
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log());
    assert!(asked.elapsed() < deadline + Duration::from_secs(6), "{:?}", asked.elapsed());
    for (path, verb) in [("endless", "STOR"), ("large", "RETR")] {
        let line = gateway.audit_line(path);
        assert_eq!((&line["verb"], &line["outcome"]), (&verb.into(), &"gateway-failed".into()));
        assert_eq!(line["reply"], 426);
    }
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let server = Server::start(Kind::ApacheFtpServer);
    let mut gateway = Gateway::to(&server).start();
    let mut client = Ftp::login(gateway.address, &server);
    let data = client.begin("STOR endless");
    gateway.sigterm();
    eventually("the drain", || gateway.log().contains("draining").then_some(()));
    gateway.sigterm();
    assert_eq!(gateway.wait().code(), Some(1));
    assert_eq!(read_to_end(data).1, End::Reset);
    assert!(matches!(client.stream().read(&mut [0]), Ok(0) | Err(_)));
}
