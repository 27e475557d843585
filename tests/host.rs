//! The hosted heap: threads as CPUs, limits of the system, and how a wrong free ends.

mod support;

use std::alloc::Layout;
use std::process::{Command, Output};
use std::ptr::NonNull;
use std::sync::{Barrier, mpsc};
use std::thread;

use kmem::buddy::BlockOwner;
use kmem::frame::FRAME_SIZE;
use kmem::heap::Heap;
use kmem::host::{HostFrames, MmapAllocator};
use kmem::page::FrameSource;
use kmem::platform::Platform;
use kmem::{AllocFlags, Order};
use support::Random;

const KMEM: MmapAllocator = MmapAllocator::new();

/// A block on its way from one thread to another: all its bytes are `pattern`.
struct Parcel {
    block: NonNull<u8>,
    layout: Layout,
    pattern: u8,
}

// SAFETY: whoever has the parcel owns the block.
unsafe impl Send for Parcel {}

impl Parcel {
    fn random(heap: &Heap<'_, HostFrames>, random: &mut Random) -> Option<Self> {
        let most = if random.below(50) == 0 { 100_000 } else { 600 };
        let layout = Layout::from_size_align(1 + random.below(most), 1 << random.below(7)).ok()?;
        let block = heap.allocate(layout, AllocFlags::empty()).ok()?.cast::<u8>();
        let pattern = random.below(256) as u8;
        // SAFETY: the block is so long, and this thread's alone.
        unsafe { block.write_bytes(pattern, layout.size()) };
        Some(Self { block, layout, pattern })
    }

    fn open(self, heap: &Heap<'_, HostFrames>) {
        // SAFETY: the block is initialised, and this thread's alone.
        let bytes = unsafe { std::slice::from_raw_parts(self.block.as_ptr(), self.layout.size()) };
        assert!(
            bytes.iter().all(|byte| *byte == self.pattern),
            "somebody wrote into {:p}",
            self.block
        );
        // SAFETY: nobody uses it any more.
        unsafe { heap.deallocate(self.block, self.layout) }.expect("allocated with this layout");
    }
}

#[test]
fn what_a_thread_allocates_any_other_can_free() {
    const THREADS: usize = 8;
    const PARCELS: usize = 20_000;
    let frames = HostFrames::new();
    let heap = Heap::new(&frames);
    thread::scope(|scope| {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel()).unzip();
        for (index, receiver) in receivers.into_iter().enumerate() {
            let (senders, heap) = (senders.clone(), &heap);
            scope.spawn(move || {
                let mut random = Random::new(index);
                for _ in 0..PARCELS {
                    let parcel = Parcel::random(heap, &mut random).expect("memory");
                    // Some stay here; most go to another thread.
                    senders[random.below(THREADS)].send(parcel).expect("somebody listens");
                    if random.below(2) == 0 {
                        receiver.try_iter().take(3).for_each(|parcel: Parcel| parcel.open(heap));
                    }
                }
                drop(senders);
                receiver.iter().for_each(|parcel| parcel.open(heap));
            });
        }
        drop(senders);
    });
    heap.verify().expect("sound");
    frames.verify().expect("sound");
    assert_eq!(heap.stats().live_bytes(), 0);
}

#[test]
fn ten_thousand_threads_come_and_go_and_leave_nothing() {
    if !is_child() {
        // Alone, so that no other test's threads hold slots.
        assert_passes(&child("ten_thousand_threads_come_and_go_and_leave_nothing", ""));
        return;
    }
    const THREADS: usize = 10_000;
    const AT_ONCE: usize = 20;
    let frames = HostFrames::new();
    let heap = Heap::new(&frames);
    let mut left: Vec<Parcel> = Vec::new();
    for batch in 0..THREADS / AT_ONCE {
        let made: Vec<Vec<Parcel>> = thread::scope(|scope| {
            let spawn = |index| {
                let heap = &heap;
                scope.spawn(move || {
                    let slot = heap.source().platform().cpu_id().index();
                    assert!(slot < 2 * AT_ONCE, "slot {slot}: those of ended threads are lost");
                    let mut random = Random::new(batch * AT_ONCE + index);
                    let mut parcels: Vec<Parcel> =
                        (0..20).filter_map(|_| Parcel::random(heap, &mut random)).collect();
                    parcels.drain(..10).for_each(|parcel| parcel.open(heap));
                    parcels
                })
            };
            let threads: Vec<_> = (0..AT_ONCE).map(spawn).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        // What a thread leaves, this one frees when the thread is gone.
        left.into_iter().for_each(|parcel| parcel.open(&heap));
        left = made.into_iter().flatten().collect();
    }
    left.into_iter().for_each(|parcel| parcel.open(&heap));
    // What is held lies in the caches of the few slots, and a thousandth of all that went through.
    let stats = heap.stats();
    assert_eq!(stats.live_bytes(), 0);
    assert!(stats.held_bytes() < 8 << 20, "{stats:?}");
    heap.verify().expect("sound");
    frames.verify().expect("sound");
}

#[test]
fn more_threads_than_slots_at_a_time_work() {
    const THREADS: usize = 320;
    let frames = HostFrames::new();
    let heap = Heap::new(&frames);
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for index in 0..THREADS {
            let (heap, barrier) = (&heap, &barrier);
            scope.spawn(move || {
                let mut random = Random::new(index);
                let first = Parcel::random(heap, &mut random).expect("memory");
                barrier.wait();
                for _ in 0..200 {
                    let parcels = [(); 8].map(|()| Parcel::random(heap, &mut random));
                    parcels.into_iter().flatten().for_each(|parcel| parcel.open(heap));
                }
                barrier.wait();
                first.open(heap);
            });
        }
    });
    heap.verify().expect("sound");
    frames.verify().expect("sound");
    assert_eq!(heap.stats().live_bytes(), 0);
}

#[test]
fn memory_is_had_ahead_for_a_sixteenth_of_what_was_touched_at_most() {
    const MOST: usize = 15;
    let frames = HostFrames::new();
    let mut ahead = Vec::new();
    for taken in 1..=512 {
        let frame =
            frames.take(Order::ZERO, BlockOwner::Caller, AllocFlags::empty()).expect("memory");
        // Nothing was given back, so what has memory and is nobody's was had ahead.
        let bytes = frames.trim();
        assert!(bytes <= (taken / 16).min(MOST) * FRAME_SIZE, "{bytes} bytes after {taken} frames");
        ahead.push(bytes / FRAME_SIZE);
        // SAFETY: the frame is this test's.
        unsafe {
            let bytes = frames.platform().phys_to_virt(frame.start()).cast::<u64>();
            assert_eq!(bytes.read(), 0, "not as the system gave it");
            bytes.write(1);
        }
    }
    assert_eq!(ahead.iter().max(), Some(&MOST), "{ahead:?}");
    assert!(ahead[..128].contains(&3), "{ahead:?}");
    frames.verify().expect("sound");
}

#[test]
fn memory_goes_back_to_the_system_and_comes_again() {
    if !is_child() {
        // Alone, so that what other tests take meanwhile is not counted.
        assert_passes(&child("memory_goes_back_to_the_system_and_comes_again", ""));
        return;
    }
    let frames = HostFrames::new();
    let heap = Heap::new(&frames);
    let layout = Layout::from_size_align(48 << 20, 1).expect("valid");
    let block = heap.allocate(layout, AllocFlags::empty()).expect("memory");
    // SAFETY: the block is ours and so long.
    unsafe { block.cast::<u8>().write_bytes(1, layout.size()) };
    let resident_before = resident_bytes();
    // SAFETY: not used any more.
    unsafe { heap.deallocate(block.cast(), layout) }.expect("allocated");
    // So much goes back at once; whatever was left goes back now.
    frames.trim();
    let resident = resident_bytes();
    assert!(resident + (40 << 20) < resident_before, "{resident_before}, then {resident} bytes");
    frames.verify().expect("sound");
    let again = heap.allocate(layout, AllocFlags::empty()).expect("memory");
    // SAFETY: the block is ours and so long.
    unsafe { again.cast::<u8>().write_bytes(2, layout.size()) };
    // SAFETY: not used any more.
    unsafe { heap.deallocate(again.cast(), layout) }.expect("allocated");
    heap.verify().expect("sound");
}

#[test]
fn objects_that_idle_threads_have_at_hand_go_back_when_another_trims() {
    // Of a size that no other test here has blocks of.
    const BYTES: usize = 7000;
    let slabs = || {
        let mut caches = KMEM.cache_stats();
        caches.find(|cache| cache.object_bytes >= BYTES).map_or(0, |cache| cache.slabs_total)
    };
    let barrier = Barrier::new(2);
    let (idle, trimmed) = thread::scope(|scope| {
        scope.spawn(|| {
            let layout = Layout::from_size_align(BYTES, 16).expect("valid");
            let allocate = |_| KMEM.allocate(layout, AllocFlags::empty()).expect("memory");
            let blocks: Vec<NonNull<[u8]>> = (0..100).map(allocate).collect();
            for block in blocks {
                // SAFETY: allocated above, and not used.
                unsafe { KMEM.deallocate(block.cast()) }.expect("allocated");
            }
            barrier.wait();
            barrier.wait();
        });
        barrier.wait();
        let idle = slabs();
        KMEM.trim();
        let trimmed = slabs();
        barrier.wait();
        (idle, trimmed)
    });
    assert!(idle > 0, "the thread has nothing at hand");
    assert_eq!(trimmed, 0);
}

/// Page by page: many versions of Linux let the number in statm lag behind by dozens of pages for
/// each CPU.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let rest = text.split("Rss:").nth(1).expect("what is resident");
    let kib = rest.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok());
    kib.expect("a number of KiB") << 10
}

#[test]
fn blocks_are_aligned_as_far_as_there_are_blocks() {
    let frames = HostFrames::new();
    let heap = Heap::new(&frames);
    for shift in 0..=32 {
        let layout = Layout::from_size_align(100, 1 << shift).expect("valid");
        let block = heap.allocate(layout, AllocFlags::empty()).expect("memory").cast::<u8>();
        assert!(block.addr().get().is_multiple_of(layout.align()), "{block:p} for {layout:?}");
        // SAFETY: not used any more.
        unsafe { heap.deallocate(block, layout) }.expect("allocated");
    }
    frames.verify().expect("sound");
}

// What ends a process, or limits it, is tried in a child: this very test, run again.

/// Runs the test `name` of this binary in a process of its own, as a child, under a shell that says
/// `before` first.
fn child(name: &str, before: &str) -> Output {
    let program = std::env::current_exe().expect("a path");
    let script = format!("{before} exec \"$0\" --exact {name} --nocapture --test-threads 1");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program).env("KMEM_TEST_CHILD", "1");
    command.env("RUST_BACKTRACE", "0").output().expect("a shell")
}

fn is_child() -> bool {
    std::env::var_os("KMEM_TEST_CHILD").is_some()
}

#[track_caller]
fn assert_passes(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("1 passed"), "{told}");
}

#[test]
fn a_small_address_space_gives_errors_and_not_a_crash() {
    if !is_child() {
        for kib in [100_000, 300_000, 1_000_000] {
            let name = "a_small_address_space_gives_errors_and_not_a_crash";
            assert_passes(&child(name, &format!("ulimit -v {kib};")));
        }
        return;
    }
    let heap = KMEM.heap();
    for (size, align) in [(500, 8), (16_000, 16), (200_000, 1), (1 << 20, 1 << 20), (300 << 20, 1)]
    {
        let layout = Layout::from_size_align(size, align).expect("valid");
        let mut blocks = Vec::new();
        let enough = (4 << 30) / size;
        while blocks.len() < enough {
            match heap.allocate(layout, AllocFlags::empty()) {
                Ok(block) => blocks.push(block.cast::<u8>()),
                Err(_) => break,
            }
        }
        assert!(blocks.len() < enough, "no limit");
        assert!(size > 200_000 || !blocks.is_empty(), "{layout:?}: nothing at all");
        // The heap is usable, full and then empty again.
        KMEM.verify().expect("sound");
        for block in blocks {
            // SAFETY: not used any more.
            unsafe { heap.deallocate(block, layout) }.expect("allocated");
        }
        KMEM.verify().expect("sound");
        KMEM.trim();
        KMEM.verify().expect("sound");
    }
    assert_eq!(KMEM.stats().live_bytes(), 0);
}

#[test]
fn memory_is_had_before_its_first_touch_only_where_much_was_touched() {
    if !is_child() {
        let name = "memory_is_had_before_its_first_touch_only_where_much_was_touched";
        assert_passes(&child(name, ""));
        return;
    }
    let (heap, layout) = (KMEM.heap(), Layout::new::<[u64; 8]>());
    let mut objects: Vec<NonNull<u8>> = Vec::with_capacity(100_000);
    // Nobody writes to them, so nothing of them is resident unless kmem had the memory ahead.
    let mut grow_by = |bytes: usize| {
        let before = resident_bytes();
        for _ in 0..bytes / layout.size() {
            let object = heap.allocate(layout, AllocFlags::empty());
            objects.push(object.expect("memory").cast());
        }
        resident_bytes().saturating_sub(before)
    };
    grow_by(1 << 10);
    let (little, much) = (grow_by(100 << 10), grow_by(4 << 20));
    assert!(little < 50 << 10, "{little} bytes resident of the first 100 KiB");
    assert!(much > 2 << 20, "{much} bytes resident of 4 MiB behind them");
    let before = resident_bytes();
    for object in objects {
        // SAFETY: not used any more.
        unsafe { heap.deallocate(object, layout) }.expect("allocated");
    }
    KMEM.trim();
    let resident = resident_bytes();
    assert!(resident + (2 << 20) < before, "{before}, then {resident} bytes");
    KMEM.verify().expect("sound");
}

#[test]
fn runs_that_are_kept_for_the_next_request_do_not_make_another_one_fail() {
    if !is_child() {
        let name = "runs_that_are_kept_for_the_next_request_do_not_make_another_one_fail";
        assert_passes(&child(name, "ulimit -v 300000;"));
        return;
    }
    let heap = KMEM.heap();
    let layout = |size| Layout::from_size_align(size, 8).expect("valid");
    let (large, small) = (layout(800 << 10), layout(16 << 10));
    let fill = |layout| -> Vec<NonNull<u8>> {
        let blocks = std::iter::repeat_with(|| heap.allocate(layout, AllocFlags::empty()));
        blocks.map_while(|block| Some(block.ok()?.cast())).collect()
    };
    let (mut runs, mut objects) = (fill(large), fill(small));
    let run = runs.pop().expect("some fitted");
    // SAFETY: not used any more.
    unsafe { heap.deallocate(run, large) }.expect("allocated");
    let more = fill(small);
    assert!(more.len() >= 45, "{} objects of 16 KiB in 800 KiB", more.len());
    objects.extend(more);
    KMEM.verify().expect("sound");
    for (blocks, layout) in [(runs, large), (objects, small)] {
        for block in blocks {
            // SAFETY: not used any more.
            unsafe { heap.deallocate(block, layout) }.expect("allocated");
        }
    }
    KMEM.verify().expect("sound");
}

#[test]
fn a_wrong_free_ends_the_process_with_one_line() {
    if is_child() {
        let layout = Layout::new::<[u64; 5]>();
        let block = KMEM.heap().allocate(layout, AllocFlags::empty()).expect("memory").cast::<u8>();
        println!("the block is {block:p}");
        // SAFETY: the second free is wrong, which is what is under test.
        unsafe {
            std::alloc::GlobalAlloc::dealloc(&KMEM, block.as_ptr(), layout);
            std::alloc::GlobalAlloc::dealloc(&KMEM, block.as_ptr(), layout);
        }
        println!("still alive");
        return;
    }
    let output = child("a_wrong_free_ends_the_process_with_one_line", "");
    assert!(!output.status.success(), "a double free went unnoticed");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!told.contains("still alive"), "{told}");
    let block = told.split("the block is ").nth(1).and_then(|rest| rest.lines().next());
    let block = block.expect("an address");
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("kmem: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains(block) && lines[0].contains("not allocated"), "{text}");
}
