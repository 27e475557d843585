//! Every way to misuse a heap, alone: the exact error, nothing changed, and the heap works on.

mod support;

use std::alloc::{GlobalAlloc, Layout};
use std::cell::RefCell;
use std::hint;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::thread;

use allocator_api2::alloc::Allocator;
use kmem::AllocFlags;
use kmem::buddy::AllocError;
use kmem::check::{Rule, Violation, set_hook};
use kmem::frame::FRAME_SIZE;
use kmem::heap::{Heap, HeapFreeError, HeapStats, ReallocError, SizeClass};
use kmem::memory_map::{Region, RegionKind};
use kmem::page::{InitOptions, Owners, PageAllocator};
use kmem::slab::{CacheFlags, RawCache};
use support::{Frames, Machine, Random, become_cpu};

type TestHeap<'s> = Heap<'s, Frames>;

const NONE: AllocFlags = AllocFlags::empty();

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("valid")
}

fn bytes(size: usize) -> Layout {
    layout(size, 1)
}

#[track_caller]
fn allocate(heap: &TestHeap<'_>, layout: Layout) -> NonNull<u8> {
    let block = heap.allocate(layout, NONE).expect("memory");
    // SAFETY: the block is ours and so long.
    unsafe { block.cast::<u8>().write_bytes(0x5A, block.len()) };
    block.cast()
}

#[track_caller]
fn free(heap: &TestHeap<'_>, block: NonNull<u8>, layout: Layout) {
    // SAFETY: the tests do not use blocks that they have freed.
    unsafe { heap.deallocate(block, layout) }.expect("allocated with this layout");
}

fn usable_bytes(heap: &TestHeap<'_>, block: NonNull<u8>) -> Result<usize, HeapFreeError> {
    // SAFETY: nobody else uses the heap meanwhile.
    unsafe { heap.usable_bytes(block) }
}

/// Frees what must not be freed.
#[track_caller]
fn misfree(heap: &TestHeap<'_>, block: NonNull<u8>, layout: Layout) -> HeapFreeError {
    let before = heap.stats();
    // SAFETY: to be refused.
    let error = unsafe { heap.deallocate(block, layout) }.expect_err("a bad free");
    assert_eq!(heap.stats(), before, "a refused free changed something");
    error
}

/// A few thousand ordinary calls, and a recount.
#[track_caller]
fn assert_works(heap: &TestHeap<'_>) {
    heap.verify().expect("sound");
    let mut random = Random::new(7);
    let mut live: Vec<(NonNull<u8>, Layout)> = Vec::new();
    for _ in 0..3_000 {
        if random.below(2) == 0 && live.len() < 100 {
            let most = if random.below(20) == 0 { 3 * SizeClass::MAX_BYTES } else { 1_000 };
            let layout = bytes(1 + random.below(most));
            live.push((allocate(heap, layout), layout));
        } else if !live.is_empty() {
            let (block, layout) = live.swap_remove(random.below(live.len()));
            free(heap, block, layout);
        }
    }
    for (block, layout) in live {
        free(heap, block, layout);
    }
    heap.verify().expect("sound");
}

/// One size of each kind: a small object, a large one, a run, an aligned run.
const KINDS: [(usize, usize); 5] =
    [(24, 8), (SizeClass::MAX_BYTES, 16), (5 * FRAME_SIZE, 1), (40_000, 64), (100, 2 * FRAME_SIZE)];

#[test]
fn a_block_is_freed_once() {
    let frames = Frames::new(600);
    let heap = TestHeap::new(&frames);
    for (size, align) in KINDS {
        let layout = layout(size, align);
        let neighbours = [allocate(&heap, layout), allocate(&heap, layout)];
        let block = allocate(&heap, layout);
        free(&heap, block, layout);
        assert_eq!(misfree(&heap, block, layout), HeapFreeError::NotAllocated, "{layout:?}");
        // SAFETY: to be refused.
        let unsized_free = unsafe { heap.deallocate_unsized(block) };
        assert_eq!(unsized_free, Err(HeapFreeError::NotAllocated), "{layout:?}");
        assert_eq!(usable_bytes(&heap, block), Err(HeapFreeError::NotAllocated), "{layout:?}");
        for neighbour in neighbours {
            free(&heap, neighbour, layout);
        }
        assert_eq!(misfree(&heap, block, layout), HeapFreeError::NotAllocated, "{layout:?}");
        heap.reclaim();
        assert_eq!(misfree(&heap, block, layout), HeapFreeError::NotAllocated, "{layout:?}");
        assert_works(&heap);
    }
}

#[test]
fn an_address_inside_a_block_is_not_the_block() {
    let frames = Frames::new(600);
    let heap = TestHeap::new(&frames);
    for (size, align) in KINDS {
        let layout = layout(size, align);
        let block = allocate(&heap, layout);
        let usable = usable_bytes(&heap, block).expect("allocated");
        let refusal = HeapFreeError::NotAnObject { base: block.addr().get() };
        for offset in [1, 8, usable / 2, usable - 1] {
            // SAFETY: inside the block.
            let inside = unsafe { block.add(offset) };
            assert_eq!(misfree(&heap, inside, layout), refusal, "{layout:?} + {offset}");
            assert_eq!(usable_bytes(&heap, inside), Err(refusal), "{layout:?} + {offset}");
            // SAFETY: to be refused.
            let unsized_free = unsafe { heap.deallocate_unsized(inside) };
            assert_eq!(unsized_free, Err(refusal), "{layout:?} + {offset}");
        }
        free(&heap, block, layout);
    }
    assert_works(&heap);
}

#[test]
fn addresses_from_elsewhere_are_refused() {
    let frames = Frames::new(600);
    let heap = TestHeap::new(&frames);
    static ELSEWHERE: AtomicU32 = AtomicU32::new(0);
    let local = 0_u64;
    let foreign = [
        NonNull::from(&ELSEWHERE).cast::<u8>(),
        NonNull::from(&local).cast(),
        NonNull::dangling(),
        NonNull::new(ptr::without_provenance_mut(usize::MAX)).expect("not null"),
    ];
    for block in foreign {
        for (size, align) in KINDS {
            assert_eq!(misfree(&heap, block, layout(size, align)), HeapFreeError::OutOfRange);
        }
        assert_eq!(usable_bytes(&heap, block), Err(HeapFreeError::OutOfRange));
    }
    assert_works(&heap);
}

#[test]
fn an_object_of_another_cache_is_refused_by_name() {
    let frames = Frames::new(600);
    let heap = TestHeap::new(&frames);
    for tag in [0, 1, 7, 1000] {
        let cache = RawCache::new(&frames, "other", 64, 8, CacheFlags::empty()).with_tag(tag);
        let object = cache.alloc(NONE).expect("memory");
        let refusal = HeapFreeError::WrongCache { owner: "other" };
        assert_eq!(misfree(&heap, object, bytes(64)), refusal);
        assert_eq!(misfree(&heap, object, bytes(5 * FRAME_SIZE)), refusal);
        // SAFETY: to be refused.
        assert_eq!(unsafe { heap.deallocate_unsized(object) }, Err(refusal));
        // SAFETY: the cache's own object, not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
    assert_works(&heap);
}

#[test]
fn a_layout_of_another_class_is_a_mismatch() {
    let frames = Frames::new(600);
    let heap = TestHeap::new(&frames);
    let cases = [
        // allocated, given, usable bytes
        (bytes(100), bytes(113), 112),
        (bytes(100), bytes(96), 112),
        (bytes(100), bytes(SizeClass::MAX_BYTES), 112),
        (bytes(100), bytes(6 * FRAME_SIZE), 112),
        (bytes(100), bytes(0), 112),
        (bytes(100), layout(100, 2 * FRAME_SIZE), 112),
        (bytes(130), layout(130, 64), 160),
        (bytes(6 * FRAME_SIZE), bytes(100), 6 * FRAME_SIZE),
        (bytes(6 * FRAME_SIZE), bytes(5 * FRAME_SIZE), 6 * FRAME_SIZE),
        (bytes(6 * FRAME_SIZE), bytes(7 * FRAME_SIZE), 6 * FRAME_SIZE),
        (bytes(6 * FRAME_SIZE), bytes(0), 6 * FRAME_SIZE),
        (layout(100, 2 * FRAME_SIZE), layout(100, 1), FRAME_SIZE),
    ];
    for (allocated, given, allocated_bytes) in cases {
        let block = allocate(&heap, allocated);
        let refusal = HeapFreeError::SizeMismatch { allocated_bytes, given_bytes: given.size() };
        assert_eq!(misfree(&heap, block, given), refusal, "{allocated:?} as {given:?}");
        // SAFETY: to be refused.
        let moved = unsafe { heap.reallocate(block, given, bytes(10), NONE) };
        assert_eq!(moved, Err(ReallocError::Free(refusal)), "{allocated:?} as {given:?}");
        // SAFETY: to be refused, also where it would have stayed.
        let kept = unsafe { heap.reallocate(block, given, given, NONE) };
        assert_eq!(kept, Err(ReallocError::Free(refusal)), "{allocated:?} as {given:?}");
        free(&heap, block, allocated);
    }
    // A run that is less aligned than the layout says: every other frame is.
    let runs: Vec<_> = (0..4).map(|_| allocate(&heap, bytes(5 * FRAME_SIZE))).collect();
    let aligned = layout(5 * FRAME_SIZE, 2 * FRAME_SIZE);
    for run in runs {
        if !run.addr().get().is_multiple_of(aligned.align()) {
            let (allocated_bytes, given_bytes) = (5 * FRAME_SIZE, 5 * FRAME_SIZE);
            let refusal = HeapFreeError::SizeMismatch { allocated_bytes, given_bytes };
            assert_eq!(misfree(&heap, run, aligned), refusal);
        }
        free(&heap, run, bytes(5 * FRAME_SIZE));
    }
    assert_works(&heap);
}

#[test]
fn any_layout_that_a_block_fits_frees_it() {
    let frames = Frames::new(600);
    let heap = TestHeap::new(&frames);
    for (size, align) in KINDS {
        let asked = layout(size, align);
        let block = heap.allocate(asked, NONE).expect("memory");
        free(&heap, block.cast(), layout(block.len(), align));
    }
    assert_eq!(heap.stats().live_bytes(), 0);
}

#[test]
fn writing_to_freed_memory_does_not_reach_the_allocator() {
    let frames = Frames::new(600);
    let heap = TestHeap::new(&frames);
    for (size, align) in KINDS {
        let layout = layout(size, align);
        let kept = allocate(&heap, layout);
        let blocks: Vec<_> = (0..8).map(|_| allocate(&heap, layout)).collect();
        for &block in &blocks {
            free(&heap, block, layout);
        }
        for (block, garbage) in blocks.iter().zip([0x00, 0xFF, 0x01, 0x41].iter().cycle()) {
            // SAFETY: the test's array of frames holds them, and nobody else has got them.
            unsafe { block.write_bytes(*garbage, size) };
        }
        assert_works(&heap);
        free(&heap, kept, layout);
    }
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let frames = Frames::new(600);
    let heap = TestHeap::new(&frames);
    let before = heap.stats();
    let cases =
        [(0, 1), (0, 64), (0, 1 << 40), (isize::MAX as usize, 1), (1, 1 << 62), (1, 1 << 33)];
    for (size, align) in cases {
        let layout = layout(size, align);
        let error = heap.allocate(layout, NONE).expect_err("an impossible request");
        let is_right = match size {
            0 => error == AllocError::ZeroSize || align > FRAME_SIZE,
            _ => matches!(error, AllocError::TooLarge),
        };
        assert!(is_right, "{layout:?}: {error:?}");
        // SAFETY: what `alloc` does with such layouts is under test; it is not a trait's caller
        // here.
        unsafe {
            assert!(heap.alloc(layout).is_null(), "{layout:?}");
            assert!(heap.alloc_zeroed(layout).is_null(), "{layout:?}");
        }
    }
    let block = allocate(&heap, bytes(100));
    // SAFETY: the block stays allocated when this fails.
    unsafe {
        assert!(heap.realloc(block.as_ptr(), bytes(100), isize::MAX as usize).is_null());
        assert!(heap.realloc(block.as_ptr(), bytes(100), usize::MAX).is_null());
    }
    free(&heap, block, bytes(100));
    heap.reclaim();
    assert_eq!(heap.stats().live_bytes(), before.live_bytes());
    assert_works(&heap);
}

#[test]
fn a_heap_without_memory_says_so_and_works_again_when_there_is_some() {
    let frames = Frames::new(500);
    let heap = TestHeap::new(&frames);
    for (size, align) in KINDS {
        let layout = layout(size, align);
        let mut blocks = Vec::new();
        let error = loop {
            match heap.allocate(layout, NONE) {
                Ok(block) => blocks.push(block.cast::<u8>()),
                Err(error) => break error,
            }
        };
        let is_right = matches!(error, AllocError::OutOfMemory | AllocError::Fragmented { .. });
        assert!(is_right, "{layout:?}: {error:?}");
        // SAFETY: the layout has bytes.
        assert!(unsafe { heap.alloc(layout) }.is_null());
        heap.verify().expect("sound");
        for block in blocks {
            free(&heap, block, layout);
        }
        heap.reclaim();
        assert_works(&heap);
    }
}

#[test]
fn empty_slabs_are_given_back_before_a_request_fails() {
    const FRAMES: usize = 600;
    let frames = Frames::new(FRAMES);
    let heap = TestHeap::new(&frames);
    // Each class keeps an empty slab.
    for class in SizeClass::all() {
        let block = allocate(&heap, bytes(class.bytes()));
        free(&heap, block, bytes(class.bytes()));
    }
    let kept = frames.taken();
    assert!(kept > 40, "only {kept} frames are kept");
    let run = bytes((FRAMES - kept + 20) * FRAME_SIZE);
    // An atomic request cannot wait for them.
    heap.allocate(run, AllocFlags::ATOMIC).expect_err("in the slabs' hands");
    let block = allocate(&heap, run);
    free(&heap, block, run);
    heap.verify().expect("sound");
}

#[test]
fn of_two_threads_that_free_a_run_one_succeeds() {
    const ROUNDS: usize = 2_000;
    let frames = Frames::new(64);
    let heap = TestHeap::new(&frames);
    let run = bytes(5 * FRAME_SIZE);
    let (block, arrived) = (AtomicPtr::new(ptr::null_mut()), AtomicUsize::new(0));
    // Both come out of here at the same moment, unless one of them has to wait long.
    let meet = |times: usize| {
        arrived.fetch_add(1, Ordering::AcqRel);
        for spins in 0.. {
            if arrived.load(Ordering::Acquire) >= 2 * times {
                break;
            }
            if spins < 2_000 { hint::spin_loop() } else { thread::yield_now() }
        }
    };
    let race = |cpu: usize| {
        become_cpu(cpu);
        let mut freed = [false; ROUNDS];
        for (round, freed) in freed.iter_mut().enumerate() {
            if cpu == 0 {
                block.store(allocate(&heap, run).as_ptr(), Ordering::Release);
            }
            meet(2 * round + 1);
            let block = NonNull::new(block.load(Ordering::Acquire)).expect("not null");
            // SAFETY: nobody uses the run; of the two frees one is to be refused.
            let result = unsafe { heap.deallocate(block, run) };
            assert!(matches!(result, Ok(()) | Err(HeapFreeError::NotAllocated)), "{result:?}");
            *freed = result.is_ok();
            meet(2 * round + 2);
        }
        freed
    };
    let [first, second] = thread::scope(|scope| {
        [scope.spawn(|| race(0)), scope.spawn(|| race(1))]
            .map(|race| race.join().expect("no panic"))
    });
    assert!(first.iter().zip(second).all(|(first, second)| *first != second));
    assert_eq!(frames.taken(), 0);
    heap.verify().expect("sound");
}

#[test]
fn a_failure_of_any_request_for_frames_leaves_everything_as_it_was() {
    type Call = fn(&TestHeap<'_>, NonNull<u8>) -> Result<(NonNull<u8>, Layout), ()>;
    fn take(
        heap: &TestHeap<'_>,
        layout: Layout,
        flags: AllocFlags,
    ) -> Result<(NonNull<u8>, Layout), ()> {
        heap.allocate(layout, flags).map(|block| (block.cast(), layout)).map_err(drop)
    }
    let calls: [Call; 6] = [
        |heap, _| take(heap, bytes(24), NONE),
        |heap, _| take(heap, bytes(24), AllocFlags::ZERO),
        |heap, _| take(heap, bytes(SizeClass::MAX_BYTES), NONE),
        |heap, _| take(heap, bytes(9 * FRAME_SIZE), NONE),
        |heap, _| take(heap, layout(9 * FRAME_SIZE, 8 * FRAME_SIZE), NONE),
        |heap, block| {
            // SAFETY: the block is allocated, and not used by its old address if this succeeds.
            let moved = unsafe { heap.reallocate(block, bytes(1_000), bytes(20_000), NONE) };
            moved.map(|moved| (moved.cast(), bytes(20_000))).map_err(drop)
        },
    ];
    for (index, call) in calls.into_iter().enumerate() {
        let mut failures = 0;
        loop {
            let frames = Frames::new(600);
            let heap = TestHeap::new(&frames);
            let block = allocate(&heap, bytes(1_000));
            let before = (heap.stats(), frames.taken());
            frames.fail_after(failures);
            let result = call(&heap, block);
            frames.never_fail();
            heap.verify().expect("sound");
            let Err(()) = result else { break };
            failures += 1;
            assert_same(before, (heap.stats(), frames.taken()), index);
            // SAFETY: the block is still allocated.
            let first = unsafe { std::slice::from_raw_parts(block.as_ptr(), 1_000) };
            assert!(first.iter().all(|byte| *byte == 0x5A), "call {index}: contents lost");
            assert!(call(&heap, block).is_ok(), "call {index}: fails for good");
            assert_works(&heap);
            assert!(failures < 20, "call {index}: never succeeds");
        }
        assert!(failures > 0, "call {index}: asked for no frames");
    }
}

/// A cache may keep its identity, a record in a frame, once it has one.
#[track_caller]
fn assert_same(before: (HeapStats, usize), after: (HeapStats, usize), call: usize) {
    assert_eq!(before.0.live_bytes(), after.0.live_bytes(), "call {call}");
    assert_eq!(before.0.runs, after.0.runs, "call {call}");
    assert!(after.1 <= before.1 + 1, "call {call}: {} frames, then {}", before.1, after.1);
}

// The unchecked face.

thread_local! {
    static FOUND: RefCell<Vec<(Rule, usize)>> = const { RefCell::new(Vec::new()) };
}

fn record_violations() {
    FOUND.take();
    set_hook(Some(|violation: &Violation<'_>| {
        FOUND.with_borrow_mut(|found| found.push((violation.rule, violation.address)));
    }));
}

fn violations() -> Vec<(Rule, usize)> {
    FOUND.take()
}

#[test]
fn wrong_frees_by_the_unchecked_face_go_to_the_hook_and_change_nothing() {
    let frames = Frames::new(600);
    let heap = TestHeap::new(&frames);
    record_violations();
    let block = allocate(&heap, bytes(100));
    let run = allocate(&heap, bytes(30_000));
    // SAFETY: the wrong frees are to be refused; blocks are not used after the right ones.
    unsafe {
        let cases = [
            (block.add(1), bytes(100), Rule::NotAnObject),
            (run.add(FRAME_SIZE), bytes(30_000), Rule::NotAnObject),
            (block, bytes(1_000), Rule::SizeMismatch),
            (run, bytes(100), Rule::SizeMismatch),
            (NonNull::dangling(), bytes(100), Rule::OutOfRange),
        ];
        for (address, layout, rule) in cases {
            heap.dealloc(address.as_ptr(), layout);
            assert_eq!(violations(), [(rule, address.addr().get())]);
        }
        let moved = heap.realloc(block.as_ptr(), bytes(1_000), 2_000);
        assert!(moved.is_null());
        assert_eq!(violations(), [(Rule::SizeMismatch, block.addr().get())]);
        for (address, layout) in [(block, bytes(100)), (run, bytes(30_000))] {
            heap.dealloc(address.as_ptr(), layout);
            assert_eq!(violations(), []);
            heap.dealloc(address.as_ptr(), layout);
            assert_eq!(violations(), [(Rule::NotAllocated, address.addr().get())]);
        }
    }
    assert_works(&heap);
}

#[test]
fn wrong_frees_by_collections_go_to_the_hook_and_change_nothing() {
    let frames = Frames::new(600);
    let heap = TestHeap::new(&frames);
    record_violations();
    let block = allocate(&heap, bytes(100));
    let (wrong, allocator) = (bytes(1_000), &heap);
    let told = [(Rule::SizeMismatch, block.addr().get())];
    // SAFETY: the wrong frees are to be refused; the block is not used after the right one.
    unsafe {
        Allocator::deallocate(&allocator, block, wrong);
        assert_eq!(violations(), told);
        assert!(Allocator::grow(&allocator, block, wrong, bytes(2_000)).is_err());
        assert_eq!(violations(), told);
        assert!(Allocator::shrink(&allocator, block, wrong, bytes(0)).is_ok());
        assert_eq!(violations(), told);
        Allocator::deallocate(&allocator, block, bytes(100));
    }
    assert_eq!(violations(), []);
    assert_works(&heap);
}

#[test]
fn every_error_names_what_was_expected_and_found() {
    let errors = [
        HeapFreeError::NotAllocated,
        HeapFreeError::NotAnObject { base: 0x2000 },
        HeapFreeError::OutOfRange,
        HeapFreeError::WrongCache { owner: "other" },
        HeapFreeError::SizeMismatch { allocated_bytes: 112, given_bytes: 96 },
        HeapFreeError::Overrun { offset: -1, found: 7 },
        HeapFreeError::Corrupted,
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("expected") && text.contains("found"), "{text}");
        let line = error.violation(0x1000).to_string();
        assert!(line.contains("0x1000") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn on_pages_without_owner_records_a_heap_has_nothing_and_takes_nothing() {
    let machine = Machine::new(1024, 1);
    let region = Region::from_frames(machine.frames(), RegionKind::Usable);
    let pages = PageAllocator::new(machine);
    let options = InitOptions { owners: Owners::Omit, ..InitOptions::DEFAULT };
    // SAFETY: the memory is the machine's, for nobody else.
    unsafe { pages.init_with([region], options) }.expect("memory for the metadata");
    let before = pages.frames_available();
    let heap = Heap::new(&pages);
    for size in [1, 64, 5000, 64 << 10, 1 << 20] {
        for _ in 0..3 {
            let found = heap.allocate(bytes(size), NONE);
            assert!(matches!(found, Err(AllocError::NoOwnerRecord { .. })), "{size}: {found:?}");
        }
    }
    pages.drain();
    let records = heap.stats().record_frames;
    assert_eq!(pages.frames_available() + records, before, "frames lost");
    pages.verify().expect("sound");
}
