//! Threads that come while the first request of the process sets everything up.

use std::alloc::Layout;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{env, thread};

use kmem::AllocFlags;
use kmem::host::MmapAllocator;

const KMEM: MmapAllocator = MmapAllocator::new();
/// Longer than the runs that a thread keeps for itself.
const BYTES: usize = 2 << 20;
/// Set in a process of its own, which has not used kmem yet: microseconds that the second thread
/// comes later.
const DELAY: &str = "KMEM_TEST_DELAY";

/// Two threads make the first requests of the process. What one has written and given back must not
/// be what the other gets, who asks for zeros.
fn two_first_requests(delay: Duration) {
    let layout = Layout::from_size_align(BYTES, 16).expect("valid");
    let start = Barrier::new(2);
    let is_given_back = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let begin = Instant::now();
            while begin.elapsed() < delay {}
            let block = KMEM.allocate(layout, AllocFlags::empty()).expect("memory");
            // SAFETY: the block has so many bytes, and is not used any more then.
            unsafe {
                block.cast::<u8>().write_bytes(0xff, BYTES);
                KMEM.deallocate(block.cast()).expect("allocated");
            }
            is_given_back.store(true, Relaxed);
        });
        start.wait();
        let small = Layout::from_size_align(64, 16).expect("valid");
        KMEM.allocate(small, AllocFlags::empty()).expect("memory");
        while !is_given_back.load(Relaxed) {
            thread::yield_now();
        }
        let block = KMEM.allocate(layout, AllocFlags::ZERO).expect("memory");
        // SAFETY: so many bytes, all initialised, as is to be seen.
        let bytes = unsafe { block.as_ref() };
        assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 0, "bytes that are not zero");
    });
    KMEM.verify().expect("sound");
}

#[test]
fn memory_given_back_while_the_first_request_goes_on_is_cleared_for_who_wants_zeros() {
    if let Ok(delay) = env::var(DELAY) {
        return two_first_requests(Duration::from_micros(delay.parse().expect("a number")));
    }
    let this = env::current_exe().expect("this program has a path");
    for delay in (0..40).map(|step| step * 100) {
        let output = Command::new(&this).env(DELAY, delay.to_string()).output();
        let output = output.expect("a process of its own");
        assert!(output.status.success(), "after {delay} microseconds: {output:?}");
    }
}
