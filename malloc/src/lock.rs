//! A lock that knows its owner: what an allocator's own books need.
//!
//! A thread that holds the lock and asks for it again (a signal handler on top of it, or the C
//! library calling `malloc` from within a call of ours) is told so instead of waiting for itself.

use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use kmem::Platform;
use kmem::host::HostPlatform;

/// Who holds a lock.
pub(crate) struct Owner {
    /// The thread; 0 for none.
    thread: AtomicUsize,
    /// Whether the fork that is going on took the lock: a signal handler that forks on top of its
    /// holder does not. Forks come one at a time, the C library sees to it.
    is_forks: AtomicBool,
}

/// The owners of all locks, side by side: a fork writes to each of them, in both processes, and
/// what is written to is copied by the page.
pub(crate) struct Owners {
    pub(crate) books: Owner,
    pub(crate) log: Owner,
    pub(crate) arena: Owner,
}

pub(crate) static OWNERS: Owners =
    Owners { books: Owner::new(), log: Owner::new(), arena: Owner::new() };

impl Owners {
    /// All of them, in the order in which their locks nest.
    fn all(&self) -> [&Owner; 3] {
        [&self.books, &self.log, &self.arena]
    }

    /// Takes all locks that this thread does not hold, before a fork; `false`, and nothing has
    /// changed, if another thread holds one.
    pub(crate) fn try_take_for_fork(&self) -> bool {
        let is_taken = self.all().iter().all(|owner| {
            let is_forks = owner.try_acquire();
            owner.is_forks.store(is_forks, Relaxed);
            is_forks || owner.is_held()
        });
        if !is_taken {
            self.give_after_fork();
        }
        is_taken
    }

    /// Gives back what [`try_take_for_fork`](Self::try_take_for_fork) took: after the fork, in both
    /// processes.
    pub(crate) fn give_after_fork(&self) {
        for owner in self.all().iter().rev() {
            if owner.is_forks.swap(false, Relaxed) {
                owner.release();
            }
        }
    }
}

impl Owner {
    pub(crate) const fn new() -> Self {
        Self { thread: AtomicUsize::new(0), is_forks: AtomicBool::new(false) }
    }

    /// Waits for the lock; `false` if this thread holds it.
    fn acquire(&self) -> bool {
        if self.is_held() {
            return false;
        }
        while !self.try_acquire() {
            HostPlatform::new().relax();
        }
        true
    }

    /// Takes the lock if nobody holds it.
    fn try_acquire(&self) -> bool {
        // Acquire pairs with the Release in `release`.
        self.thread.compare_exchange(0, this_thread(), Acquire, Relaxed).is_ok()
    }

    /// Whether this thread holds the lock.
    fn is_held(&self) -> bool {
        self.thread.load(Relaxed) == this_thread()
    }

    /// Whether a fork has taken the lock.
    pub(crate) fn is_forks(&self) -> bool {
        self.is_forks.load(Relaxed)
    }

    /// Frees the lock, which this thread has acquired.
    fn release(&self) {
        self.thread.store(0, Release);
    }
}

/// A value that one thread at a time can reach.
pub(crate) struct Lock<T> {
    owner: &'static Owner,
    content: UnsafeCell<T>,
}

// SAFETY: the content is reached only by the thread named by `owner`, which is this lock's alone
// and changes from 0 to a thread by one compare-and-exchange: sharing the lock hands `T` from
// thread to thread.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// A lock on `content`, whose holder `owner` names.
    ///
    /// # Safety
    ///
    /// It names no other lock's.
    pub(crate) const unsafe fn new(owner: &'static Owner, content: T) -> Self {
        Self { owner, content: UnsafeCell::new(content) }
    }

    /// Lets `work` use the content; `None` if this thread is using it already.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if !self.owner.acquire() {
            return None;
        }
        // SAFETY: this thread is the owner until `release`, and `acquire` refuses it a second time.
        let result = work(unsafe { &mut *self.content.get() });
        self.owner.release();
        Some(result)
    }

    /// Whether this thread holds the lock.
    pub(crate) fn is_held(&self) -> bool {
        self.owner.is_held()
    }
}

/// This thread, by a number that no other living thread has and that is not 0.
pub(crate) fn this_thread() -> usize {
    // SAFETY: it has no preconditions.
    unsafe { libc::pthread_self() as usize }
}
