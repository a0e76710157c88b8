//! So many bytes a second for all transfers of a rule: a token bucket.

use crate::lock::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What nobody used for this long may be used at once.
const BURST: Duration = Duration::from_millis(100);
/// Pieces that a second's bytes are read in, so that many transfers take turns.
const PIECES: u64 = 20;
/// The smallest piece that is worth a wait, and the largest that is in our hands.
const PIECE: std::ops::RangeInclusive<u64> = 512..=1024 * 1024;

/// The bucket.
#[derive(Debug)]
pub(in crate::gateway) struct Rate {
    per_second: AtomicU64,
    /// When the bytes so far would have come if they had been spread out evenly.
    spent_until: Mutex<Instant>,
}

impl Rate {
    pub(in crate::gateway) fn new(now: Instant) -> Self {
        Self { per_second: AtomicU64::new(u64::MAX), spent_until: Mutex::new(now) }
    }

    /// So many from now on.
    pub(in crate::gateway) fn set(&self, per_second: u64) {
        self.per_second.store(per_second.max(1), Ordering::Relaxed);
    }

    /// The most that may be read at once.
    pub(in crate::gateway) fn piece(&self) -> usize {
        let piece = self.per_second.load(Ordering::Relaxed) / PIECES;
        usize::try_from(piece.clamp(*PIECE.start(), *PIECE.end())).unwrap_or(usize::MAX)
    }

    /// Counts bytes that have been read, and says when the next may be.
    pub(in crate::gateway) fn take(&self, bytes: usize, now: Instant) -> Instant {
        let per_second = u128::from(self.per_second.load(Ordering::Relaxed));
        let nanoseconds = bytes as u128 * 1_000_000_000 / per_second;
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let floor = now.checked_sub(BURST).unwrap_or(now);
        let mut spent_until = lock(&self.spent_until);
        *spent_until = (*spent_until).max(floor) + cost;
        *spent_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_take_together_keeps_to_the_rate() {
        let start = Instant::now();
        let rate = Rate::new(start);
        rate.set(1 << 20);
        // Two that read a piece whenever they may.
        let (mut next, mut read) = ([start; 2], 0);
        let end = start + Duration::from_secs(10);
        while let Some(reader) = (0..2).filter(|&it| next[it] < end).min_by_key(|&it| next[it]) {
            next[reader] = rate.take(rate.piece(), next[reader]).max(next[reader]);
            read += rate.piece();
        }
        let expected = 10 << 20;
        assert!(read >= expected && read <= expected * 102 / 100 + (1 << 17), "{read}");
    }

    #[test]
    fn silence_saves_up_little() {
        let start = Instant::now();
        let rate = Rate::new(start);
        rate.set(1000);
        let later = start + Duration::from_secs(3600);
        assert_eq!(rate.take(100, later), later);
        assert_eq!(rate.take(500, later), later + Duration::from_millis(500));
        rate.set(10_000);
        assert_eq!(rate.take(1000, later), later + Duration::from_millis(600));
    }

    #[test]
    fn pieces_are_neither_tiny_nor_huge() {
        let rate = Rate::new(Instant::now());
        for (per_second, piece) in [(1024, 512), (1 << 20, 52_428), (1 << 40, 1 << 20)] {
            rate.set(per_second);
            assert_eq!(rate.piece(), piece);
        }
        rate.set(1024);
        assert!(rate.take(usize::MAX, Instant::now()) > Instant::now());
    }
}
