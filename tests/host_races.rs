//! A large block that two threads free at the same moment, so that both succeed, and what becomes
//! of it. In a process of its own, since the heap counts such a block twice, and violations are let
//! pass.

use std::alloc::Layout;
use std::cell::Cell;
use std::hint::spin_loop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;

use kmem::AllocFlags;
use kmem::buddy::BlockOwner;
use kmem::check::set_hook;
use kmem::frame::{FrameRange, Order};
use kmem::host::{HostFrames, MmapAllocator};
use kmem::page::FrameSource;

const KMEM: MmapAllocator = MmapAllocator::new();

/// On its way from one thread to the other.
struct Block(NonNull<u8>);

// SAFETY: a block may be used by any thread.
unsafe impl Send for Block {}

fn take() -> NonNull<u8> {
    let layout = Layout::from_size_align(80_000, 16).expect("valid");
    KMEM.allocate(layout, AllocFlags::empty()).expect("memory").cast()
}

/// What is found is left alone, and the program goes on.
fn let_violations_pass() {
    set_hook(Some(|_| FOUND.set(FOUND.get() + 1)));
}

std::thread_local! {
    /// How many violations this thread was told of.
    static FOUND: Cell<usize> = const { Cell::new(0) };
}

/// What a second thread kept is this thread's here, which is told by the record alone that somebody
/// uses it.
#[test]
fn a_kept_run_that_somebody_uses_is_not_handed_on() {
    const USED: u32 = 64;
    let_violations_pass();
    let frames = HostFrames::new();
    let take = |length| {
        let head = frames.take_run(length, Order::ZERO, BlockOwner::Heap, AllocFlags::empty());
        FrameRange::from_len(head.expect("memory"), length).expect("a range")
    };
    // SAFETY: nobody uses the run.
    let give = |run| unsafe { frames.give_run(run, BlockOwner::Heap) }.expect("it was taken");
    let use_it = |run: FrameRange| {
        // SAFETY: the run was taken by this test.
        unsafe { frames.owner(run.start()).expect("a record").store(USED, Relaxed) };
    };
    let is_taken =
        |run: FrameRange| frames.run_of(run.start()).is_some_and(|(taken, _)| taken == run);

    // By the thread that keeps it.
    let run = take(20);
    give(run);
    use_it(run);
    assert_ne!(take(20), run);
    assert_eq!(FOUND.get(), 1);

    // From the list for all.
    let runs = [take(30), take(40)];
    runs.into_iter().for_each(give);
    use_it(runs[0]);
    assert_ne!(take(30), runs[0]);
    assert_eq!(FOUND.get(), 2);

    // Where it has to make way on that list: the one of 80 pushes out the one of 70.
    let runs = [take(70), take(80), take(50), take(60)];
    give(runs[0]);
    use_it(runs[0]);
    runs[1..].iter().copied().for_each(give);
    assert!(is_taken(runs[0]), "it went back");
    assert_eq!(FOUND.get(), 3);

    // When memory goes back.
    let run = take(90);
    give(run);
    use_it(run);
    frames.trim();
    assert!(is_taken(run), "it went back");
    assert_eq!(FOUND.get(), 4);
    frames.verify().expect("sound");
}

#[test]
fn a_block_that_two_threads_free_at_the_same_moment_is_not_handed_out_twice() {
    const ROUNDS: usize = 20_000;
    /// Longer than it takes to wake a thread on another CPU.
    const SPINS: usize = 2_000;
    let_violations_pass();
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
                    let mut spins = 0;
                    while arrived.load(Relaxed) < 2 * (round + 1) {
                        spins += 1;
                        // Where both share a CPU the other comes only when this one makes way.
                        match spins % SPINS {
                            0 => thread::yield_now(),
                            _ => spin_loop(),
                        }
                    }
                    // SAFETY: nobody uses the block; that it is freed twice is what the heap has to
                    // bear.
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
    let twice = addresses[0].iter().zip(&addresses[1]).filter(|(one, other)| one == other);
    assert_eq!(twice.count(), 0);
}
