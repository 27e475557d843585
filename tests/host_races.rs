//! A large block that two threads free, as near to the same moment as they get: now and then both succeed. In a process of its own, since the heap
//! counts such a block twice.

use std::alloc::Layout;
use std::hint::spin_loop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;

use kmem::AllocFlags;
use kmem::check::set_hook;
use kmem::host::MmapAllocator;

const KMEM: MmapAllocator = MmapAllocator::new();

/// On its way from one thread to the other.
struct Block(NonNull<u8>);

// SAFETY: a block may be used by any thread.
unsafe impl Send for Block {}

fn take() -> NonNull<u8> {
    let layout = Layout::from_size_align(80_000, 16).expect("valid");
    KMEM.allocate(layout, AllocFlags::empty()).expect("memory").cast()
}

#[test]
fn a_block_that_two_threads_free_at_the_same_moment_is_not_handed_out_twice() {
    const ROUNDS: usize = 20_000;
    // What is found is left alone, and the program goes on.
    set_hook(Some(|_| {}));
    let barrier = Barrier::new(2);
    let arrived = AtomicUsize::new(0);
    let shared = Mutex::new(None);
    let addresses: Vec<Vec<usize>> = thread::scope(|scope| {
        let threads = [true, false].map(|is_first| {
            let (barrier, arrived, shared) = (&barrier, &arrived, &shared);
            scope.spawn(move || {
                let mut addresses = Vec::new();
                for round in 0..ROUNDS {
                    if is_first {
                        *shared.lock().unwrap() = Some(Block(take()));
                    }
                    barrier.wait();
                    let start =
                        shared.lock().unwrap().as_ref().map(|block: &Block| block.0).expect("one");
                    // Nearer to the same moment than the system wakes two threads.
                    arrived.fetch_add(1, Relaxed);
                    while arrived.load(Relaxed) < 2 * (round + 1) {
                        spin_loop();
                    }
                    // SAFETY: nobody uses the block; that it is freed twice is what the heap has to bear.
                    unsafe {
                        if !KMEM.deallocate_second_hit(start.as_ptr()) {
                            let _ = KMEM.deallocate(start);
                        }
                    }
                    barrier.wait();
                    let first = is_first.then(take);
                    if is_first && round % 16 == 0 {
                        KMEM.trim();
                    }
                    barrier.wait();
                    let block = first.unwrap_or_else(take);
                    addresses.push(block.addr().get());
                    barrier.wait();
                    // SAFETY: allocated just now.
                    unsafe { KMEM.deallocate(block) }.expect("allocated");
                }
                addresses
            })
        });
        threads.map(|thread| thread.join().expect("no panic")).into()
    });
    set_hook(None);
    let twice = addresses[0].iter().zip(&addresses[1]).filter(|(one, other)| one == other);
    assert_eq!(twice.count(), 0);
}
