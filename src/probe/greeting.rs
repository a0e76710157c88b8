//! The stages without a login: TCP and the banner.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::ftp::Reply;
use crate::ftp::reply::Replies;
use crate::outbound;

/// A banner that is longer is no banner.
const BANNER_SIZE: usize = 64 * 1024;

/// Connects, from `source` if there is one.
pub(super) async fn connect(
    endpoint: SocketAddr,
    source: Option<IpAddr>,
) -> Result<TcpStream, String> {
    let connected = outbound::connect(endpoint, source).await;
    connected.map_err(|error| match source {
        Some(source) => format!("{error} (from {source})"),
        None => error.to_string(),
    })
}

/// Waits for 220; RFC 959 5.4 lets a 120 come before it.
pub(super) async fn banner(stream: &TcpStream) -> Result<(), String> {
    let mut replies = Replies::new(BANNER_SIZE);
    loop {
        let reply = next_reply(stream, &mut replies, 4096).await?;
        if reply.is_positive() {
            return Ok(());
        }
        if !reply.is_preliminary() {
            return Err(refusal(reply.code()));
        }
    }
}

/// Takes the 120 before a 220 away, and not a byte more, for a client that does not expect it.
pub(super) async fn skip_preliminary(stream: &TcpStream) -> Result<(), String> {
    let mut first = [0];
    while stream.peek(&mut first).await.map_err(|error| error.to_string())? == 1 && first == *b"1" {
        next_reply(stream, &mut Replies::new(BANNER_SIZE), 1).await?;
    }
    Ok(())
}

/// Waits for the end of the connection that QUIT brings.
pub(super) async fn quit(stream: &TcpStream) {
    if stream.try_write(b"QUIT\r\n").is_ok() {
        let mut replies = Replies::new(BANNER_SIZE);
        let _ = next_reply(stream, &mut replies, 4096).await;
    }
}

/// What a banner of another code than 220 says.
pub(super) fn refusal(code: u16) -> String {
    match code {
        421 => "421: it takes no more sessions now".into(),
        code => format!("its banner is a {code}"),
    }
}

/// The next reply, read in pieces of at most `size` bytes.
async fn next_reply(
    stream: &TcpStream,
    replies: &mut Replies,
    size: usize,
) -> Result<Reply, String> {
    loop {
        match replies.next_reply() {
            Some(Ok(reply)) => return Ok(reply),
            Some(Err(error)) => return Err(format!("it does not speak FTP: {error}")),
            None => {
                stream.ready(Interest::READABLE).await.map_err(|error| error.to_string())?;
                let mut bytes = [0; 4096];
                let room = bytes.get_mut(..size).unwrap_or_default();
                match stream.try_read(room) {
                    Ok(0) => return Err("it closed the connection without a banner".into()),
                    Ok(count) => replies.push(bytes.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
    }
}
