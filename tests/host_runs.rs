//! Large blocks of the hosted heap: kept by the thread that freed them, lent in part, cut, given
//! back.

#[path = "support/alone.rs"]
mod alone;
mod support;

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;
use std::sync::{Barrier, MutexGuard, mpsc};
use std::thread;

use kmem::AllocFlags;
use kmem::buddy::BlockOwner;
use kmem::check::set_hook;
use kmem::frame::{FRAME_SIZE, FrameRange, Order};
use kmem::heap::HeapFreeError;
use kmem::host::{HostFrames, MmapAllocator};
use kmem::page::FrameSource;
use kmem::platform::Platform;
use support::Random;

const KMEM: MmapAllocator = MmapAllocator::new();

/// All tests count the blocks of one heap: one at a time. What an earlier one left is given back.
fn alone() -> MutexGuard<'static, ()> {
    let guard = alone::alone();
    KMEM.trim();
    guard
}

fn layout(frames: usize) -> Layout {
    Layout::from_size_align(frames * FRAME_SIZE, 16).expect("a layout")
}

/// A large block with a pattern in each of its frames.
struct Run {
    start: NonNull<u8>,
    frames: usize,
    pattern: u64,
}

// SAFETY: whoever has the value owns the block.
unsafe impl Send for Run {}

impl Run {
    fn new(frames: usize, pattern: u64) -> Self {
        let block = KMEM.allocate(layout(frames), AllocFlags::empty()).expect("memory");
        assert_eq!(block.len(), frames * FRAME_SIZE);
        let mut run = Self { start: block.cast(), frames, pattern };
        run.fill();
        run
    }

    /// First and last word of each frame.
    fn words(&self) -> impl Iterator<Item = *mut u64> + use<> {
        let start = self.start.cast::<u64>().as_ptr();
        let words = FRAME_SIZE / size_of::<u64>();
        let in_frame = move |frame| [words * frame, words * frame + words - 1];
        (0..self.frames).flat_map(in_frame).map(move |word| start.wrapping_add(word))
    }

    fn fill(&mut self) {
        for word in self.words() {
            // SAFETY: it lies in the block, which is this value's.
            unsafe { word.write(self.pattern ^ word.addr() as u64) };
        }
    }

    fn check(&self) {
        for word in self.words() {
            // SAFETY: it lies in the block, which was filled.
            let found = unsafe { word.read() };
            assert_eq!(found, self.pattern ^ word.addr() as u64, "somebody wrote to {word:p}");
        }
    }

    fn free(self) {
        self.check();
        // SAFETY: the block is this value's, which ends here.
        unsafe { KMEM.deallocate(self.start) }.expect("allocated");
    }

    /// As a program that calls `free` does: what the thread has at hand first.
    fn free_by_hit(self) -> bool {
        self.check();
        // SAFETY: the block is this value's, which ends here.
        unsafe {
            let is_hit = KMEM.deallocate_second_hit(self.start.as_ptr());
            if !is_hit {
                KMEM.deallocate(self.start).expect("allocated");
            }
            is_hit
        }
    }

    fn resize(&mut self, frames: usize) {
        self.check();
        // SAFETY: the block is this value's.
        let moved = unsafe { KMEM.reallocate(self.start, layout(frames)) }.expect("memory");
        let (old, kept) = (self.start, frames.min(self.frames));
        (self.start, self.frames) = (moved.cast(), kept);
        let offset = self.start.addr().get().wrapping_sub(old.addr().get()) as u64;
        for word in self.words() {
            // SAFETY: as in `check`.
            let found = unsafe { word.read() };
            let before = (word.addr() as u64).wrapping_sub(offset);
            assert_eq!(found, self.pattern ^ before, "lost on the way to {word:p}");
        }
        self.frames = frames;
        self.fill();
    }
}

fn counts() -> (usize, usize) {
    let stats = KMEM.stats();
    (stats.runs, stats.run_frames)
}

/// Frames that the page allocator knows to be taken: by users, and for what is kept.
fn taken_frames() -> usize {
    KMEM.frames().stats().map_or(0, |zone| zone.managed_frames - zone.available_frames)
}

/// A block of `used` frames that is the beginning of one of `whole`, which this thread has just
/// freed.
fn lent(whole: usize, used: usize) -> Run {
    let run = Run::new(whole, 1);
    let start = run.start;
    run.free();
    let run = Run::new(used, 2);
    assert_eq!(run.start, start, "another block serves");
    run
}

#[test]
fn what_a_thread_freed_last_serves_whatever_fits_into_it() {
    let _alone = alone();
    let (runs, frames) = counts();
    let run = Run::new(64, 1);
    let start = run.start;
    run.free();
    for wanted in [64, 5, 63, 20, 64] {
        let hit = KMEM.allocate_second_hit(wanted * FRAME_SIZE - 1).expect("at hand");
        assert_eq!(hit, start, "{wanted} frames");
        assert_eq!(counts(), (runs + 1, frames + wanted));
        // SAFETY: the block is this test's alone.
        assert_eq!(unsafe { KMEM.heap().usable_bytes(hit) }, Ok(wanted * FRAME_SIZE));
        // SAFETY: allocated above.
        assert!(unsafe { KMEM.deallocate_second_hit(hit.as_ptr()) });
        assert_eq!(counts(), (runs, frames));
    }
    assert_eq!(KMEM.allocate_second_hit(65 * FRAME_SIZE), None);
    let zeroed = KMEM.allocate(layout(20), AllocFlags::ZERO).expect("memory");
    assert_eq!(zeroed.cast(), start);
    // SAFETY: allocated just now, all of it.
    assert!(unsafe { zeroed.as_ref() }.iter().all(|byte| *byte == 0), "dirty");
    // SAFETY: allocated above.
    unsafe { KMEM.deallocate(start) }.expect("allocated");
    KMEM.verify().expect("sound");
}

#[test]
fn a_lent_block_comes_back_whole_whoever_frees_it() {
    let _alone = alone();
    let (before, taken) = (counts(), taken_frames());
    // In another thread, whose own slot has nothing to do with it.
    for frees in [Run::free, |run: Run| assert!(!run.free_by_hit())] {
        let run = lent(200, 10);
        thread::spawn(move || frees(run)).join().expect("no panic");
        KMEM.trim();
        assert_eq!((counts(), taken_frames()), (before, taken));
    }
    for frees in [Run::free, |run: Run| assert!(run.free_by_hit())] {
        frees(lent(200, 10));
        let whole = Run::new(200, 3);
        assert!(whole.free_by_hit(), "all of it is kept");
    }
    KMEM.trim();
    assert_eq!((counts(), taken_frames()), (before, taken));
    KMEM.verify().expect("sound");
}

#[test]
fn a_lent_block_is_cut_when_another_would_be_lent() {
    let _alone = alone();
    let (before, taken) = (counts(), taken_frames());
    let first = lent(200, 10);
    let second = lent(100, 7);
    // The first is its user's alone now, and what it has not got serves others.
    let others: Vec<Run> = (0..8).map(|seed| Run::new(50, seed)).collect();
    assert_eq!(counts(), (before.0 + 10, before.1 + 10 + 7 + 8 * 50));
    others.into_iter().for_each(Run::free);
    assert!(!first.free_by_hit(), "what was lent once is not told from what is lent");
    second.free();
    KMEM.trim();
    assert_eq!((counts(), taken_frames()), (before, taken));
    KMEM.verify().expect("sound");
}

#[test]
fn a_lent_block_becomes_longer_and_shorter_like_any_other() {
    let _alone = alone();
    let (before, taken) = (counts(), taken_frames());
    for frames in [5, 9, 11, 200, 250, 400] {
        let mut run = lent(200, 10);
        run.resize(frames);
        assert_eq!(counts(), (before.0 + 1, before.1 + frames), "{frames} frames");
        // Another may be lent now.
        let next = lent(100, 7);
        run.free();
        next.free();
        KMEM.trim();
        assert_eq!((counts(), taken_frames()), (before, taken), "{frames} frames");
    }
    KMEM.verify().expect("sound");
}

#[test]
fn wrong_frees_of_kept_and_lent_blocks_are_told() {
    let _alone = alone();
    let run = lent(200, 10);
    let start = run.start;
    let base = start.addr().get();
    let wrong = |offset: usize| {
        let block = start.map_addr(|address| address.saturating_add(offset));
        // SAFETY: no block starts there, or nobody uses it.
        unsafe {
            assert!(!KMEM.deallocate_second_hit(block.as_ptr()), "at {offset}");
            KMEM.deallocate(block)
        }
    };
    for offset in [16, FRAME_SIZE, 9 * FRAME_SIZE, 10 * FRAME_SIZE, 199 * FRAME_SIZE] {
        assert_eq!(wrong(offset), Err(HeapFreeError::NotAnObject { base }), "at {offset}");
    }
    assert!(run.free_by_hit());
    assert_eq!(wrong(0), Err(HeapFreeError::NotAllocated));
    KMEM.verify().expect("sound");
}

/// The default hook ends the process, so here is one that lets it go on.
#[test]
fn a_run_that_is_given_back_with_another_layout_stays() {
    let _alone = alone();
    set_hook(Some(|_| {}));
    let run = Run::new(20, 1);
    let before = counts();
    for frames in [19, 21, 300] {
        // SAFETY: what is wrong with the layout is what the heap has to notice.
        unsafe { KMEM.dealloc(run.start.as_ptr(), layout(frames)) };
    }
    let small = Layout::from_size_align(64, 16).expect("a layout");
    // SAFETY: as above.
    unsafe { KMEM.dealloc(run.start.as_ptr(), small) };
    set_hook(None);
    assert_eq!(counts(), before);
    run.check();
    // SAFETY: the block is the run's, which ends here.
    unsafe { KMEM.dealloc(run.start.as_ptr(), layout(20)) };
    assert_eq!(counts(), (before.0 - 1, before.1 - 20));
}

#[test]
fn a_visit_sees_a_lent_block_as_its_user_does_and_no_kept_one() {
    let _alone = alone();
    let lengths = |start: NonNull<u8>| {
        let mut lengths = Vec::new();
        KMEM.for_each_live(&mut |block, bytes| {
            if block == start {
                lengths.push(bytes);
            }
        });
        lengths
    };
    let run = lent(200, 10);
    let start = run.start;
    assert_eq!(lengths(start), [10 * FRAME_SIZE]);
    run.free();
    assert!(lengths(start).is_empty());
}

#[test]
fn what_an_idle_thread_keeps_goes_back_when_another_gives_memory_back() {
    let _alone = alone();
    let taken = taken_frames();
    let barrier = Barrier::new(2);
    let meanwhile = thread::scope(|scope| {
        scope.spawn(|| {
            Run::new(256, 1).free();
            let run = lent(100, 10);
            barrier.wait();
            barrier.wait();
            run.free();
        });
        barrier.wait();
        KMEM.trim();
        let meanwhile = taken_frames();
        barrier.wait();
        meanwhile
    });
    assert_eq!(meanwhile, taken + 10);
    KMEM.trim();
    assert_eq!(taken_frames(), taken);
    KMEM.verify().expect("sound");
}

/// Threads take, resize, free and hand over blocks of all lengths about those that are kept; now
/// and then one gives memory back.
#[test]
fn no_frame_is_two_users_whatever_threads_do_with_large_blocks() {
    const THREADS: usize = 4;
    let _alone = alone();
    let (before, taken) = (counts(), taken_frames());
    for seed in 0..4 {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..THREADS).map(|_| mpsc::channel::<Run>()).unzip();
        thread::scope(|scope| {
            for (number, receiver) in receivers.into_iter().enumerate() {
                let senders = senders.clone();
                let random = Random::new(seed * THREADS + number);
                scope.spawn(|| churn(random, senders, receiver));
            }
            drop(senders);
        });
        KMEM.trim();
        assert_eq!((counts(), taken_frames()), (before, taken), "seed {seed}");
        KMEM.verify().expect("sound");
    }
}

fn churn(mut random: Random, senders: Vec<mpsc::Sender<Run>>, receiver: mpsc::Receiver<Run>) {
    const STEPS: usize = 2000;
    let mut held: Vec<Run> = Vec::new();
    for step in 0..STEPS {
        held.extend(receiver.try_recv());
        let at = random.below(held.len().max(1));
        match random.below(12) {
            0..=4 if held.len() < 12 => held.push(Run::new(5 + random.below(260), step as u64)),
            5..=8 if !held.is_empty() => _ = held.swap_remove(at).free_by_hit(),
            9 if !held.is_empty() => held[at].resize(5 + random.below(260)),
            10 if !held.is_empty() => {
                let to = &senders[random.below(senders.len())];
                let _ = to.send(held.swap_remove(at)).map_err(|back| back.0.free());
            }
            11 if random.below(20) == 0 => _ = KMEM.trim(),
            _ => {}
        }
    }
    drop(senders);
    held.into_iter().chain(receiver).for_each(Run::free);
}

/// A run of a process of its own that is all zero, as it has to be.
fn zeroed(frames: &HostFrames, length: usize) -> FrameRange {
    let head = frames.take_run(length, Order::ZERO, BlockOwner::Heap, AllocFlags::ZERO);
    let run = FrameRange::from_len(head.expect("memory"), length).expect("a range");
    for frame in run.iter() {
        let words: *const u64 = frames.platform().phys_to_virt(frame.start()).cast();
        // SAFETY: the frame was taken just now.
        let word = |at| unsafe { words.add(at).read() };
        assert!((0..FRAME_SIZE / 8).all(|at| word(at) == 0), "{frame} of {run}");
    }
    run
}

fn fill(frames: &HostFrames, run: FrameRange) {
    let start = frames.platform().phys_to_virt(run.start().start());
    // SAFETY: the caller has the run.
    unsafe { start.write_bytes(0xa5, run.frames() * FRAME_SIZE) };
}

#[test]
fn what_a_shorter_run_gives_back_is_cleared_for_who_wants_zeros() {
    let _alone = alone();
    let frames = HostFrames::new();
    let run = zeroed(&frames, 600);
    fill(&frames, run);
    // SAFETY: nobody uses the run.
    let shorter = unsafe { frames.resize_run(run, 300, BlockOwner::Heap) }.expect("shorter");
    let (_, tail) = run.split_at(shorter.end());
    // Runs of other lengths than any that are kept.
    let found = (0..40).any(|_| zeroed(&frames, 30).overlaps(tail));
    assert!(found, "what is available is handed out");
    frames.verify().expect("sound");
}

#[test]
fn a_kept_run_that_goes_back_is_cleared_for_who_wants_zeros() {
    let _alone = alone();
    let frames = HostFrames::new();
    let run = zeroed(&frames, 200);
    fill(&frames, run);
    // SAFETY: nobody uses the run.
    unsafe { frames.give_run(run, BlockOwner::Heap) }.expect("it was taken");
    assert!(frames.trim() >= 200 * FRAME_SIZE, "its memory goes back to the system");
    let found = (0..40).any(|_| zeroed(&frames, 30).overlaps(run));
    assert!(found, "what is available is handed out");
    frames.verify().expect("sound");
}
