//! Connections to the upstream, from a chosen local address, and the first words on them.

mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
pub use wire::{Wire, WireError};

/// Connects, from `source` if there is one; else the kernel chooses.
///
/// # Errors
///
/// Those of [`bind`] and connect(2).
pub async fn connect(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let domain = Domain::for_address(to);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if let Some(source) = source {
        bind(&socket, source)?;
    }
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

/// Binds a socket that is about to connect. The port is chosen at connect(2): chosen at bind(2) it
/// would be taken for all destinations at once, and a minute's worth of TIME_WAIT would use all
/// ports up.
///
/// # Errors
///
/// Those of setsockopt(2) and bind(2).
pub fn bind(socket: &Socket, source: IpAddr) -> io::Result<()> {
    setsockopt(socket, IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(source, 0).into())
}
