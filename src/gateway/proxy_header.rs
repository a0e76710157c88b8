//! The header of the PROXY protocol, versions 1 and 2, by which a balancer tells whose connection
//! it passes on: <https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>.
//!
//! Who believes a header from anybody believes whatever anybody says of their address. So only
//! trusted addresses are asked for one, and those must send it; nobody else's is understood.
//!
//! The client's own first bytes may follow the header at once, in the same segment. They belong to
//! whoever reads the connection next (a line codec, or the kernel's splice), so not one byte more
//! is read than surely belongs to the header.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proxy_header::Tlv;

    use super::*;

    const TCP4: &str = "PROXY TCP4 203.0.113.7 10.0.0.5 50000 21\r\n";
    const TCP6: &str = "PROXY TCP6 2001:db8::7 2001:db8::5 50000 21\r\n";

    fn ends(client: &str, local: &str) -> Ends {
        Ends { client: client.parse().unwrap(), local: local.parse().unwrap() }
    }

    fn refused(reason: HeaderRefusal) -> Step {
        Step::Refused(reason)
    }

    /// A version 2 header, byte for byte.
    fn second(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    /// What comes of a stream whose bytes arrive in pieces of these sizes, over and over, and how
    /// many were read.
    fn feed(stream: &[u8], pieces: &[usize]) -> (Step, usize) {
        let (mut read, mut arrived, mut pieces) = (0, 0, pieces.iter().cycle());
        loop {
            let Step::More(wanted) = step(&stream[..read]) else {
                return (step(&stream[..read]), read);
            };
            assert!(wanted > 0);
            while arrived == read {
                assert!(read < stream.len(), "it waits for more than there is");
                arrived = (arrived + pieces.next().unwrap()).min(stream.len());
            }
            read += wanted.min(arrived - read);
        }
    }

    #[test]
    fn a_header_says_whose_connection_it_is() {
        let v4 = ends("203.0.113.7:50000", "10.0.0.5:21");
        let v6 = ends("[2001:db8::7]:50000", "[2001:db8::5]:21");
        let encoded = |ends: Ends| {
            let mut header =
                ProxyHeader::with_address(ProxiedAddress::stream(ends.client, ends.local));
            header.append_tlv(Tlv::Authority("gw.example.internal".into()));
            let mut bytes = [0; 256];
            let length = header.encode_to_slice_v2(&mut bytes).unwrap();
            bytes[..length].to_vec()
        };
        let mapped = "PROXY TCP6 ::ffff:203.0.113.7 ::ffff:10.0.0.5 50000 21\r\n";
        for (header, told) in [
            (TCP4.as_bytes().to_vec(), Some(v4)),
            (TCP6.as_bytes().to_vec(), Some(v6)),
            (mapped.as_bytes().to_vec(), Some(v4)),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), None),
            (encoded(v4), Some(v4)),
            (encoded(v6), Some(v6)),
            (second(LOCAL, 0, b""), None),
            // What it holds is to be discarded, whatever it is.
            (second(LOCAL, 0x11, b"short"), None),
            // No family, and a socket of the balancer's own machine.
            (second(PROXIED, 0, b""), None),
            (second(PROXIED, 0x31, &[0; 216]), None),
        ] {
            let shown = header.escape_ascii().to_string();
            assert_eq!(step(&header), Step::Whole(told), "{shown}");
            let stream = [&header, &b"USER ann\r\n"[..]].concat();
            assert_eq!(feed(&stream, &[1]), (Step::Whole(told), header.len()), "{shown}");
            assert_eq!(feed(&stream, &[usize::MAX >> 1]), (Step::Whole(told), header.len()));
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_it_shows() {
        use HeaderRefusal::{Invalid, Oversized};
        let endless = [WORD, &[b'U'; 200]].concat();
        let long = |length: u16| [SIGNATURE, &[PROXIED, 0x11], &length.to_be_bytes()].concat();
        for (bytes, reason, after) in [
            (&b"USER ann\r\n"[..], Invalid, 10),
            (b"\r\nUSER ann\r\n", Invalid, 12),
            (b"PROXY TCP4 a b c d\r\n", Invalid, 20),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", Invalid, 31),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", Invalid, 36),
            (b"PROXY TCP4 0.0.0.0 5.6.7.8 1 2\r\n", Invalid, 32),
            (b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", Invalid, 32),
            (b"PROXY TCP4 1\r\nX", Invalid, 15),
            (&endless, Oversized, 107),
            (&long(u16::MAX), Oversized, 16),
            (&long(4081), Oversized, 16),
            (&second(0x31, 0x11, &[0; 12]), Invalid, 16),
            (&second(0x22, 0x11, &[0; 12]), Invalid, 16),
            (&second(PROXIED, 0x11, &[9; 11]), Invalid, 27),
            (&second(PROXIED, 0x12, &[9; 12]), Invalid, 28),
            (&second(PROXIED, 0x41, &[9; 12]), Invalid, 28),
        ] {
            let shown = bytes.escape_ascii().to_string();
            assert_eq!(feed(bytes, &[usize::MAX >> 1]), (refused(reason), after), "{shown}");
        }
        assert_eq!(step(&long(4080)), Step::More(4080));
    }

    #[test]
    fn only_the_trusted_are_asked() {
        let trusted = ["10.0.0.0/24", "2001:db8::/64"].map(|network| network.parse().unwrap());
        let balancers = Balancers::new(&config::ProxyProtocol {
            trusted: trusted.into(),
            timeout: Duration::from_secs(5),
        });
        for (peer, trust) in [
            ("10.0.0.255", true),
            ("::ffff:10.0.0.1", true),
            ("2001:db8::1", true),
            ("10.0.1.0", false),
            ("2001:db8:0:1::", false),
        ] {
            assert_eq!(balancers.trust(peer.parse().unwrap()), trust, "{peer}");
        }
        let turns: Vec<_> = (0..WAITING).map(|_| balancers.turn().unwrap()).collect();
        let busy = NoHeader::Refused(HeaderRefusal::Busy);
        assert_eq!(balancers.turn().unwrap_err(), busy);
        drop(turns);
        assert!(balancers.turn().is_ok());
    }

    #[test]
    fn the_signature_is_seen_at_the_start_only() {
        for size in 1..=SIGNATURE.len() + 1 {
            let stream = [SIGNATURE, b"x"].concat();
            let mut opening = Opening::new();
            let seen: Vec<bool> =
                stream.chunks(size).map(|piece| opening.is_signature(piece)).collect();
            assert_eq!(seen.iter().filter(|&&seen| seen).count(), 1, "in pieces of {size}");
            assert!(seen[(SIGNATURE.len() - 1) / size]);
        }
        let mut opening = Opening::new();
        assert!(!opening.is_signature(b"\r\n"));
        assert!(!opening.is_signature(b"USER ann\r\n"));
        assert!(!opening.is_signature(SIGNATURE));
    }

    fn address() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let pair = |v6: bool| {
            let ip = any::<u128>().prop_map(move |bits| match v6 {
                true => IpAddr::from((bits | 1 << 127).to_be_bytes()),
                false => IpAddr::from(((bits as u32) | 1).to_be_bytes()),
            });
            let end = (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port));
            proptest::collection::vec(end, 2).prop_map(|ends| (ends[0], ends[1]))
        };
        any::<bool>().prop_flat_map(pair)
    }

    proptest! {
        /// However the bytes are split on their way, the header is understood, and what is behind
        /// it stays where it is.
        #[test]
        fn exactly_the_header_is_read(
            (client, local) in address(),
            version_2: bool,
            filling in 0..2000_usize,
            behind in proptest::collection::vec(any::<u8>(), 0..200),
            pieces in proptest::collection::vec(1..200_usize, 1..20),
        ) {
            let mut header = ProxyHeader::with_address(ProxiedAddress::stream(client, local));
            let mut bytes = vec![0; 8192];
            let length = if version_2 {
                header.append_tlv(Tlv::Noop(filling));
                header.encode_to_slice_v2(&mut bytes).unwrap()
            } else {
                header.encode_to_slice_v1(&mut bytes).unwrap()
            };
            bytes.truncate(length);
            bytes.extend(behind);
            let told = Step::Whole(Some(Ends { client, local }));
            prop_assert_eq!(feed(&bytes, &pieces), (told, length));
        }

        /// Whatever comes, it ends: by a header within the bounds or by a refusal.
        #[test]
        fn no_stream_is_read_without_end(
            start in prop_oneof![
                Just(Vec::new()),
                Just(WORD.to_vec()),
                Just(SIGNATURE.to_vec()),
                Just([SIGNATURE, &[PROXIED, 0x11]].concat()),
            ],
            bytes in proptest::collection::vec(any::<u8>(), LONGEST),
        ) {
            let stream = [start, bytes].concat();
            let (_, read) = feed(&stream, &[100]);
            prop_assert!(read <= LONGEST);
        }
    }
}
