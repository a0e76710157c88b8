//! Limits and time-outs: who exceeds them is told why, and nobody else notices.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::harness::ftp::{End, Ftp, fin, read_to_end};
use crate::harness::gateway::Gateway;
use crate::harness::scripted::{Cut, ScriptedServer};
use crate::harness::servers::{Kind, Server};
use crate::harness::{address, bytes, eventually};

/// What a client is told that gets no session.
fn refusal(gateway: &Gateway) -> String {
    let mut client = Ftp::knock(gateway.address);
    let text = client.reply().expect(&[421]).text;
    assert!(client.is_closed());
    text
}

#[test]
fn sessions_over_a_limit_get_421_with_the_reason_and_a_place_comes_back() {
    let server = Server::start(Kind::ApacheFtpServer);
    for (limit, reason, label) in [
        ("sessions = 2", "421 Too many sessions; try again later.\r\n", "limit"),
        (
            "sessions_per_client = 2",
            "421 Too many sessions from your address; try again later.\r\n",
            "client-limit",
        ),
    ] {
        let gateway = Gateway::to(&server).set("limits", limit).start();
        let mut first = Ftp::connect(gateway.address);
        let _second = Ftp::connect(gateway.address);
        assert_eq!(refusal(&gateway), reason);
        assert_eq!(
            gateway.metric(&format!("ftpgate_sessions_refused_total{{reason=\"{label}\"}}")),
            1.0
        );
        first.command("QUIT").expect(&[221]);
        drop(first);
        eventually("the place to come back", || {
            (gateway.metric("ftpgate_sessions") == 1.0).then_some(())
        });
        Ftp::login(gateway.address, &server);
    }
}

#[test]
fn a_client_without_a_server_behind_the_gateway_gets_421() {
    let gateway = Gateway::to_address((address::unused(), 2121).into()).start();
    assert_eq!(gateway.get("/readyz").0, 200, "nobody has been refused yet");
    assert_eq!(refusal(&gateway), "421 No FTP server can be reached now; try again later.\r\n");
    assert_eq!(gateway.get("/readyz").0, 503);
}

#[test]
fn each_time_out_says_what_it_was() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).set("timeouts", "login = \"300ms\"").start();
    let mut slow = Ftp::connect(gateway.address);
    slow.command("USER alice").expect(&[331]);
    assert_eq!(slow.reply().expect(&[421]).text, "421 No login in time.\r\n");
    assert!(slow.is_closed());

    let gateway = Gateway::to(&server).set("timeouts", "idle = \"300ms\"").start();
    let mut idle = Ftp::login(gateway.address, &server);
    assert_eq!(idle.reply().expect(&[421]).text, "421 Idle for too long.\r\n");

    let silent = ScriptedServer::start(Cut::NeverAnswerNoop);
    let gateway =
        Gateway::to_address(silent.address()).set("timeouts", "reply = \"300ms\"").start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    assert_eq!(
        client.command("NOOP").expect(&[421]).text,
        "421 The FTP server does not answer.\r\n"
    );

    let gateway = Gateway::to(&server).set("timeouts", "data_connect = \"300ms\"").start();
    let mut client = Ftp::login(gateway.address, &server);
    client.pasv();
    client.send("STOR never");
    let reply = client.final_reply().expect(&[425]);
    assert_eq!(reply.text, "425 Can't open data connection: nobody came to it in time.\r\n");
}

#[test]
fn the_idle_time_out_does_not_run_during_a_transfer() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).set("timeouts", "idle = \"400ms\"").start();
    let mut client = Ftp::login(gateway.address, &server);
    let mut data = client.begin("STOR slow");
    let started = Instant::now();
    let content = bytes(1, 40);
    for byte in content.chunks(1) {
        data.write_all(byte).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    assert!(started.elapsed() > Duration::from_millis(800));
    fin(&data);
    client.final_reply().expect(&[226]);
    assert_eq!(server.read("slow"), content);
}

#[test]
fn a_flood_of_commands_is_slowed_down_and_answered_in_order() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).set("limits", "commands_per_second = 50").start();
    let mut client = Ftp::login(gateway.address, &server);
    let started = Instant::now();
    // The first second's worth is free.
    client.stream().write_all("NOOP\r\n".repeat(149).as_bytes()).unwrap();
    client.send("PWD");
    (0..149).for_each(|_| drop(client.reply().expect(&[200])));
    client.reply().expect(&[257]);
    assert!(started.elapsed() > Duration::from_millis(1500), "{:?}", started.elapsed());
}

#[test]
fn a_flood_of_commands_takes_no_memory() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).start();
    let mut client = Ftp::login(gateway.address, &server);
    let mut writer = client.stream().try_clone().unwrap();
    let before = gateway.resident_kib();
    let flood = std::thread::spawn(move || writer.write_all(&b"NOOP\r\n".repeat(10_000)).unwrap());
    (0..10_000).for_each(|_| drop(client.reply().expect(&[200])));
    flood.join().unwrap();
    let grown = gateway.resident_kib() - before;
    assert!(grown < 2048, "{grown} KiB for a flood of NOOPs");
}

#[test]
fn an_endless_reply_ends_the_session_and_takes_no_memory() {
    let endless = ScriptedServer::start(Cut::EndlessReply);
    let gateway =
        Gateway::to_address(endless.address()).set("limits", "reply_size = 65536").start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    let before = gateway.resident_kib();
    let reply = client.command("NOOP").expect(&[421]);
    assert_eq!(reply.text, "421 The FTP server sent a reply larger than limits.reply_size.\r\n");
    let grown = gateway.resident_kib() - before;
    assert!(grown < 2048, "{grown} KiB for an endless reply");
}

#[test]
fn a_stopping_gateway_finishes_transfers_and_refuses_new_clients_with_the_reason() {
    let server = Server::start(Kind::ApacheFtpServer);
    let mut gateway = Gateway::to(&server).set("drain", "idle = \"200ms\"").start();
    let mut idle = Ftp::login(gateway.address, &server);
    let mut busy = Ftp::login(gateway.address, &server);
    let mut data = busy.begin("STOR slow");
    data.write_all(b"first ").unwrap();
    gateway.sigterm();
    idle.reply().expect(&[421]);
    assert!(idle.is_closed());
    assert_eq!(refusal(&gateway), "421 This gateway is stopping; please connect again.\r\n");
    assert_eq!(gateway.get("/livez").0, 200);
    let (status, why) = gateway.get("/readyz");
    assert!(status == 503 && why.contains("stopping"), "{status} {why}");
    data.write_all(b"second").unwrap();
    fin(&data);
    busy.final_reply().expect(&[226]);
    assert_eq!(server.read("slow"), b"first second");
    busy.reply().expect(&[421]);
    assert!(gateway.wait().success(), "{}", gateway.log());
}

#[test]
fn a_stopping_gateway_resets_what_is_left_at_its_deadline() {
    let server = Server::start(Kind::ApacheFtpServer);
    let mut gateway = Gateway::to(&server).set("drain", "deadline = \"300ms\"").start();
    let mut client = Ftp::login(gateway.address, &server);
    let mut data = client.begin("STOR endless");
    data.write_all(b"a part").unwrap();
    gateway.sigterm();
    client.final_reply().expect(&[426]);
    client.reply().expect(&[421]);
    assert_eq!(read_to_end(data).1, End::Reset);
    assert_eq!(gateway.audit_line("endless")["outcome"], "gateway-failed");
    assert!(gateway.wait().success());
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
