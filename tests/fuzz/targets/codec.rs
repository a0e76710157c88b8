//! Any bytes, split anywhere, through the line, command, reply and host-port codecs.
#![no_main]

use ftpgate::ftp::command::Command;
use ftpgate::ftp::hostport::{parse_227, parse_229, parse_eprt, parse_port};
use ftpgate::ftp::line::Lines;
use ftpgate::ftp::reply::Replies;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    assert_eq!(lines(bytes.len().max(1), bytes), lines(usize::from(cut) + 1, bytes));
    assert_eq!(replies(bytes.len().max(1), bytes), replies(usize::from(cut) + 1, bytes));
    if let Ok(command) = Command::parse(bytes) {
        let _ = (parse_port(command.argument()), parse_eprt(command.argument()));
        if !bytes.contains(&b'\n') {
            assert_eq!(Command::parse(&*command.to_line()), Ok(command));
        }
    }
});

/// The lines of `bytes`, fed in chunks.
fn lines(chunk: usize, bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut lines = Lines::new(64);
    let mut seen = Vec::new();
    for chunk in bytes.chunks(chunk) {
        lines.push(chunk);
        seen.extend(std::iter::from_fn(|| lines.next_line()).map(Result::ok));
    }
    seen
}

/// The replies of `bytes`, fed in chunks, up to the first malformed one.
fn replies(chunk: usize, bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut replies = Replies::new(256);
    let mut seen = Vec::new();
    for chunk in bytes.chunks(chunk) {
        replies.push(chunk);
        while let Some(reply) = replies.next_reply() {
            let Ok(reply) = reply else {
                seen.push(None);
                return seen;
            };
            let _ = (parse_227(&reply), parse_229(&reply));
            seen.push(Some(reply.into_bytes()));
        }
    }
    seen
}
