//! Guesses at passwords: each costs more time, and too many of them a ban, for a while.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{denied, refused};
use crate::harness::canned::CannedServer;
use crate::harness::ftp::Ftp;
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::{address, eventually};

const BANNED: &str = "421 Too many failed logins from your address; try again later.\r\n";
const NEVER: &str = "127.0.0.1";

fn gateway(to: GatewayOptions<'static>, duration: &str) -> Gateway {
    let lines = format!(
        "failures = 3\nduration = \"{duration}\"\ndelay = \"100ms\"\nnever = [\"{NEVER}\"]"
    );
    to.set("access.bans", &lines).start()
}

/// A wrong password over a connection of its own: how long its refusal took, and the client.
fn guess(from: IpAddr, gateway: &Gateway) -> (Duration, Ftp) {
    let mut client = Ftp::connect_from(from, gateway.address);
    client.command("USER alice").expect(&[331]);
    let started = Instant::now();
    client.command("PASS wrong").expect(&[530]);
    (started.elapsed(), client)
}

#[test]
fn after_so_many_refused_logins_an_address_is_kept_out_for_a_while() {
    let server = Server::start(Kind::ProFtpd);
    let gateway = gateway(Gateway::to(&server), "3s");
    let [guesser, other]: [IpAddr; 2] = [(); 2].map(|()| address::unused().into());
    let mut open = Ftp::connect_from(guesser, gateway.address);
    let mut asked = Ftp::connect_from(guesser, gateway.address);
    asked.command("USER alice").expect(&[331]);
    let first = guess(guesser, &gateway).0;
    let second = guess(guesser, &gateway).0;
    let (third, mut client) = guess(guesser, &gateway);
    for (took, least) in [(first, 100), (second, 200), (third, 400)] {
        assert!(took >= Duration::from_millis(least), "{took:?} for {least} ms");
    }
    assert_eq!(client.reply().text, "421 Too many failed logins; try again later.\r\n");
    assert!(client.is_closed());
    let mut next = Ftp::knock_from(guesser, gateway.address);
    assert_eq!(next.reply().text, BANNED);
    assert_eq!(refused(&gateway, "banned"), 1.0);
    assert_eq!(gateway.metric("ftpgate_bans"), 1.0);
    assert_eq!(gateway.metric("ftpgate_bans_total"), 1.0);
    // Nor does a connection help that was there before.
    open.command("USER alice").expect(&[530]);
    assert_eq!(denied(&gateway, "banned"), 1.0);
    // Nor one that has said USER: its guess goes nowhere, be it right.
    asked.command(&format!("PASS {PASSWORD}")).expect(&[421]);
    assert!(asked.is_closed());
    assert_eq!(denied(&gateway, "banned"), 2.0);
    // Nobody else is kept out, nor the same user from elsewhere.
    let mut elsewhere = Ftp::connect_from(other, gateway.address);
    elsewhere.log_in(&server);

    eventually("the ban to end", || {
        (Ftp::knock_from(guesser, gateway.address).reply().code == 220).then_some(())
    });
    let mut again = Ftp::connect_from(guesser, gateway.address);
    again.log_in(&server);
    assert_eq!(gateway.metric("ftpgate_bans"), 0.0);
}

#[test]
fn a_ban_is_listed_and_can_be_lifted_and_some_are_never_banned() {
    let server = CannedServer::script().says("PASS", b"530 no\r\n").start();
    let gateway = gateway(Gateway::to_address(server.address), "1h");
    let guesser: IpAddr = address::unused().into();
    (0..3).for_each(|_| drop(guess(guesser, &gateway)));
    Ftp::knock_from(guesser, gateway.address).reply().expect(&[421]);
    let (code, listed) = gateway.order(&["blocks", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(listed["bans"][0]["client"], format!("{guesser}/32"));
    let (_, listed) = gateway.order(&["blocks"]);
    assert!(listed.contains(&format!("ban   {guesser}")), "{listed}");

    let guesser_text = guesser.to_string();
    let (code, printed) = gateway.order(&["unblock", "client", &guesser_text]);
    assert_eq!((code, printed), (Some(0), format!("client {guesser} is blocked no more\n")));
    drop(Ftp::connect_from(guesser, gateway.address));
    let (code, printed) = gateway.order(&["unblock", "client", &guesser_text]);
    let told = format!("error: client {guesser} is not blocked: `ftpgate blocks` lists what is\n");
    assert_eq!((code, printed), (Some(1), told));

    for _ in 0..5 {
        let (took, _client) = guess(NEVER.parse().unwrap(), &gateway);
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    drop(Ftp::connect_from(NEVER.parse().unwrap(), gateway.address));
}

#[test]
fn without_the_table_nobody_is_banned() {
    let server = CannedServer::script().says("PASS", b"530 no\r\n").start();
    let gateway = Gateway::to_address(server.address).start();
    let mut client = Ftp::connect(gateway.address);
    for _ in 0..30 {
        client.command("USER alice").expect(&[331]);
        client.command("PASS wrong").expect(&[530]);
    }
    drop(Ftp::connect(gateway.address));
    assert_eq!(gateway.metric("ftpgate_bans_total"), 0.0);
}
