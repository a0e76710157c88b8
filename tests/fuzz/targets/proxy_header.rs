//! Any bytes as the beginning of a balancer's connection: the header is read to its last byte and no
//! further, in whatever pieces it comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_header::{ParseConfig, ProxyHeader};

#[path = "../../../src/gateway/proxy_header/header.rs"]
mod header;

/// The reasons that a header's bytes can give, of those that the gateway counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderRefusal {
    Invalid,
    Oversized,
}

use header::{Ends, LONGEST, Opening, SIGNATURE, Step, step};

fuzz_target!(|stream: &[u8]| {
    let told = read(stream, usize::MAX);
    assert_eq!(told, read(stream, 1));
    if let (Step::Whole(ends), length) = told {
        let header = &stream[..length];
        let parsed = ProxyHeader::parse(header, ParseConfig::default());
        match ends {
            // Whatever such a header holds besides is to be discarded.
            None => {}
            Some(Ends { client, local }) => {
                assert!(!client.ip().is_unspecified() && !local.ip().is_unspecified());
                assert!(parsed.is_ok_and(|(_, parsed)| parsed == length));
            }
        }
        let first = header.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
        assert!(header.starts_with(SIGNATURE) || first == Some(length), "more than a line");
    }
    for size in [1, 5, stream.len().max(1)] {
        let mut opening = Opening::new();
        let seen = stream.chunks(size).filter(|piece| opening.is_signature(piece)).count();
        assert_eq!(seen, usize::from(stream.starts_with(SIGNATURE)));
    }
});

/// What comes of a stream of which at most so many bytes arrive at once, and the header's length.
fn read(stream: &[u8], piece: usize) -> (Step, usize) {
    let mut length = 0;
    loop {
        let wanted = match step(&stream[..length]) {
            Step::More(wanted) => wanted,
            Step::Whole(ends) => return (Step::Whole(ends), length),
            // How much of what is none was read does not matter.
            refused => return (refused, 0),
        };
        assert!(wanted > 0 && length + wanted <= LONGEST);
        if length == stream.len() {
            return (Step::Refused(HeaderRefusal::Invalid), 0);
        }
        length += wanted.min(piece).min(stream.len() - length);
    }
}
