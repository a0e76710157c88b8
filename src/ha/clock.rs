//! The clock of the pair: it never goes back, is nobody else's, and also runs while the machine is
//! suspended, so that a node that wakes up does not take an old lease for a young one.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since this machine's start (CLOCK_BOOTTIME).
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
