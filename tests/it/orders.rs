//! What an operator asks of a node by the command line, and what it answers.

use std::process::Command;

use serde_json::Value;

use crate::harness::eventually;
use crate::harness::ftp::Ftp;
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};

#[test]
fn a_node_without_a_peer_is_active_as_soon_as_it_is_ready() {
    let server = Server::start(Kind::Vsftpd);
    let gateway = Gateway::to(&server).set("node", "name = \"alone\"").start();
    eventually("the node to be active", || (gateway.get("/activez").0 == 200).then_some(()));
    let answer: Value = serde_json::from_str(&gateway.get("/activez").1).unwrap();
    assert_eq!(answer["role"], "active");
    assert_eq!(answer["node"], "alone");
    assert_eq!(answer["reason"], "there is no other node");
    assert_eq!(gateway.metric("ftpgate_role{role=\"active\"}"), 1.0);
    assert_eq!(gateway.metric("ftpgate_role{role=\"starting\"}"), 0.0);
    gateway.logs("from=\"starting\" to=\"active\"");
}

#[test]
fn a_drained_node_finishes_what_it_has_and_takes_clients_again_when_resumed() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).set("drain", "idle = \"60s\"").start();
    let mut early = Ftp::login(gateway.address, &server);
    let (code, printed) = gateway.order(&["drain"]);
    assert_eq!((code, printed.contains("new clients are refused")), (Some(0), true), "{printed}");
    assert_eq!(gateway.get("/readyz").0, 503);
    assert_eq!(gateway.get("/activez").0, 503);
    assert_eq!(gateway.get("/livez").0, 200);
    Ftp::knock(gateway.address).reply().expect(&[421]);
    assert_eq!(early.upload("STOR late.txt", b"whole").code, 226);
    assert_eq!(server.read("late.txt"), b"whole");
    assert_eq!(gateway.order(&["resume"]).0, Some(0));
    eventually("the node to be active again", || (gateway.get("/activez").0 == 200).then_some(()));
    Ftp::login(gateway.address, &server).command("QUIT").expect(&[221]);
}

#[test]
fn an_order_that_cannot_be_carried_out_says_why() {
    let server = Server::start(Kind::Vsftpd);
    let mut gateway = Gateway::to(&server).start();
    let (code, printed) = gateway.order(&["failover"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("there is no peer"), "{printed}");
    gateway.sigkill();
    let (code, printed) = gateway.order(&["resume"]);
    assert_eq!(code, Some(69), "{printed}");
    assert!(printed.contains("is `ftpgate serve` running"), "{printed}");
    let nowhere = Command::new(env!("CARGO_BIN_EXE_ftpgate"))
        .args(["drain", "--config", "/nowhere/ftpgate.toml"])
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(78));
}

#[test]
fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let server = Server::start(Kind::Vsftpd);
    let mut gateway = Gateway::to(&server).start();
    let socket = gateway.configuration().with_file_name("admin.sock");
    let mode = std::os::unix::fs::PermissionsExt::mode(&socket.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o660);
    let at = |socket: &std::path::Path| {
        Gateway::to(&server).set("admin", &format!("socket = \"{}\"", socket.display()))
    };
    let second = at(&socket).start();
    second.logs("another ftpgate listens there");
    assert_eq!(gateway.order(&["resume"]).0, Some(0));
    gateway.sigkill();
    let third = at(&socket).start();
    eventually("the socket to be replaced", || {
        (third.order(&["resume"]).0 == Some(0)).then_some(())
    });
}
