//! What the sockets of data connections carry.
//!
//! In FTP's stream mode the FIN of a data connection *is* the end of the file (RFC 959, 3.4.1):
//! a server stores a cut upload that ends in FIN as complete. The kernel sends FIN for every
//! socket that is closed, also for those of a process that was killed, unless SO_LINGER is on
//! with time 0: then it sends RST. So data sockets carry SO_LINGER 0 from the moment they exist.
//! Only [`finish`] takes it off, and only an end that was proven clean may call it.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::outbound;

/// Silence after which the kernel asks whether the peer is still there: under the 350 s after which
/// balancers and NATs forget a flow.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How long the kernel waits before it asks again.
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(15);
/// Unanswered questions after which the connection counts as lost.
const KEEPALIVE_TRIES: u32 = 4;

/// What listeners for data connections have.
const DATA_LINGER: Option<Duration> = Some(Duration::ZERO);

/// Listens for data connections. What is accepted has SO_LINGER 0, TCP_NODELAY and keepalive
/// from the listener, so there is no instant at which it would be closed with FIN by accident.
///
/// Must be called within a Tokio runtime.
pub(super) fn listen(ip: IpAddr, port: u16, backlog: i32) -> io::Result<TcpListener> {
    bind(SocketAddr::new(ip, port), backlog, DATA_LINGER)
}

/// The same on a socket that is bound already.
///
/// Must be called within a Tokio runtime.
pub(super) fn adopt_listener(
    listener: std::net::TcpListener,
    backlog: i32,
) -> io::Result<TcpListener> {
    adopt(listener, backlog, DATA_LINGER)
}

/// Listens with the given SO_LINGER, which accepted connections inherit, as they do TCP_NODELAY and
/// keepalive. An IPv6 address takes IPv6 clients only, so that `0.0.0.0` and `::` can be bound side
/// by side.
///
/// Must be called within a Tokio runtime.
pub(super) fn bind(
    address: SocketAddr,
    backlog: i32,
    linger: Option<Duration>,
) -> io::Result<TcpListener> {
    let socket = new(address)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    listen_on(socket, backlog, linger)
}

/// The same as [`bind`] on a socket that is bound already, by systemd or by the process before this
/// one.
///
/// Must be called within a Tokio runtime.
pub(super) fn adopt(
    listener: std::net::TcpListener,
    backlog: i32,
    linger: Option<Duration>,
) -> io::Result<TcpListener> {
    let socket = Socket::from(listener);
    socket.set_nonblocking(true)?;
    prepare(&socket)?;
    listen_on(socket, backlog, linger)
}

fn listen_on(socket: Socket, backlog: i32, linger: Option<Duration>) -> io::Result<TcpListener> {
    socket.set_linger(linger)?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

/// Connects to the data port `to` from the local address `from`; an unspecified `from` and a
/// `source_port` of 0 leave the choice to the kernel.
///
/// # Errors
///
/// Those of bind(2) and connect(2), or [`io::ErrorKind::TimedOut`] after `limit`.
pub(super) async fn dial(
    to: SocketAddr,
    from: IpAddr,
    source_port: u16,
    limit: Duration,
) -> io::Result<TcpStream> {
    let socket = new(to)?;
    socket.set_linger(Some(Duration::ZERO))?;
    if source_port != 0 {
        // Shared with the connections to other clients.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(from, source_port).into())?;
    } else if !from.is_unspecified() {
        outbound::bind(&socket, from)?;
    }
    let connect = TcpSocket::from_std_stream(socket.into()).connect(to);
    timeout(limit, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Sends FIN: all bytes that will ever go this way have gone. SO_LINGER stays, so a stream that
/// is dropped after this alone is still reset.
pub(super) fn half_close(stream: &TcpStream) {
    // Fails only if the connection is gone already.
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
}

/// Ends a data connection whose transfer is proven complete: sends FIN, and lets a later drop
/// close it in order. Closing with unread bytes would be a reset after all: what the peer has sent
/// against the direction of the transfer is to be read first.
pub(super) fn finish(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // In this order: a process that is killed in between must not reset what was delivered.
    // Both calls fail only if the connection is gone already.
    let _ = socket.set_linger(None);
    let _ = socket.shutdown(Shutdown::Write);
}

/// Ends a data connection with RST, whatever it was told before.
pub(super) fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// A non-blocking TCP socket for connections with `address`' family.
fn new(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    prepare(&socket)?;
    Ok(socket)
}

/// What connections and listeners have alike.
fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_AGAIN)
        .with_retries(KEEPALIVE_TRIES);
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use nix::sys::socket::getsockopt;
    use nix::sys::socket::sockopt::IpBindAddressNoPort;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0, 1024).unwrap();
        let to = listener.local_addr().unwrap();
        let dialled = dial(to, Ipv4Addr::LOCALHOST.into(), 0, LONG).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        (accepted, dialled)
    }

    async fn end(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.map(|_| bytes)
    }

    #[tokio::test]
    async fn data_sockets_are_armed_to_reset_from_birth() {
        let (accepted, dialled) = pair().await;
        for stream in [&accepted, &dialled] {
            let socket = SockRef::from(stream);
            assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
        }
    }

    #[tokio::test]
    async fn an_adopted_listener_is_armed_like_one_of_our_own() {
        let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = plain.local_addr().unwrap();
        let listener = adopt_listener(plain, 16).unwrap();
        let _dialled = dial(to, Ipv4Addr::LOCALHOST.into(), 0, LONG).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&accepted);
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_control_connection_has_keepalive_from_its_listener() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), 1, None).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
        assert_eq!(socket.linger().unwrap(), None);
    }

    #[tokio::test]
    async fn a_dropped_data_connection_is_reset() {
        for half_closed in [false, true] {
            let (mut accepted, mut dialled) = pair().await;
            accepted.write_all(b"part").await.unwrap();
            dialled.read_exact(&mut [0; 4]).await.unwrap();
            if half_closed {
                half_close(&accepted);
                assert_eq!(end(&mut dialled).await.unwrap(), b"");
                dialled.write_all(b"unread").await.unwrap();
            }
            drop(accepted);
            let gone = dialled.ready(tokio::io::Interest::ERROR).await;
            assert!(gone.is_ok());
            assert!(dialled.take_error().unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn reset_overrules_finish() {
        let (accepted, mut dialled) = pair().await;
        SockRef::from(&accepted).set_linger(None).unwrap();
        reset(accepted);
        assert_eq!(end(&mut dialled).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn dial_leaves_from_the_address_it_is_told() {
        for from in ["127.0.0.1", "127.3.2.1", "0.0.0.0"] {
            let listener = listen(Ipv4Addr::LOCALHOST.into(), 0, 1).unwrap();
            let from: IpAddr = from.parse().unwrap();
            let stream = dial(listener.local_addr().unwrap(), from, 0, LONG).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, stream.local_addr().unwrap());
            assert!(from.is_unspecified() || peer.ip() == from);
            let shares_ports = getsockopt(&stream, IpBindAddressNoPort).unwrap();
            assert!(from.is_unspecified() || shares_ports);
        }
    }

    #[tokio::test]
    async fn one_source_port_serves_several_destinations_at_once() {
        let from: IpAddr = "127.3.2.4".parse().unwrap();
        // A port that is free now; nobody else uses this address.
        let spare = listen(from, 0, 1).unwrap().local_addr().unwrap().port();
        let mut open = Vec::new();
        for _ in 0..3 {
            let listener = listen(Ipv4Addr::LOCALHOST.into(), 0, 1).unwrap();
            let to = listener.local_addr().unwrap();
            open.push(dial(to, from, spare, LONG).await.unwrap());
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, SocketAddr::new(from, spare));
        }
    }

    #[tokio::test]
    async fn ipv6_is_dialled_and_does_not_take_the_ipv4_port() {
        let v6 = listen(Ipv6Addr::UNSPECIFIED.into(), 0, 1).unwrap();
        let port = v6.local_addr().unwrap().port();
        listen(Ipv4Addr::UNSPECIFIED.into(), port, 1).unwrap();
        let to = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
        dial(to, Ipv6Addr::LOCALHOST.into(), 0, LONG).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_that_does_not_answer_times_out() {
        // One connection fills a backlog of 0; the kernel drops the SYN of further ones.
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0, 0).unwrap();
        let (to, from) = (listener.local_addr().unwrap(), Ipv4Addr::LOCALHOST.into());
        let _first = dial(to, from, 0, LONG).await.unwrap();
        let second = dial(to, from, 0, Duration::from_millis(50)).await;
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
