//! The counts that the status page plots, taken from the metrics.

use super::Metrics;
use crate::ftp::Direction;
use crate::ftp::dialogue::Outcome;
use crate::observe::history::{Counts, Moved};

impl Metrics {
    /// What has ended so far. Bytes that running transfers have moved are the caller's to add, and
    /// to look at only after this: in the other order some would be counted twice.
    pub fn counts(&self) -> Counts {
        Counts {
            moved: Moved {
                up: self.bytes(Direction::Upload),
                down: self.bytes(Direction::Download) + self.bytes(Direction::Listing),
            },
            outcomes: Outcome::ALL.map(|outcome| self.ended(outcome)),
            failed_logins: self.failed_logins(),
            refused: self.refused(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::metrics::Refusal;

    #[test]
    fn counts_are_by_way_and_outcome() {
        let metrics = Metrics::new().unwrap();
        assert_eq!(metrics.counts(), Counts::default());
        metrics.session_refused(Refusal::Limit);
        metrics.session_refused(Refusal::NoEndpoint);
        metrics.login(true);
        metrics.login(false);
        for (direction, outcome, bytes) in [
            (Direction::Upload, Outcome::Complete, 100),
            (Direction::Listing, Outcome::Complete, 20),
            (Direction::Download, Outcome::ClientFailed, 3),
        ] {
            metrics.transfer_started();
            metrics.transfer_ended(direction, outcome, bytes, Duration::from_secs(1));
        }
        let counts = metrics.counts();
        assert_eq!(counts.moved, Moved { up: 100, down: 23 });
        assert_eq!((counts.refused, counts.failed_logins), (2, 1));
        for (outcome, count) in Outcome::ALL.into_iter().zip(counts.outcomes) {
            let expected = match outcome {
                Outcome::Complete => 2,
                Outcome::ClientFailed => 1,
                _ => 0,
            };
            assert_eq!(count, expected, "{outcome:?}");
        }
    }
}
