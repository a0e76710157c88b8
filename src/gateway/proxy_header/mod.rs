//! The header of the PROXY protocol, versions 1 and 2, by which a balancer tells whose connection
//! it passes on: <https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>.
//!
//! Who believes a header from anybody believes whatever anybody says of their address. So only
//! trusted addresses are asked for one, and those must send it; nobody else's is understood.
//!
//! What its bytes mean is in [`header`].

mod header;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config;
use crate::observe::metrics::HeaderRefusal;

pub(crate) use header::{Ends, Opening};
use header::{LONGEST_LINE, Step, step};

/// Connections that may wait for their headers at once; a balancer sends them with its first
/// segment.
const WAITING: usize = 1024;

/// Who is asked for a header, and on what terms. Each of them has a limit of its own.
#[derive(Debug)]
pub(super) struct Balancers {
    trusted: Vec<IpNet>,
    timeout: Duration,
    waiting: Arc<Semaphore>,
}

/// Leave to wait for one header.
#[derive(Debug)]
pub(super) struct Turn {
    timeout: Duration,
    _permit: OwnedSemaphorePermit,
}

/// Why there is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// The peer has gone and had said nothing: a health check that only connects.
    Left,
    /// The connection is not served.
    Refused(HeaderRefusal),
}

// === impl Balancers ===

impl Balancers {
    pub(super) fn new(config: &config::ProxyProtocol) -> Self {
        Self {
            trusted: config.trusted.clone(),
            timeout: config.timeout,
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    /// Whether connections from there must begin with a header.
    pub(super) fn trust(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }

    /// Leave to wait for a header, if not too many do.
    pub(super) fn turn(&self) -> Result<Turn, NoHeader> {
        let permit = Arc::clone(&self.waiting).try_acquire_owned();
        let permit = permit.map_err(|_| NoHeader::Refused(HeaderRefusal::Busy))?;
        Ok(Turn { timeout: self.timeout, _permit: permit })
    }

    /// Both ends of a control connection: what its header says if it must have one, and what
    /// the socket says otherwise, also for a connection of the balancer's own.
    pub(super) async fn ends(
        &self,
        stream: &mut TcpStream,
        socket: Ends,
    ) -> Result<Ends, NoHeader> {
        if !self.trust(socket.client.ip()) {
            return Ok(socket);
        }
        // Boxed: it is over soon, and the session's task would keep its room for hours.
        let told = Box::pin(self.turn()?.header(stream)).await?;
        Ok(told.unwrap_or(socket))
    }
}

// === impl Turn ===

impl Turn {
    /// Reads a header, all of it and nothing else; `None` if it is about no client.
    pub(super) async fn header(self, stream: &mut TcpStream) -> Result<Option<Ends>, NoHeader> {
        timeout(self.timeout, read(stream))
            .await
            .unwrap_or(Err(NoHeader::Refused(HeaderRefusal::Timeout)))
    }
}

async fn read(stream: &mut TcpStream) -> Result<Option<Ends>, NoHeader> {
    let mut header = Vec::with_capacity(LONGEST_LINE);
    loop {
        let wanted = match step(&header) {
            Step::More(wanted) => wanted,
            Step::Whole(ends) => return Ok(ends),
            Step::Refused(reason) => return Err(NoHeader::Refused(reason)),
        };
        let limit = u64::try_from(wanted).unwrap_or(u64::MAX);
        let mut limited = (&mut *stream).take(limit);
        // Broken or ended is the same here.
        if limited.read_buf(&mut header).await.unwrap_or_default() == 0 {
            return Err(match header.is_empty() {
                true => NoHeader::Left,
                false => NoHeader::Refused(HeaderRefusal::Invalid),
            });
        }
    }
}
