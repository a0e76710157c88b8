//! The header of the PROXY protocol, versions 1 and 2, by which a balancer tells whose connection
//! it passes on: <https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>.
//!
//! Who believes a header from anybody believes whatever anybody says of their address. So only
//! trusted addresses are asked for one, and those must send it; nobody else's is understood.
//!
//! The client's own first bytes may follow the header at once, in the same segment. They belong to
//! whoever reads the connection next (a line codec, or the kernel's splice), so not one byte more
//! is read than surely belongs to the header.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use proxy_header::{ParseConfig, Protocol, ProxiedAddress, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config;
use crate::observe::metrics::HeaderRefusal;

/// What a version 2 header begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The same for version 1.
const WORD: &[u8] = b"PROXY ";
/// The shortest header of all: `PROXY UNKNOWN` with its line end.
const SHORTEST: usize = 15;
/// The longest of version 1.
const LONGEST_LINE: usize = 107;
/// What every header of version 2 has; its last two bytes tell how much follows.
const FIXED: usize = 16;
/// The version and command of a version 2 header: about no client, and about one.
const LOCAL: u8 = 0x20;
const PROXIED: u8 = 0x21;
/// The longest header of version 2 that is read. It could be 64 KiB; what balancers put there is a
/// name or a certificate's subject.
const LONGEST: usize = 4096;
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

/// Both ends of the connection that a client has made, wherever it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// The client's.
    pub(super) client: SocketAddr,
    /// Where it connected to.
    pub(super) local: SocketAddr,
}

/// Why there is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// The peer has gone and had said nothing: a health check that only connects.
    Left,
    /// The connection is not served.
    Refused(HeaderRefusal),
}

/// What is to be done after some bytes of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Read at most so many more, which are the header's whatever they are.
    More(usize),
    /// That was all of it, and it says this; `None` if it is about no client.
    Whole(Option<Ends>),
    Refused(HeaderRefusal),
}

/// Watches the first bytes of a client for the signature of version 2, which as FTP would be two
/// empty lines, a malformed one and a QUIT. (Version 1 is a line with a verb.)
#[derive(Debug)]
pub(super) struct Opening {
    /// What is still to come of it, unless something else has.
    rest: Option<&'static [u8]>,
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

/// What follows from the bytes read so far. Never asks for a byte that could be behind the header.
fn step(read: &[u8]) -> Step {
    if read.starts_with(SIGNATURE) {
        return step_2(read);
    }
    if read.starts_with(WORD) {
        return step_1(read);
    }
    match SIGNATURE.starts_with(read) || WORD.starts_with(read) {
        // Either version has as many at least.
        true => Step::More(SHORTEST.saturating_sub(read.len())),
        false => Step::Refused(HeaderRefusal::Invalid),
    }
}

/// Version 1: a line, whose end only its last byte shows.
fn step_1(read: &[u8]) -> Step {
    if read.ends_with(b"\n") {
        return parse(read);
    }
    if read.contains(&b'\n') {
        return Step::Refused(HeaderRefusal::Invalid);
    }
    match (SHORTEST.checked_sub(read.len()), LONGEST_LINE.checked_sub(read.len())) {
        (Some(missing @ 1..), _) => Step::More(missing),
        (_, Some(1..)) => Step::More(1),
        _ => Step::Refused(HeaderRefusal::Oversized),
    }
}

/// Version 2: a fixed part that tells the length of the rest.
fn step_2(read: &[u8]) -> Step {
    let Some(&[.., command, _, high, low]) = read.first_chunk::<FIXED>() else {
        return Step::More(FIXED.saturating_sub(read.len()));
    };
    let whole = FIXED + usize::from(u16::from_be_bytes([high, low]));
    match (command, whole.saturating_sub(read.len())) {
        (LOCAL | PROXIED, _) if whole > LONGEST => Step::Refused(HeaderRefusal::Oversized),
        (LOCAL | PROXIED, missing @ 1..) => Step::More(missing),
        // Whatever such a header holds besides is to be discarded.
        (LOCAL, 0) => Step::Whole(None),
        (PROXIED, 0) => parse(read),
        _ => Step::Refused(HeaderRefusal::Invalid),
    }
}

/// What a whole header says.
fn parse(header: &[u8]) -> Step {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let told = match ProxyHeader::parse(header, config) {
        Ok((told, length)) if length == header.len() => told,
        // Its lengths contradict each other, or it is none.
        Ok(_) | Err(_) => return Step::Refused(HeaderRefusal::Invalid),
    };
    match told.proxied_address() {
        None => Step::Whole(None),
        Some(ProxiedAddress { protocol: Protocol::Stream, source, destination })
            if !source.ip().is_unspecified() && !destination.ip().is_unspecified() =>
        {
            Step::Whole(Some(Ends { client: canonical(*source), local: canonical(*destination) }))
        }
        // No connection of a client looks like that.
        Some(_) => Step::Refused(HeaderRefusal::Invalid),
    }
}

/// An IPv4 address that is written as IPv6 is an IPv4 address: a header has one family for both.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

// === impl Opening ===

impl Opening {
    pub(super) fn new() -> Self {
        Self { rest: Some(SIGNATURE) }
    }

    /// Whether these bytes, the next ones, make the signature whole.
    pub(super) fn is_signature(&mut self, bytes: &[u8]) -> bool {
        let Some(rest) = self.rest else { return false };
        let (now, later) = rest.split_at(rest.len().min(bytes.len()));
        self.rest = (bytes.starts_with(now) && !later.is_empty()).then_some(later);
        bytes.starts_with(now) && later.is_empty()
    }
}
