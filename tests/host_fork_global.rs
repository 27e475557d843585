//! A program that forks and tells nobody, while another thread is in the allocator.

use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{hint, thread};

use kmem::host::MmapAllocator;

#[global_allocator]
static KMEM: MmapAllocator = MmapAllocator::new();

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
    fn alarm(seconds: c_uint) -> c_uint;
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> c_int;
}

/// Of the cache whose lock a thread holds while the process is copied.
const BYTES: usize = 64;

/// Longer than what a thread keeps for itself.
const LONG_BYTES: usize = 3 << 20;

/// More blocks than a thread has at hand, and a long one.
fn churn() {
    let blocks: Vec<Box<[u8; BYTES]>> = (0..10_000).map(|_| Box::new([1; BYTES])).collect();
    let long = vec![1; LONG_BYTES];
    assert!(blocks.iter().all(|block| block[..] == long[..BYTES]));
}

unsafe extern "C" fn handler() {
    assert!(vec![1; LONG_BYTES].iter().all(|&byte: &u8| byte == 1));
}

/// What the system says of the end of a copy that allocates.
fn status_of_a_copy(is_copied: &AtomicBool) -> c_int {
    // SAFETY: the child calls nothing but the allocator, and functions that a signal handler may
    // call.
    let process = unsafe { fork() };
    if process == 0 {
        // SAFETY: it has no preconditions. A copy that waits for ever is ended.
        unsafe { alarm(60) };
        churn();
        // SAFETY: it has no preconditions.
        unsafe { _exit(0) };
    }
    is_copied.store(true, Relaxed);
    let mut status = -1;
    // SAFETY: the status is this function's.
    assert_eq!(unsafe { waitpid(process, &mut status, 0) }, process);
    status
}

/// Holds the lock of the cache until `is_copied`, or for a moment.
fn hold_a_lock(is_held: &AtomicBool, is_copied: &AtomicBool) {
    KMEM.for_each_live(&mut |_, bytes| {
        if bytes == BYTES && !is_held.swap(true, Relaxed) {
            let begin = Instant::now();
            while !is_copied.load(Relaxed) && begin.elapsed() < Duration::from_millis(200) {
                hint::spin_loop();
            }
        }
    });
}

#[test]
fn a_copy_has_an_allocator_though_nobody_told_it_of_the_fork() {
    // SAFETY: the handlers stay as long as the program.
    unsafe { pthread_atfork(Some(handler), Some(handler), Some(handler)) };
    let live = Box::new([0_u8; BYTES]);
    for _ in 0..5 {
        let (is_held, is_copied) = (AtomicBool::new(false), AtomicBool::new(false));
        let status = thread::scope(|scope| {
            scope.spawn(|| hold_a_lock(&is_held, &is_copied));
            while !is_held.load(Relaxed) {
                thread::yield_now();
            }
            status_of_a_copy(&is_copied)
        });
        assert_eq!(status, 0, "the copy did not end by itself");
    }
    drop(live);
    KMEM.verify().expect("sound");
}
