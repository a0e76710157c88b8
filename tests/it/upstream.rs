//! Servers behind the gateway that are dead, slow or say strange things: the client notices
//! nothing, or is told in one reply.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::ftp::{End, Ftp, read_to_end};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};
use crate::harness::{address, eventually};

/// Listens, and hands each connection to `serve` in a thread of its own.
fn listen(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind((address::unused(), 2121)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || serve(stream))))
    });
    address
}

/// A server without EPSV. `announce` makes the reply to PASV of its data address; LIST sends one
/// line, from whom it was fetched.
fn without_epsv(control: TcpStream, announce: fn(SocketAddr) -> String) {
    // It goes on until the gateway leaves.
    let _: Option<()> = converse(&control, announce);
}

fn converse(control: &TcpStream, announce: fn(SocketAddr) -> String) -> Option<()> {
    let passive = TcpListener::bind((control.local_addr().ok()?.ip(), 0)).ok()?;
    let mut lines = BufReader::new(control.try_clone().ok()?);
    let say = |text: &str| {
        let mut control = control;
        control.write_all(format!("{text}\r\n").as_bytes()).ok()
    };
    say("220 ready")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.get(..4)? {
            "USER" => say("331 password")?,
            "PASS" => say("230 in")?,
            "EPSV" => say("500 EPSV is unknown")?,
            "PASV" => say(&announce(passive.local_addr().ok()?))?,
            "LIST" => {
                say("150 here")?;
                let (mut data, from) = passive.accept().ok()?;
                let same = from.ip() == control.peer_addr().ok()?.ip();
                writeln!(data, "data and control from one address: {same}").ok()?;
                drop(data);
                say("226 done")?;
            }
            _ => say("200 ok")?,
        }
    }
}

fn port_of(data: SocketAddr) -> String {
    let [high, low] = data.port().to_be_bytes();
    format!("{high},{low}")
}

#[test]
fn a_server_that_does_not_serve_is_passed_over_and_the_client_never_sees_it() {
    let live = Server::start(Kind::ApacheFtpServer);
    let nobody = SocketAddr::from((address::unused(), 2121));
    let dead: [(&str, SocketAddr, Duration); 6] = [
        ("connect-error", nobody, Duration::ZERO),
        ("banner-error", listen(drop), Duration::ZERO),
        (
            "banner-error",
            listen(|mut stream| drop(stream.write_all(b"SSH-2.0-nothing here\r\n"))),
            Duration::ZERO,
        ),
        (
            "refused",
            listen(|mut stream| drop(stream.write_all(b"421 too many\r\n"))),
            Duration::ZERO,
        ),
        // Accepts and says nothing.
        (
            "banner-timeout",
            listen(|mut stream| drop(stream.read(&mut [0]))),
            Duration::from_millis(400),
        ),
        // A banner that never ends.
        (
            "banner-error",
            listen(|mut stream| {
                let _ = stream.write_all(b"220-x\r\n");
                while stream.write_all(&[b'x'; 4096]).is_ok() {}
            }),
            Duration::ZERO,
        ),
    ];
    for (result, endpoint, wait) in dead {
        let gateway = Gateway::to_address(endpoint)
            .or_to(&live)
            .set("upstream", "banner_timeout = \"400ms\"")
            .start();
        let started = Instant::now();
        Ftp::login(gateway.address, &live);
        assert!(started.elapsed() >= wait, "{result}: {:?}", started.elapsed());
        let series = format!(
            "ftpgate_upstream_connects_total{{endpoint=\"{endpoint}\",result=\"{result}\"}}"
        );
        assert_eq!(gateway.metric(&series), 1.0);
        // For a while it is tried last, that is not at all.
        let started = Instant::now();
        Ftp::login(gateway.address, &live);
        assert!(
            started.elapsed() < Duration::from_millis(400),
            "{result}: {:?}",
            started.elapsed()
        );
        assert_eq!(gateway.metric(&series), 1.0);
    }
}

#[test]
fn a_connection_attempt_into_the_void_is_given_up_in_time() {
    let live = Server::start(Kind::ApacheFtpServer);
    // A full queue of connections: the kernel drops further SYNs.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from((address::unused(), 2121)).into()).unwrap();
    full.listen(0).unwrap();
    let endpoint = full.local_addr().unwrap().as_socket().unwrap();
    let _queued = TcpStream::connect(endpoint).unwrap();
    let gateway = Gateway::to_address(endpoint)
        .or_to(&live)
        .set("upstream", "connect_timeout = \"300ms\"")
        .start();
    let started = Instant::now();
    Ftp::login(gateway.address, &live);
    let took = started.elapsed();
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn the_host_in_a_227_is_not_trusted_and_the_data_comes_from_the_controls_address() {
    let endpoints = [
        listen(|control| {
            without_epsv(control, |data| format!("227 ok (0,0,0,0,{})", port_of(data)))
        }),
        // Another zone's address, an attacker's choice, and spellings of old servers.
        listen(|control| {
            without_epsv(control, |data| format!("227 ok (10,2,4,99,{})", port_of(data)))
        }),
        listen(|control| {
            without_epsv(control, |data| {
                format!("227 Entering Passive Mode 127,0,0,1,{}.", port_of(data))
            })
        }),
        listen(|control| {
            without_epsv(control, |data| format!("227-see\r\n227 =1,2,3,4,{}", port_of(data)))
        }),
    ];
    for endpoint in endpoints {
        let gateway = Gateway::to_address(endpoint).start();
        let mut client = Ftp::connect(gateway.address);
        client.log_in_as("anyone");
        let (listing, reply) = client.download("LIST");
        assert_eq!(String::from_utf8_lossy(&listing), "data and control from one address: true\n");
        assert_eq!(reply.code, 226);
    }
}

#[test]
fn an_announced_host_is_used_where_the_operator_trusts_it() {
    // There is nothing at 127.0.0.1's port, so a data connection to it must fail.
    let endpoint = listen(|control| {
        without_epsv(control, |data| format!("227 ok (127,0,0,1,{})", port_of(data)))
    });
    let gateway =
        Gateway::to_address(endpoint).set("upstream", "passive_host = \"announced\"").start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    let address = client.pasv();
    let data = client.open(address);
    assert_eq!(read_to_end(data).1, End::Reset);
    client.command("LIST").expect(&[425]);
}

#[test]
fn a_227_without_an_address_is_relayed_as_it_is() {
    let endpoint = listen(|control| {
        without_epsv(control, |_| "227 Entering Passive Mode (1,2,3,4,5,600)".into())
    });
    let gateway = Gateway::to_address(endpoint).start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    assert_eq!(client.command("PASV").text, "227 Entering Passive Mode (1,2,3,4,5,600)\r\n");
    client.command("LIST").expect(&[425]);
}

#[test]
fn a_port_out_of_range_is_never_dialled() {
    let endpoint = listen(|control| without_epsv(control, |_| "227 ok (127,0,0,1,0,22)".into()));
    let gateway = Gateway::to_address(endpoint).start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    client.command("PASV").expect(&[425]);
}

#[test]
fn an_xferlog_is_to_be_had() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).set("audit", "format = \"xferlog\"").start();
    let mut client = Ftp::login(gateway.address, &server);
    client.upload("STOR in voice", b"twelve bytes").expect(&[226]);
    client.command("QUIT").expect(&[221]);
    let text =
        eventually("the xferlog", || Some(gateway.audit_text()).filter(|text| !text.is_empty()));
    let fields: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(
        fields[5..].join(" "),
        format!("1 127.0.0.1 12 in_voice b _ i r {} ftp 0 * c", server.kind.user())
    );
}
