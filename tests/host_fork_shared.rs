//! A process that is copied by a thread that shares its slot, while another thread of that slot is
//! in kmem.

use std::alloc::Layout;
use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, Condvar, Mutex};
use std::thread;

use kmem::AllocFlags;
use kmem::host::MmapAllocator;

const KMEM: MmapAllocator = MmapAllocator::new();

/// More threads than there are slots.
const THREADS: usize = 300;

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
    fn alarm(seconds: c_uint) -> c_uint;
}

/// Takes a block of so many bytes and gives it back.
fn take_and_give(bytes: usize) {
    let layout = Layout::from_size_align(bytes, 16).expect("valid");
    let block = KMEM.allocate(layout, AllocFlags::empty()).expect("memory");
    // SAFETY: allocated above, and not used.
    assert!(unsafe { KMEM.deallocate(block.cast()) }.is_ok());
}

/// What the system says of the end of a copy that allocates.
fn status_of_a_copy() -> c_int {
    KMEM.before_fork();
    // SAFETY: the child calls nothing but kmem, which it tells of the fork, and functions that a
    // signal handler may call.
    let process = unsafe { fork() };
    if process == 0 {
        // SAFETY: it has no preconditions. A copy that waits for ever is ended.
        unsafe { alarm(60) };
        // SAFETY: this is the copy.
        unsafe { KMEM.after_fork_in_child() };
        take_and_give(64);
        take_and_give(20_000);
        // SAFETY: it has no preconditions.
        unsafe { _exit(0) };
    }
    KMEM.after_fork_in_parent();
    let mut status = -1;
    // SAFETY: the status is this function's.
    assert_eq!(unsafe { waitpid(process, &mut status, 0) }, process);
    status
}

#[test]
fn a_copy_by_a_thread_that_shares_its_slot_goes_on() {
    let slots_are_taken = Barrier::new(THREADS + 1);
    let (end, ended) = (Mutex::new(false), Condvar::new());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                take_and_give(64);
                slots_are_taken.wait();
                drop(ended.wait_while(end.lock().expect("lock"), |is_end| !*is_end));
            });
        }
        slots_are_taken.wait();
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    take_and_give(64);
                    take_and_give(20_000);
                }
            });
        }
        let copies = scope.spawn(|| {
            take_and_give(64);
            (0..40).map(|_| status_of_a_copy()).find(|&status| status != 0)
        });
        let failed = copies.join().expect("no panic");
        is_over.store(true, Relaxed);
        *end.lock().expect("lock") = true;
        ended.notify_all();
        assert_eq!(failed, None, "the status of a copy that did not end by itself");
    });
    KMEM.verify().expect("sound");
}
