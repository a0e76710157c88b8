//! How fast the bytes of a data connection are written and read.

use std::io::{self, Read as _, Write};
use std::thread::sleep;
use std::time::Duration;

use socket2::SockRef;

use super::session::Line;
use crate::harness::ftp::Wire;

/// Bytes that go one at a time.
const BYTEWISE: usize = 1500;
/// Bytes read or written at once.
const CHUNK: usize = 64 << 10;
/// What slow ones read or write at once, how long they then rest, and how often they do so.
const SIP: usize = 4 << 10;
const REST: Duration = Duration::from_millis(30);
const SIPS: usize = 60;

/// How an upload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Full,
    /// The first bytes one at a time.
    Bytewise,
    Slowly,
}

/// How a download is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Fast,
    /// The first bytes one at a time.
    Bytewise,
    Slowly,
    /// Not at all for so long.
    Sulking(Duration),
}

/// Writes everything.
pub(crate) fn write(data: &mut Line, bytes: &[u8], pace: Pace) -> io::Result<()> {
    let (slow, piece, rest) = match pace {
        Pace::Full => (0, 1, Duration::ZERO),
        Pace::Bytewise => (BYTEWISE, 1, Duration::ZERO),
        // Also short files take their time.
        Pace::Slowly => (SIPS * SIP, SIP.min(bytes.len() / SIPS + 1), REST),
    };
    let slow = slow.min(bytes.len());
    for piece in bytes[..slow].chunks(piece) {
        data.write_all(piece)?;
        data.flush()?;
        sleep(rest);
    }
    bytes[slow..].chunks(CHUNK).try_for_each(|chunk| data.write_all(chunk))?;
    data.flush()
}

/// Reads up to so many bytes. True if it came to a clean end: FIN, or with TLS close_notify.
pub(crate) fn take(
    data: &mut Line,
    found: &mut Vec<u8>,
    read: Read,
    most: usize,
) -> io::Result<bool> {
    let is_slow = matches!(read, Read::Slowly | Read::Sulking(_));
    if is_slow {
        SockRef::from(data.socket()).set_recv_buffer_size(SIP)?;
    }
    let mut buffer = vec![0; CHUNK];
    let mut reads = 0;
    while found.len() < most {
        let limit = match read {
            Read::Bytewise if found.len() < BYTEWISE => 1,
            Read::Slowly | Read::Sulking(_) if reads < SIPS => SIP,
            _ => CHUNK,
        };
        let limit = limit.min(most - found.len());
        match data.read(&mut buffer[..limit]) {
            Ok(0) => return Ok(true),
            Ok(count) => found.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        reads += 1;
        if reads == SIPS && is_slow {
            // So small a buffer would make it slow for good.
            SockRef::from(data.socket()).set_recv_buffer_size(CHUNK * 4)?;
        }
        match read {
            Read::Slowly if reads < SIPS => sleep(REST),
            Read::Sulking(time) if reads == 1 => sleep(time),
            _ => {}
        }
    }
    Ok(false)
}
