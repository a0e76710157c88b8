//! Headers as balancers send them, as nobody should, and in any pieces.

use std::net::SocketAddr;

use proptest::prelude::*;
use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};

use super::header::{LOCAL, LONGEST, PROXIED, SIGNATURE, WORD};
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
        let mut header = ProxyHeader::with_address(ProxiedAddress::stream(ends.client, ends.local));
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
        (b"PROXY TCP6 ::ffff:0.0.0.0 ::5 1 2\r\n", Invalid, 35),
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
