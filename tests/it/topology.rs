//! Transfer Family's topology on loopback: two gateways, two endpoints over one directory, and the
//! dialogue that a client has there, before and after a failover.

use std::net::IpAddr;

use tempfile::TempDir;

use crate::harness::clients::{Client, Mode, Operation, Target};
use crate::harness::ftp::Ftp;
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, PASSWORD, Server};

const CONTENT: &[u8] = b"from the private subnet\n";

/// Endpoints in zones a and c, each preferred by one gateway.
struct Topology {
    _bucket: TempDir,
    endpoints: [Server; 2],
    gateways: [Gateway; 2],
}

impl Topology {
    /// The gateways have 8192-8200 to themselves: Apache FtpServer calls a port taken when anybody
    /// on the machine listens on it, at whatever address.
    fn start() -> Self {
        let bucket = tempfile::tempdir().unwrap();
        let endpoints =
            [(); 2].map(|()| Server::options(Kind::ApacheFtpServer).root(bucket.path()).start());
        let [a, c] = &endpoints;
        let gateways = [(a, c), (c, a)]
            .map(|(near, far)| Gateway::to(near).or_to(far).passive("8192-8200").start());
        Self { _bucket: bucket, endpoints, gateways }
    }
}

#[test]
fn the_dialogue_of_transfer_family_is_the_same_through_either_gateway() {
    let topology = Topology::start();
    for gateway in &topology.gateways {
        let mut ftp = Ftp::connect(gateway.address);
        let user = topology.endpoints[0].kind.user();
        assert_eq!(
            ftp.command(&format!("USER {user}")).text,
            "331 User name okay, need password for alice.\r\n"
        );
        assert_eq!(
            ftp.command(&format!("PASS {PASSWORD}")).text,
            "230 User logged in, proceed.\r\n"
        );
        assert_eq!(ftp.command("TYPE I").text, "200 Command TYPE okay.\r\n");
        let data = ftp.pasv();
        assert_eq!(
            data.ip(),
            gateway.address.ip(),
            "227 names the address that the client connected to"
        );
        assert!((8192..=8200).contains(&data.port()), "227 names {data}");
        // A second PASV drops the first.
        let reply = ftp.upload("STOR test.txt", CONTENT);
        assert_eq!(reply.text, "226 Transfer complete.\r\n");
        assert_eq!(topology.endpoints[0].read("test.txt"), CONTENT);
        let (content, reply) = ftp.download("RETR test.txt");
        assert_eq!((content.as_slice(), reply.code), (CONTENT, 226));
        assert_eq!(ftp.command("DELE test.txt").code, 250);
        assert_eq!(ftp.command("QUIT").text, "221 Goodbye.\r\n");
    }
}

#[test]
fn a_client_puts_test_txt_through_a_port_from_8192_to_8200() {
    let topology = Topology::start();
    let local = tempfile::tempdir().unwrap();
    let file = local.path().join("test.txt");
    std::fs::write(&file, CONTENT).unwrap();
    for gateway in &topology.gateways {
        let target = Target::new(gateway.address, "alice", Mode::Pasv);
        let printed = Client::Tnftp
            .run(target, Operation::Upload { local: &file, remote: "test.txt" })
            .unwrap();
        let replies: Vec<&str> = ["227 ", "150 ", "226 "]
            .map(|code| {
                printed
                    .lines()
                    .find(|line| line.starts_with(code))
                    .unwrap_or_else(|| panic!("no {code}: {printed}"))
            })
            .into();
        let numbers: Vec<u16> = replies[0]
            .split(|character: char| !character.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        let host = IpAddr::from([1, 2, 3, 4].map(|index| u8::try_from(numbers[index]).unwrap()));
        let port = numbers[5] * 256 + numbers[6];
        assert_eq!(host, gateway.address.ip(), "{printed}");
        assert!((8192..=8200).contains(&port), "{printed}");
        assert_eq!(topology.endpoints[1].read("test.txt"), CONTENT);
    }
}

#[test]
fn after_a_zone_is_lost_both_gateways_serve_from_the_other() {
    let mut topology = Topology::start();
    topology.endpoints[0].sigkill();
    for gateway in &topology.gateways {
        let mut ftp = Ftp::login(gateway.address, &topology.endpoints[1]);
        assert_eq!(ftp.upload("STOR test.txt", CONTENT).code, 226);
        assert_eq!(topology.endpoints[1].read("test.txt"), CONTENT);
        let audit = gateway.audit_lines(1);
        assert_eq!(audit[0]["endpoint"], topology.endpoints[1].address.to_string());
    }
}

#[test]
fn after_a_gateway_is_killed_the_other_serves_the_same_files() {
    let mut topology = Topology::start();
    let [first, second] = &mut topology.gateways;
    let mut ftp = Ftp::login(first.address, &topology.endpoints[0]);
    assert_eq!(ftp.upload("STOR test.txt", CONTENT).code, 226);
    first.sigkill();
    assert!(ftp.try_reply().is_err(), "a killed gateway says nothing more");
    let mut ftp = Ftp::login(second.address, &topology.endpoints[1]);
    let (content, reply) = ftp.download("RETR test.txt");
    assert_eq!((content.as_slice(), reply.code), (CONTENT, 226));
}

#[test]
fn a_gateway_that_is_told_to_end_does_so_with_exit_code_zero() {
    let server = Server::start(Kind::ApacheFtpServer);
    let mut gateway = Gateway::to(&server).set("drain", "idle = \"100ms\"").start();
    let mut ftp = Ftp::login(gateway.address, &server);
    gateway.sigterm();
    ftp.reply().expect(&[421]);
    assert!(ftp.is_closed());
    assert!(gateway.wait().success(), "{}", gateway.log());
}

#[test]
fn a_password_is_in_no_log_whatever_the_level() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).start();
    Ftp::login(gateway.address, &server).command("QUIT").expect(&[221]);
    assert!(!gateway.log().contains(PASSWORD), "{}", gateway.log());
}
