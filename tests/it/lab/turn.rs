//! Labs wait for each other.

use std::sync::{Condvar, Mutex};

/// So many labs at a time, or they would measure each other.
const LABS: usize = 2;

/// One of [`LABS`] places.
#[derive(Debug)]
pub(super) struct Turn;

static TAKEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    pub(super) fn take() -> Self {
        let taken = TAKEN.0.lock().unwrap();
        *TAKEN.1.wait_while(taken, |taken| *taken >= LABS).unwrap() += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.0.lock().unwrap() -= 1;
        TAKEN.1.notify_one();
    }
}
