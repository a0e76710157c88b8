//! ASCII type (RFC 959, 3.1.1.1): lines end in CRLF on the wire and in LF in files.
//!
//! The upstream is always spoken to in image type, so the bytes on its side are the file's own, and
//! here they are translated for clients that asked for TYPE A. A file that has CRLF already is
//! not given a second CR on its way down: vsftpd and proftpd keep to this, too.

use memchr::memchr_iter;

use super::Direction;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// Translates one transfer, piece by piece: wherever it is cut into pieces, the outcome is the same.
#[derive(Debug)]
pub struct Translator {
    upload: bool,
    /// The last piece ended in CR. On upload that CR is still to be given out: whether it is the
    /// first half of a line's end shows with the next byte.
    after_cr: bool,
}

// === impl Translator ===

impl Translator {
    /// For one transfer: CRLF becomes LF on upload, LF becomes CRLF on download.
    pub fn new(direction: Direction) -> Self {
        Self { upload: direction == Direction::Upload, after_cr: false }
    }

    /// Translates the next bytes and adds the outcome to `out`.
    pub fn translate(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let Some(&last) = input.last() else { return };
        if self.upload {
            self.to_lf(input, out);
        } else {
            self.to_crlf(input, out);
        }
        self.after_cr = last == CR;
    }

    /// The transfer has ended: adds what was held back.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.after_cr) && self.upload {
            out.push(CR);
        }
    }

    /// Drops each CR that has a LF behind it.
    fn to_lf(&self, input: &[u8], out: &mut Vec<u8>) {
        out.reserve(input.len() + 1);
        if self.after_cr && input.first() != Some(&LF) {
            out.push(CR);
        }
        let mut from = 0;
        for cr in memchr_iter(CR, input) {
            // At the end of the piece it may yet turn out to have one.
            if input.get(cr + 1).is_none_or(|&next| next == LF) {
                out.extend_from_slice(input.get(from..cr).unwrap_or_default());
                from = cr + 1;
            }
        }
        out.extend_from_slice(input.get(from..).unwrap_or_default());
    }

    /// Puts a CR before each LF that has none.
    fn to_crlf(&self, input: &[u8], out: &mut Vec<u8>) {
        // Room for lines of some length; the vector knows how to grow for shorter ones.
        out.reserve(input.len() + input.len() / 16);
        let mut from = 0;
        for lf in memchr_iter(LF, input) {
            let after_cr = match lf.checked_sub(1) {
                Some(before) => input.get(before) == Some(&CR),
                None => self.after_cr,
            };
            if !after_cr {
                out.extend_from_slice(input.get(from..lf).unwrap_or_default());
                out.push(CR);
                from = lf;
            }
        }
        out.extend_from_slice(input.get(from..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the whole must become, byte by byte.
    fn naive(direction: Direction, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, &byte) in input.iter().enumerate() {
            let before = at.checked_sub(1).map(|at| input[at]);
            let next = input.get(at + 1).copied();
            if direction == Direction::Upload {
                if byte != CR || next != Some(LF) {
                    out.push(byte);
                }
            } else {
                if byte == LF && before != Some(CR) {
                    out.push(CR);
                }
                out.push(byte);
            }
        }
        out
    }

    fn translated<'a>(direction: Direction, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut translator, mut out) = (Translator::new(direction), Vec::new());
        pieces.for_each(|piece| translator.translate(piece, &mut out));
        translator.finish(&mut out);
        out
    }

    #[track_caller]
    fn check(direction: Direction, input: &[u8], expected: &[u8]) {
        assert_eq!(translated(direction, [input].into_iter()), expected, "whole: {input:?}");
        assert_eq!(translated(direction, input.chunks(1)), expected, "byte by byte: {input:?}");
        for cut in 0..=input.len() {
            let (first, second) = input.split_at(cut);
            assert_eq!(translated(direction, [first, second].into_iter()), expected, "at {cut}");
        }
    }

    #[test]
    fn an_upload_loses_the_cr_of_its_line_ends_and_no_other() {
        for (input, expected) in [
            ("", ""),
            ("no newline at the end", "no newline at the end"),
            ("a\r\nb\r\n", "a\nb\n"),
            ("a\r\nb", "a\nb"),
            ("\r\n\r\n", "\n\n"),
            ("lone\rcr", "lone\rcr"),
            ("lone\nlf\n", "lone\nlf\n"),
            ("\r\r\n", "\r\n"),
            ("\r\r\r\n\n", "\r\r\n\n"),
            ("\n\r", "\n\r"),
            ("\r", "\r"),
            ("a\r\r", "a\r\r"),
        ] {
            check(Direction::Upload, input.as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn a_download_gains_the_cr_that_its_line_ends_lack() {
        for (input, expected) in [
            ("", ""),
            ("no newline at the end", "no newline at the end"),
            ("a\nb\n", "a\r\nb\r\n"),
            ("a\nb", "a\r\nb"),
            ("\n\n", "\r\n\r\n"),
            ("has\r\nits\r\n", "has\r\nits\r\n"),
            ("mixed\r\nends\n", "mixed\r\nends\r\n"),
            ("lone\rcr\r", "lone\rcr\r"),
            ("\r\r\n", "\r\r\n"),
            ("\n\r", "\r\n\r"),
        ] {
            check(Direction::Download, input.as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn an_empty_piece_in_the_middle_of_a_line_end_changes_nothing() {
        let pieces: [&[u8]; 3] = [b"a\r", b"", b"\nb"];
        assert_eq!(translated(Direction::Upload, pieces.into_iter()), b"a\nb");
        assert_eq!(translated(Direction::Download, pieces.into_iter()), b"a\r\nb");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            // Mostly what a mistake would be made at.
            pieces in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(CR), Just(LF), Just(b'x'), any::<u8>()], 0..40),
                0..12,
            ),
        ) {
            let whole = pieces.concat();
            for direction in [Direction::Upload, Direction::Download] {
                let pieces = pieces.iter().map(Vec::as_slice);
                prop_assert_eq!(translated(direction, pieces), naive(direction, &whole));
            }
        }
    }
}
