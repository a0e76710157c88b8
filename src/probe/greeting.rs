//! The stages without a login: TCP and the banner.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};

use crate::ftp::Reply;
use crate::ftp::reply::Replies;

/// A banner that is longer is no banner.
const BANNER_SIZE: usize = 64 * 1024;

/// Connects, from `source` if there is one.
pub(super) async fn connect(
    endpoint: SocketAddr,
    source: Option<IpAddr>,
) -> Result<TcpStream, String> {
    let connect = async {
        let domain = Domain::for_address(endpoint);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        TcpSocket::from_std_stream(socket.into()).connect(endpoint).await
    };
    connect.await.map_err(|error: io::Error| error.to_string())
}

/// Waits for 220; RFC 959 5.4 lets a 120 come before it.
pub(super) async fn banner(stream: &TcpStream) -> Result<(), String> {
    let mut replies = Replies::new(BANNER_SIZE);
    loop {
        match replies.next_reply() {
            Some(Ok(reply)) if reply.is_preliminary() => {}
            Some(Ok(reply)) if reply.is_positive() => return Ok(()),
            Some(Ok(reply)) => return Err(refusal(&reply)),
            Some(Err(error)) => return Err(format!("it does not speak FTP: {error}")),
            None => {
                stream.ready(Interest::READABLE).await.map_err(|error| error.to_string())?;
                let mut bytes = [0; 4096];
                match stream.try_read(&mut bytes) {
                    Ok(0) => return Err("it closed the connection without a banner".into()),
                    Ok(count) => replies.push(bytes.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
    }
}

fn refusal(reply: &Reply) -> String {
    match reply.code() {
        421 => "421: it takes no more sessions now".into(),
        code => format!("its banner is a {code}"),
    }
}
