//! A control connection before it has a session: commands out, replies in, in plain text or TLS.

use std::io;
use std::mem::MaybeUninit;

use tokio::net::TcpStream;

use crate::ftp::Reply;
use crate::ftp::reply::{MalformedReply, Replies};
use crate::tls::{self, Tls, UpstreamTls};

/// Bytes read at once.
const CHUNK: usize = 4096;

/// The connection, with what has been read from it. Nothing here has a limit of time.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub stream: TcpStream,
    /// What has been read, in plain text.
    pub replies: Replies,
    /// Its TLS, once that has begun. Nothing that it has opened stays inside.
    pub tls: Option<Tls>,
}

/// Why there is no reply, or no TLS.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The server has closed the connection.
    #[error("it closed the connection")]
    Closed,
    /// Plain text has come behind the reply after which TLS begins: whoever sent it would have it
    /// taken for something that was said inside.
    #[error("it sent plain text behind its word that TLS begins")]
    Injected,
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no FTP.
    #[error("it does not speak FTP: {0}")]
    Malformed(#[from] MalformedReply),
    /// It is no TLS, or there is no trust.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Wire {
    /// A connection on which nothing has been said. Each reply may have `reply_size` bytes.
    pub fn new(stream: TcpStream, reply_size: usize) -> Self {
        Self { stream, replies: Replies::new(reply_size), tls: None }
    }

    /// The next reply.
    ///
    /// # Errors
    ///
    /// [`WireError`].
    pub async fn reply(&mut self) -> Result<Reply, WireError> {
        loop {
            if let Some(reply) = self.replies.next_reply() {
                return Ok(reply?);
            }
            self.stream.readable().await?;
            let mut bytes = [MaybeUninit::uninit(); CHUNK];
            let bytes = match super::read(&self.stream, &mut bytes) {
                Ok([]) => return Err(WireError::Closed),
                Ok(bytes) => &*bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            match &mut self.tls {
                None => self.replies.push(bytes),
                Some(tls) => {
                    let mut plain = Vec::new();
                    let opened = tls.open(bytes, &mut plain);
                    self.replies.push(&plain);
                    opened?;
                    if plain.is_empty() && tls.peer_closed() {
                        return Err(WireError::Closed);
                    }
                }
            }
        }
    }

    /// Sends a line, with its line end, and waits for the reply to it.
    ///
    /// # Errors
    ///
    /// [`WireError`].
    pub async fn command(&mut self, line: &str) -> Result<Reply, WireError> {
        let mut out = Vec::new();
        match &mut self.tls {
            None => out.extend_from_slice(line.as_bytes()),
            Some(tls) => tls.seal(line.as_bytes(), &mut out),
        }
        tls::send(&self.stream, &mut out).await?;
        self.reply().await
    }

    /// Begins TLS. What the server sends right behind its handshake is kept.
    ///
    /// # Errors
    ///
    /// [`WireError`]; above all [`WireError::Injected`] if there is something left in plain text.
    pub async fn begin(&mut self, upstream: &UpstreamTls) -> Result<(), WireError> {
        if !self.replies.is_empty() {
            return Err(WireError::Injected);
        }
        let mut tls = upstream.connection()?;
        if let Err(error) = tls::handshake(&self.stream, &mut tls).await {
            return Err(match error.kind() {
                io::ErrorKind::UnexpectedEof => WireError::Closed,
                // As the handshake tells what the peer has done against TLS.
                _ => match error.downcast::<rustls::Error>() {
                    Ok(error) => error.into(),
                    Err(error) => error.into(),
                },
            });
        }
        let mut plain = Vec::new();
        tls.open(&[], &mut plain)?;
        self.replies.push(&plain);
        self.tls = Some(tls);
        Ok(())
    }
}
