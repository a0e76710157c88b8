//! What is no good header, or nobody's who may send one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use rustix::process::{Resource, getrlimit, setrlimit};

use super::{Behind, SIGNATURE, V4, V6, Version, in_pieces, is_reset, refused, second, told};
use crate::harness::canned::CannedServer;
use crate::harness::eventually;
use crate::harness::ftp::connect;
use crate::harness::gateway::Gateway;

/// What is no header, what a client is told, and how it counts.
fn no_headers() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let none = "500 This connection must begin with a PROXY protocol header, and does not.\r\n";
    let late = "421 The PROXY protocol header did not come in time.\r\n";
    let long = [SIGNATURE, &[0x21, 0x11, 0xFF, 0xFF]].concat();
    let mut whole = Version::Two.header(V4);
    whole.truncate(20);
    vec![
        (b"USER anyone\r\n".to_vec(), none, "invalid"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), none, "invalid"),
        (b"PROXY TCP4 300.0.0.1 127.0.0.1 1 2\r\n".to_vec(), none, "invalid"),
        (b"PROXY UDP4 127.0.0.1 127.0.0.1 1 2\r\n".to_vec(), none, "invalid"),
        (second(0x31, 0x11, &[1; 12]), none, "invalid"),
        (second(0x21, 0x11, &[1; 4]), none, "invalid"),
        ([b"PROXY UNKNOWN ", &[b'x'; 1 << 16][..]].concat(), none, "oversized"),
        ([long, vec![1; 1 << 16]].concat(), none, "oversized"),
        (b"PROXY TCP4 203.0.113.7 127".to_vec(), late, "timeout"),
        (whole, late, "timeout"),
        (SIGNATURE.to_vec(), late, "timeout"),
        (Vec::new(), late, "timeout"),
    ]
}

#[test]
fn a_control_connection_without_a_good_header_is_refused_and_counted() {
    let server = CannedServer::script().start();
    let options = Gateway::to_address(server.address).set("proxy_protocol", "timeout = \"300ms\"");
    let behind = Behind::start(options);
    for (bytes, reply, reason) in no_headers() {
        let shown = bytes[..bytes.len().min(40)].escape_ascii().to_string();
        let before = behind.refused(reason);
        assert_eq!(told(behind.begin(behind.gateway.address, &bytes)), reply, "{shown}");
        assert_eq!(behind.refused(reason), before + 1.0, "{shown}");
    }
    // Cut off.
    let stream = behind.begin(behind.gateway.address, b"PROXY TCP4 203.0");
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(told(stream).starts_with("500 "));
    assert_eq!(behind.refused("invalid"), 7.0);
    assert!(server.visits().is_empty(), "{:?}", server.visits());
    behind.gateway.logs("no PROXY protocol header");
    behind.login(&Version::One.header(V4));
}

#[test]
fn a_data_connection_without_a_good_header_is_reset_and_counted() {
    let server = CannedServer::script().start();
    let options = Gateway::to_address(server.address).set("proxy_protocol", "timeout = \"300ms\"");
    let behind = Behind::start(options);
    let header = Version::Two.header(V4);
    let mut client = behind.login(&header);
    let address = client.epsv();
    for (bytes, _, reason) in no_headers() {
        let shown = bytes[..bytes.len().min(40)].escape_ascii().to_string();
        let before = behind.refused(reason);
        let mut stream = connect(address, Some(behind.balancer)).unwrap();
        // It may be reset in the midst of it.
        let written = stream.write_all(&bytes);
        assert!(written.is_err() || is_reset(stream), "{shown}");
        eventually("the refusal to be counted", || {
            (behind.refused(reason) == before + 1.0).then_some(())
        });
    }
    let mut data = behind.begin(address, &header);
    client.command("LIST").expect(&[150]);
    data.read_to_end(&mut Vec::new()).unwrap();
    client.final_reply().expect(&[226]);
}

#[test]
fn who_is_slow_with_a_header_holds_up_nobody_and_no_drain() {
    let server = CannedServer::script().start();
    let options = Gateway::to_address(server.address).set("proxy_protocol", "timeout = \"1h\"");
    let mut behind = Behind::start(options);
    let header = Version::One.header(V4);
    let slow_control: Vec<TcpStream> =
        (0..50).map(|_| behind.begin(behind.gateway.address, &header[..20])).collect();
    let mut client = behind.login(&header);
    let address = client.epsv();
    let slow_data: Vec<TcpStream> = (0..50).map(|_| behind.begin(address, &header[..20])).collect();
    let mut data = behind.begin(address, &header);
    client.command("LIST").expect(&[150]);
    data.read_to_end(&mut Vec::new()).unwrap();
    client.final_reply().expect(&[226]);
    client.command("QUIT").expect(&[221]);
    behind.gateway.sigterm();
    for slow in slow_control {
        assert_eq!(told(slow), "421 This gateway is stopping; please connect again.\r\n");
    }
    assert!(behind.gateway.wait().success());
    assert!(slow_data.into_iter().all(is_reset));
}

#[test]
fn more_that_wait_for_their_headers_than_there_may_be_are_refused() {
    // All of them are open here, too.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let server = CannedServer::script().start();
    let options = Gateway::to_address(server.address).set("proxy_protocol", "timeout = \"1h\"");
    let behind = Behind::start(options);
    let header = Version::Two.header(V4);
    let mut client = behind.login(&header);
    let address = client.epsv();
    for to in [behind.gateway.address, address] {
        let before = behind.refused("busy");
        // A reset may be there as early as the connect.
        let (all, reset): (Vec<TcpStream>, Vec<_>) = (0..1025)
            .map(|_| connect(to, Some(behind.balancer)))
            .fold((Vec::new(), Vec::new()), |(mut all, mut reset), connected| {
                match connected {
                    Ok(stream) => all.push(stream),
                    Err(error) => reset.push(error.kind()),
                }
                (all, reset)
            });
        eventually("the last of them to be refused", || {
            (behind.refused("busy") == before + 1.0).then_some(())
        });
        if !reset.is_empty() {
            assert_eq!((to, reset.as_slice()), (address, &[ErrorKind::ConnectionReset][..]));
            continue;
        }
        all.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
        let (refused, read) = eventually("the one to know it", || {
            all.iter().find_map(|stream| match stream.peek(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                read => Some((stream, read)),
            })
        });
        if to == address {
            assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        } else {
            refused.set_nonblocking(false).unwrap();
            assert_eq!(told(refused), "421 Too many connections at once; try again later.\r\n");
        }
        assert_eq!(behind.refused("busy"), before + 1.0);
    }
    // When they have gone, there is room again.
    eventually("room for a header", || {
        let before = behind.refused("busy");
        drop(behind.begin(address, &Version::Two.own()));
        let strangers = behind.gateway.metric("ftpgate_passive_strangers_total");
        (strangers >= 1025.0 && behind.refused("busy") == before).then_some(())
    });
    let mut data = behind.begin(address, &header);
    client.command("LIST").expect(&[150]);
    data.read_to_end(&mut Vec::new()).unwrap();
    client.final_reply().expect(&[226]);
}

#[test]
fn a_header_from_anybody_else_is_refused_and_nothing_of_it_goes_upstream() {
    let server = CannedServer::script().start();
    let refusal = "500 A PROXY protocol header is not taken from your address.\r\n";
    let alone = Gateway::to_address(server.address).start();
    let behind = Behind::start(Gateway::to_address(server.address));
    let evil = b"USER evil\r\nPASS word\r\nDELE all\r\n";
    for gateway in [&alone, &behind.gateway] {
        let mut count = 0.0;
        for header in [
            Version::One.header(V4),
            Version::One.own(),
            b"proxy tcp4 1 2 3\r\n".to_vec(),
            Version::Two.header(V6),
            Version::Two.own(),
        ] {
            let mut stream = connect(gateway.address, None).unwrap();
            stream.write_all(&[&header, &evil[..]].concat()).unwrap();
            assert_eq!(told(stream), ["220 canned\r\n", refusal].concat());
            let stream = connect(gateway.address, None).unwrap();
            stream.set_nodelay(true).unwrap();
            let stream = in_pieces(stream, &header);
            let told = told(stream);
            assert!(told.starts_with("220 ") && told.ends_with(refusal), "{told}");
            count += 2.0;
            assert_eq!(refused(gateway, "untrusted"), count);
        }
    }
    // Nor does a client behind the balancer speak for itself.
    for version in Version::BOTH {
        for forged in Version::BOTH {
            let first = [version.header(V4), forged.header(V6), evil.to_vec()].concat();
            let told = told(behind.begin(behind.gateway.address, &first));
            assert_eq!(told, ["220 canned\r\n", refusal].concat());
        }
    }
    assert_eq!(behind.refused("untrusted"), 14.0);
    assert!(server.heard().is_empty(), "{:?}", server.heard());
}
