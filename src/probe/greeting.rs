//! The stages without a login: TCP and the banner.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::ftp::Reply;
use crate::ftp::reply::Replies;
use crate::outbound::{self, Wire, WireError};
use crate::tls::{UpstreamTls, explain};

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

/// Waits for 220; RFC 959 5.4 lets a 120 come before it. An endpoint that begins with TLS says it
/// inside.
pub(super) async fn banner(stream: TcpStream, tls: Option<&UpstreamTls>) -> Result<Wire, String> {
    let mut wire = Wire::new(stream, BANNER_SIZE);
    if let Some(tls) = tls.filter(|tls| tls.is_implicit()) {
        wire.begin(tls).await.map_err(|error| match error {
            WireError::Tls(error) => format!("TLS: {}", explain(&error, &tls.name())),
            error => format!("TLS: {error}"),
        })?;
    }
    loop {
        let reply = wire.reply().await.map_err(|error| match error {
            WireError::Closed => "it closed the connection without a banner".into(),
            error => error.to_string(),
        })?;
        if reply.is_positive() {
            return Ok(wire);
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
        let mut replies = Replies::new(BANNER_SIZE);
        while next_of(&mut replies)?.is_none() {
            stream.ready(Interest::READABLE).await.map_err(|error| error.to_string())?;
            match stream.try_read(&mut first) {
                Ok(0) => return Err("it closed the connection without a banner".into()),
                Ok(_) => replies.push(&first),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    Ok(())
}

/// QUIT, and what is said to it.
pub(super) async fn quit(wire: &mut Wire) {
    let _ = wire.command("QUIT\r\n").await;
}

/// What a banner of another code than 220 says.
pub(super) fn refusal(code: u16) -> String {
    match code {
        421 => "421: it takes no more sessions now".into(),
        code => format!("its banner is a {code}"),
    }
}

fn next_of(replies: &mut Replies) -> Result<Option<Reply>, String> {
    let reply = replies.next_reply().transpose();
    reply.map_err(|error| WireError::from(error).to_string())
}
