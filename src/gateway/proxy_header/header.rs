//! The bytes of a header, without the connection that they come from: the fuzz target plays them, too,
//! so nothing else of the crate is used here but what the module above imports.
//!
//! The client's own first bytes may follow the header at once, in the same segment. They belong to
//! whoever reads the connection next (a line codec, or the kernel's splice), so not one byte more
//! is asked for than surely belongs to the header.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxiedAddress, ProxyHeader};

use super::HeaderRefusal;

/// What a version 2 header begins with.
pub(crate) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The same for version 1.
pub(crate) const WORD: &[u8] = b"PROXY ";
/// The shortest header of all: `PROXY UNKNOWN` with its line end.
const SHORTEST: usize = 15;
/// The longest of version 1.
pub(crate) const LONGEST_LINE: usize = 107;
/// What every header of version 2 has; its last two bytes tell how much follows.
const FIXED: usize = 16;
/// The version and command of a version 2 header: about no client, and about one.
pub(crate) const LOCAL: u8 = 0x20;
pub(crate) const PROXIED: u8 = 0x21;
/// The longest header of version 2 that is read. It could be 64 KiB; what balancers put there is a
/// name or a certificate's subject.
pub(crate) const LONGEST: usize = 4096;

/// Both ends of the connection that a client has made, wherever it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The client's.
    pub(crate) client: SocketAddr,
    /// Where it connected to.
    pub(crate) local: SocketAddr,
}

/// What is to be done after some bytes of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read at most so many more, which are the header's whatever they are.
    More(usize),
    /// That was all of it, and it says this; `None` if it is about no client.
    Whole(Option<Ends>),
    Refused(HeaderRefusal),
}

/// Watches the first bytes of a client for the signature of version 2, which as FTP would be two
/// empty lines, a malformed one and a QUIT. (Version 1 is a line with a verb.)
#[derive(Debug)]
pub(crate) struct Opening {
    /// What is still to come of it, unless something else has.
    rest: Option<&'static [u8]>,
}

/// What follows from the bytes read so far. Never asks for a byte that could be behind the header.
pub(crate) fn step(read: &[u8]) -> Step {
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
    let (client, local) = match told.proxied_address() {
        None => return Step::Whole(None),
        Some(ProxiedAddress { protocol: Protocol::Stream, source, destination }) => {
            (canonical(*source), canonical(*destination))
        }
        Some(_) => return Step::Refused(HeaderRefusal::Invalid),
    };
    // No connection of a client looks like that.
    if client.ip().is_unspecified() || local.ip().is_unspecified() {
        return Step::Refused(HeaderRefusal::Invalid);
    }
    Step::Whole(Some(Ends { client, local }))
}

/// An IPv4 address that is written as IPv6 is an IPv4 address: a header has one family for both.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

// === impl Opening ===

impl Opening {
    pub(crate) fn new() -> Self {
        Self { rest: Some(SIGNATURE) }
    }

    /// Whether these bytes, the next ones, make the signature whole.
    pub(crate) fn is_signature(&mut self, bytes: &[u8]) -> bool {
        let Some(rest) = self.rest else { return false };
        let (now, later) = rest.split_at(rest.len().min(bytes.len()));
        self.rest = (bytes.starts_with(now) && !later.is_empty()).then_some(later);
        bytes.starts_with(now) && later.is_empty()
    }
}
