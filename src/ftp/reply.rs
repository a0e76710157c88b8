//! An upstream's reply, kept byte for byte (RFC 959 4.2).

use std::fmt::Display;
use std::io::Write;

use super::line::{Lines, without_end};

/// Bytes that most replies of the gateway's own fit into.
const LENGTH: usize = 64;

/// One reply: one line, or several from `ddd-` to `ddd `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    bytes: Vec<u8>,
}

/// What came is no FTP reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedReply {
    /// A reply starts with three digits from 100 to 599.
    #[error("a line that is no FTP reply")]
    NoCode,
    /// One reply grew over the limit.
    #[error("a reply larger than limits.reply_size")]
    TooLarge,
}

impl Reply {
    /// A reply of the gateway's own: one line, without CRLF in `text`.
    pub fn new(code: u16, text: impl Display) -> Self {
        let mut bytes = Vec::with_capacity(LENGTH);
        // A Vec takes everything.
        let _ = write!(bytes, "{code} {text}\r\n");
        Self { code, bytes }
    }

    /// A reply with this code and exactly these bytes, line ends included.
    pub(super) fn from_bytes(code: u16, bytes: Vec<u8>) -> Self {
        Self { code, bytes }
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// All its lines as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Its last line after the code: the only place where a 227 or 229 counts. An address
    /// further up may be text that a client put there (VU#328867).
    pub fn last_line(&self) -> &[u8] {
        let text = without_end(&self.bytes);
        let start = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        text.get(start + 3..).unwrap_or_default()
    }

    /// 1yz: another reply to the same command will follow.
    pub fn is_preliminary(&self) -> bool {
        self.code < 200
    }

    /// 2yz: done.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// Collects bytes and gives back whole replies.
#[derive(Debug)]
pub struct Replies {
    lines: Lines,
    limit: usize,
    /// A multi-line reply that is not finished.
    open: Option<Reply>,
}

impl Replies {
    /// Replies of at most `limit` bytes, all lines together.
    pub fn new(limit: usize) -> Self {
        Self { lines: Lines::new(limit), limit, open: None }
    }

    /// Adds what was read; call [`Replies::next_reply`] until it gives nothing before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
    }

    /// Whether nothing is here, not even the beginning of a reply. True only when
    /// [`Replies::next_reply`] has nothing more to give.
    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.lines.is_empty()
    }

    /// The next whole reply. After an error the stream makes no sense any more.
    pub fn next_reply(&mut self) -> Option<Result<Reply, MalformedReply>> {
        loop {
            let Ok(line) = self.lines.next_line()? else {
                return Some(Err(MalformedReply::TooLarge));
            };
            if let Some(mut reply) = self.open.take() {
                if reply.bytes.len() + line.len() > self.limit {
                    return Some(Err(MalformedReply::TooLarge));
                }
                let last = closes(&line, reply.code);
                reply.bytes.extend_from_slice(&line);
                if last {
                    return Some(Ok(reply));
                }
                self.open = Some(reply);
                continue;
            }
            let Some(code) = code_of(&line) else { return Some(Err(MalformedReply::NoCode)) };
            let reply = Reply { code, bytes: line };
            if reply.bytes.get(3) == Some(&b'-') {
                self.open = Some(reply);
                continue;
            }
            return Some(Ok(reply));
        }
    }
}

/// The code of a reply's first line: three digits, then a blank, a hyphen or the end.
fn code_of(line: &[u8]) -> Option<u16> {
    let (digits, rest) = without_end(line).split_at_checked(3)?;
    if !matches!(digits.first(), Some(b'1'..=b'5')) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    if !matches!(rest.first(), None | Some(b' ' | b'-')) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether this line ends the multi-line reply: its code and a blank, or (some servers) its code
/// alone. Lines between may start with anything, other digits included.
fn closes(line: &[u8], code: u16) -> bool {
    code_of(line) == Some(code) && line.get(3) != Some(&b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replies(limit: usize, chunks: &[&[u8]]) -> Vec<Result<Reply, MalformedReply>> {
        let mut replies = Replies::new(limit);
        let mut seen = Vec::new();
        for chunk in chunks {
            replies.push(chunk);
            while let Some(reply) = replies.next_reply() {
                let failed = reply.is_err();
                seen.push(reply);
                if failed {
                    return seen;
                }
            }
        }
        seen
    }

    #[test]
    fn single_and_multi_line_replies_keep_every_byte() {
        let cases: [(&[u8], u16); 8] = [
            (b"220 ready\r\n", 220),
            (b"220\n", 220),
            (b"211-Features\r\n SIZE\r\n MDTM\r\n211 End\r\n", 211),
            (b"211-x\r\n250 inner\r\n212 other\r\n211-again\r\n211 end\r\n", 211),
            (b"230-hello\n\xe9\xff raw\n230 in\n", 230),
            (b"211-closed by the bare code\r\n227 Entering (1,2,3,4,5,6)\r\n211\r\n", 211),
            (b"227 Entering Passive Mode (127,0,0,2,32,5)\r\n", 227),
            (b"150 \r\n", 150),
        ];
        for (bytes, code) in cases {
            let seen = replies(4096, &[bytes]);
            assert_eq!(
                seen,
                vec![Ok(Reply { code, bytes: bytes.to_vec() })],
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn nonsense_and_endless_replies_are_errors() {
        for bytes in
            [&b"hello\r\n"[..], b"22 x\r\n", b"999 x\r\n", b"2200 x\r\n", b"\r\n", b"099 x\r\n"]
        {
            assert_eq!(
                replies(4096, &[bytes]),
                vec![Err(MalformedReply::NoCode)],
                "{}",
                bytes.escape_ascii()
            );
        }
        let endless = [b"211-x\r\n".to_vec(), b" line\r\n".repeat(100)].concat();
        assert_eq!(replies(200, &[&endless]), vec![Err(MalformedReply::TooLarge)]);
        assert_eq!(replies(200, &[&[b'2'; 300]]), vec![Err(MalformedReply::TooLarge)]);
    }

    #[test]
    fn only_the_last_line_carries_an_address() {
        let reply =
            Reply::from_bytes(227, b"227-(1,2,3,4,5,6)\r\n227 here (9,9,9,9,9,9)\r\n".to_vec());
        assert_eq!(reply.last_line(), b" here (9,9,9,9,9,9)");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_replies(
            parts in proptest::collection::vec(
                proptest::sample::select(vec!["220 hi\r\n", "211-a\r\n", "211 b\r\n", " x\n", "15", "226\n", "junk\r\n"]),
                0..30,
            ),
            cut in 1usize..9,
        ) {
            let bytes = parts.concat().into_bytes();
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(replies(64, &[&bytes]), replies(64, &chunks));
        }
    }
}
