//! A process that is copied on top of a call to kmem that holds a lock, as signal handlers do.

use std::ffi::c_int;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use kmem::host::MmapAllocator;

#[global_allocator]
static KMEM: MmapAllocator = MmapAllocator::new();

const NO_HANG: c_int = 1;
const KILL: c_int = 9;

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(process: c_int, signal: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// Of the cache whose lock is held.
const BYTES: usize = 64;

/// Enough for a thread to have some of them at hand afterwards.
fn churn() {
    let blocks: Vec<Box<[u8; BYTES]>> = (0..10_000).map(|_| Box::new([1; BYTES])).collect();
    assert!(blocks.iter().all(|block| block[BYTES - 1] == 1));
}

/// What the system says of the end of a copy that does nothing, at most a minute later.
fn status_of_a_copy() -> c_int {
    // SAFETY: the child calls only what a signal handler may call.
    let process = unsafe { fork() };
    if process == 0 {
        // SAFETY: it has no preconditions.
        unsafe { _exit(0) };
    }
    let begin = Instant::now();
    let mut status = -1;
    // SAFETY: the status is this function's.
    while unsafe { waitpid(process, &mut status, NO_HANG) } == 0 {
        if begin.elapsed() > Duration::from_secs(60) {
            // SAFETY: it is this process's child, and not waited for yet.
            unsafe { kill(process, KILL) };
        }
        thread::sleep(Duration::from_millis(1));
    }
    status
}

#[test]
fn a_copy_that_is_made_on_top_of_a_call_goes_on() {
    let live = Box::new([0_u8; BYTES]);
    let (have_some, end) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                churn();
                have_some.wait();
                end.wait();
            });
        }
        churn();
        have_some.wait();
        let mut status = None;
        KMEM.for_each_live(&mut |_, bytes| {
            if bytes == BYTES && status.is_none() {
                status = Some(status_of_a_copy());
            }
        });
        end.wait();
        assert_eq!(status, Some(0), "the copy did not end by itself");
    });
    drop(live);
    KMEM.verify().expect("sound");
}
