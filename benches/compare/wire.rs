//! Bytes on data connections, as fast as they go: what is sent comes from a fixed pattern, what arrives
//! is dropped by the kernel.

use std::io;
use std::sync::LazyLock;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What one write or read moves at most: it stays within a core's cache.
const PIECE: usize = 256 * 1024;
/// Of a line, its end included: text, so that ASCII type has line ends to translate.
const LINE: usize = 80;

/// Lines as files have them.
pub(crate) static LINES: LazyLock<Vec<u8>> = LazyLock::new(|| pattern("\n"));
/// Lines as they are sent in ASCII type.
pub(crate) static CRLF_LINES: LazyLock<Vec<u8>> = LazyLock::new(|| pattern("\r\n"));

/// Whole lines only, so that the pattern may be sent again and again.
fn pattern(end: &str) -> Vec<u8> {
    let line = "x".repeat(LINE - end.len()) + end;
    line.repeat(PIECE / LINE).into_bytes()
}

/// How many lines end within so many bytes of either pattern.
pub(crate) fn line_ends(bytes: u64) -> u64 {
    bytes / LINE as u64
}

/// Sends that many bytes.
pub(crate) async fn send(data: &TcpStream, pattern: &[u8], bytes: u64) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes {
        let from = &pattern[(sent % pattern.len() as u64) as usize..];
        let from = &from[..from.len().min(usize::try_from(bytes - sent).unwrap())];
        data.writable().await?;
        match data.try_write(from) {
            Ok(count) => sent += count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until FIN and says how many bytes there were. The kernel copies none of them (tcp(7),
/// MSG_TRUNC), but wants to see a buffer that they would fit in: `scratch`, which stays empty memory.
pub(crate) async fn discard(data: &TcpStream, scratch: &mut Vec<u8>) -> io::Result<u64> {
    scratch.resize(PIECE, 0);
    let mut total = 0;
    loop {
        data.readable().await?;
        let read = || Ok(recv(data, &mut scratch[..], RecvFlags::TRUNC)?.1);
        match data.try_io(Interest::READABLE, read) {
            Ok(0) => return Ok(total),
            Ok(count) => total += count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
