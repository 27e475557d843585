//! `fork`: the child has the memory of all threads but only one of them, so every lock is held by that one while the
//! process is copied.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::blocks::BOOKS;
use crate::{arenas, engine, log};

unsafe extern "C" {
    fn pthread_atfork(
        prepare: unsafe extern "C" fn(),
        parent: unsafe extern "C" fn(),
        child: unsafe extern "C" fn(),
    ) -> libc::c_int;
}

/// Registered with the first allocation, so that these run last before a fork and first after it: handlers of
/// others may allocate.
pub(crate) fn install() {
    // SAFETY: the handlers stay as long as the library.
    unsafe { pthread_atfork(prepare, parent, child) };
}

/// A lock, and how it is taken and given back.
struct Taken {
    acquire: fn() -> bool,
    release: fn(),
    /// Whether the fork that is going on took it: a signal handler that forks on top of its holder does not.
    is_ours: AtomicBool,
}

impl Taken {
    const fn new(acquire: fn() -> bool, release: fn()) -> Self {
        Self { acquire, release, is_ours: AtomicBool::new(false) }
    }

    /// Forks come one at a time, the C library sees to it, so one mark for each lock is enough.
    fn take(&self) {
        self.is_ours.store((self.acquire)(), Relaxed);
    }

    fn give(&self) {
        if self.is_ours.swap(false, Relaxed) {
            (self.release)();
        }
    }
}

/// The locks above the heap's, in the order in which they nest.
static LOCKS: [Taken; 3] = [
    Taken::new(|| BOOKS.acquire(), || BOOKS.release()),
    Taken::new(|| log::LOCK.acquire(), || log::LOCK.release()),
    Taken::new(arenas::acquire, arenas::release),
];

unsafe extern "C" fn prepare() {
    // What has gathered is written once, not by both processes.
    log::flush();
    LOCKS.iter().for_each(Taken::take);
    engine::before_fork();
}

unsafe extern "C" fn parent() {
    engine::after_fork_in_parent();
    LOCKS.iter().rev().for_each(Taken::give);
}

unsafe extern "C" fn child() {
    engine::after_fork_in_child();
    LOCKS.iter().rev().for_each(Taken::give);
}
