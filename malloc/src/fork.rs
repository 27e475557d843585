//! `fork`: the child has the memory of all threads but only one of them, so every lock is held by that one while the
//! process is copied.

use crate::lock::OWNERS;
use crate::{engine, log};

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

unsafe extern "C" fn prepare() {
    // What has gathered is written once, not by both processes.
    log::flush();
    OWNERS.take_for_fork();
    engine::before_fork();
}

unsafe extern "C" fn parent() {
    engine::after_fork_in_parent();
    OWNERS.give_after_fork();
}

unsafe extern "C" fn child() {
    // SAFETY: the C library calls this in the copy alone, by its only thread.
    unsafe { engine::after_fork_in_child() };
    OWNERS.give_after_fork();
}
