//! Never a truncated file that looks complete. Each way to cut a transfer, at least 50 times at
//! random places against Apache FtpServer: the server must never say 226 to a cut upload, and the
//! client must never see a FIN or a 226 on a cut download.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use nix::sys::socket::{setsockopt, sockopt::TcpRepair};

use crate::harness::clients::curl::endless_upload;
use crate::harness::ftp::{End, Ftp, fin, read_to_end, reset};
use crate::harness::gateway::Gateway;
use crate::harness::scripted::{Cut, ScriptedServer};
use crate::harness::servers::{Kind, Server};
use crate::harness::tap::Tap;
use crate::harness::{bytes, eventually, number};

/// The user of Apache FtpServer; the scripted server takes any.
const USER: &str = Kind::ApacheFtpServer.user();
/// How often each transfer is cut.
const TIMES: usize = 50;
/// How many of them share one victim, where the victim is a process.
const AT_ONCE: usize = 10;
/// The size of a file: more than all socket buffers on the way hold.
const SIZE: usize = 64 << 20;

fn login(to: SocketAddr) -> Ftp {
    let mut client = Ftp::connect(to);
    client.log_in_as(USER);
    client
}

/// Uploads a random part, in a session and over a data connection that both stay open.
fn begin_upload(server: &Server, to: SocketAddr, name: &str, seed: u64) -> (Ftp, TcpStream) {
    let mut client = login(to);
    let mut data = client.begin(&format!("STOR {name}"));
    data.write_all(&bytes(seed, 1 + number(seed, 2 << 20))).unwrap();
    // The server says 150 before it has a data connection, and without one says nothing more for a
    // minute. It creates the file when it has one.
    eventually("the server's data connection", || server.path(name).exists().then_some(()));
    (client, data)
}

/// Downloads a random part, in a session and over a data connection that both stay open.
fn begin_download(to: SocketAddr, name: &str, seed: u64) -> (Ftp, TcpStream, Vec<u8>) {
    let mut client = login(to);
    let mut data = client.begin(&format!("RETR {name}"));
    let mut part = vec![0; 1 + number(seed, 2 << 20)];
    data.read_exact(&mut part).unwrap();
    (client, data, part)
}

/// A server with a file to download, and a tap before it.
fn server_with_file() -> (Server, Tap) {
    let server = Server::start(Kind::ApacheFtpServer);
    server.write("whole", &bytes(1, SIZE));
    let tap = Tap::before(server.address);
    (server, tap)
}

fn seed(round: usize, index: usize) -> u64 {
    u64::try_from(round * 1000 + index).unwrap()
}

/// The upload must have been reported as failed: by the server to the tap, and to the client, if
/// it is still there.
fn assert_cut_upload_failed(tap: &Tap, name: &str, client: Option<Ftp>) {
    let verdict = tap.verdict(name);
    assert!(verdict >= 400, "the server said {verdict} to the cut upload {name}");
    if let Some(mut client) = client {
        let told = client.final_reply();
        assert!(told.code >= 400, "the client was told {} of the cut upload {name}", told.text);
    }
}

/// The download must have ended with RST, and the client been told nothing or of a failure.
fn assert_cut_download_failed(mut client: Ftp, data: TcpStream, part: Vec<u8>) {
    assert_cut(data, part);
    while let Ok(reply) = client.try_reply() {
        assert!(reply.code >= 400, "the client was told {} of a cut download", reply.text);
    }
}

fn assert_cut(data: TcpStream, part: Vec<u8>) {
    let (rest, end) = read_to_end(data);
    assert!(part.len() + rest.len() < SIZE, "the download was not cut at all");
    assert_eq!(end, End::Reset, "a cut download ended with FIN");
}

#[test]
fn a_gateway_killed_in_mid_upload_never_looks_like_the_end_of_the_file() {
    let (server, tap) = server_with_file();
    for round in 0..TIMES / AT_ONCE {
        let mut gateway = Gateway::to_address(tap.address()).start();
        let uploads: Vec<_> = (0..AT_ONCE)
            .map(|index| {
                begin_upload(
                    &server,
                    gateway.address,
                    &format!("killed-{round}-{index}"),
                    seed(round, index),
                )
            })
            .collect();
        gateway.sigkill();
        for index in 0..AT_ONCE {
            assert_cut_upload_failed(&tap, &format!("killed-{round}-{index}"), None);
        }
        drop(uploads);
    }
}

#[test]
fn a_gateway_killed_in_mid_download_never_looks_like_the_end_of_the_file() {
    let (_server, tap) = server_with_file();
    for round in 0..TIMES / AT_ONCE {
        let mut gateway = Gateway::to_address(tap.address()).start();
        let downloads: Vec<_> = (0..AT_ONCE)
            .map(|index| begin_download(gateway.address, "whole", seed(round, index)))
            .collect();
        gateway.sigkill();
        for (client, data, part) in downloads {
            assert_cut_download_failed(client, data, part);
        }
    }
}

#[test]
fn a_client_that_resets_its_upload_never_leaves_a_complete_file() {
    let (server, tap) = server_with_file();
    let gateway = Gateway::to_address(tap.address()).start();
    for index in 0..TIMES {
        let name = format!("reset-{index}-");
        let (client, data) = begin_upload(&server, gateway.address, &name, seed(0, index));
        reset(data);
        assert_cut_upload_failed(&tap, &name, Some(client));
    }
    assert_eq!(
        gateway.metric("ftpgate_transfers_total{direction=\"upload\",outcome=\"client-failed\"}"),
        50.0
    );
    assert_eq!(
        gateway.metric("ftpgate_transfers_total{direction=\"upload\",outcome=\"complete\"}"),
        0.0
    );
}

#[test]
fn a_client_process_that_is_killed_sends_fin_on_both_connections_and_is_not_believed() {
    let (server, tap) = server_with_file();
    let gateway = Gateway::to_address(tap.address()).start();
    let address = gateway.address;
    for round in 0..TIMES / AT_ONCE {
        let uploads: Vec<_> = (0..AT_ONCE)
            .map(|index| {
                let name = format!("client-killed-{round}-{index}-");
                (
                    endless_upload(&[], address, USER, &name),
                    name,
                    50_000 + number(seed(round, 80 + index), 450_000),
                )
            })
            .collect();
        for (mut curl, name, part) in uploads {
            eventually("a part of the upload", || {
                (size(&server, &name) > part as u64).then_some(())
            });
            curl.kill().unwrap();
            curl.wait().unwrap();
            assert_cut_upload_failed(&tap, &name, None);
            assert_eq!(gateway.audit_line(&name)["outcome"], "client-failed");
        }
    }
}

/// The size of a file on the server's disk; 0 if there is none.
fn size(server: &Server, name: &str) -> u64 {
    std::fs::metadata(server.path(name)).map_or(0, |file| file.len())
}

#[test]
fn a_client_that_closes_its_control_connection_before_its_data_is_not_believed() {
    let (server, tap) = server_with_file();
    let gateway = Gateway::to_address(tap.address()).start();
    for index in 0..TIMES {
        let name = format!("control-first-{index}-");
        let (client, data) = begin_upload(&server, gateway.address, &name, seed(2, index));
        // Not by a close, which takes effect when no process that is being started has a copy.
        fin(client.stream());
        fin(&data);
        assert_cut_upload_failed(&tap, &name, None);
    }
}

#[test]
fn a_client_that_sends_less_than_it_announced_is_not_believed() {
    let (_server, tap) = server_with_file();
    let gateway = Gateway::to_address(tap.address()).start();
    for index in 0..TIMES {
        let name = format!("short-{index}-");
        let mut client = login(gateway.address);
        client.command("ALLO 3000000");
        let mut data = client.begin(&format!("STOR {name}"));
        data.write_all(&bytes(5, number(seed(3, index), 2_999_999))).unwrap();
        fin(&data);
        let reply = client.final_reply();
        assert!(reply.code >= 400, "{}", reply.text);
        assert!(tap.verdict(&name) >= 400);
    }
}

/// Without FIN or RST, as when its machine loses power: in repair mode the kernel forgets a
/// connection without a word.
fn vanish(stream: &TcpStream) {
    setsockopt(stream, TcpRepair, &1).expect("CAP_NET_ADMIN, to make a connection vanish");
}

#[test]
fn a_client_that_vanishes_or_falls_silent_never_leaves_a_complete_file() {
    let (server, tap) = server_with_file();
    let gateway =
        Gateway::to_address(tap.address()).set("timeouts", "data_idle = \"400ms\"").start();
    for vanishing in [true, false] {
        let uploads: Vec<_> = (0..TIMES)
            .map(|index| {
                let name = format!("silent-{vanishing}-{index}-");
                let (client, data) = begin_upload(&server, gateway.address, &name, seed(4, index));
                if vanishing {
                    vanish(client.stream());
                    vanish(&data);
                    drop((client, data));
                    (name, None)
                } else {
                    (name, Some((client, data)))
                }
            })
            .collect();
        for (name, silent) in uploads {
            match silent {
                None => assert_cut_upload_failed(&tap, &name, None),
                Some((client, data)) => {
                    assert_cut_upload_failed(&tap, &name, Some(client));
                    assert_eq!(read_to_end(data).1, End::Reset);
                }
            }
        }
    }
}

#[test]
fn a_download_whose_client_falls_silent_is_reset_and_answered_426() {
    let (_server, tap) = server_with_file();
    let gateway =
        Gateway::to_address(tap.address()).set("timeouts", "data_idle = \"400ms\"").start();
    let downloads: Vec<_> =
        (0..TIMES).map(|index| begin_download(gateway.address, "whole", seed(5, index))).collect();
    let failed = "ftpgate_transfers_total{direction=\"download\",outcome=\"gateway-failed\"}";
    eventually("all to be given up", || (gateway.metric(failed) == 50.0).then_some(()));
    for (mut client, data, part) in downloads {
        assert!(client.final_reply().code >= 400);
        client.command("QUIT").expect(&[221]);
        assert_cut_download_failed(client, data, part);
    }
}

#[test]
fn a_server_that_is_killed_never_gives_a_complete_download() {
    for round in 0..TIMES / AT_ONCE {
        let (mut server, _tap) = server_with_file();
        let gateway = Gateway::to(&server).start();
        let downloads: Vec<_> = (0..AT_ONCE)
            .map(|index| begin_download(gateway.address, "whole", seed(round, 60 + index)))
            .collect();
        let uploads: Vec<_> = (0..AT_ONCE)
            .map(|index| {
                begin_upload(
                    &server,
                    gateway.address,
                    &format!("up-{index}"),
                    seed(round, 70 + index),
                )
            })
            .collect();
        server.sigkill();
        // The sessions go on, for there may be another server by the next command.
        for (mut client, data, part) in downloads {
            assert_cut(data, part);
            assert_eq!(client.final_reply().code, 426);
        }
        for (mut client, _data) in uploads {
            assert_eq!(client.final_reply().code, 426);
        }
    }
}

#[test]
fn a_reset_on_either_side_arrives_as_a_reset_on_the_other() {
    for cut in [Cut::ResetData, Cut::ResetDataAndControl, Cut::FinDataThenLeave] {
        let server = ScriptedServer::start(cut);
        let gateway = Gateway::to_address(server.address()).start();
        let cases: Vec<_> = (0..TIMES)
            .map(|index| {
                let command = if index % 2 == 0 { "RETR" } else { "STOR" };
                let (address, after) = (gateway.address, number(seed(7, index), 3 << 20));
                thread::spawn(move || cut_by_server(address, command, after))
            })
            .collect();
        cases.into_iter().for_each(|case| case.join().unwrap());
    }
}

/// A transfer that the server cuts after so many bytes.
fn cut_by_server(gateway: SocketAddr, command: &str, after: usize) {
    let mut client = login(gateway);
    let address = client.pasv();
    let mut data = client.open(address);
    client.send(&format!("{command} cut-after-{after}"));
    // The reset may come while we still write; the kernel tells it once.
    let sent = match command {
        "STOR" => data.write_all(&bytes(9, after + (1 << 20))),
        _ => Ok(()),
    };
    if sent.is_ok() {
        assert_eq!(read_to_end(data).1, End::Reset, "{command}");
    }
    let reply = client.final_reply();
    assert!(reply.code >= 400, "{}", reply.text);
}

#[test]
fn an_aborted_upload_is_never_stored_as_complete() {
    let (server, tap) = server_with_file();
    let gateway = Gateway::to_address(tap.address()).start();
    for index in 0..TIMES {
        let name = format!("aborted-{index}-");
        let (mut client, data) = begin_upload(&server, gateway.address, &name, seed(8, index));
        client.send("ABOR");
        fin(&data);
        assert!(tap.verdict(&name) >= 400);
        let (transfer, abort) = (client.final_reply(), client.final_reply());
        assert!(transfer.code >= 400, "{}", transfer.text);
        assert_eq!(abort.code, 226, "{}", abort.text);
        assert_eq!(client.command("NOOP").code, 200);
    }
}
