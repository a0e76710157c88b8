//! Mutexes that nobody can poison for good.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lock of what a mutex holds. A poisoned one holds what it held: nothing in this crate fails in
/// the middle of a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
