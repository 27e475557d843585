//! A lock that knows its owner: what an allocator's own books need.
//!
//! A thread that holds the lock and asks for it again (a signal handler on top of it, or the C library
//! calling `malloc` from within a call of ours) is told so instead of waiting for itself.

use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// A value that one thread at a time can reach.
pub(crate) struct Lock<T> {
    /// The thread that holds the lock; 0 for none.
    owner: AtomicUsize,
    content: UnsafeCell<T>,
}

// SAFETY: the content is reached only by the thread named in `owner`, which changes from 0 to a thread by one
// compare-and-exchange: sharing the lock hands `T` from thread to thread.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(content: T) -> Self {
        Self { owner: AtomicUsize::new(0), content: UnsafeCell::new(content) }
    }

    /// Lets `work` use the content; `None` if this thread is using it already.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if !self.acquire() {
            return None;
        }
        // SAFETY: this thread is the owner until `release`, and `acquire` refuses it a second time.
        let result = work(unsafe { &mut *self.content.get() });
        self.release();
        Some(result)
    }

    /// Waits for the lock; `false` if this thread holds it.
    pub(crate) fn acquire(&self) -> bool {
        let this = this_thread();
        if self.owner.load(Relaxed) == this {
            return false;
        }
        // Acquire pairs with the Release in `release`.
        while self.owner.compare_exchange_weak(0, this, Acquire, Relaxed).is_err() {
            // SAFETY: it has no preconditions.
            unsafe { libc::sched_yield() };
        }
        true
    }

    /// Whether this thread holds the lock.
    pub(crate) fn is_held(&self) -> bool {
        self.owner.load(Relaxed) == this_thread()
    }

    /// Frees the lock, which this thread has acquired.
    pub(crate) fn release(&self) {
        self.owner.store(0, Release);
    }
}

/// This thread, by a number that no other living thread has and that is not 0.
pub(crate) fn this_thread() -> usize {
    // SAFETY: it has no preconditions.
    unsafe { libc::pthread_self() as usize }
}
