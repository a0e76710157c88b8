//! Behind a balancer: the PROXY protocol, from a real one and from hand-made headers.

mod refusals;

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::harness::canned::CannedServer;
use crate::harness::ftp::{End, Ftp, connect, fin, finish, read_to_end};
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::haproxy::HaProxy;
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::{address, bytes, eventually};

/// What a version 2 header begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Client and destination of hand-made headers.
const V4: [&str; 2] = ["203.0.113.7:50000", "127.0.0.1:2121"];
const V6: [&str; 2] = ["[2001:db8::7]:50000", "[2001:db8::5]:21"];

/// Which version of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    const BOTH: [Self; 2] = [Self::One, Self::Two];

    /// The header of a connection between these two.
    fn header(self, [client, destination]: [&str; 2]) -> Vec<u8> {
        let [client, destination]: [SocketAddr; 2] =
            [client, destination].map(|end| end.parse().unwrap());
        if self == Self::One {
            let (family, ports) = (if client.is_ipv4() { 4 } else { 6 }, [client, destination]);
            let [from, to] = ports.map(|end| end.port());
            let (client, destination) = (client.ip(), destination.ip());
            return format!("PROXY TCP{family} {client} {destination} {from} {to}\r\n").into();
        }
        let octets = |end: SocketAddr| match end.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let ends = [client, destination];
        let ports = ends.map(|end| end.port().to_be_bytes()).concat();
        let rest = [ends.map(octets).concat(), ports].concat();
        second(0x21, if client.is_ipv4() { 0x11 } else { 0x21 }, &rest)
    }

    /// The header of a connection of the balancer's own.
    fn own(self) -> Vec<u8> {
        match self {
            Self::One => b"PROXY UNKNOWN\r\n".to_vec(),
            Self::Two => second(0x20, 0, b""),
        }
    }
}

/// A version 2 header.
fn second(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// A gateway that trusts one address, and that address.
struct Behind {
    gateway: Gateway,
    balancer: IpAddr,
}

impl Behind {
    fn start(options: GatewayOptions<'_>) -> Self {
        let balancer = address::unused().into();
        let options = options.set("proxy_protocol", &format!("trusted = [\"{balancer}\"]"));
        Self { gateway: options.start(), balancer }
    }

    /// A connection from the balancer that begins like that.
    fn begin(&self, to: SocketAddr, with: &[u8]) -> TcpStream {
        let mut stream = connect(to, Some(self.balancer)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(with).unwrap();
        stream
    }

    /// A client's control connection, logged in.
    fn login(&self, header: &[u8]) -> Ftp {
        let mut client = Ftp::over(self.begin(self.gateway.address, header));
        client.log_in_as(Kind::ProFtpd.user());
        client
    }

    fn refused(&self, reason: &str) -> f64 {
        refused(&self.gateway, reason)
    }

    fn strangers(&self, count: f64) {
        eventually("the strangers to be counted", || {
            let counted = self.gateway.metric("ftpgate_passive_strangers_total");
            assert!(counted <= count);
            (counted == count).then_some(())
        });
    }
}

fn refused(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("ftpgate_proxy_protocol_refused_total{{reason=\"{reason}\"}}"))
}

/// Everything that is said until the end, whichever end it is.
fn told(mut stream: impl Read) -> String {
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told);
    String::from_utf8(told).unwrap()
}

/// Whether it is reset before a byte has come.
fn is_reset(mut stream: TcpStream) -> bool {
    stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

fn in_pieces(mut stream: TcpStream, bytes: &[u8]) -> TcpStream {
    bytes.chunks(1).for_each(|byte| {
        stream.write_all(byte).unwrap();
        // So that the reader sees it by itself, mostly.
        thread::yield_now();
    });
    stream
}

// === a real balancer ===

/// A file up and down by curl, from that address.
fn curl(to: SocketAddr, from: IpAddr, local: &Path, remote: &str, mode: &str) {
    let back = local.with_extension("back");
    let url = format!("ftp://{to}/{remote}");
    for arguments in [["-T", local.to_str().unwrap()], ["-o", back.to_str().unwrap()]] {
        let output = Command::new("curl")
            .args(["-q", "-sS", "--max-time", "60", "--noproxy", "*", "--no-ftp-skip-pasv-ip"])
            .args([mode, "--interface", &from.to_string(), "-u", &format!("alice:{PASSWORD}")])
            .args(arguments)
            .arg(&url)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "curl {arguments:?} {url}: {printed}");
    }
    assert!(std::fs::read(local).unwrap() == std::fs::read(back).unwrap(), "{remote}");
}

#[test]
fn two_clients_behind_one_haproxy_are_two_clients() {
    thread::scope(|scope| {
        scope.spawn(|| two_clients_behind(HaProxy::start, "send-proxy"));
        scope.spawn(|| two_clients_behind(HaProxy::start_short, "send-proxy-v2"));
    });
}

fn two_clients_behind(start: fn(IpAddr, SocketAddr, &str) -> HaProxy, how: &str) {
    let server = Server::start(Kind::ProFtpd);
    let ip = IpAddr::from(address::unused());
    let gateway = Gateway::to(&server)
        .set("proxy_protocol", &format!("trusted = [\"{ip}\"]"))
        // More of one client than of the balancer.
        .set("limits", "sessions_per_client = 12")
        .set("probe", "interval = \"200ms\"")
        .start();
    eventually("it to be active", || (gateway.get("/activez").0 == 200).then_some(()));
    let balancer = start(ip, gateway.address, how);
    let front = balancer.address;
    let clients = [(); 2].map(|()| IpAddr::from(address::unused()));
    let directory = tempfile::tempdir().unwrap();
    let content = |seed: u64| bytes(seed, 3_000_000);
    for (seed, client) in (1..).zip(clients) {
        // 227 and 229.
        for mode in ["--disable-epsv", "--ftp-pasv"] {
            let (local, remote) = (directory.path().join("file"), format!("{client}{mode}"));
            std::fs::write(&local, content(seed)).unwrap();
            curl(front, client, &local, &remote, mode);
            let told = eventually("both audit lines", || {
                let lines: Vec<String> = gateway
                    .audit()
                    .iter()
                    .filter(|line| line["path"] == *remote && line["outcome"] == "complete")
                    .map(|line| line["client"].as_str().unwrap().to_owned())
                    .collect();
                (lines.len() == 2).then_some(lines)
            });
            assert!(told.iter().all(|told| told.starts_with(&format!("{client}:"))), "{told:?}");
        }
    }
    // Every port is each client's at the same time.
    let mut sessions: Vec<(IpAddr, Ftp)> = clients
        .iter()
        .flat_map(|&client| [client; 9])
        .map(|client| (client, Ftp::connect_from(client, front)))
        .collect();
    let mut taken = HashSet::new();
    let addresses: Vec<SocketAddr> = sessions
        .iter_mut()
        .map(|(client, session)| {
            session.log_in(&server);
            let address = session.pasv();
            assert_eq!(address.ip(), ip);
            taken.insert((*client, address.port()));
            address
        })
        .collect();
    assert_eq!(taken.len(), 18);
    let open: Vec<TcpStream> = sessions
        .iter()
        .zip(addresses)
        .map(|((_, session), address)| session.open(address))
        .collect();
    // Crosswise, so that none has its data connection by luck.
    for (index, ((client, session), mut data)) in sessions.iter_mut().zip(open).enumerate().rev() {
        let name = format!("{client}-{index}");
        session.command(&format!("STOR {name}")).expect(&[150]);
        data.write_all(name.as_bytes()).unwrap();
        finish(data);
        session.reply().expect(&[226]);
        assert_eq!(server.read(&name), name.as_bytes());
    }
    assert_eq!(gateway.metric("ftpgate_passive_strangers_total"), 0.0);
    for reason in ["busy", "invalid", "oversized", "timeout", "untrusted"] {
        assert_eq!(refused(&gateway, reason), 0.0, "{reason}");
    }
}

// === hand-made headers ===

#[test]
fn a_header_may_come_in_pieces_and_whatever_follows_it_is_not_lost() {
    let server = Server::start(Kind::ProFtpd);
    let behind = Behind::start(Gateway::to(&server));
    let content = bytes(21, 200_000);
    for version in Version::BOTH {
        for ends in [V4, V6] {
            let header = version.header(ends);
            // The header byte by byte, on both connections.
            let stream = in_pieces(behind.begin(behind.gateway.address, b""), &header);
            let mut client = Ftp::over(stream);
            client.log_in(&server);
            let data = client.epsv();
            let name = format!("{version:?}-{}-pieces", ends == V4);
            let mut data = in_pieces(behind.begin(data, b""), &header);
            client.command(&format!("STOR {name}")).expect(&[150]);
            data.write_all(&content).unwrap();
            finish(data);
            client.reply().expect(&[226]);
            assert!(server.read(&name) == content, "{name}");
            // Commands and data behind it in one segment.
            let login = format!("USER alice\r\nPASS {PASSWORD}\r\nTYPE I\r\n");
            let first = [&header, login.as_bytes()].concat();
            let mut client = Ftp::over(behind.begin(behind.gateway.address, &first));
            for code in [331, 230, 200] {
                client.reply().expect(&[code]);
            }
            let data = client.epsv();
            let name = format!("{version:?}-{}-at-once", ends == V4);
            let data = behind.begin(data, &[&header, &content[..]].concat());
            client.command(&format!("STOR {name}")).expect(&[150]);
            finish(data);
            client.reply().expect(&[226]);
            assert!(server.read(&name) == content, "{name}");
            assert_eq!(behind.gateway.audit_line(&name)["client"], ends[0]);
            // An upload that is over before its command has come: its FIN is right behind, too.
            let data = client.epsv();
            let data = behind.begin(data, &[&header, &b"short"[..]].concat());
            fin(&data);
            client.command(&format!("STOR {name}")).expect(&[150]);
            client.reply().expect(&[226]);
            assert_eq!(read_to_end(data), (Vec::new(), End::Fin));
            assert_eq!(server.read(&name), b"short");
        }
    }
}

#[test]
fn pasv_names_the_address_that_the_header_names_if_it_is_of_that_family() {
    let server = CannedServer::script().start();
    let behind = Behind::start(Gateway::to_address(server.address));
    for version in Version::BOTH {
        let mut client = behind.login(&version.header(["203.0.113.7:50000", "192.0.2.5:21"]));
        assert_eq!(client.pasv().ip().to_string(), "192.0.2.5");
        let mut client = behind.login(&version.header(V6));
        client.command("EPSV 1").expect(&[522]);
        client.command("EPSV 2").expect(&[229]);
    }
}

#[test]
fn a_connection_of_the_balancers_own_keeps_its_addresses_and_gets_no_data_port() {
    let server = CannedServer::script().start();
    let behind = Behind::start(Gateway::to_address(server.address));
    let mut strangers = 0.0;
    for (count, version) in (1..).zip(Version::BOTH) {
        let mut own = behind.login(&version.own());
        let address = own.pasv();
        assert_eq!(address.ip(), behind.gateway.address.ip());
        // Not even its own session's.
        assert!(is_reset(behind.begin(address, &version.own())));
        // One that only connects is no news.
        drop(behind.begin(behind.gateway.address, b""));
        behind.gateway.logs("a balancer has looked in");
        drop(behind.begin(address, b""));
        strangers += 2.0;
        behind.strangers(strangers);
        let told = [&behind.balancer.to_string(), ":1"].concat();
        let to = behind.gateway.address.to_string();
        let mut data = behind.begin(address, &version.header([&told, &to]));
        own.command("LIST").expect(&[150]);
        data.read_to_end(&mut Vec::new()).unwrap();
        own.final_reply().expect(&[226]);
        let line = behind.gateway.audit_lines(count).pop().unwrap();
        assert!(line["client"].as_str().unwrap().starts_with(&behind.balancer.to_string()));
    }
    assert_eq!(behind.refused("invalid"), 0.0);
}

#[test]
fn a_data_connection_that_is_another_clients_is_a_strangers_and_the_port_stays_reserved() {
    let server = CannedServer::script().start();
    let behind = Behind::start(Gateway::to_address(server.address));
    let mut strangers = 0.0;
    for version in Version::BOTH {
        let mut client = behind.login(&version.header(V4));
        let address = client.epsv();
        let others = ["203.0.113.8:50000", "127.0.0.1:8192"];
        assert!(is_reset(behind.begin(address, &version.header(others))));
        assert!(is_reset(behind.begin(address, &version.header(V6))));
        // The balancer is not trusted for what others say, and others not for what it says.
        let elsewhere = connect(address, Some(address::unused().into()));
        let elsewhere = elsewhere.and_then(|mut stream| stream.read(&mut [0]));
        assert!(elsewhere.is_err(), "{elsewhere:?}");
        strangers += 3.0;
        behind.strangers(strangers);
        // Another port is no other client.
        let mut data = behind.begin(address, &version.header(["203.0.113.7:2", "127.0.0.1:1"]));
        client.command("LIST").expect(&[150]);
        data.read_to_end(&mut Vec::new()).unwrap();
        client.final_reply().expect(&[226]);
    }
}

#[test]
fn the_limit_on_sessions_of_one_client_counts_the_client() {
    let server = CannedServer::script().start();
    let options = Gateway::to_address(server.address).set("limits", "sessions_per_client = 1");
    let behind = Behind::start(options);
    for version in Version::BOTH {
        let client = |last: u8| version.header([&format!("198.51.100.{last}:1"), V4[1]]);
        let _first = [1, 2, 3].map(|last| behind.login(&client(last)));
        let over = told(behind.begin(behind.gateway.address, &client(2)));
        assert_eq!(over, "421 Too many sessions from your address; try again later.\r\n");
        drop(_first);
        eventually("the places to come back", || {
            (behind.gateway.metric("ftpgate_sessions") == 0.0).then_some(())
        });
    }
}
