//! What an operator keeps out for a while, by the command line.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{denied, log_in, refused};
use crate::harness::canned::CannedServer;
use crate::harness::ftp::{End, Ftp, read_to_end};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::{address, eventually};

/// Has an order carried out.
#[track_caller]
fn order(gateway: &Gateway, order: &[&str], told: &str) {
    let (code, printed) = gateway.order(order);
    assert_eq!((code, printed), (Some(0), format!("{told}\n")), "{order:?}");
}

#[test]
fn a_listener_a_network_and_a_user_are_kept_out_until_they_are_let_in_again() {
    let server = Server::start(Kind::ProFtpd);
    let [other, partner]: [IpAddr; 2] = [(); 2].map(|()| address::unused().into());
    let second = SocketAddr::new(other, 2121);
    let gateway = Gateway::to(&server).also_listening(&second.to_string(), "").start();
    let listener = gateway.address.to_string();

    let message = "Maintenance until 18:00.";
    order(
        &gateway,
        &["block", "listener", &listener, "--message", message],
        &format!("listener {listener} is blocked"),
    );
    let mut client = Ftp::knock(gateway.address);
    assert_eq!(client.reply().text, format!("421 {message}\r\n"));
    assert!(client.is_closed());
    Ftp::login(second, &server);
    order(
        &gateway,
        &["unblock", "listener", &listener],
        &format!("listener {listener} is blocked no more"),
    );
    let mut before = Ftp::login(gateway.address, &server);

    let partner_text = partner.to_string();
    order(&gateway, &["block", "client", &partner_text], &format!("client {partner} is blocked"));
    let mut client = Ftp::knock_from(partner, gateway.address);
    assert_eq!(client.reply().text, "421 Not available at present; try again later.\r\n");
    Ftp::login(gateway.address, &server);
    assert_eq!(refused(&gateway, "blocked"), 2.0);
    assert_eq!(gateway.metric("ftpgate_blocks{kind=\"client\"}"), 1.0);
    order(
        &gateway,
        &["unblock", "client", &partner_text],
        &format!("client {partner} is blocked no more"),
    );
    drop(Ftp::connect_from(partner, gateway.address));

    order(&gateway, &["block", "user", "al*", "--message", "Ask Bob."], "user al* is blocked");
    let mut client = Ftp::connect(gateway.address);
    assert_eq!(log_in(&mut client, "alice"), (530, "530 Ask Bob.\r\n".into()));
    client.command("USER bob").expect(&[331]);
    assert_eq!(denied(&gateway, "blocked"), 1.0);
    // Who is there already stays.
    before.command("PWD").expect(&[257]);
    order(&gateway, &["unblock", "user", "al*"], "user al* is blocked no more");
    assert_eq!(log_in(&mut client, "alice").0, 230);
    assert_eq!(gateway.order(&["blocks"]), (Some(0), "nothing is blocked\n".into()));
}

#[test]
fn a_block_can_end_by_itself_and_end_the_sessions_that_there_are() {
    let server = Server::start(Kind::ProFtpd);
    let gateway = Gateway::to(&server).start();
    let partner: IpAddr = address::unused().into();
    let mut theirs = Ftp::connect_from(partner, gateway.address);
    theirs.log_in(&server);
    let mut data = theirs.begin("STOR stump");
    data.write_all(b"half of it").unwrap();
    let mut ours = Ftp::login(gateway.address, &server);
    let network = format!("{partner}/32");
    order(
        &gateway,
        &["block", "client", &network, "--for", "2s", "--end-sessions"],
        &format!("client {partner} is blocked for 2s; 1 session is ended"),
    );
    assert_eq!(read_to_end(data).1, End::Reset);
    theirs.final_reply().expect(&[426]);
    theirs.reply().expect(&[421]);
    assert!(theirs.is_closed());
    Ftp::knock_from(partner, gateway.address).reply().expect(&[421]);
    ours.command("PWD").expect(&[257]);
    let (_, listed) = gateway.order(&["blocks"]);
    assert!(listed.starts_with("KIND    WHAT"), "{listed}");
    assert!(listed.contains(&format!("client  {partner}")), "{listed}");
    eventually("the block to end", || {
        (Ftp::knock_from(partner, gateway.address).reply().code == 220).then_some(())
    });
    assert_eq!(gateway.metric("ftpgate_blocks{kind=\"client\"}"), 0.0);
}

#[test]
fn a_user_who_is_blocked_while_he_logs_in_does_not_stay() {
    let server = Server::start(Kind::ProFtpd);
    let gateway = Gateway::to(&server).start();
    let mut client = Ftp::connect(gateway.address);
    client.command("USER alice").expect(&[331]);
    order(&gateway, &["block", "user", "alice"], "user alice is blocked");
    client.command(&format!("PASS {PASSWORD}")).expect(&[230]);
    client.reply().expect(&[421]);
    assert!(client.is_closed());
}

#[test]
fn every_block_is_there_after_a_hand_over() {
    let server = CannedServer::script().start();
    let mut gateway = Gateway::to_address(server.address).start();
    let _session = Ftp::connect(gateway.address);
    let kept = "user ann is blocked for 2h, also after a restart";
    order(&gateway, &["block", "user", "ann", "--for", "2h", "--keep"], kept);
    for number in 0..30 {
        let user = format!("bob-{number}");
        order(&gateway, &["block", "user", &user], &format!("user {user} is blocked"));
    }
    let before = gateway.order(&["blocks", "--json"]);
    let older = gateway.hand_over();
    assert_eq!(gateway.order(&["blocks", "--json"]), before);
    let mut client = Ftp::connect(gateway.address);
    client.command("USER bob-29").expect(&[530]);
    client.command("USER carl").expect(&[331]);
    let pid = older.id();
    let told = format!("user dave is blocked; not in process {pid}, which finishes its sessions");
    order(&gateway, &["block", "user", "dave"], &told);
}

#[test]
fn what_is_to_be_kept_is_there_after_a_kill_and_nothing_else() {
    let server = CannedServer::script().start();
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state").join("blocks.json");
    let start = || {
        let socket = directory.path().join("admin.sock");
        Gateway::to_address(server.address)
            .set("admin", &format!("socket = \"{}\"", socket.display()))
            .set("admin", &format!("state = \"{}\"", state.display()))
            .start()
    };
    let mut gateway = start();
    let kept = "user ann is blocked for 2h, also after a restart";
    order(
        &gateway,
        &["block", "user", "ann", "--for", "2h", "--message", "Later.", "--keep"],
        kept,
    );
    order(&gateway, &["block", "user", "bob"], "user bob is blocked");
    let until = |gateway: &Gateway| {
        let (_, listed) = gateway.order(&["blocks", "--json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        listed["blocks"][0]["until"].as_str().unwrap().to_owned()
    };
    let before = until(&gateway);
    gateway.sigkill();
    let mut gateway = start();
    let mut client = Ftp::connect(gateway.address);
    assert_eq!(client.command("USER ann").expect(&[530]).text, "530 Later.\r\n");
    client.command("USER bob").expect(&[331]);
    assert_eq!(until(&gateway), before);
    order(&gateway, &["unblock", "user", "ann"], "user ann is blocked no more");
    gateway.sigkill();
    let gateway = start();
    Ftp::connect(gateway.address).command("USER ann").expect(&[331]);
}

#[test]
fn a_node_whose_blocks_cannot_be_read_does_not_start_and_says_what_to_do() {
    let directory = TempDir::new().unwrap();
    let (file, state) =
        (directory.path().join("ftpgate.toml"), directory.path().join("blocks.json"));
    fs::write(&state, "{\"version\":1,\"blocks\":[{\"kind\":\"us").unwrap();
    let text = format!(
        "[admin]\nstate = \"{}\"\n[[listener]]\naddress = \"{}:2121\"\n[http]\nenabled = false\n\
         [[upstream.endpoint]]\naddress = \"192.0.2.1:21\"\n",
        state.display(),
        address::unused()
    );
    fs::write(&file, text).unwrap();
    let output = Command::new("timeout")
        .args(["--kill-after=1", "30", env!("CARGO_BIN_EXE_ftpgate"), "serve", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    for part in ["blocks.json", "is damaged", "remove it and block anew"] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
}

#[test]
fn what_makes_no_sense_is_answered_by_what_to_write() {
    let server = CannedServer::script().start();
    let directory = TempDir::new().unwrap();
    // Nobody can make a directory there.
    let nowhere = "/proc/ftpgate/blocks.json";
    let socket = directory.path().join("admin.sock");
    let gateway = Gateway::to_address(server.address)
        .set("admin", &format!("socket = \"{}\"", socket.display()))
        .set("admin", &format!("state = \"{nowhere}\""))
        .start();
    let own = gateway.address.to_string();
    for (order, code, told) in [
        (
            &["block", "listener", "127.0.0.1:99"][..],
            1,
            &*format!("there is no listener 127.0.0.1:99; there is {own}"),
        ),
        (&["block", "listener", "ftp"], 1, "write its address and port"),
        (&["block", "client", "partner"], 1, "write an address or a network"),
        (&["block", "client", "10.0.0.0/33"], 1, "10.0.0.0/33 is no client"),
        (&["block", "user", ""], 2, "a value is required"),
        (&["block", "user", "ann", "--message", "a\nb"], 1, "write one line of at most 200 bytes"),
        (&["block", "user", "ann", "--keep"], 1, "nothing has changed"),
        (&["block", "user", "ann", "--for", "soon"], 2, "such as 30m, 2h or 3days"),
        (&["block", "user", "ann", "--for", "10000years"], 1, "no calendar goes as far as that"),
        (&["block", "user", "ann", "--for", "5ms"], 2, "write at least 1s"),
        (&["block", "user"], 2, "<WHAT>"),
        (&["block", "network", "10.0.0.0/8"], 2, "[possible values: listener, client, user]"),
        (&["unblock", "user", "ann"], 1, "user ann is not blocked: `ftpgate blocks` lists what is"),
        (&["unblock", "client", "ann"], 1, "ann is no client"),
        (&["blocks", "all"], 2, "unexpected argument"),
    ] {
        let (answered, printed) = gateway.order(order);
        assert_eq!(answered, Some(code), "{order:?}: {printed}");
        assert!(printed.contains(told), "{told} is not in: {printed}");
    }
    assert_eq!(gateway.order(&["blocks"]), (Some(0), "nothing is blocked\n".into()));
    for command in ["block", "unblock", "blocks"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_ftpgate")).args([command, "--help"]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("69  no node answers"));
    }
}
