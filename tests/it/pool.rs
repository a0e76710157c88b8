//! Nine passive ports, shared by all clients, and nobody gets another's data.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::harness::ftp::{Ftp, connect, finish};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};
use crate::harness::{bytes, eventually, number};

/// What an address of its own is to each of the clients: 127.250.0.1 and so on.
fn client_address(index: usize) -> IpAddr {
    let [high, low] = u16::try_from(index + 1).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 250, high, low).into()
}

fn login_from(address: IpAddr, to: SocketAddr, server: &Server) -> Ftp {
    let mut client = Ftp::connect_from(address, to);
    client.log_in(server);
    client
}

/// Uploads at the very same time, `each` from each of so many addresses: every data connection is
/// open before the first byte moves. Then every file must be on the server as it was sent.
fn upload_all_at_once(addresses: usize, each: usize) {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).start();
    let count = addresses * each;
    let open = &AtomicUsize::new(0);
    thread::scope(|scope| {
        for index in 0..count {
            let (server, to) = (&server, gateway.address);
            scope.spawn(move || {
                let mut client = login_from(client_address(index % addresses), to, server);
                let mut data = client.begin(&format!("STOR file-{index}"));
                open.fetch_add(1, Ordering::Relaxed);
                eventually("all to be open", || {
                    (open.load(Ordering::Relaxed) == count).then_some(())
                });
                data.write_all(&content(index)).unwrap();
                finish(data);
                client.final_reply().expect(&[226]);
            });
        }
    });
    for index in 0..count {
        assert!(
            server.read(&format!("file-{index}")) == content(index),
            "file-{index} is not what was sent"
        );
    }
    assert_eq!(gateway.metric("ftpgate_passive_strangers_total"), 0.0);
    assert_eq!(gateway.metric("ftpgate_passive_ports_reserved"), 0.0);
    let complete =
        gateway.metric("ftpgate_transfers_total{direction=\"upload\",outcome=\"complete\"}");
    assert_eq!(complete, f64::from(u32::try_from(count).unwrap()));
}

/// Of a size and with bytes of its own.
fn content(index: usize) -> Vec<u8> {
    let seed = u64::try_from(index).unwrap();
    bytes(seed, number(seed, 300_000))
}

#[test]
fn nine_ports_carry_500_concurrent_uploads_from_100_addresses() {
    upload_all_at_once(100, 5);
}

#[test]
fn nine_ports_carry_30_uploads_at_once_from_one_address() {
    upload_all_at_once(1, 30);
}

#[test]
fn an_upstream_with_nine_ports_of_its_own_is_waited_for() {
    let server = Server::options(Kind::ApacheFtpServer).passive("9192-9200").start();
    let gateway = Gateway::to(&server).start();
    thread::scope(|scope| {
        for session in 0..30 {
            let (server, to) = (&server, gateway.address);
            scope.spawn(move || {
                let mut client = login_from(client_address(session), to, server);
                for index in (session * 3)..(session * 3 + 3) {
                    client.upload(&format!("STOR file-{index}"), &content(index)).expect(&[226]);
                }
            });
        }
    });
    for index in 0..90 {
        assert!(
            server.read(&format!("file-{index}")) == content(index),
            "file-{index} is not what was sent"
        );
    }
}

#[test]
fn all_nine_ports_are_used_and_the_tenth_request_gets_425_and_harms_nobody_else() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).set("passive", "wait = \"3s\"").start();
    let greedy = client_address(0);
    let mut sessions: Vec<Ftp> =
        (0..10).map(|_| login_from(greedy, gateway.address, &server)).collect();
    let mut last = sessions.pop().unwrap();
    let ports: HashSet<u16> = sessions.iter_mut().map(|session| session.pasv().port()).collect();
    assert_eq!(ports, (8192..=8200).collect());
    last.command("PASV").expect(&[425]);
    assert_eq!(gateway.metric("ftpgate_passive_exhausted_total"), 1.0);
    // Another address has all nine to itself.
    let mut other = login_from(client_address(1), gateway.address, &server);
    other.upload("STOR other", b"unharmed").expect(&[226]);
    // And a port comes back with the session that held it, when it has rested.
    sessions.pop().unwrap().command("QUIT").expect(&[221]);
    last.upload("STOR last", b"at last").expect(&[226]);
    assert_eq!(server.read("last"), b"at last");
}

#[test]
fn a_stranger_at_a_reserved_port_gets_nothing_and_disturbs_nobody() {
    let server = Server::start(Kind::ApacheFtpServer);
    server.write("secret", &bytes(1, 100_000));
    let gateway = Gateway::to(&server).start();
    let mut client = login_from(client_address(0), gateway.address, &server);
    for round in 1..=20 {
        let address = client.pasv();
        let before = connect(address, Some(client_address(1)));
        let data = client.open(address);
        let after = connect(address, Some(client_address(1)));
        // One reservation, one connection: a second one from the right address is a stranger too.
        let second = connect(address, Some(client_address(0)));
        client.command("RETR secret").expect(&[150]);
        let mut received = Vec::new();
        (&data).read_to_end(&mut received).unwrap();
        client.final_reply().expect(&[226]);
        assert!(received == bytes(1, 100_000));
        for stranger in [before, after, second] {
            // Reset at once: at the connect already, or at the first read.
            let got = stranger.and_then(|mut stranger| stranger.read(&mut [0; 100]));
            assert!(got.is_err(), "a stranger read {got:?}");
        }
        let strangers = f64::from(round * 3);
        eventually("the strangers to be counted", || {
            (gateway.metric("ftpgate_passive_strangers_total") == strangers).then_some(())
        });
    }
}

#[test]
fn a_port_that_nobody_comes_to_is_given_back() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).set("passive", "reservation = \"300ms\"").start();
    let mut client = login_from(client_address(0), gateway.address, &server);
    let address = client.pasv();
    eventually("the reservation to expire", || {
        (gateway.metric("ftpgate_passive_expired_total") == 1.0).then_some(())
    });
    let late = connect(address, Some(client_address(0))).and_then(|mut late| late.read(&mut [0]));
    assert!(late.is_err(), "a late data connection was served");
    client.command("STOR late").expect(&[425]);
    client.upload("STOR again", b"in time").expect(&[226]);
    // The same while a command waits for it.
    client.pasv();
    client.send("STOR never");
    client.final_reply().expect(&[425]);
}
