//! `fork`, in a program that does not tell of it: the C library makes the calls that a caller could
//! make.
//!
//! The handlers are registered with the first request, so that they run last before a fork and
//! first after it: those of others may allocate.

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{MmapAllocator, locks};

unsafe extern "C" {
    fn pthread_atfork(
        prepare: unsafe extern "C" fn(),
        parent: unsafe extern "C" fn(),
        child: unsafe extern "C" fn(),
    ) -> c_int;
}

/// Handlers are registered, or are the caller's.
static IS_SEEN_TO: AtomicBool = AtomicBool::new(false);

const KMEM: MmapAllocator = MmapAllocator::new();

/// Registers the handlers, if nobody has. To be called without a lock: the C library has one of its
/// own.
pub(super) fn watch() {
    if !IS_SEEN_TO.load(Relaxed) && !IS_SEEN_TO.swap(true, Relaxed) {
        // SAFETY: the handlers stay as long as the library. Where there is no room for them, forks
        // are as they were.
        unsafe { pthread_atfork(prepare, parent, child) };
    }
}

pub(super) fn leave_to_caller() {
    IS_SEEN_TO.store(true, Relaxed);
}

unsafe extern "C" fn prepare() {
    KMEM.before_fork();
}

unsafe extern "C" fn parent() {
    // Not so if the handlers were registered while this thread was forking.
    if locks::is_forking() {
        KMEM.after_fork_in_parent();
    }
}

unsafe extern "C" fn child() {
    if locks::is_forking() {
        // SAFETY: the C library calls this in the copy alone, by its only thread, which called
        // `prepare`.
        unsafe { KMEM.after_fork_in_child() };
    }
}
