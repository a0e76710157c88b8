//! Memory that sessions have used goes back to the system when many of them have ended.
//!
//! glibc keeps what is freed for those to come: after a crowd of 5,000 the process would stay nearly
//! three times as large as before. malloc_trim(3) gives back every whole page in which nothing is left.
//! What a thread has put by for itself lies anywhere and would hold a megabyte of them, so first it is
//! given to one that ends.

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::admission::Admission;
use super::threads::Threads;

/// How often sessions are counted.
const PERIOD: Duration = Duration::from_secs(5);
/// Fewer sessions that have ended are not worth it: 64 leave some 330 KiB.
const WORTH_IT: usize = 64;

/// The sizes that glibc puts by for a thread, in steps of 16, up to seven of each ("thread caching" in the
/// GNU C Library's manual).
const PUT_BY: RangeInclusive<usize> = 24..=1032;
const OF_EACH: usize = 7;

/// How many sessions there have been.
#[derive(Debug, Default)]
struct Tide {
    /// The most since memory was last given back.
    high: usize,
}

/// Gives memory back whenever half of the sessions have ended.
pub(super) async fn give_back(sessions: Admission, threads: Threads) {
    let mut tide = Tide::default();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (now, most) = sessions.count();
        if tide.has_ebbed(now, most) {
            let put_by = threads.each(put_by).await;
            // It looks at all that is free, which takes some milliseconds.
            let _ = spawn_blocking(|| {
                let start = Instant::now();
                // Without a thread for it, it is put by here.
                let _ = thread::Builder::new().spawn(|| drop(put_by)).map(JoinHandle::join);
                let released = trim();
                debug!(released, elapsed = ?start.elapsed(), "memory of ended sessions");
            })
            .await;
        }
    }
}

impl Tide {
    /// Whether the sessions that have ended are half of what there were, and worth it. There are
    /// `now` so many, and have been up to `most`.
    fn has_ebbed(&mut self, now: usize, most: usize) -> bool {
        self.high = self.high.max(most);
        let ended = self.high.saturating_sub(now);
        let has_ebbed = ended >= WORTH_IT && ended >= now;
        if has_ebbed {
            self.high = now;
        }
        has_ebbed
    }
}

/// Everything that the calling thread has put by.
fn put_by() -> Vec<Vec<u8>> {
    let sizes = PUT_BY.step_by(16).flat_map(|size| [size; OF_EACH]);
    sizes.map(|size| black_box(Vec::with_capacity(size))).collect()
}

/// Whether anything was given back.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no safe crate has it")]
fn trim() -> bool {
    // SAFETY: it takes no pointer and may be called at any time from any thread (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) == 1 }
}

/// Other allocators are not known to keep so much.
#[cfg(not(target_env = "gnu"))]
fn trim() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_back_when_half_of_the_sessions_have_ended() {
        let mut tide = Tide::default();
        let mut given_back = Vec::new();
        for sessions in [10, 0, 5000, 2501, 2500, 2400, 1300, 1200, 64, 1, 0] {
            if tide.has_ebbed(sessions, sessions) {
                given_back.push(sessions);
            }
        }
        assert_eq!(given_back, [2500, 1200, 64, 0]);
        assert!(tide.has_ebbed(0, 500), "they came and went unseen");
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn what_a_thread_has_put_by_is_found() {
        let _before = put_by();
        let several: Vec<_> = (0..OF_EACH).map(|_| Vec::<u8>::with_capacity(500)).collect();
        let freed: Vec<_> = several.iter().map(Vec::as_ptr).collect();
        drop(several);
        let found: Vec<_> = put_by().iter().map(Vec::as_ptr).collect();
        assert!(freed.iter().all(|at| found.contains(at)), "{freed:?} {found:?}");
    }
}
