//! A new process takes over from the one that runs: sessions go on where they are, and nobody is
//! refused.

mod failures;
mod load;
mod systemd;
mod upgrade;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::Value;

use crate::harness::certificates::Authority;
use crate::harness::ftp::{Ftp, connect, fin, finish};
use crate::harness::ftps::{self, Tls};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};
use crate::harness::{bytes, eventually};

/// More than the sockets on the way hold, so that a download still runs while nobody reads it.
const LARGE: usize = 24 << 20;

/// What `ftpgate status` says.
fn status(gateway: &Gateway) -> Value {
    let (code, printed) = gateway.order(&["status", "--json"]);
    assert_eq!(code, Some(0), "{printed}");
    serde_json::from_str(&printed).unwrap()
}

/// How many older processes there are.
fn older(gateway: &Gateway) -> usize {
    status(gateway)["older"].as_array().unwrap().len()
}

#[test]
fn sessions_go_on_through_three_hand_overs_with_what_was_reserved_before_and_after() {
    let server = Server::start(Kind::ApacheFtpServer);
    let content = bytes(61, LARGE);
    server.write("large", &content);
    let mut gateway = Gateway::to(&server).start();
    let mut sessions = Vec::new();
    let mut processes = Vec::new();
    for generation in 0..4 {
        sessions.push(Ftp::login(gateway.address, &server));
        // Before: a port that is reserved, and transfers that run.
        let mut uploader = Ftp::login(gateway.address, &server);
        let mut upload = uploader.begin(&format!("STOR up-{generation}"));
        upload.write_all(b"before ").unwrap();
        let mut downloader = Ftp::login(gateway.address, &server);
        let mut download = downloader.begin("RETR large");
        let mut received = vec![0; 1000];
        download.read_exact(&mut received).unwrap();
        let reserved: Vec<_> = sessions.iter_mut().map(Ftp::pasv).collect();

        if generation < 3 {
            processes.push(gateway.hand_over());
        }

        for (number, (session, port)) in sessions.iter_mut().zip(reserved).enumerate() {
            let mut data = session.open(port);
            let name = format!("reserved-{generation}-{number}");
            session.command(&format!("STOR {name}")).expect(&[150]);
            data.write_all(name.as_bytes()).unwrap();
            finish(data);
            session.reply().expect(&[226]);
            assert_eq!(server.read(&name), name.as_bytes());
        }
        for (number, session) in sessions.iter_mut().enumerate() {
            let name = format!("later-{generation}-{number}");
            session.upload(&format!("STOR {name}"), name.as_bytes()).expect(&[226]);
            let (down, reply) = session.download(&format!("RETR {name}"));
            reply.expect(&[226]);
            assert_eq!(down, name.as_bytes());
        }
        upload.write_all(b"after").unwrap();
        fin(&upload);
        uploader.final_reply().expect(&[226]);
        assert_eq!(server.read(&format!("up-{generation}")), b"before after");
        download.read_to_end(&mut received).unwrap();
        downloader.final_reply().expect(&[226]);
        assert!(received == content);
        assert_eq!(older(&gateway), processes.len());
    }
    // One by one, and each process ends with its last session.
    for (number, (mut session, mut process)) in sessions.into_iter().zip(processes).enumerate() {
        session.command("QUIT").expect(&[221]);
        assert_eq!(process.wait().code(), Some(0), "{}", process.output());
        eventually("it to be gone from the list", || (older(&gateway) == 2 - number).then_some(()));
    }
    assert_eq!(gateway.metric("ftpgate_older_processes"), 0.0);
    assert_eq!(gateway.metric("ftpgate_handovers_total{result=\"ok\"}"), 1.0);
    let numbers: Vec<_> = gateway.audit().iter().map(|line| line["session"].clone()).collect();
    let highest = numbers.iter().map(|number| number.as_u64().unwrap()).max();
    assert_eq!(highest, Some(12), "no number comes twice: {numbers:?}");
}

#[test]
fn old_and_new_sessions_of_one_client_never_get_each_others_port() {
    let server = Server::start(Kind::ApacheFtpServer);
    let mut gateway = Gateway::to(&server).passive("8192").start();
    let mut old = Ftp::login(gateway.address, &server);
    let port = old.pasv();
    let mut waiting = Ftp::login(gateway.address, &server);
    waiting.send("PASV");
    eventually("it to wait for the port", || {
        (gateway.metric("ftpgate_passive_waits_total") == 1.0).then_some(())
    });
    let before = gateway.hand_over();
    let mut new = Ftp::login(gateway.address, &server);
    new.send("PASV");
    eventually("it to wait for the port", || {
        (gateway.metric("ftpgate_passive_waits_total") == 1.0).then_some(())
    });
    let mut data = old.open(port);
    old.command("STOR of-old").expect(&[150]);
    data.write_all(b"old").unwrap();
    finish(data);
    old.reply().expect(&[226]);
    // First come, first served, whichever process they are of.
    for (session, name) in [(&mut waiting, "of-waiting"), (&mut new, "of-new")] {
        session.reply().expect(&[227]);
        let mut data = session.open(port);
        session.command(&format!("STOR {name}")).expect(&[150]);
        data.write_all(name.as_bytes()).unwrap();
        finish(data);
        session.reply().expect(&[226]);
        assert_eq!(server.read(name), name.as_bytes());
    }
    // A session that ends frees what it has reserved in the other process.
    old.pasv();
    drop(old);
    new.pasv();
    drop(waiting);
    assert_eq!(server.read("of-old"), b"old");
    drop(before);
}

#[test]
fn when_every_port_stays_taken_an_old_session_gets_425_and_is_served_later() {
    let server = Server::start(Kind::ApacheFtpServer);
    let mut gateway = Gateway::to(&server).passive("8192").set("passive", "wait = \"1s\"").start();
    let mut old = Ftp::login(gateway.address, &server);
    let _before = gateway.hand_over();
    let mut new = Ftp::login(gateway.address, &server);
    let port = new.pasv();
    old.command("PASV").expect(&[425]);
    let data = new.open(port);
    new.command("STOR empty").expect(&[150]);
    finish(data);
    new.reply().expect(&[226]);
    old.upload("STOR full", b"full").expect(&[226]);
    assert_eq!(server.read("full"), b"full");
}

#[test]
fn a_session_with_tls_goes_on() {
    let server = Server::start(Kind::ProFtpd);
    let authority = Authority::new();
    let mut gateway =
        Gateway::to(&server).certified(&authority).listener("tls = \"required\"").start();
    let tls = Tls::new(&authority, gateway.address.ip());
    let mut session = Ftp::private(gateway.address, &tls, Kind::ProFtpd.user());
    let mut running = session.begin("STOR running", &tls);
    running.write_all(b"before ").unwrap();
    let _before = gateway.hand_over();
    running.write_all(b"after").unwrap();
    ftps::finish(running);
    session.reply().expect(&[226]);
    assert_eq!(server.read("running"), b"before after");
    session.upload("STOR later", b"later", &tls).expect(&[226]);
    let (content, reply) = session.download("RETR later", &tls);
    reply.expect(&[226]);
    assert_eq!(content, b"later");
}

#[test]
fn a_session_in_active_mode_goes_on() {
    let server = Server::start(Kind::ProFtpd);
    let mut gateway = Gateway::to(&server).start();
    let mut session = Ftp::login(gateway.address, &server);
    let _before = gateway.hand_over();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    session.port(listener.local_addr().unwrap()).expect(&[200]);
    session.command("STOR active").expect(&[150]);
    let (mut data, _) = listener.accept().unwrap();
    data.write_all(b"active").unwrap();
    finish(data);
    session.reply().expect(&[226]);
    assert_eq!(server.read("active"), b"active");
}

#[test]
fn a_data_connection_whose_balancer_is_slow_to_say_whose_it_is_finds_its_session() {
    let server = Server::start(Kind::ProFtpd);
    let mut gateway = Gateway::to(&server)
        .passive("8192")
        .set("proxy_protocol", "trusted = [\"127.0.0.1\"]")
        .set("proxy_protocol", "timeout = \"1m\"")
        .start();
    let header = "PROXY TCP4 203.0.113.7 127.0.0.1 50000 2121\r\n";
    let begin = |to, with: &str| {
        let mut stream = connect(to, Some(Ipv4Addr::LOCALHOST.into())).unwrap();
        stream.write_all(with.as_bytes()).unwrap();
        stream
    };
    let mut session = Ftp::over(begin(gateway.address, header));
    session.log_in(&server);
    session.command("PASV").expect(&[227]);
    let descriptors = format!("/proc/{}/fd", gateway.process.id());
    let open = || std::fs::read_dir(&descriptors).unwrap().count();
    let before = open();
    let mut data = begin(SocketAddr::new(gateway.address.ip(), 8192), &header[..9]);
    eventually("it to be accepted", || (open() > before).then_some(()));
    let mut process = gateway.hand_over();
    data.write_all(&header.as_bytes()[9..]).unwrap();
    session.command("STOR late").expect(&[150]);
    data.write_all(b"late").unwrap();
    finish(data);
    session.reply().expect(&[226]);
    assert_eq!(server.read("late"), b"late");
    session.command("QUIT").expect(&[221]);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn after_the_deadline_the_old_process_drains() {
    let server = Server::start(Kind::ApacheFtpServer);
    let mut gateway = Gateway::to(&server)
        .set("drain", "handover_deadline = \"300ms\"")
        .set("drain", "idle = \"100ms\"")
        .start();
    let mut idle = Ftp::login(gateway.address, &server);
    let mut busy = Ftp::login(gateway.address, &server);
    let mut upload = busy.begin("STOR slow");
    let mut before = gateway.hand_over();
    idle.reply().expect(&[421]);
    upload.write_all(b"whole").unwrap();
    finish(upload);
    busy.reply().expect(&[226]);
    busy.reply().expect(&[421]);
    assert_eq!(before.wait().code(), Some(0));
    assert_eq!(server.read("slow"), b"whole");
}

#[test]
fn a_drained_node_stays_drained_and_a_changed_configuration_is_whole() {
    let server = Server::start(Kind::ApacheFtpServer);
    let mut gateway = Gateway::to(&server).set("node", "name = \"one\"").start();
    assert_eq!(gateway.order(&["drain"]).0, Some(0));
    // What a reload cannot take up, the next process does.
    let path = gateway.configuration();
    let text = std::fs::read_to_string(&path).unwrap();
    let elsewhere = format!("{}:2199", gateway.address.ip());
    let text = text.replace("name = \"one\"", "name = \"two\"")
        + &format!("[[listener]]\naddress = \"{elsewhere}\"\n");
    std::fs::write(&path, text).unwrap();
    let mut before = gateway.hand_over();
    assert_eq!(before.wait().code(), Some(0));
    let status = status(&gateway);
    assert_eq!((&status["node"], &status["role"]), (&"two".into(), &"draining".into()));
    for address in [gateway.address, elsewhere.parse().unwrap()] {
        Ftp::knock(address).reply().expect(&[421]);
    }
    assert_eq!(gateway.order(&["resume"]).0, Some(0));
    Ftp::login(elsewhere.parse().unwrap(), &server).upload("STOR x", b"x").expect(&[226]);
}
