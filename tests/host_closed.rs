//! A library with kmem inside is closed, and threads that used it end later.

#[path = "support/example.rs"]
mod example;
#[path = "support/statm.rs"]
mod statm;

use std::fs;
use std::sync::Barrier;
use std::thread;

use libloading::{Library, Symbol};
use statm::address_bytes;

type Work = unsafe extern "C" fn(usize) -> usize;

const THREADS: usize = 3;

/// Less than a library reserves, and more than it leaves behind, in bytes.
const LEFT_BYTES: usize = 1 << 30;

#[test]
fn threads_may_end_after_the_library_was_closed() {
    let path = example::build("plugin", "libplugin.so");
    for _ in 0..3 {
        let before = address_bytes();
        // SAFETY: its initializers are those of a Rust library.
        let library = unsafe { Library::new(&path) }.expect("a library");
        // SAFETY: it is such a function.
        let work: Symbol<'_, Work> = unsafe { library.get(b"work") }.expect("a function");
        let work = *work;
        let barrier = Barrier::new(THREADS + 1);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    // SAFETY: it is closed only after all have passed the barrier.
                    assert_eq!(unsafe { work(1000) }, 2890);
                    barrier.wait();
                    // Closed now.
                    barrier.wait();
                });
            }
            barrier.wait();
            let open = address_bytes();
            library.close().expect("it is closed");
            let maps = fs::read_to_string("/proc/self/maps").expect("this process's mappings");
            assert!(!maps.contains("libplugin"), "it is still there");
            let closed = address_bytes();
            barrier.wait();
            assert!(open - before > LEFT_BYTES, "{open} bytes of addresses after {before}");
            assert!(closed - before < LEFT_BYTES, "{closed} bytes of addresses after {before}");
        });
    }
}
