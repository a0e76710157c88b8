//! What happens when a hand-over comes to nothing, and when the new process dies after it.

use std::fs;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::thread;

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::harness::ftp::{Ftp, finish};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};

/// A process that says what it wants at the hand-over socket.
struct Impostor {
    socket: OwnedFd,
    /// What it was given.
    sockets: Vec<OwnedFd>,
}

impl Impostor {
    fn knock(gateway: &Gateway) -> Self {
        let path = gateway.configuration().with_file_name("admin.sock.handover");
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self { socket, sockets: Vec::new() }
    }

    fn say(&self, what: &Value) {
        let text = what.to_string();
        let mut nothing = SendAncillaryBuffer::default();
        let bytes = [IoSlice::new(text.as_bytes())];
        sendmsg(&self.socket, &bytes, &mut nothing, SendFlags::NOSIGNAL).unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut bytes = vec![0; 1 << 18];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let heard = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .unwrap();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(sockets) = message {
                self.sockets.extend(sockets);
            }
        }
        assert!(heard.bytes > 0, "it has hung up");
        serde_json::from_slice(&bytes[..heard.bytes]).unwrap()
    }

    fn hello(&self, protocol: u32, gateway: &Gateway) {
        let listeners = [gateway.address.to_string()];
        self.say(&json!({ "hello": { "protocol": protocol, "version": "9.9.9", "listeners": listeners } }));
    }

    /// Gets every socket.
    fn get_in(&mut self, gateway: &Gateway) {
        self.hello(1, gateway);
        let welcome = self.hear();
        let count = welcome["welcome"]["sockets"].as_u64().unwrap();
        // Control, nine ports, HTTP, admin, hand-over.
        assert_eq!(count, 13);
        (0..count).for_each(|_| drop(self.hear()));
        assert_eq!(self.sockets.len(), 13);
    }
}

#[track_caller]
fn assert_serves(gateway: &Gateway, server: &Server) {
    let mut session = Ftp::login(gateway.address, server);
    session.upload("STOR new", b"new").expect(&[226]);
    assert_eq!(server.read("new"), b"new");
}

#[test]
fn a_bad_configuration_changes_nothing_and_is_told() {
    let server = Server::start(Kind::ProFtpd);
    let mut gateway = Gateway::to(&server).start();
    let mut old = Ftp::login(gateway.address, &server);
    let good = fs::read_to_string(gateway.configuration()).unwrap();
    let lost = "[tls]\ncertificate = \"/nowhere.pem\"\nkey = \"/nowhere.pem\"\n";
    let taken = TcpListener::bind((gateway.address.ip(), 0)).unwrap();
    let taken = format!("[[listener]]\naddress = \"{}\"\n", taken.local_addr().unwrap());
    for (more, code, told) in [
        ("[passive]\nport = 1\n", 78, "did you mean"),
        (lost, 78, "/nowhere.pem"),
        (&taken, 1, "cannot listen on"),
    ] {
        fs::write(gateway.configuration(), format!("{good}\n{more}")).unwrap();
        let mut new = gateway.start_another();
        assert_eq!(new.wait().code(), Some(code), "{}", new.output());
        assert!(new.output().contains(told), "{}", new.output());
        assert_serves(&gateway, &server);
    }
    gateway.logs("no hand-over; this process serves on");
    assert!(gateway.log().contains("nowhere.pem"), "the new one's last words are told");
    old.upload("STOR old", b"old").expect(&[226]);
    fs::write(gateway.configuration(), good).unwrap();
    let mut before = gateway.hand_over();
    assert_serves(&gateway, &server);
    drop(old);
    assert_eq!(before.wait().code(), Some(0));
}

#[test]
fn an_order_that_the_new_process_would_not_hear_of_is_refused_until_it_is_clear_who_serves() {
    let server = Server::start(Kind::ProFtpd);
    let gateway = Gateway::to(&server).start();
    let mut impostor = Impostor::knock(&gateway);
    impostor.get_in(&gateway);
    for order in [&["block", "user", "ann"][..], &["drain"], &["reload"]] {
        let (code, printed) = gateway.order(order);
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains("give the order again in a moment"), "{printed}");
    }
    assert_eq!(gateway.order(&["status"]).0, Some(0), "who only looks is answered");
    drop(impostor);
    gateway.logs("this process serves on");
    eventually("orders to be taken again", || {
        (gateway.order(&["block", "user", "ann"]).0 == Some(0)).then_some(())
    });
}

#[test]
fn another_protocol_is_refused_with_the_reason() {
    let server = Server::start(Kind::ProFtpd);
    let gateway = Gateway::to(&server).start();
    let mut impostor = Impostor::knock(&gateway);
    impostor.hello(2, &gateway);
    let refused = impostor.hear();
    assert_eq!(refused["refused"]["protocol"], 1);
    assert!(refused["refused"]["why"].as_str().unwrap().contains("protocol 2"), "{refused}");
    assert!(impostor.sockets.is_empty());
    assert_serves(&gateway, &server);
    let metric = "ftpgate_handovers_total{result=\"failed\"}";
    eventually("it to be counted", || (gateway.metric(metric) == 1.0).then_some(()));
}

#[test]
fn a_new_process_that_dies_before_it_is_ready_changes_nothing() {
    let server = Server::start(Kind::ProFtpd);
    let mut gateway = Gateway::to(&server).start();
    let mut old = Ftp::login(gateway.address, &server);
    let mut impostor = Impostor::knock(&gateway);
    impostor.get_in(&gateway);
    assert_serves(&gateway, &server);
    drop(impostor);
    gateway.logs("it ended before it was ready");
    old.upload("STOR old", b"old").expect(&[226]);
    assert_serves(&gateway, &server);
    let _before = gateway.hand_over();
    old.upload("STOR old", b"old").expect(&[226]);
}

#[test]
fn a_new_process_that_dies_before_it_serves_gives_everything_back() {
    let server = Server::start(Kind::ProFtpd);
    let mut gateway = Gateway::to(&server).passive("8192-8200").start();
    let mut reserved = Ftp::login(gateway.address, &server);
    let port = reserved.pasv();
    let mut old = Ftp::login(gateway.address, &server);
    let mut leaver = Ftp::login(gateway.address, &server);
    leaver.pasv();
    let mut impostor = Impostor::knock(&gateway);
    impostor.get_in(&gateway);
    impostor.say(&json!("ready"));
    assert!(impostor.hear()["state"]["next_session"].as_u64().unwrap() >= 4);
    let reservations = impostor.hear();
    assert_eq!(reservations["reservations"].as_array().unwrap().len(), 2, "{reservations}");
    assert_eq!(impostor.hear(), json!("done"));
    // Meanwhile a client comes, a session wants a port, and another one leaves.
    let address = gateway.address;
    let client = thread::spawn(move || Ftp::connect(address));
    old.send("PASV");
    drop(leaver);
    drop(impostor);
    gateway.logs("it ended before it served");
    client.join().unwrap().command("NOOP");
    let port_of_old = {
        let reply = old.reply().expect(&[227]);
        let numbers = reply.text.split_once('(').unwrap().1.split_once(')').unwrap().0;
        let numbers: Vec<u8> = numbers.split(',').map(|it| it.parse().unwrap()).collect();
        u16::from_be_bytes([numbers[4], numbers[5]])
    };
    let port_of_old = SocketAddr::new(gateway.address.ip(), port_of_old);
    for (session, port, name) in
        [(&mut reserved, port, "of-reserved"), (&mut old, port_of_old, "of-old")]
    {
        let mut data = session.open(port);
        session.command(&format!("STOR {name}")).expect(&[150]);
        data.write_all(name.as_bytes()).unwrap();
        finish(data);
        session.reply().expect(&[226]);
        assert_eq!(server.read(name), name.as_bytes());
    }
    eventually("every port to be free", || {
        (gateway.metric("ftpgate_passive_ports_reserved") == 0.0).then_some(())
    });
    assert_serves(&gateway, &server);
    let _before = gateway.hand_over();
    old.upload("STOR later", b"later").expect(&[226]);
}

#[test]
fn sessions_of_the_old_process_outlive_a_new_one_that_is_killed() {
    let server = Server::start(Kind::ProFtpd);
    let mut gateway = Gateway::to(&server).start();
    let mut running = Ftp::login(gateway.address, &server);
    let mut upload = running.begin("STOR running");
    upload.write_all(b"before ").unwrap();
    let mut idle = Ftp::login(gateway.address, &server);
    let before = gateway.hand_over();
    let mut reserved = Ftp::login(gateway.address, &server);
    reserved.pasv();
    gateway.sigkill();
    eventually("the old process to know", || {
        before.output().contains("the process that has taken over has ended").then_some(())
    });
    idle.command("PASV").expect(&[425]);
    idle.command("NOOP").expect(&[200]);
    upload.write_all(b"after").unwrap();
    finish(upload);
    running.reply().expect(&[226]);
    assert_eq!(server.read("running"), b"before after");
    // The next one begins anew, at the same addresses.
    drop(gateway.hand_over());
    assert_serves(&gateway, &server);
    idle.command("QUIT").expect(&[221]);
}

#[test]
fn only_so_many_older_processes_may_be_left() {
    let server = Server::start(Kind::ProFtpd);
    let mut gateway = Gateway::to(&server).start();
    let mut older = Vec::new();
    for _ in 0..16 {
        let session = Ftp::login(gateway.address, &server);
        older.push((session, gateway.hand_over()));
    }
    let session = Ftp::login(gateway.address, &server);
    let mut refused = gateway.start_another();
    assert_eq!(refused.wait().code(), Some(1));
    assert!(refused.output().contains("16 older processes still finish"), "{}", refused.output());
    // The oldest and the newest have their data connections all the same.
    let (mut oldest, mut process) = older.remove(0);
    for session in [&mut oldest, &mut older[14].0] {
        session.upload("STOR file", b"file").expect(&[226]);
    }
    oldest.command("QUIT").expect(&[221]);
    assert_eq!(process.wait().code(), Some(0));
    eventually("it to be gone from the list", || {
        (gateway.metric("ftpgate_older_processes") == 15.0).then_some(())
    });
    drop(gateway.hand_over());
    drop(session);
    assert_serves(&gateway, &server);
}
