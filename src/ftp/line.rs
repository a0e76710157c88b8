//! Bytes to lines, bounded, and the telnet sequences inside them.
//!
//! RFC 959 3.1 ends a line with CRLF; a bare LF is accepted because old clients and servers send
//! it. However the bytes are split on their way, the same lines come out.

use memchr::memchr;

/// Telnet "interpret as command" (RFC 854).
pub(super) const IAC: u8 = 0xFF;
/// Telnet commands (RFC 854), from SE to DONT.
const COMMANDS: std::ops::RangeInclusive<u8> = 0xF0..=0xFE;
/// Telnet WILL, WONT, DO and DONT: each is followed by an option byte.
const OPTION_COMMANDS: std::ops::RangeInclusive<u8> = 0xFB..=0xFE;

/// Collects bytes and gives back whole lines.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Everything before this index has been given away.
    start: usize,
    /// Everything from there to this index is known to hold no LF.
    scanned: usize,
    /// The longest line, in bytes without its line end.
    limit: usize,
    /// The rest of a line that was too long is being thrown away.
    skipping: bool,
}

/// A line was longer than the limit; it is skipped up to its LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line is longer than the limit")]
pub struct LineTooLong;

impl Lines {
    /// Lines of at most `limit` bytes, not counting CR and LF.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, scanned: 0, limit, skipping: false }
    }

    /// Adds what was read. Call [`Lines::next_line`] until it gives nothing before adding more:
    /// that keeps the buffer at one line and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line with its line end, or the news that one was too long.
    pub fn next_line(&mut self) -> Option<Result<Vec<u8>, LineTooLong>> {
        loop {
            let unscanned = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(at) = memchr(b'\n', unscanned) else {
                self.buffer.drain(..std::mem::take(&mut self.start));
                self.scanned = self.buffer.len();
                return self.overrun();
            };
            let line = self.take_until(self.scanned + at + 1);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            return Some(if without_end(&line).len() > self.limit {
                Err(LineTooLong)
            } else {
                Ok(line)
            });
        }
    }

    /// Gives away what comes before this index: without a copy if that is all there is, as it is for a
    /// peer that waits for its answers.
    fn take_until(&mut self, end: usize) -> Vec<u8> {
        if (self.start, end) == (0, self.buffer.len()) {
            self.scanned = 0;
            return std::mem::take(&mut self.buffer);
        }
        let line = self.buffer.get(self.start..end).unwrap_or_default().to_vec();
        (self.start, self.scanned) = (end, end);
        if end == self.buffer.len() {
            self.clear();
        }
        line
    }

    /// With no LF in the buffer: reports a line that has outgrown the limit, once.
    fn overrun(&mut self) -> Option<Result<Vec<u8>, LineTooLong>> {
        if self.skipping {
            self.clear();
            return None;
        }
        // One byte of grace: the CR of a line that is exactly as long as allowed.
        if self.buffer.len() <= self.limit + 1 {
            return None;
        }
        self.clear();
        self.skipping = true;
        Some(Err(LineTooLong))
    }

    /// Forgets what is buffered and gives the memory back.
    fn clear(&mut self) {
        self.buffer = Vec::new();
        (self.start, self.scanned) = (0, 0);
    }

    /// Whether no bytes are held.
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == self.start
    }
}

/// The line without its CRLF or LF.
pub fn without_end(line: &[u8]) -> &[u8] {
    match line {
        [text @ .., b'\r', b'\n'] | [text @ .., b'\n'] => text,
        text => text,
    }
}

/// Takes telnet commands (RFC 854) out of a line: IAC IP and IAC DM before ABOR, option
/// negotiation that RFC 1123 4.1.2.10 lets a server ignore. Any other 0xFF, escaped or not, is a
/// byte of a file name (Latin-1 has a letter there) and reaches the upstream as the client sent it:
/// taken out, it would make the name another file's.
pub fn without_telnet(line: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(line.len());
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != IAC {
            clean.push(byte);
            continue;
        }
        match bytes.next() {
            Some(command) if OPTION_COMMANDS.contains(&command) => {
                bytes.next();
            }
            // IP, DM, AYT and the like stand alone.
            Some(command) if COMMANDS.contains(&command) => {}
            Some(byte) => clean.extend([IAC, byte]),
            None => clean.push(IAC),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(limit: usize, chunks: &[&[u8]]) -> Vec<Result<Vec<u8>, LineTooLong>> {
        let mut lines = Lines::new(limit);
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.push(chunk);
            seen.extend(std::iter::from_fn(|| lines.next_line()));
        }
        seen
    }

    #[test]
    fn crlf_and_bare_lf_end_a_line_and_stay_on_it() {
        let seen = lines(80, &[b"USER a\r\nPASS b\nNO", b"OP\r", b"\n"]);
        let expected: Vec<Result<Vec<u8>, LineTooLong>> =
            vec![Ok(b"USER a\r\n".into()), Ok(b"PASS b\n".into()), Ok(b"NOOP\r\n".into())];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_line_over_the_limit_is_told_once_and_the_next_one_is_read() {
        for text in [&b"12345\r\nok\r\n"[..], b"123456789012345\nok\r\n"] {
            assert_eq!(lines(4, &[text]), vec![Err(LineTooLong), Ok(b"ok\r\n".into())]);
        }
        assert_eq!(lines(4, &[b"1234\r\n"]), vec![Ok(b"1234\r\n".into())]);
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut lines = Lines::new(100);
        lines.push(&[b'x'; 1000]);
        assert_eq!(lines.next_line(), Some(Err(LineTooLong)));
        for _ in 0..100 {
            lines.push(&[b'x'; 1000]);
            assert_eq!(lines.next_line(), None);
            assert!(lines.is_empty());
        }
    }

    #[test]
    fn telnet_commands_are_taken_out_and_bytes_of_names_kept() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"\xff\xf4\xff\xf2ABOR", b"ABOR"),
            (b"\xff\xfb\x01NOOP", b"NOOP"),
            (b"RETR a\xff\xffb", b"RETR a\xff\xffb"),
            (b"DELE a\xff", b"DELE a\xff"),
            (b"DELE \xffa", b"DELE \xffa"),
            (b"NO\xff\xf6OP", b"NOOP"),
        ];
        for (line, clean) in cases {
            assert_eq!(without_telnet(line), clean, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(
            bytes in proptest::collection::vec(prop_oneof![3 => Just(b'\n'), 2 => Just(b'\r'), 9 => any::<u8>()], 0..300),
            cuts in proptest::collection::vec(1usize..20, 0..60),
        ) {
            let whole = lines(16, &[&bytes]);
            let mut chunks = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                chunks.push(head);
                rest = tail;
            }
            chunks.push(rest);
            prop_assert_eq!(whole, lines(16, &chunks));
        }
    }
}
