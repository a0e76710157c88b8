//! FTPS as good clients use it, by the two versions of TLS and from either beginning, before a
//! server that knows nothing of it.

mod certificates;
mod data;
mod hostile;
mod truncation;

use crate::harness::canned::CannedServer;
use crate::harness::certificates::Authority;
use crate::harness::ftp::{Ftp, connect, finish};
use crate::harness::ftps::{Tls, VERSIONS, is_resumed, read_to_end};
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::servers::{Kind, Server};
use crate::harness::{bytes, eventually};

/// The series of handshakes.
fn handshakes(connection: &str, version: &str, resumed: bool) -> String {
    format!(
        "ftpgate_tls_handshakes_total{{connection=\"{connection}\",resumed=\"{}\",version=\"{version}\"}}",
        if resumed { "true" } else { "false" }
    )
}

/// A series that is only there once something was counted.
fn count(gateway: &Gateway, series: &str) -> f64 {
    let metrics = gateway.get("/metrics").1;
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |number| number.parse().unwrap())
}

/// A gateway that speaks TLS with whoever wants it, before a server that remembers what it hears.
fn before_canned(authority: &Authority) -> (CannedServer, GatewayOptions<'_>) {
    let server =
        CannedServer::script().says("FEAT", b"211-Features:\r\n CCC\r\n211 End\r\n").start();
    let gateway =
        Gateway::to_address(server.address).certified(authority).listener("tls = \"optional\"");
    (server, gateway)
}

#[test]
fn files_and_lists_come_whole_and_every_data_connection_resumes() {
    let authority = Authority::new();
    std::thread::scope(|scope| {
        for kind in Kind::ALL {
            let authority = &authority;
            scope.spawn(move || {
                let server = Server::start(kind);
                let gateway = Gateway::to(&server)
                    .certified(authority)
                    .listener("tls = \"required\"")
                    .also_listening("2990", "tls = \"implicit\"")
                    .start();
                for (name, version) in VERSIONS {
                    let tls = Tls::speaking(version, authority, gateway.address.ip());
                    let mut client = Ftp::private(gateway.address, &tls, kind.user());
                    move_files(&server, &mut client, &tls, name);
                    assert_eq!(count(&gateway, &handshakes("control", name, false)), 1.0);
                    eventually("the last handshake to be counted", || {
                        (count(&gateway, &handshakes("data", name, true)) == 21.0).then_some(())
                    });
                    assert_eq!(count(&gateway, &handshakes("data", name, false)), 0.0);
                    // The same from the first byte.
                    let tls = Tls::speaking(version, authority, gateway.address.ip());
                    let port = (gateway.address.ip(), 2990).into();
                    let mut client = Ftp::implicit(port, &tls);
                    client.log_in_as(kind.user());
                    client.protect();
                    move_files(&server, &mut client, &tls, &format!("{name}-implicit"));
                }
            });
        }
    });
}

/// Twenty-one transfers.
fn move_files(
    server: &Server,
    client: &mut Ftp<crate::harness::ftps::Secure>,
    tls: &Tls,
    name: &str,
) {
    let (content, name) = (bytes(3, 300_001), &format!("file-{name}"));
    client.upload(&format!("STOR {name}"), &content, tls).expect(&[226]);
    assert!(server.read(name) == content, "{name}");
    for round in 0..9 {
        let (found, reply) = client.download(&format!("RETR {name}"), tls);
        reply.expect(&[226]);
        assert!(found == content, "{name}: {round}");
        let (list, reply) = client.download("LIST", tls);
        reply.expect(&[226]);
        assert!(String::from_utf8_lossy(&list).contains(name.as_str()), "{list:?}");
    }
    client.upload("STOR empty", b"", tls).expect(&[226]);
    assert_eq!(client.download("RETR empty", tls).0, b"");
    client.command("QUIT").expect(&[221]);
    assert!(client.is_closed(), "QUIT ends by close_notify");
}

#[test]
fn nobody_logs_in_in_the_clear_where_tls_is_required() {
    let authority = Authority::new();
    let (server, gateway) = (CannedServer::script().start(), "tls = \"required\"");
    let gateway = Gateway::to_address(server.address).certified(&authority).listener(gateway);
    let gateway = gateway.start();
    let mut client = Ftp::connect(gateway.address);
    for line in ["USER anyone", "PASS secret", "PASV", "EPSV", "LIST", "CWD /", "OPTS UTF8 ON"] {
        client.command(line).expect(&[530]);
    }
    for line in ["PBSZ 0", "PROT P"] {
        client.command(line).expect(&[503]);
    }
    client.command("NOOP").expect(&[200]);
    assert!(server.heard().iter().all(|line| line == "NOOP"), "{:?}", server.heard());
    // None of that has set anything, so TLS may still begin.
    client.command("AUTH TLS").expect(&[234]);
    let tls = Tls::new(&authority, gateway.address.ip());
    let mut client = Ftp::secured(client, &tls);
    client.log_in_as("anyone");
    client.command("AUTH TLS").expect(&[503]);
    client.command("CCC").expect(&[534]);
    client.command("REIN").expect(&[502]);
    client.command("NOOP").expect(&[200]);
}

#[test]
fn data_goes_in_the_clear_after_prot_c_where_that_is_optional() {
    let authority = Authority::new();
    let server = Server::start(Kind::ProFtpd);
    let gateway = Gateway::to(&server).certified(&authority).listener("tls = \"optional\"").start();
    let tls = Tls::new(&authority, gateway.address.ip());
    let mut client = Ftp::private(gateway.address, &tls, server.kind.user());
    for (line, code) in [("PROT S", 536), ("PROT E", 536), ("PROT X", 504), ("PROT C", 200)] {
        client.command(line).expect(&[code]);
    }
    let address = client.pasv();
    let mut data = client.open(address);
    client.command("STOR clear").expect(&[150]);
    std::io::Write::write_all(&mut data, b"in the clear").unwrap();
    finish(data);
    client.reply().expect(&[226]);
    assert_eq!(server.read("clear"), b"in the clear");
    client.command("PROT P").expect(&[200]);
    assert_eq!(client.download("RETR clear", &tls).0, b"in the clear");
    // Before PROT P, data is in the clear, too.
    let mut client = Ftp::explicit(gateway.address, &tls);
    client.log_in(&server);
    let address = client.pasv();
    let data = client.open(address);
    client.command("RETR clear").expect(&[150]);
    assert_eq!(crate::harness::ftp::read_to_end(data).0, b"in the clear");
    client.reply().expect(&[226]);
    // A client that never speaks TLS is served as ever.
    let (content, reply) = Ftp::login(gateway.address, &server).download("RETR clear");
    assert_eq!((content.as_slice(), reply.code), (&b"in the clear"[..], 226));
}

#[test]
fn nothing_of_a_file_goes_in_the_clear_where_data_must_be_protected() {
    let authority = Authority::new();
    let (server, gateway) = before_canned(&authority);
    let gateway = gateway.set("tls", "data = \"required\"").start();
    let tls = Tls::new(&authority, gateway.address.ip());
    let mut client = Ftp::explicit(gateway.address, &tls);
    client.log_in_as("anyone");
    client.pasv();
    for line in ["RETR file", "STOR file", "LIST", "NLST", "MLSD", "APPE file", "STOU"] {
        client.command(line).expect(&[521]);
        assert_eq!(server.times(line), 0, "{line}");
    }
    client.command("PBSZ 0").expect(&[200]);
    client.command("PROT C").expect(&[534]);
    client.command("RETR file").expect(&[521]);
    client.command("PROT P").expect(&[200]);
    let (content, reply) = client.download("RETR file", &tls);
    assert_eq!((content.as_slice(), reply.code), (crate::harness::canned::CONTENT, 226));
}

#[test]
fn feat_and_help_tell_what_there_is_in_the_clear_and_within_tls() {
    let authority = Authority::new();
    let (_server, gateway) = before_canned(&authority);
    let gateway =
        gateway.also_listening("2122", "").also_listening("2990", "tls = \"implicit\"").start();
    let port = |port| (gateway.address.ip(), port).into();
    let tls = Tls::new(&authority, gateway.address.ip());
    let told = |features: String, auth: bool, protection: bool| {
        for (feature, offered) in
            [(" AUTH TLS\r\n", auth), (" PBSZ\r\n", protection), (" PROT\r\n", protection)]
        {
            assert_eq!(features.contains(feature), offered, "{feature:?} in {features}");
        }
        assert!(!features.contains("CCC"), "{features}");
    };
    let mut clear = Ftp::connect(port(2122));
    told(clear.command("FEAT").text, false, false);
    clear.command("HELP AUTH").expect(&[502]);
    clear.command("AUTH TLS").expect(&[502]);
    let mut either = Ftp::connect(gateway.address);
    told(either.command("FEAT").text, true, true);
    either.command("HELP AUTH").expect(&[214]);
    either.command("AUTH TLS").expect(&[234]);
    let mut secured = Ftp::secured(either, &tls);
    let text = secured.command("FEAT").text;
    told(text.clone(), text.contains("AUTH"), true);
    secured.command("HELP PROT").expect(&[214]);
    secured.command("HELP CCC").expect(&[502]);
    let mut implicit = Ftp::implicit(port(2990), &tls);
    told(implicit.command("FEAT").text, false, true);
    implicit.command("HELP AUTH").expect(&[502]);
    implicit.command("AUTH TLS").expect(&[503]);
}

#[test]
fn who_is_refused_a_session_within_tls_from_the_start_is_told_so_or_closed_and_nobody_is_harmed() {
    let authority = Authority::new();
    let (_server, gateway) = before_canned(&authority);
    let gateway = gateway
        .also_listening("2990", "tls = \"implicit\"")
        .set("limits", "sessions_per_client = 1")
        .start();
    let tls = Tls::new(&authority, gateway.address.ip());
    let port = (gateway.address.ip(), 2990).into();
    let mut first = Ftp::implicit(port, &tls);
    for _ in 0..20 {
        // No word in the clear, which such a client could only take for broken TLS.
        let other = Tls::new(&authority, gateway.address.ip());
        let refused = other.shake(connect(port, None).unwrap());
        assert!(refused.is_err(), "a session over the limit");
        let mut raw = connect(port, None).unwrap();
        let mut told = Vec::new();
        let _ = std::io::Read::read_to_end(&mut raw, &mut told);
        assert_eq!(told, b"", "told in the clear");
    }
    first.log_in_as("anyone");
    first.protect();
    first.download("RETR file", &tls).1.expect(&[226]);
    let data = first.begin("RETR file", &tls);
    assert!(is_resumed(&data));
    read_to_end(data);
}
