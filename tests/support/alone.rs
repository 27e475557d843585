//! Tests that run one at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// For tests of what is one for all of the process: a recount of its heap is exact while nobody
/// else allocates.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
