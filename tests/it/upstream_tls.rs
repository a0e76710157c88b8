//! TLS with the upstream: a plain client before servers that insist on TLS, for logins and for
//! data, and on data connections that resume the TLS session of their control connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;

use crate::harness::certificates::{Authority, Certificate};
use crate::harness::ftp::{End, Ftp, read_to_end};
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::scripted::{listen, mute};
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::{address, bytes, eventually, number};

/// How often a transfer is cut.
const CUTS: usize = 10;
/// More than all socket buffers on the way hold.
const SIZE: usize = 64 << 20;

/// A gateway that trusts this authority.
fn gateway(endpoint: SocketAddr, mode: &str, authority: &Authority) -> GatewayOptions<'static> {
    trusting(Gateway::to_address(endpoint), mode, authority)
}

fn trusting<'a>(
    options: GatewayOptions<'a>,
    mode: &str,
    authority: &Authority,
) -> GatewayOptions<'a> {
    let ca = format!("mode = \"{mode}\"\nca = \"{}\"", authority.file.display());
    options.set("upstream.tls", &ca)
}

/// Everything that a client does, and more data connections than any server gives tickets for at
/// the beginning.
fn assert_serves(gateway: &Gateway, server: &Server) {
    let mut client = Ftp::login(gateway.address, server);
    let big = bytes(1, 3 << 20);
    client.upload("STOR big", &big).expect(&[226]);
    assert_eq!(server.read("big"), big);
    let (content, reply) = client.download("RETR big");
    assert_eq!((content == big, reply.code), (true, 226));
    let (listing, reply) = client.download("LIST");
    assert!(String::from_utf8_lossy(&listing).contains("big"), "{}", reply.text);
    for number in 0..20 {
        let content = bytes(number, usize::try_from(number).unwrap() * 100);
        let name = format!("small-{number}");
        client.upload(&format!("STOR {name}"), &content).expect(&[226]);
        assert_eq!(server.read(&name), content, "{name} on {}", server.kind.name());
    }
    for number in 0..20 {
        let (content, reply) = client.download(&format!("RETR small-{number}"));
        assert_eq!(content, bytes(number, usize::try_from(number).unwrap() * 100));
        reply.expect(&[226]);
    }
    client.command("QUIT").expect(&[221]);
    assert!(!gateway.log().contains("no TLS ticket"), "{}", gateway.log());
}

fn assert_serves_by(kind: Kind, implicit: bool, version: &str) {
    let authority = Authority::new();
    let options = Server::options(kind).tls(&authority);
    let server = if implicit { options.implicit() } else { options }.start();
    let mode = if implicit { "implicit" } else { "explicit" };
    let gateway = gateway(server.address, mode, &authority)
        .set("upstream.tls", &format!("min_version = \"{version}\"\nmax_version = \"{version}\""))
        .start();
    assert_serves(&gateway, &server);
}

#[test]
fn vsftpd_takes_every_data_connection_as_the_same_session() {
    for version in ["1.2", "1.3"] {
        assert_serves_by(Kind::Vsftpd, false, version);
        assert_serves_by(Kind::Vsftpd, true, version);
    }
}

#[test]
fn proftpd_takes_every_data_connection_as_the_same_session() {
    assert_serves_by(Kind::ProFtpd, false, "1.2");
    assert_serves_by(Kind::ProFtpd, true, "1.2");
}

#[test]
fn pure_ftpd_that_insists_on_tls_serves() {
    assert_serves_by(Kind::PureFtpd, false, "1.2");
}

#[test]
fn apache_ftpserver_serves_by_tls() {
    assert_serves_by(Kind::ApacheFtpServer, false, "1.2");
    assert_serves_by(Kind::ApacheFtpServer, true, "1.2");
}

#[test]
fn a_server_that_gives_no_tickets_of_tls_1_3_to_uploads_refuses_them_and_the_log_says_why() {
    let authority = Authority::new();
    let server = Server::options(Kind::ProFtpd).tls(&authority).start();
    let gateway = gateway(server.address, "explicit", &authority)
        .set("upstream.tls", "max_version = \"1.3\"")
        .start();
    server.write("file", b"content");
    let mut client = Ftp::login(gateway.address, &server);
    for _ in 0..20 {
        let (content, reply) = client.download("RETR file");
        assert_eq!((content.as_slice(), reply.code), (&b"content"[..], 226));
    }
    // As many as it has given at the beginning.
    for number in 0..2 {
        client.upload(&format!("STOR up-{number}"), b"content").expect(&[226]);
    }
    let mut data = client.begin("STOR refused");
    let _ = data.write_all(b"content");
    crate::harness::ftp::fin(&data);
    assert!(client.final_reply().code >= 400);
    gateway.logs("write upstream.tls.max_version");
}

#[test]
fn a_certificate_for_a_name_is_good_where_that_name_is_told() {
    let authority = Authority::new();
    let server =
        Server::options(Kind::ProFtpd).certificate(authority.issue(&["ftp.example.com"])).start();
    let gateway = gateway(server.address, "explicit", &authority)
        .set("upstream.tls", "server_name = \"ftp.example.com\"")
        .start();
    assert_serves(&gateway, &server);
}

/// A server that says this to AUTH TLS and nothing to the rest.
fn answering(auth: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((address::unused(), 2121)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                stream.write_all(b"220 ready\r\n").unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                let _ = lines.read_line(&mut line);
                assert_eq!(line, "AUTH TLS\r\n");
                stream.write_all(auth).unwrap();
                // Whatever it hears now it does not understand.
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    address
}

#[test]
fn a_server_that_cannot_prove_who_it_is_or_encrypts_nothing_gets_no_session() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let host = address::unused().to_string();
    let server =
        |certificate: Certificate| Server::options(Kind::ProFtpd).certificate(certificate).start();
    let wrong_name = server(authority.issue(&["ftp.example.com", &host]));
    let expired = Server::options(Kind::ProFtpd).expired(&authority).start();
    let unknown = Server::options(Kind::ProFtpd).tls(&stranger).start();
    let plain = Server::start(Kind::ApacheFtpServer);
    let implicit = Server::options(Kind::Vsftpd).tls(&authority).implicit().start();
    let explicit = Server::options(Kind::Vsftpd).tls(&authority).start();
    for (endpoint, mode, result, told) in [
        (wrong_name.address, "explicit", "tls-certificate", "upstream.tls.server_name"),
        (expired.address, "explicit", "tls-certificate", "the server needs a new one"),
        (unknown.address, "explicit", "tls-certificate", "upstream.tls.ca"),
        (plain.address, "explicit", "tls-refused", "it answers AUTH TLS by"),
        (plain.address, "implicit", "tls-error", "what it sends is no TLS"),
        (explicit.address, "implicit", "tls-error", "what it sends is no TLS"),
        (
            implicit.address,
            "explicit",
            "banner-timeout",
            "write upstream.tls.mode = \\\"implicit\\\"",
        ),
        (answering(b"234 go\r\n220 injected\r\n"), "explicit", "tls-injected", "plain text"),
        // In two pieces it is no TLS.
        (answering(b"234 go\r\n"), "explicit", "tls-timeout", "timeouts.tls_handshake"),
        (answering(b"500 what?\r\n"), "explicit", "tls-refused", "500 what?"),
        (answering(b"334 more\r\n"), "explicit", "tls-refused", "334 more"),
        (mute(), "implicit", "tls-timeout", "timeouts.tls_handshake"),
        (listen(drop), "implicit", "tls-error", "in the handshake"),
    ] {
        let gateway = gateway(endpoint, mode, &authority)
            .set("upstream", "banner_timeout = \"500ms\"")
            .set("timeouts", "tls_handshake = \"500ms\"")
            .start();
        Ftp::knock(gateway.address).reply().expect(&[421]);
        let series = format!(
            "ftpgate_upstream_connects_total{{endpoint=\"{endpoint}\",result=\"{result}\"}}"
        );
        assert_eq!(gateway.metric(&series), 3.0, "{result}: {}", gateway.log());
        assert!(gateway.log().contains(told), "{told} is missing in\n{}", gateway.log());
    }
}

#[test]
fn another_endpoint_with_tls_is_taken_instead_of_one_without() {
    let authority = Authority::new();
    let plain = Server::start(Kind::ApacheFtpServer);
    let server = Server::options(Kind::ProFtpd).tls(&authority).start();
    let gateway = gateway(plain.address, "explicit", &authority).or_to(&server).start();
    Ftp::login(gateway.address, &server);
}

#[test]
fn a_session_goes_on_by_tls_at_another_endpoint() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let start = || Server::options(Kind::ProFtpd).root(directory.path()).tls(&authority).start();
    let (mut first, second) = (start(), start());
    let gateway = gateway(first.address, "explicit", &authority).or_to(&second).start();
    let mut client = Ftp::login(gateway.address, &first);
    first.create_dir("below");
    client.command("CWD below").expect(&[250]);
    client.upload("STOR before", b"one").expect(&[226]);
    first.sigkill();
    let content = eventually("the session at the other endpoint", || {
        let (content, reply) = client.download("RETR before");
        (reply.code == 226).then_some(content)
    });
    assert_eq!(content, b"one");
    client.upload("STOR after", b"two").expect(&[226]);
    assert_eq!(second.read("below/after"), b"two");
    assert_eq!(gateway.metric("ftpgate_session_resumes_total{result=\"resumed\"}"), 1.0);
}

#[test]
fn a_server_that_is_killed_in_mid_download_through_tls_never_gives_a_complete_file() {
    for kind in [Kind::ProFtpd, Kind::Vsftpd, Kind::ApacheFtpServer] {
        let authority = Authority::new();
        let mut server = Server::options(kind).tls(&authority).start();
        server.write("whole", &bytes(1, SIZE));
        let gateway = gateway(server.address, "explicit", &authority).start();
        let downloads: Vec<_> = (0..CUTS)
            .map(|index| {
                let mut client = Ftp::login(gateway.address, &server);
                let mut data = client.begin("RETR whole");
                let seed = u64::try_from(index).unwrap();
                let mut part = vec![0; 1 + number(seed, 2 << 20)];
                data.read_exact(&mut part).unwrap();
                (client, data, part)
            })
            .collect();
        server.sigkill();
        for (mut client, data, part) in downloads {
            let (rest, end) = read_to_end(data);
            assert!(part.len() + rest.len() < SIZE, "the download was not cut at all");
            assert_eq!(end, End::Reset, "{}: a cut download ended with FIN", kind.name());
            // The session goes on, for there may be another server by the next command.
            let reply = client.final_reply();
            assert_eq!(reply.code, 426, "the client was told {} of a cut download", reply.text);
        }
    }
}

#[test]
fn an_upload_that_is_cut_is_not_stored_as_complete() {
    let authority = Authority::new();
    let server = Server::options(Kind::ApacheFtpServer).tls(&authority).start();
    let gateway = gateway(server.address, "explicit", &authority).start();
    for index in 0..CUTS {
        let mut client = Ftp::login(gateway.address, &server);
        let name = format!("cut-{index}");
        let mut data = client.begin(&format!("STOR {name}"));
        data.write_all(&bytes(2, 1 + number(index as u64, 2 << 20))).unwrap();
        eventually("the file", || server.path(&name).exists().then_some(()));
        crate::harness::ftp::reset(data);
        let reply = client.final_reply();
        assert!(reply.code >= 400, "{}", reply.text);
    }
}

#[test]
fn probes_do_what_sessions_do() {
    let authority = Authority::new();
    for (kind, implicit) in [
        (Kind::ProFtpd, false),
        (Kind::ProFtpd, true),
        (Kind::Vsftpd, false),
        (Kind::PureFtpd, false),
        (Kind::ApacheFtpServer, true),
    ] {
        let options = Server::options(kind).tls(&authority);
        let server = if implicit { options.implicit() } else { options }.start();
        let mode = if implicit { "implicit" } else { "explicit" };
        for (depth, stages) in [("tcp", 1), ("banner", 2), ("login", 3), ("list", 4)] {
            let options = Gateway::to_address(server.address)
                .set("probe", &format!("depth = \"{depth}\"\nuser = \"{}\"", kind.user()))
                .set("probe", "interval = \"100ms\"\ntimeout = \"5s\"\nrise = 1\nfall = 1")
                .probe_password(PASSWORD);
            let gateway = trusting(options, mode, &authority).start();
            assert_eq!(gateway.until_healthy(server.address).len(), stages, "{}", kind.name());
        }
    }
}

#[test]
fn probes_trust_nobody_else_either() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let unknown = Server::options(Kind::ProFtpd).tls(&stranger).start();
    let implicit = Server::options(Kind::Vsftpd).tls(&stranger).implicit().start();
    let plain = Server::start(Kind::ApacheFtpServer);
    for (server, mode, depth, reason) in [
        (&unknown, "explicit", "login", "banner: TLS: invalid peer certificate"),
        (&implicit, "implicit", "login", "banner: TLS: invalid peer certificate"),
        (&implicit, "implicit", "banner", "banner: TLS: invalid peer certificate"),
        (&plain, "explicit", "login", "banner: AUTH TLS, PBSZ 0, PROT P: "),
    ] {
        let options = Gateway::probing(server.address, depth).probe_password(PASSWORD);
        let gateway = trusting(options, mode, &authority).start();
        gateway.until_unhealthy(server.address, reason);
        assert!(!gateway.log().contains(PASSWORD), "{}", gateway.log());
    }
}

#[test]
fn check_reads_the_authorities_and_says_what_is_wrong_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let check = |ca: &str, mode: &str| {
        let file = directory.path().join("ftpgate.toml");
        let text = format!(
            "[upstream.tls]\nmode = \"{mode}\"\n{ca}[[upstream.endpoint]]\naddress = \"10.2.3.10\"\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftpgate"));
        let output = command.args(["check", "--config"]).arg(&file).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(printed).unwrap())
    };
    let ca = |path: &std::path::Path| format!("ca = \"{}\"\n", path.display());
    let (code, told) = check(&ca(&authority.file), "explicit");
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("upstream TLS: explicit, name: the endpoint's own"), "{told}");
    assert!(!told.contains("note: "), "{told}");
    let (code, told) = check(&ca(&authority.file), "implicit");
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("note: 10.2.3.10:21 is a port for explicit TLS"), "{told}");
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    for (path, said) in
        [(directory.path().join("missing.pem"), "No such file"), (empty, "no certificate in it")]
    {
        let (code, told) = check(&ca(&path), "explicit");
        assert_eq!(code, 78, "{told}");
        assert!(told.starts_with("error: upstream.tls.ca") && told.contains(said), "{told}");
    }
}
