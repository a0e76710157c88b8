//! Clients and servers of either family: who stands between need not be of one only.

use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr};

use crate::harness::certificates::Authority;
use crate::harness::ftp::{Ftp, connect, finish, read_to_end};
use crate::harness::ftps::Tls;
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::servers::{Kind, Server};
use crate::harness::{address, bytes};

const KINDS: [Kind; 2] = [Kind::ApacheFtpServer, Kind::Vsftpd];

/// A gateway before this server with listeners of both families, and its IPv6 address.
fn gateway(server: &Server) -> (GatewayOptions<'static>, SocketAddr) {
    let ports = address::unused_ports();
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, ports));
    let gateway = Gateway::to(server)
        .passive(&format!("{}-{}", ports + 1, ports + 9))
        .also_listening(&six.to_string(), "");
    (gateway, six)
}

/// Up and down again over EPSV, and a list.
#[track_caller]
fn move_files(server: &Server, client: &mut Ftp, name: &str) {
    let content = bytes(51, 300_001);
    let address = client.epsv();
    let mut data = client.open(address);
    client.command(&format!("STOR {name}")).expect(&[150]);
    data.write_all(&content).unwrap();
    finish(data);
    client.reply().expect(&[226]);
    assert!(server.read(name) == content, "{name}");
    for (command, expected) in [(format!("RETR {name}"), Some(&content)), ("NLST".to_owned(), None)]
    {
        let address = client.epsv();
        let data = client.open(address);
        client.command(&command).expect(&[150]);
        let (found, _) = read_to_end(data);
        client.reply().expect(&[226]);
        match expected {
            Some(content) => assert!(found == *content, "{name}"),
            None => assert!(String::from_utf8_lossy(&found).contains(name)),
        }
    }
}

#[test]
fn clients_of_both_families_reach_servers_of_both_at_once() {
    std::thread::scope(|scope| {
        for (kind, ipv6) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            scope.spawn(move || {
                let server = match ipv6 {
                    true => Server::options(kind).ipv6().start(),
                    false => Server::start(kind),
                };
                let (gateway, six) = gateway(&server);
                let gateway = gateway.start();
                let mut clients =
                    [gateway.address, six].map(|address| Ftp::login(address, &server));
                for round in 0..3 {
                    for (index, client) in clients.iter_mut().enumerate() {
                        move_files(&server, client, &format!("file-{index}-{round}"));
                    }
                }
                // PASV is for IPv4, whatever the server is.
                let [four, six] = &mut clients;
                let (content, reply) = four.download("RETR file-0-0");
                assert_eq!((content.len(), reply.code), (300_001, 226));
                six.command("PASV").expect(&[425]);
                move_files(&server, six, "after-pasv");
            });
        }
    });
}

#[test]
fn each_family_is_told_which_protocol_it_may_use() {
    let server = Server::start(Kind::Vsftpd);
    let (gateway, six) = gateway(&server);
    let gateway = gateway.start();
    for (to, own, other) in [(gateway.address, 1, 2), (six, 2, 1)] {
        let mut client = Ftp::login(to, &server);
        let told = client.command(&format!("EPSV {other}")).expect(&[522]).text;
        assert!(told.contains(&format!("({own})")), "{told}");
        client.command(&format!("EPSV {own}")).expect(&[229]);
        client.command("EPSV 3").expect(&[522]);
        client.command("EPSV x").expect(&[501]);
        let foreign = if own == 1 { "EPRT |2|::1|25601|" } else { "EPRT |1|127.0.0.1|25601|" };
        let told = client.command(foreign).expect(&[522]).text;
        assert!(told.contains(&format!("({own})")), "{told}");
        if own == 2 {
            client.command("PORT 127,0,0,1,100,1").expect(&[501, 522]);
        }
        client.command("EPSV ALL").expect(&[200]);
        client.command("PASV").expect(&[425, 503]);
        client.command(foreign).expect(&[503]);
        move_files(&server, &mut client, &format!("file-{own}"));
    }
}

#[test]
fn a_client_of_the_other_family_is_a_stranger_at_the_port() {
    let server = Server::options(Kind::Vsftpd).ipv6().start();
    server.write("file", b"content");
    let (gateway, six) = gateway(&server);
    let gateway = gateway.start();
    let mut client = Ftp::login(six, &server);
    let port = client.epsv();
    client.send("RETR file");
    // The reset may be there as early as the connect.
    if let Ok(stranger) = connect((gateway.address.ip(), port.port()).into(), None) {
        assert_eq!(read_to_end(stranger).0, b"");
    }
    let data = client.open(port);
    client.reply().expect(&[150]);
    assert_eq!(read_to_end(data).0, b"content");
    client.reply().expect(&[226]);
}

#[test]
fn tls_and_active_mode_work_over_ipv6_too() {
    let authority = Authority::new();
    let server = Server::options(Kind::ApacheFtpServer).ipv6().start();
    let ports = address::unused_ports();
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, ports));
    let _gateway = Gateway::to(&server)
        .passive(&format!("{}-{}", ports + 1, ports + 9))
        .certified(&authority)
        .also_listening(&six.to_string(), "tls = \"required\"")
        .start();
    let tls = Tls::new(&authority, six.ip());
    let mut client = Ftp::private(six, &tls, server.kind.user());
    let content = bytes(52, 300_001);
    for round in 0..4 {
        let name = format!("file-{round}");
        let port = std::net::TcpListener::bind((six.ip(), 0)).unwrap();
        let mut begin = |command: String| {
            if round % 2 == 0 {
                let address = client.epsv();
                let data = client.open(address);
                client.command(&command).expect(&[150]);
                data
            } else {
                client.port(port.local_addr().unwrap()).expect(&[200]);
                client.send(&command);
                let (data, from) = port.accept().unwrap();
                assert_eq!(from.ip(), six.ip());
                client.reply().expect(&[150]);
                data
            }
        };
        let mut data = tls.shake(begin(format!("STOR {name}"))).unwrap();
        data.write_all(&content).unwrap();
        crate::harness::ftps::finish(data);
        client.reply().expect(&[226]);
        assert!(server.read(&name) == content);
    }
}
