//! One attempt to reach one endpoint: connect, and read its banner.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::source::is_exhausted;
use crate::ftp::Reply;
use crate::ftp::reply::Replies;
use crate::observe::metrics::ConnectResult;
use crate::outbound;

/// How long each part of an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) banner: Duration,
    pub(super) reply_size: usize,
    /// When the client has waited long enough for all attempts together.
    pub(super) deadline: Instant,
}

/// An endpoint that has said 220.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) stream: TcpStream,
    pub(super) replies: Replies,
    pub(super) banner: Reply,
}

/// Connects from `source` and reads the banner; RFC 959 5.4 lets a 120 come before it.
pub(super) async fn greet(
    address: SocketAddr,
    source: Option<IpAddr>,
    limits: Limits,
) -> Result<Greeted, ConnectResult> {
    let until = |limit: Duration| limits.deadline.min(Instant::now() + limit);
    let stream = match timeout_at(until(limits.connect), outbound::connect(address, source)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            debug!(endpoint = %address, ?source, %error, "connect failed");
            return Err(match is_exhausted(&error) {
                true => ConnectResult::NoPort,
                false => ConnectResult::ConnectError,
            });
        }
        Err(_) => return Err(ConnectResult::ConnectTimeout),
    };
    let mut replies = Replies::new(limits.reply_size);
    let deadline = until(limits.banner);
    loop {
        match replies.next_reply() {
            Some(Ok(reply)) if reply.is_preliminary() => {}
            Some(Ok(banner)) if banner.is_positive() => {
                return Ok(Greeted { stream, replies, banner });
            }
            Some(Ok(_)) => return Err(ConnectResult::Refused),
            Some(Err(_)) => return Err(ConnectResult::BannerError),
            None => {
                let ready = timeout_at(deadline, stream.ready(Interest::READABLE)).await;
                if ready.is_err() {
                    return Err(ConnectResult::BannerTimeout);
                }
                let mut bytes = [0; 1024];
                match stream.try_read(&mut bytes) {
                    Ok(0) => return Err(ConnectResult::BannerError),
                    Ok(count) => replies.push(bytes.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return Err(ConnectResult::BannerError),
                }
            }
        }
    }
}
