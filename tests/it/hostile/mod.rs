//! Clients that no good client is, and servers: what they do harms nobody but themselves.
//!
//! `table` runs each input of `from_clients` and `from_servers` and tells what it cost; `bounds` has
//! those that take many connections at once.

mod bounds;
mod case;
mod client;
mod from_clients;
mod from_servers;
mod lease;
mod table;

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::harness::bytes;
use crate::harness::ftp::{Ftp, connect, finish, read_to_end};
use crate::harness::gateway::{Gateway, with_every_server};
use crate::harness::scripted::{Cut, ScriptedServer};
use crate::harness::servers::{Kind, Server};

/// More than the sockets on the way hold, so that a transfer is still running when it is disturbed.
const LARGE: usize = 64 << 20;

#[test]
fn a_client_that_gets_no_session_is_told_why_although_it_spoke_first() {
    let server = ScriptedServer::start(Cut::ResetData);
    let gateway =
        Gateway::to_address(server.address()).set("limits", "sessions_per_client = 1").start();
    let _first = Ftp::connect(gateway.address);
    for speaks in [false, true].repeat(50) {
        let mut refused = connect(gateway.address, None).unwrap();
        if speaks {
            refused.write_all(b"USER ann\r\n").unwrap();
        }
        let mut told = String::new();
        refused.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("421 "), "told {told:?}");
    }
}

#[test]
fn a_client_that_reads_no_replies_is_not_read_either() {
    let server = ScriptedServer::start(Cut::ResetData);
    let gateway = Gateway::to_address(server.address())
        .set("limits", "commands_per_second = 1000000")
        .start();
    let mut client = Ftp::connect(gateway.address);
    SockRef::from(client.stream()).set_recv_buffer_size(4096).unwrap();
    client.stream().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let commands = b"AUTH\r\n".repeat(10_000);
    let mut sent = 0;
    let full = loop {
        match client.stream().write(&commands[sent % commands.len()..]) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < 40 << 20, "the gateway keeps the replies to {sent} bytes of commands");
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    for _ in 0..100 {
        client.reply().expect(&[502]);
    }
}

#[test]
fn a_line_without_end_does_not_hold_up_the_login_time_out() {
    let server = ScriptedServer::start(Cut::ResetData);
    let gateway = Gateway::to_address(server.address()).set("timeouts", "login = \"1s\"").start();
    let mut clients: Vec<_> = (0..8)
        .map(|_| {
            let client = connect(gateway.address, None).unwrap();
            let mut writer = client.try_clone().unwrap();
            thread::spawn(move || while writer.write_all(&[b'x'; 1 << 20]).is_ok() {});
            client
        })
        .collect();
    for client in &mut clients {
        let mut told = Vec::new();
        // The writer may be cut off by a reset.
        let _ = client.read_to_end(&mut told);
        let told = String::from_utf8(told).unwrap();
        assert!(told.contains("\n421 "), "told {told:?}");
    }
}

#[test]
fn a_status_of_a_missing_file_does_not_end_an_upload() {
    with_every_server(|server, gateway| {
        let mut ftp = Ftp::login(gateway.address, server);
        let mut data = ftp.begin("STOR file");
        ftp.send("STAT nothing");
        ftp.send("NOOP");
        let content = bytes(11, LARGE);
        data.write_all(&content).unwrap();
        finish(data);
        ftp.reply().expect(&[226]);
        assert!(server.read("file") == content, "{}", server.kind.name());
        ftp.reply();
        ftp.reply().expect(&[200]);
    });
}

#[test]
fn a_download_aborted_before_its_data_connection_is_there_leaves_the_session_alive() {
    with_every_server(|server, gateway| {
        server.write("file", b"x");
        for command in ["RETR file", "LIST"] {
            let mut ftp = Ftp::login(gateway.address, server);
            ftp.pasv();
            ftp.send(command);
            ftp.send("ABOR");
            let [transfer, abor] = [ftp.final_reply(), ftp.final_reply()];
            assert!((400..600).contains(&transfer.code), "{}: {transfer:?}", server.kind.name());
            assert!([225, 226].contains(&abor.code), "{}: {abor:?}", server.kind.name());
            let (content, reply) = ftp.download("RETR file");
            assert_eq!(
                (content.as_slice(), reply.code),
                (&b"x"[..], 226),
                "{}",
                server.kind.name()
            );
        }
    });
}

#[test]
fn a_resumed_upload_need_not_bring_what_allo_announced_for_the_whole() {
    let server = Server::start(Kind::ProFtpd);
    let gateway = Gateway::to(&server).start();
    let mut ftp = Ftp::login(gateway.address, &server);
    ftp.upload("STOR file", b"0123").expect(&[226]);
    // As lftp does it with ftp:use-allo.
    ftp.command("ALLO 10");
    let address = ftp.pasv();
    let mut data = ftp.open(address);
    ftp.command("REST 4").expect(&[350]);
    ftp.command("STOR file").expect(&[150]);
    data.write_all(b"456789").unwrap();
    finish(data);
    ftp.reply().expect(&[226]);
    assert_eq!(server.read("file"), b"0123456789");
}

#[test]
fn a_name_with_a_bare_telnet_byte_is_not_cut_to_another_name() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).start();
    let mut ftp = Ftp::login(gateway.address, &server);
    server.write("a", b"must stay");
    ftp.stream().write_all(b"DELE a\xFF\r\n").unwrap();
    ftp.reply().expect(&[450, 501, 550]);
    assert_eq!(server.read("a"), b"must stay");
}

#[test]
fn a_client_that_closes_its_data_connection_and_then_says_abor_is_answered_twice() {
    with_every_server(|server, gateway| {
        server.write("large", &bytes(12, LARGE));
        let mut ftp = Ftp::login(gateway.address, server);
        for _ in 0..10 {
            let mut data = ftp.begin("RETR large");
            data.read_exact(&mut [0; 100_000]).unwrap();
            drop(data);
            ftp.send("ABOR");
            let [transfer, abor] = [ftp.final_reply(), ftp.final_reply()];
            assert!((400..600).contains(&transfer.code), "{}: {transfer:?}", server.kind.name());
            assert!([225, 226].contains(&abor.code), "{}: {abor:?}", server.kind.name());
        }
        ftp.command("NOOP").expect(&[200]);
    });
}

#[test]
fn noops_during_a_long_upload_do_not_cut_it() {
    with_every_server(|server, gateway| {
        let mut ftp = Ftp::login(gateway.address, server);
        let mut data = ftp.begin("STOR file");
        let content = bytes(13, 200_000);
        for part in content.chunks(1000) {
            ftp.send("NOOP");
            data.write_all(part).unwrap();
        }
        finish(data);
        let codes: Vec<u16> = (0..201).map(|_| ftp.reply().code).collect();
        assert_eq!(codes.iter().filter(|&&code| code == 226).count(), 1, "{codes:?}");
        assert!(server.read("file") == content, "{}", server.kind.name());
        ftp.command("NOOP").expect(&[200]);
    });
}

#[test]
fn two_sessions_of_one_address_whose_data_connections_come_crossed_get_their_own() {
    let server = Server::start(Kind::Vsftpd);
    server.write("a", &bytes(14, 100_000));
    server.write("b", &bytes(15, 100_000));
    let gateway = Gateway::to(&server).start();
    let [mut a, mut b] = [(); 2].map(|()| Ftp::login(gateway.address, &server));
    for _ in 0..10 {
        let (to_a, to_b) = (a.pasv(), b.pasv());
        // As each was told, and in the other order.
        let (of_b, of_a) = (b.open(to_b), a.open(to_a));
        a.send("RETR a");
        b.send("RETR b");
        assert!(read_to_end(of_a).0 == bytes(14, 100_000));
        assert!(read_to_end(of_b).0 == bytes(15, 100_000));
        a.final_reply().expect(&[226]);
        b.final_reply().expect(&[226]);
    }
}
