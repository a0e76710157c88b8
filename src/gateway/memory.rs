//! Memory that sessions have used goes back to the system when many of them have ended.
//!
//! glibc keeps what is freed for those to come: after a crowd of 5,000 the process would stay nearly
//! three times as large as before. malloc_trim(3) gives back every whole page in which nothing is left.

use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::admission::Admission;

/// How often sessions are counted.
const PERIOD: Duration = Duration::from_secs(5);
/// Fewer sessions that have ended are not worth it: 64 leave some 330 KiB.
const WORTH_IT: usize = 64;

/// How many sessions there have been.
#[derive(Debug, Default)]
struct Tide {
    /// The most since memory was last given back.
    high: usize,
}

/// Gives memory back whenever half of the sessions have ended.
pub(super) async fn give_back(sessions: Admission) {
    let mut tide = Tide::default();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (now, most) = sessions.count();
        if tide.has_ebbed(now, most) {
            // It looks at all that is free, which takes some milliseconds.
            let _ = spawn_blocking(|| {
                let start = Instant::now();
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
}
