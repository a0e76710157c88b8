//! Any bytes, split anywhere, through the codecs of lines, commands, replies and line ends. The
//! first byte says how large the pieces are.
#![no_main]

use ftpgate::ftp::ascii::Translator;
use ftpgate::ftp::command::{Command, Direction};
use ftpgate::ftp::feat::{self, Offer};
use ftpgate::ftp::line::Lines;
use ftpgate::ftp::reply::{Replies, Reply};
use libfuzzer_sys::fuzz_target;

const OFFER: Offer = Offer { active: true, tls: true, auth: true };

fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else { return };
    let (size, whole) = (usize::from(size) + 1, bytes.len().max(1));
    assert_eq!(lines(whole, bytes), lines(size, bytes));
    assert_eq!(replies(whole, bytes), replies(size, bytes));
    for direction in [Direction::Upload, Direction::Download] {
        assert_eq!(translated(direction, whole, bytes), translated(direction, size, bytes));
    }
    // What has no CR of its own comes back as it was.
    if !bytes.contains(&b'\r') {
        let crlf = translated(Direction::Download, size, bytes);
        assert_eq!(translated(Direction::Upload, size, &crlf), bytes);
    }
    if let Ok(command) = Command::parse(bytes)
        && !bytes.contains(&b'\n')
    {
        assert_eq!(Command::parse(&*command.to_line()), Ok(command));
    }
});

/// The lines of `bytes`, in pieces.
fn lines(size: usize, bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut lines = Lines::new(64);
    let mut seen = Vec::new();
    for piece in bytes.chunks(size) {
        lines.push(piece);
        for line in std::iter::from_fn(|| lines.next_line()) {
            if let Some(command) = line.as_ref().ok().and_then(|line| Command::parse(&**line).ok())
            {
                let line = command.to_line();
                let text = line.strip_suffix(b"\r\n").expect("a whole line");
                assert!(!text.iter().any(|byte| b"\0\r\n".contains(byte)), "two commands in one");
            }
            seen.push(line.ok());
        }
    }
    seen
}

/// The replies of `bytes`, in pieces, up to the first malformed one.
fn replies(size: usize, bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut replies = Replies::new(256);
    let mut seen = Vec::new();
    for piece in bytes.chunks(size) {
        replies.push(piece);
        while let Some(reply) = replies.next_reply() {
            let Ok(reply) = reply else {
                seen.push(None);
                return seen;
            };
            let help = Command::parse("HELP").expect("a command");
            expect_one(&feat::edit(reply.clone(), OFFER));
            expect_one(&feat::edit_help(&help, reply.clone(), OFFER));
            seen.push(Some(reply.into_bytes()));
        }
    }
    seen
}

/// What is edited is one reply as before, or the client would lose count.
fn expect_one(edited: &Reply) {
    let mut replies = Replies::new(1024);
    replies.push(edited.bytes());
    assert_eq!(replies.next_reply().as_ref(), Some(&Ok(edited.clone())));
    assert!(replies.next_reply().is_none() && replies.is_empty());
}

fn translated(direction: Direction, size: usize, bytes: &[u8]) -> Vec<u8> {
    let (mut translator, mut out) = (Translator::new(direction), Vec::new());
    bytes.chunks(size).for_each(|piece| translator.translate(piece, &mut out));
    translator.finish(&mut out);
    out
}
