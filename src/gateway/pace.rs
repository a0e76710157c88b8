//! How fast one session's commands are taken: a token bucket.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket that holds one second's worth of commands.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: u32,
    /// The time at which the bucket would be empty if every command so far had been spread out
    /// evenly; it may lie up to one second behind now.
    spent_until: Instant,
}

impl Pace {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second: per_second.max(1),
            spent_until: now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
        }
    }

    /// Whether a command may be taken, or when.
    pub(super) fn check(&self, now: Instant) -> Result<(), Instant> {
        let next = self.after_next(now);
        if next > now { Err(next) } else { Ok(()) }
    }

    /// Takes one command.
    pub(super) fn take(&mut self, now: Instant) {
        self.spent_until = self.after_next(now);
    }

    fn after_next(&self, now: Instant) -> Instant {
        let floor = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        self.spent_until.max(floor) + Duration::from_secs(1) / self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_is_taken_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut pace = Pace::new(10, start);
        let mut burst = |now| {
            (0..20)
                .take_while(|_| pace.check(now).is_ok().then(|| pace.take(now)).is_some())
                .count()
        };
        assert_eq!(burst(start), 10);
        assert_eq!(burst(start), 0);
        assert_eq!(burst(start + Duration::from_millis(100)), 1);
        assert_eq!(burst(start + Duration::from_secs(60)), 10);
    }
}
