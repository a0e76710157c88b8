//! What the sessions of a rule share: how many there are, how many transfers they run, and how fast.
//! It goes by the rule's name, so that a reload does not begin to count anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use prometheus::IntGauge;
use tokio::time::Instant;

use super::rate::Rate;
use crate::lock::lock;
use crate::observe::metrics::Metrics;

/// All of them, as long as a rule or a session has one.
#[derive(Debug)]
pub(super) struct Books {
    by_name: Mutex<HashMap<String, Weak<Book>>>,
    metrics: Metrics,
}

/// One rule's.
#[derive(Debug)]
pub(super) struct Book {
    name: String,
    sessions: Count,
    transfers: Count,
    pub(super) upload: Arc<Rate>,
    pub(super) download: Arc<Rate>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Count {
    now: AtomicUsize,
    gauge: IntGauge,
}

/// A session's place under a rule; dropping it gives it back.
#[derive(Debug)]
pub(in crate::gateway) struct Seat {
    rule: usize,
    book: Arc<Book>,
}

/// A transfer's place; dropping it gives it back.
#[derive(Debug)]
pub(in crate::gateway) struct TransferPlace {
    book: Arc<Book>,
}

// === impl Books ===

impl Books {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { by_name: Mutex::default(), metrics }
    }

    /// The one of that name, as it is or new.
    pub(super) fn of(&self, name: &str) -> Arc<Book> {
        let mut by_name = lock(&self.by_name);
        by_name.retain(|_, book| book.strong_count() > 0);
        if let Some(book) = by_name.get(name).and_then(Weak::upgrade) {
            return book;
        }
        let (sessions, transfers) = self.metrics.rule_added(name);
        let now = Instant::now();
        let book = Arc::new(Book {
            name: name.into(),
            sessions: Count { now: AtomicUsize::new(0), gauge: sessions },
            transfers: Count { now: AtomicUsize::new(0), gauge: transfers },
            upload: Arc::new(Rate::new(now)),
            download: Arc::new(Rate::new(now)),
            metrics: self.metrics.clone(),
        });
        by_name.insert(name.into(), Arc::downgrade(&book));
        book
    }
}

// === impl Book ===

impl Book {
    /// A place for one more session of the rule with that number, unless there are so many.
    pub(super) fn seat(self: &Arc<Self>, rule: usize, limit: Option<usize>) -> Option<Seat> {
        self.sessions.take(limit).then(|| Seat { rule, book: Arc::clone(self) })
    }

    /// The same for a transfer.
    pub(super) fn place(self: &Arc<Self>, limit: Option<usize>) -> Option<TransferPlace> {
        self.transfers.take(limit).then(|| TransferPlace { book: Arc::clone(self) })
    }
}

/// No rule and no session has it any more.
impl Drop for Book {
    fn drop(&mut self) {
        self.metrics.rule_removed(&self.name);
    }
}

// === impl Count ===

impl Count {
    fn take(&self, limit: Option<usize>) -> bool {
        let more = |now| (now < limit.unwrap_or(usize::MAX)).then_some(now + 1);
        let taken = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if taken {
            self.gauge.inc();
        }
        taken
    }

    fn give_back(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

// === impl Seat, TransferPlace ===

impl Seat {
    /// The number of its rule.
    pub(in crate::gateway) fn rule(&self) -> usize {
        self.rule
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.book.sessions.give_back();
    }
}

impl Drop for TransferPlace {
    fn drop(&mut self) {
        self.book.transfers.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_by_name_and_their_series_with_the_last_who_counts() {
        let metrics = Metrics::new().unwrap();
        let shown = || {
            let text = String::from_utf8(metrics.render().unwrap()).unwrap();
            let name = "ftpgate_rule_sessions{rule=\"partners\"} ";
            text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
        };
        let books = Books::new(metrics.clone());
        let book = books.of("partners");
        let (first, second) = (book.seat(0, Some(2)).unwrap(), book.seat(0, Some(2)).unwrap());
        assert!(book.seat(0, Some(2)).is_none());
        // A reload gives the rule another number and another limit.
        drop(book);
        let again = books.of("partners");
        assert!(again.seat(5, Some(2)).is_none());
        let third = again.seat(5, Some(3)).unwrap();
        assert_eq!((third.rule(), shown().as_deref()), (5, Some("3")));
        drop((first, second, again));
        assert_eq!(shown().as_deref(), Some("1"));
        drop(third);
        assert_eq!(shown(), None);
    }
}
