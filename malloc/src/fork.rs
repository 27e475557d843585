//! `fork`: the child has the memory of all threads but only one of them, so every lock is held by
//! that one while the process is copied.
//!
//! The first is that of the C library's list of streams, which `fork` itself takes after this. Who
//! holds it, or one of a stream's, may allocate, and must not be kept from that before it is done.
//! Signal handlers wait meanwhile: they would find the locks held by their own thread.

use core::cell::Cell;

use crate::blocks::{BOOKS, Books};
use crate::lock::OWNERS;
use crate::signals::Mask;
use crate::{engine, log};
use kmem::Platform;
use kmem::host::HostPlatform;

unsafe extern "C" {
    fn pthread_atfork(
        prepare: unsafe extern "C" fn(),
        parent: unsafe extern "C" fn(),
        child: unsafe extern "C" fn(),
    ) -> libc::c_int;
}

#[cfg(target_env = "gnu")]
mod streams {
    unsafe extern "C" {
        #[link_name = "_IO_list_lock"]
        pub(super) safe fn lock();
        #[link_name = "_IO_list_unlock"]
        pub(super) safe fn unlock();
        #[link_name = "_IO_list_resetlock"]
        pub(super) safe fn reset();
    }
}

/// Other C libraries' `fork` takes no lock behind handlers.
#[cfg(not(target_env = "gnu"))]
mod streams {
    pub(super) fn lock() {}
    pub(super) fn unlock() {}
    pub(super) fn reset() {}
}

/// Registered before `main`, or with the first allocation if that comes earlier, so that these run
/// last before a fork and first after it: handlers of others may allocate.
pub(crate) fn install() {
    engine::leave_forks_to_caller();
    // SAFETY: the handlers stay as long as the library.
    unsafe { pthread_atfork(prepare, parent, child) };
}

/// The signals that the thread that forks had blocked.
struct Blocked(Cell<Option<Mask>>);

// SAFETY: only the thread that forks uses it, and forks come one at a time: the C library sees to
// it.
unsafe impl Sync for Blocked {}

static BLOCKED: Blocked = Blocked(Cell::new(None));

impl Blocked {
    fn restore(&self) {
        if let Some(mask) = self.0.take() {
            mask.restore();
        }
    }
}

unsafe extern "C" fn prepare() {
    // What has gathered is written once, not by both processes.
    log::flush();
    streams::lock();
    // A thread that holds a lock may be stopped by a signal until this thread has got it, too:
    // collectors of garbage do so.
    loop {
        let mask = Mask::block_all();
        if OWNERS.try_take_for_fork() {
            if engine::try_before_fork() {
                return BLOCKED.0.set(Some(mask));
            }
            OWNERS.give_after_fork();
        }
        mask.restore();
        HostPlatform::new().relax();
    }
}

unsafe extern "C" fn parent() {
    engine::after_fork_in_parent();
    OWNERS.give_after_fork();
    BLOCKED.restore();
    streams::unlock();
}

unsafe extern "C" fn child() {
    // SAFETY: the C library calls this in the copy alone, by its only thread.
    unsafe { engine::after_fork_in_child() };
    let (has_log, has_books) = (OWNERS.log.is_forks(), OWNERS.books.is_forks());
    OWNERS.give_after_fork();
    if has_books {
        BOOKS.with(Books::put_all_back);
    }
    if has_log {
        // What other threads have added since it was written is the parent's to write.
        log::forget();
    }
    BLOCKED.restore();
    // The C library's own child has done so already where it had threads.
    streams::reset();
}
