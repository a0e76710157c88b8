//! Loopback addresses, each handed out once on this machine.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whoever listens here owns the address. Above the ephemeral ports, so that nobody gets it by chance.
const CLAIM: u16 = 65_000;

/// The claims of this process; they end with it.
static CLAIMS: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address of 127.16.0.0/12 and above that no other test on this machine has.
pub(crate) fn unused() -> Ipv4Addr {
    // Test runs of several work trees start at different places.
    let start = std::process::id().wrapping_mul(7919);
    loop {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let [_, a, b, c] = number.to_be_bytes();
        let address = Ipv4Addr::new(127, 16 + a % 224, b, 1 + c % 254);
        if let Ok(claim) = TcpListener::bind((address, CLAIM)) {
            CLAIMS.lock().unwrap().push(claim);
            return address;
        }
    }
}

/// Sixteen ports that no other test of this process has, for `::1`, which is one address only.
pub(crate) fn unused_ports() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Below the ephemeral ports.
    let number = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() % 97;
    u16::try_from(22_000 + number % 640 * 16).unwrap()
}
