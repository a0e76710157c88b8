//! The last hour of this node in steps of ten seconds, for who looks at it and has no Prometheus.
//!
//! Counts go in, as they stand at the end of each step, and what was added since the step before
//! comes out. Nothing here reads a clock, and the memory that it takes is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::ftp::Outcome;

/// From one point to the next.
pub const STEP: Duration = Duration::from_secs(10);
/// How many are kept: an hour.
const POINTS: usize = 360;

/// Bytes of files and listings, by the way that they went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// From clients.
    pub up: u64,
    /// To clients.
    pub down: u64,
}

/// What a node has counted since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes, those of running transfers included.
    pub moved: Moved,
    /// Transfers ended, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Logins that the upstream refused.
    pub failed_logins: u64,
    /// Clients that got no session.
    pub refused: u64,
}

/// The points of the last hour, the oldest first.
#[derive(Debug, Default)]
pub struct History {
    points: VecDeque<Point>,
    last: Counts,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    end: SystemTime,
    /// Bytes per second.
    rate: Moved,
    sessions: usize,
    /// What was added in this step; bytes are in `rate`.
    added: Counts,
}

/// The points, column by column, which is a third of the JSON that rows would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Columns {
    /// Seconds from one point to the next.
    pub step: u64,
    /// When each step ended, in seconds since 1970.
    pub end: Vec<u64>,
    /// Bytes per second from clients.
    pub up: Vec<u64>,
    /// Bytes per second to clients.
    pub down: Vec<u64>,
    /// Sessions open at its end.
    pub sessions: Vec<usize>,
    /// Transfers that ended in it, by outcome.
    pub transfers: BTreeMap<&'static str, Vec<u64>>,
    /// Logins refused in it.
    pub failed_logins: Vec<u64>,
    /// Clients that got no session in it.
    pub refused: Vec<u64>,
}

impl History {
    /// A step has ended that took so long.
    pub fn add(&mut self, end: SystemTime, took: Duration, now: Counts, sessions: usize) {
        let last = self.last;
        // A transfer that ends just now may be missing for an instant, both as one that runs and
        // as one that has ended: then its bytes are in the next step.
        let moved = Moved {
            up: now.moved.up.max(last.moved.up),
            down: now.moved.down.max(last.moved.down),
        };
        let per_second = |bytes: u64| {
            let seconds = took.as_secs_f64().max(0.001);
            // Rounded, and far below the 53 bits of a float.
            (bytes as f64 / seconds).round() as u64
        };
        let rate = Moved {
            up: per_second(moved.up - last.moved.up),
            down: per_second(moved.down - last.moved.down),
        };
        let mut outcomes = now.outcomes;
        for (outcome, before) in outcomes.iter_mut().zip(last.outcomes) {
            *outcome = outcome.saturating_sub(before);
        }
        let added = Counts {
            moved: Moved::default(),
            outcomes,
            failed_logins: now.failed_logins.saturating_sub(last.failed_logins),
            refused: now.refused.saturating_sub(last.refused),
        };
        if self.points.len() >= POINTS {
            self.points.pop_front();
        }
        self.points.push_back(Point { end, rate, sessions, added });
        self.last = Counts { moved, ..now };
    }

    /// All points.
    pub fn columns(&self) -> Columns {
        let all = |of: fn(&Point) -> u64| self.points.iter().map(of).collect();
        let transfers = Outcome::ALL.iter().enumerate().map(|(index, outcome)| {
            let ended = |point: &Point| point.added.outcomes.get(index).copied().unwrap_or(0);
            (outcome.as_str(), self.points.iter().map(ended).collect())
        });
        Columns {
            step: STEP.as_secs(),
            end: all(|point| point.end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
            up: all(|point| point.rate.up),
            down: all(|point| point.rate.down),
            sessions: self.points.iter().map(|point| point.sessions).collect(),
            transfers: transfers.collect(),
            failed_logins: all(|point| point.added.failed_logins),
            refused: all(|point| point.added.refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64) -> SystemTime {
        UNIX_EPOCH + STEP * u32::try_from(step).unwrap()
    }

    fn moved(up: u64, down: u64) -> Counts {
        Counts { moved: Moved { up, down }, ..Counts::default() }
    }

    #[test]
    fn a_point_is_what_was_added_since_the_one_before() {
        let mut history = History::default();
        let complete = Outcome::ALL.iter().position(|it| *it == Outcome::Complete).unwrap();
        let mut counts = Counts { failed_logins: 2, refused: 1, ..moved(1000, 50) };
        counts.outcomes[complete] = 3;
        history.add(at(1), STEP, counts, 7);
        counts.outcomes[complete] = 8;
        counts.moved.down = 250;
        // One that was late took longer.
        history.add(at(3), STEP * 2, counts, 9);
        let columns = history.columns();
        assert_eq!((columns.step, columns.end), (10, vec![10, 30]));
        assert_eq!((columns.up, columns.down), (vec![100, 0], vec![5, 10]));
        assert_eq!(columns.sessions, [7, 9]);
        assert_eq!(columns.transfers["complete"], [3, 5]);
        assert_eq!(columns.transfers.len(), Outcome::ALL.len());
        assert_eq!(columns.transfers["client-failed"], [0, 0]);
        assert_eq!((columns.failed_logins, columns.refused), (vec![2, 0], vec![1, 0]));
    }

    #[test]
    fn bytes_that_are_missing_for_an_instant_come_later_and_once() {
        let mut history = History::default();
        for bytes in [1000, 400, 1500] {
            history.add(at(1), STEP, moved(bytes, 0), 0);
        }
        assert_eq!(history.columns().up, [100, 0, 50]);
    }

    #[test]
    fn an_hour_is_kept() {
        let mut history = History::default();
        for step in 0..=400 {
            history.add(at(step), STEP, moved(step * 10, 0), 0);
        }
        let columns = history.columns();
        assert_eq!(columns.end.len(), POINTS);
        assert_eq!((columns.end[0], columns.end[POINTS - 1]), (410, 4000));
        assert!(columns.up.iter().all(|rate| *rate == 1));
    }
}
