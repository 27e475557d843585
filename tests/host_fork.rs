//! A process that is copied while other threads of it are in kmem.

#[path = "support/alone.rs"]
mod alone;

use std::alloc::Layout;
use std::ffi::c_int;
use std::os::unix::thread::{JoinHandleExt, RawPthread};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use alone::alone;
use kmem::AllocFlags;
use kmem::host::MmapAllocator;

const KMEM: MmapAllocator = MmapAllocator::new();
const BYTES: usize = 64;
const SIGUSR1: c_int = 10;

unsafe extern "C" {
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn pthread_kill(thread: RawPthread, number: c_int) -> c_int;
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// Takes some blocks and gives them back, so that this thread has a magazine with some.
fn churn() {
    let layout = Layout::from_size_align(BYTES, 16).expect("valid");
    let mut blocks = [const { None::<NonNull<[u8]>> }; 40];
    for _ in 0..4 {
        for block in &mut blocks {
            *block = KMEM.allocate(layout, AllocFlags::empty()).ok();
        }
        for block in blocks.iter_mut().filter_map(Option::take) {
            // SAFETY: allocated above, and not used.
            assert!(unsafe { KMEM.deallocate(block.cast()) }.is_ok());
        }
    }
}

#[test]
fn the_copy_of_a_process_has_what_its_thread_has_at_hand_though_another_was_emptying_it() {
    let _alone = alone();
    let is_over = AtomicBool::new(false);
    let failed = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                KMEM.trim();
            }
        });
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                churn();
            }
        });
        let mut failed = 0;
        for round in 0..300 {
            churn();
            KMEM.before_fork();
            // SAFETY: the child calls nothing but kmem, which it tells of the fork, and `_exit`.
            let process = unsafe { fork() };
            if process == 0 {
                // SAFETY: this is the copy.
                unsafe { KMEM.after_fork_in_child() };
                // Of the others' magazines nothing is left to it: that is no fault.
                let is_sound = round % 30 != 0 || KMEM.verify().is_ok();
                churn();
                let is_at_hand = KMEM.allocate_hit(BYTES).is_some();
                // SAFETY: it has no preconditions.
                unsafe { _exit(c_int::from(!is_at_hand) | c_int::from(!is_sound) << 1) };
            }
            KMEM.after_fork_in_parent();
            let mut status = -1;
            // SAFETY: the status is this function's.
            assert_eq!(unsafe { waitpid(process, &mut status, 0) }, process);
            failed += usize::from(status != 0);
        }
        is_over.store(true, Relaxed);
        failed
    });
    assert_eq!(failed, 0, "copies in which nothing is at hand, or a recount finds a fault");
    KMEM.verify().expect("sound");
}

/// Whether the handler below has had its block.
static IS_SERVED: AtomicBool = AtomicBool::new(false);

extern "C" fn take_a_run(_number: c_int) {
    let layout = Layout::from_size_align(2 << 20, 16).expect("valid");
    if let Ok(block) = KMEM.allocate(layout, AllocFlags::empty()) {
        IS_SERVED.store(true, Relaxed);
        // SAFETY: allocated above, and not used.
        assert!(unsafe { KMEM.deallocate(block.cast()) }.is_ok());
    }
}

/// A lock that it held would stay closed in the copy.
#[test]
fn a_signal_handler_on_top_of_a_thread_that_waits_for_a_fork_waits_for_it_too() {
    let _alone = alone();
    // SAFETY: the handler does nothing that the thread which is interrupted here is about.
    unsafe { signal(SIGUSR1, take_a_run) };
    churn();
    KMEM.before_fork();
    let waits = thread::spawn(|| KMEM.verify());
    thread::sleep(Duration::from_millis(50));
    // SAFETY: the thread is not joined yet.
    assert_eq!(unsafe { pthread_kill(waits.as_pthread_t(), SIGUSR1) }, 0);
    thread::sleep(Duration::from_millis(50));
    let is_early = IS_SERVED.load(Relaxed);
    KMEM.after_fork_in_parent();
    waits.join().expect("no panic").expect("sound");
    assert!(IS_SERVED.load(Relaxed) && !is_early);
}
