//! Active mode: the gateway connects to the client, and to nobody else; all that holds for passive
//! mode holds here.

mod truncation;

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::harness::canned::{CONTENT, CannedServer};
use crate::harness::certificates::Authority;
use crate::harness::ftp::{End, Ftp, Wire, assert_nobody_there, finish, read_to_end};
use crate::harness::ftps::{self, SecureEnd, Tls, VERSIONS, is_resumed};
use crate::harness::gateway::{Gateway, GatewayOptions, with_every_server};
use crate::harness::servers::{Kind, Server};
use crate::harness::{PATIENCE, address, bytes, eventually};

/// A port of the client's, where it waits.
struct Port(TcpListener);

impl Port {
    /// Opens one, and tells the gateway.
    #[track_caller]
    fn open<S: Wire>(client: &mut Ftp<S>) -> Self {
        let port = Self::at(client.stream().local_addr().unwrap().ip());
        client.port(port.address()).expect(&[200]);
        port
    }

    fn at(ip: IpAddr) -> Self {
        Self(TcpListener::bind((ip, 0)).unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The data connection.
    fn accept(&self) -> (TcpStream, SocketAddr) {
        self.0.set_nonblocking(true).unwrap();
        let (stream, from) = eventually("the gateway to connect", || self.0.accept().ok());
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        (stream, from)
    }

    /// Whether nobody has come.
    fn is_untouched(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        matches!(self.0.accept(), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}

/// Uploads in active mode; gives where the data connection came from.
#[track_caller]
fn upload(client: &mut Ftp, name: &str, content: &[u8]) -> SocketAddr {
    let port = Port::open(client);
    client.send(&format!("STOR {name}"));
    let (mut data, from) = port.accept();
    data.write_all(content).unwrap();
    finish(data);
    client.final_reply().expect(&[226]);
    from
}

/// Downloads or lists likewise.
#[track_caller]
fn download(client: &mut Ftp, command: &str) -> (Vec<u8>, SocketAddr) {
    let port = Port::open(client);
    client.send(command);
    let (data, from) = port.accept();
    let (content, end) = read_to_end(data);
    assert_eq!(end, End::Fin);
    client.final_reply().expect(&[226]);
    (content, from)
}

fn before_canned() -> (CannedServer, GatewayOptions<'static>) {
    let server = CannedServer::script().says("FEAT", b"502 unknown\r\n").start();
    let gateway = Gateway::to_address(server.address);
    (server, gateway)
}

/// The series of refusals.
fn refused(reason: &str) -> String {
    format!("ftpgate_callbacks_refused_total{{reason=\"{reason}\"}}")
}

#[test]
fn nobody_but_the_client_itself_is_ever_connected_to() {
    let (_server, gateway) = before_canned();
    let gateway = gateway.start();
    let mut client = Ftp::connect_from(address::unused().into(), gateway.address);
    client.log_in_as("anyone");
    let third = Port::at(address::unused().into());
    let at = third.address();
    for (round, command) in
        [format!("EPRT |1|{}|{}|", at.ip(), at.port()), String::new()].into_iter().enumerate()
    {
        match &*command {
            "" => client.port(at),
            command => client.command(command),
        }
        .expect(&[504]);
        for transfer in ["RETR file", "STOR file", "LIST"] {
            client.command(transfer).expect(&[425]);
        }
        assert_eq!(gateway.metric(&refused("third-host")), (round + 1) as f64);
    }
    // Written as IPv6 it is no other address.
    client.command(&format!("EPRT |2|::ffff:{}|{}|", at.ip(), at.port())).expect(&[504, 522]);
    assert!(third.is_untouched(), "a third host was connected to");
    let (content, _) = download(&mut client, "RETR file");
    assert_eq!(content, CONTENT);
    assert!(third.is_untouched(), "a third host was connected to");
}

#[test]
fn neither_services_of_the_client_nor_the_gateways_own_are_connected_to() {
    let (server, gateway) = before_canned();
    let gateway = gateway.also_listening("2122", "").start();
    let own = gateway.address.ip();
    let mut client = Ftp::connect_from(own, gateway.address);
    client.log_in_as("anyone");
    let mut low = 0.0;
    for port in [0, 1, 21, 22, 80, 1023] {
        let reply = client.port((own, port).into()).expect(&[501, 504]);
        low += f64::from(u8::from(reply.code == 504));
    }
    assert_eq!(gateway.metric(&refused("low-port")), low);
    let mut count = 0.0;
    for port in [2121, 8192, 8196, 8200, 2122, 9121] {
        let reply = client.port((own, port).into());
        reply.expect(&[504]);
        count += 1.0;
        assert_eq!(gateway.metric(&refused("gateway")), count);
    }
    assert_eq!(server.times("EPSV"), 0, "the server was asked for a port that nobody needs");
    assert_eq!(download(&mut client, "RETR file").0, CONTENT);
}

#[test]
fn a_client_that_cannot_be_reached_gets_425_at_once_and_nobody_is_left_waiting() {
    with_every_server(|server, gateway| {
        server.write("file", b"content");
        let mut client = Ftp::login(gateway.address, server);
        for round in 0..3 {
            for command in ["RETR file", "LIST", "STOR new"] {
                let closed = Port::at(client.stream().local_addr().unwrap().ip()).address();
                client.port(closed).expect(&[200]);
                client.send(command);
                client.final_reply().expect(&[425]);
                client.command("NOOP").expect(&[200]);
                assert_eq!(download(&mut client, "RETR file").0, b"content", "{:?}", server.kind);
                upload(&mut client, &format!("next-{round}"), b"next");
                assert_eq!(server.read(&format!("next-{round}")), b"next", "{:?}", server.kind);
            }
        }
        client.command("QUIT").expect(&[221]);
    });
}

#[test]
fn an_offset_for_an_upload_that_never_began_does_not_count_for_the_next() {
    with_every_server(|server, gateway| {
        let mut client = Ftp::login(gateway.address, server);
        client.upload("STOR file", b"0123456789").expect(&[226]);
        for reachable in [true, false] {
            if !reachable {
                let closed = Port::at(client.stream().local_addr().unwrap().ip()).address();
                client.port(closed).expect(&[200]);
            }
            client.command("REST 4").expect(&[350]);
            client.command("STOR file").expect(&[425]);
            client.upload("STOR file", b"new").expect(&[226]);
            assert_eq!(server.read("file"), b"new", "{:?}", server.kind);
        }
    });
}

#[test]
fn data_come_from_the_address_that_the_client_knows_and_from_port_20_if_wanted() {
    let server = Server::start(Kind::ProFtpd);
    for source_port in [0, 20] {
        let second = address::unused();
        let gateway = Gateway::to(&server)
            .set("active", &format!("source_port = {source_port}"))
            .also_listening(&format!("{second}:2121"), "")
            .start();
        let addresses = [gateway.address, (second, 2121).into()];
        thread::scope(|scope| {
            for (index, to) in addresses.into_iter().cycle().take(4).enumerate() {
                let server = &server;
                scope.spawn(move || {
                    let mut client = Ftp::connect_from(address::unused().into(), to);
                    client.log_in(server);
                    let (name, content) = (format!("file-{index}"), bytes(31, 100_000));
                    for _ in 0..5 {
                        let from = upload(&mut client, &name, &content);
                        let (found, again) = download(&mut client, &format!("RETR {name}"));
                        assert!(found == content);
                        assert_eq!([from.ip(), again.ip()], [to.ip(); 2]);
                        if source_port != 0 {
                            assert_eq!([from.port(), again.port()], [source_port; 2]);
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn a_client_that_waits_at_one_port_for_ever_is_called_there_again_and_again() {
    let server = Server::start(Kind::ProFtpd);
    server.write("file", b"content");
    for source_port in [0, 20] {
        let gateway =
            Gateway::to(&server).set("active", &format!("source_port = {source_port}")).start();
        let mut client = Ftp::login(gateway.address, &server);
        let port = Port::at(client.stream().local_addr().unwrap().ip());
        for round in 0..5 {
            // The last connection between the two same ports is still remembered by a kernel.
            client.port(port.address()).expect(&[200]);
            client.send("RETR file");
            let (data, _) = port.accept();
            assert_eq!(read_to_end(data), (b"content".to_vec(), End::Fin), "{round}");
            client.final_reply().expect(&[226]);
        }
    }
}

#[test]
fn a_listener_without_active_mode_says_so() {
    let (server, gateway) = before_canned();
    let gateway = gateway.listener("active = false").also_listening("2122", "").start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    for line in ["PORT 127,0,0,1,100,1", "EPRT |1|127.0.0.1|25601|", "LPRT 4,4,127,0,0,1,2,1,1"] {
        client.command(line).expect(&[502]);
    }
    assert!(!client.command("FEAT").text.contains("EPRT"));
    client.command("HELP PORT").expect(&[502]);
    client.command("RETR file").expect(&[425]);
    assert!(server.heard().iter().all(|line| !line.contains("127")), "{:?}", server.heard());
    let mut other = Ftp::connect((gateway.address.ip(), 2122).into());
    assert!(other.command("FEAT").text.contains(" EPRT\r\n"));
    other.command("HELP PORT").expect(&[214]);
}

#[test]
fn what_is_no_address_is_refused_and_forgotten() {
    let (server, gateway) = before_canned();
    let gateway = gateway.start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    for (line, code) in [
        ("PORT", 501),
        ("PORT 127,0,0,1,100", 501),
        ("PORT 127,0,0,1,100,1,1", 501),
        ("PORT 127,0,0,256,100,1", 501),
        ("PORT 127,0,0,1,256,1", 501),
        ("PORT 127.0.0.1,100,1", 501),
        ("PORT a,b,c,d,e,f", 501),
        ("PORT -1,0,0,1,100,1", 501),
        ("PORT 127,0,0,1,99999999999999999999,1", 501),
        ("EPRT", 501),
        ("EPRT |1|127.0.0.1|", 501),
        ("EPRT |1|127.0.0.1|25601", 501),
        ("EPRT |1|127.0.0.1|99999|", 501),
        ("EPRT |1|::1|25601|", 501),
        ("EPRT |1|host|25601|", 501),
        ("EPRT 1|127.0.0.1|25601|", 501),
        ("EPRT |3|127.0.0.1|25601|", 522),
        ("EPRT |2|::1|25601|", 522),
    ] {
        let reply = client.command(line);
        assert_eq!(reply.code, code, "{line}: {}", reply.text);
    }
    client.command("RETR file").expect(&[425]);
    assert!(server.heard().iter().all(|line| !line.contains("127")), "{:?}", server.heard());
    assert_eq!(server.times("EPSV"), 0);
    // Each byte may be the one between.
    let port = Port::at(client.stream().local_addr().unwrap().ip());
    let at = port.address();
    client.command(&format!("EPRT !1!{}!{}!", at.ip(), at.port())).expect(&[200]);
    client.send("RETR file");
    assert_eq!(read_to_end(port.accept().0).0, CONTENT);
    client.final_reply().expect(&[226]);
}

#[test]
fn the_last_of_port_and_pasv_is_what_counts() {
    with_every_server(|server, gateway| {
        server.write("file", b"content");
        let mut client = Ftp::login(gateway.address, server);
        let first = Port::open(&mut client);
        let second = Port::open(&mut client);
        client.send("RETR file");
        assert_eq!(read_to_end(second.accept().0).0, b"content");
        client.final_reply().expect(&[226]);
        // One is good for one transfer.
        client.command("RETR file").expect(&[425]);

        let third = Port::open(&mut client);
        let (content, reply) = client.download("RETR file");
        assert_eq!((content.as_slice(), reply.code), (&b"content"[..], 226));

        let taken_back = client.pasv();
        let fourth = Port::open(&mut client);
        client.send("RETR file");
        assert_eq!(read_to_end(fourth.accept().0).0, b"content");
        client.final_reply().expect(&[226]);
        assert_nobody_there(taken_back, [127, 0, 0, 1].into());
        assert!(first.is_untouched() && third.is_untouched(), "{:?}", server.kind);

        client.command("EPSV ALL").expect(&[200]);
        client.port(first.address()).expect(&[503]);
    });
}

#[test]
fn tls_is_the_same_in_active_mode_and_the_gateway_is_its_server() {
    let authority = Authority::new();
    let server = Server::start(Kind::Vsftpd);
    let gateway = Gateway::to(&server).certified(&authority).listener("tls = \"required\"").start();
    let content = bytes(32, 300_001);
    for (name, version) in VERSIONS {
        let tls = Tls::speaking(version, &authority, gateway.address.ip());
        let mut client = Ftp::private(gateway.address, &tls, server.kind.user());
        for round in 0..3 {
            let file = format!("file-{name}-{round}");
            let port = Port::open(&mut client);
            client.send(&format!("STOR {file}"));
            let mut data = tls.shake(port.accept().0).unwrap();
            assert!(is_resumed(&data));
            data.write_all(&content).unwrap();
            ftps::finish(data);
            client.final_reply().expect(&[226]);
            assert!(server.read(&file) == content);
            let port = Port::open(&mut client);
            client.send(&format!("RETR {file}"));
            let data = tls.shake(port.accept().0).unwrap();
            let (found, end) = ftps::read_to_end(data);
            assert_eq!(end, SecureEnd::Closed);
            assert!(found == content);
            client.final_reply().expect(&[226]);
        }
        // Whoever sits at that port by chance has no session to resume.
        let foreign = Tls::speaking(version, &authority, gateway.address.ip());
        let port = Port::open(&mut client);
        client.send(&format!("RETR file-{name}-0"));
        if let Ok(data) = foreign.shake(port.accept().0) {
            assert_eq!(ftps::read_to_end(data), (Vec::new(), SecureEnd::Reset));
        }
        client.final_reply().expect(&[425]);
    }
}
