//! Connections to the upstream, from a chosen local address, and the first words on them.

mod wire;

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
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

/// Reads once. What does not fill `room` was all that there was, and the runtime is told so: it would have
/// us ask the kernel once more otherwise. An end it tells anew. (Not for a peer that may send urgent data,
/// where a read stops though there is more.)
///
/// # Errors
///
/// Those of recv(2), and [`io::ErrorKind::WouldBlock`] if nothing has come.
pub fn read<'a>(stream: &TcpStream, room: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a mut [u8]> {
    let mut all = None;
    let kept = &mut all;
    let result = stream.try_io(Interest::READABLE, move || {
        let ((read, rest), _) = recv(stream, room, RecvFlags::DONTWAIT)?;
        if read.is_empty() || rest.is_empty() {
            return Ok(read);
        }
        *kept = Some(read);
        Err(io::ErrorKind::WouldBlock.into())
    });
    all.map_or(result, Ok)
}
