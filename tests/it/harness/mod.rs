//! What the tests stand on: servers, the gateway as its users run it, clients, hostile peers.

pub mod apache;
pub mod ftp;
pub mod gateway;
pub mod process;
pub mod scripted;
pub mod tap;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The longest that anything in a test may take before it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Control ports of servers and gateways; each has an address of its own.
pub const CONTROL_PORT: u16 = 2121;

/// A loopback address that nothing else of this test run uses.
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = number.to_be_bytes();
    // 127.0 is left to people and 127.1 to 127.63 to other runs on this machine.
    let run = 64 + u8::try_from(std::process::id() % 128).unwrap();
    Ipv4Addr::new(127, run, high, low.wrapping_add(1))
}

/// A file that `tests/run` has put in place.
pub fn stand_in(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/stand-ins").join(name);
    assert!(path.exists(), "{} is missing: tests/run installs it", path.display());
    path
}

/// Looks again and again until there is something to see.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that differ at each place and from file to file (xorshift, Marsaglia 2003).
pub fn sample(size: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d).max(1);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A number below `limit`, other for each seed: where to cut, how long to make a file.
pub fn random(limit: usize, seed: u64) -> usize {
    let bytes = sample(8, seed.wrapping_add(0xf7b)).try_into().unwrap();
    usize::try_from(u64::from_le_bytes(bytes) % u64::try_from(limit).unwrap()).unwrap()
}
