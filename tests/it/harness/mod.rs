//! What the tests are made of: servers, gateways and clients that can be started in one line.

pub(crate) mod address;
pub(crate) mod aws;
pub(crate) mod browser;
pub(crate) mod canned;
pub(crate) mod certificates;
pub(crate) mod clients;
pub(crate) mod counted;
pub(crate) mod dns;
pub(crate) mod ftp;
pub(crate) mod ftps;
pub(crate) mod gateway;
pub(crate) mod haproxy;
pub(crate) mod iam;
pub(crate) mod namespace;
pub(crate) mod probes;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod scripted;
pub(crate) mod servers;
pub(crate) mod tap;
pub(crate) mod vpc;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longer than anything takes that works, on a machine busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer, and panics when there is none within [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Where `tests/run` has put what it fetched.
pub(crate) fn stand_in(path: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/stand-ins")).join(path);
    assert!(path.exists(), "{} is missing: tests/run fetches it", path.display());
    path
}

/// A number below `limit` that looks random and is the same each time for one seed.
pub(crate) fn number(seed: u64, limit: usize) -> usize {
    let eight = bytes(seed.wrapping_add(7919), 8).try_into().unwrap();
    // A power of two's bits are the weakest; a remainder by anything else is good enough.
    (u64::from_le_bytes(eight) >> 8) as usize % limit
}

/// Bytes that look random and are the same each time for one seed.
pub(crate) fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
