//! What goes wrong, one fault at a time: the exact answer, and then business as usual.

use core::fmt::Debug;

use super::*;
use crate::buddy::{AllocError, BlockOwner, ClaimError, FreeError, RemoveError, ResizeError};
use crate::page::{AddMemoryError, FrameSource, FrameState, Owners};
use crate::test_support::frame;

/// Memory with a hole, a reserved range and three zones.
fn machine() -> Box<PageAllocator<Machine>> {
    let regions = [usable(0x10, 0x200), usable(0x240, 0x800), reserved(0x500, 0x520)];
    boot(0x800, &regions, SMALL).0
}

/// Provokes one fault, and checks the answer, that nothing has changed, and that all goes on.
#[track_caller]
fn refused<T: Debug + PartialEq>(
    pages: &PageAllocator<Machine>,
    expected: T,
    fault: impl FnOnce(&PageAllocator<Machine>) -> T,
) {
    let before = pages.frames_available();
    let found = fault(pages);
    assert_eq!(found, expected);
    assert_eq!(pages.frames_available(), before);
    pages.verify().expect("a refused call leaves the allocator sound");
    exercise(pages);
}

#[test]
fn double_free_is_refused_at_once_later_and_after_coalescing() {
    let pages = machine();
    let block = pages.alloc(order(2), AllocFlags::empty()).unwrap();
    let other = pages.alloc(order(2), AllocFlags::empty()).unwrap();
    pages.free(block, order(2)).unwrap();
    refused(&pages, Err(FreeError::NotAllocated), |pages| pages.free(block, order(2)));
    pages.free(other, order(2)).unwrap();
    refused(&pages, Err(FreeError::NotAllocated), |pages| pages.free(block, order(2)));
    refused(&pages, Err(FreeError::NotAllocated), |pages| pages.free(other, order(2)));
}

#[test]
fn frames_that_are_no_memory_are_told_apart() {
    let pages = machine();
    let table = [
        ("outside every span", 0x5, FreeError::OutOfRange),
        ("behind all memory", 0x800, FreeError::OutOfRange),
        ("far away", Frame::MAX.number(), FreeError::OutOfRange),
        ("in a hole", 0x210, FreeError::Hole),
        ("reserved", 0x510, FreeError::Reserved),
        ("metadata", 0x7ff, FreeError::Reserved),
        ("never allocated", 0x30, FreeError::NotAllocated),
    ];
    for (what, number, error) in table {
        refused(&pages, (what, Err(error)), |pages| (what, pages.free(frame(number), Order::ZERO)));
        let run = FrameRange::from_len(frame(number), 0).unwrap();
        assert!(pages.free_exact(run).is_err(), "{what}: an empty range");
    }
    assert_eq!(pages.lookup(frame(0x210)), FrameState::Hole);
    assert_eq!(pages.lookup(frame(0x510)), FrameState::Reserved);
    assert_eq!(pages.lookup(frame(0x5)), FrameState::OutOfRange);
}

#[test]
fn blocks_are_freed_whole_and_as_they_were_allocated() {
    let pages = machine();
    let head = pages.alloc(order(3), AllocFlags::empty()).unwrap();
    let inside = frame(head.number() + 3);
    let not_head = FreeError::NotHead { head, order: order(3) };
    refused(&pages, Err(not_head), |pages| pages.free(inside, Order::ZERO));
    for given in [0, 2, 4, 20].map(order) {
        let wrong = FreeError::WrongOrder { allocated: order(3), given };
        refused(&pages, Err(wrong), |pages| pages.free(head, given));
    }
    let allocated = pages.alloc_exact(5, AllocFlags::empty()).unwrap();
    let given = FrameRange::from_len(allocated.start(), 4).unwrap();
    refused(&pages, Err(FreeError::WrongRange { allocated, given }), |pages| {
        pages.free_exact(given)
    });
    pages.free_exact(allocated).unwrap();
    pages.free(head, order(3)).unwrap();
}

#[test]
fn slabs_and_runs_are_not_freed_as_frames() {
    let pages = machine();
    let slab = pages.take(order(1), BlockOwner::Slab, AllocFlags::empty()).unwrap();
    let run = pages.take_run(3, Order::ZERO, BlockOwner::Heap, AllocFlags::empty()).unwrap();
    let run = FrameRange::from_len(run, 3).unwrap();
    let own = pages.alloc(Order::ZERO, AllocFlags::empty()).unwrap();
    refused(&pages, Err(FreeError::OwnedBySlab), |pages| pages.free(slab, order(1)));
    refused(&pages, Err(FreeError::OwnedByHeap), |pages| pages.free_exact(run));
    refused(&pages, Err(FreeError::OwnedByHeap), |pages| pages.free(run.start(), Order::ZERO));
    refused(&pages, Err(ResizeError::NotAllocated(FreeError::OwnedByHeap)), |pages| {
        pages.resize(run, 2)
    });
    refused(&pages, Err(ResizeError::NotAllocated(FreeError::NotAllocated)), |pages| {
        pages.resize(frames(0x30, 0x31), 0x1000)
    });
    refused(&pages, Err((1, FreeError::OwnedBySlab)), |pages| {
        let block = pages.alloc(order(1), AllocFlags::empty()).unwrap();
        pages.free_many(&[block, slab], order(1))
    });
    refused(&pages, Err(FreeError::OwnedByCaller), |pages| {
        // SAFETY: nobody uses the frame.
        unsafe { pages.give(own, Order::ZERO, BlockOwner::Slab) }
    });
}

#[test]
fn impossible_sizes_are_refused() {
    let pages = machine();
    let table = [
        (0, AllocError::ZeroSize),
        (Order::MAX.frames() + 1, AllocError::TooLarge),
        (usize::MAX, AllocError::TooLarge),
        (isize::MAX as usize, AllocError::TooLarge),
        (Order::MAX.frames(), AllocError::OutOfMemory),
    ];
    for (len, error) in table {
        refused(&pages, Err(error), |pages| pages.alloc_exact(len, AllocFlags::empty()));
        refused(&pages, Err(error), |pages| pages.alloc_exact(len, AllocFlags::ATOMIC));
    }
    refused(&pages, Err(ResizeError::ZeroSize), |pages| {
        let range = pages.alloc_exact(1, AllocFlags::empty()).unwrap();
        let resized = pages.resize(range, 0);
        pages.free_exact(range).unwrap();
        resized
    });
}

#[test]
fn no_memory_is_told_from_memory_in_pieces() {
    let pages = machine();
    refused(&pages, Err(AllocError::OutOfMemory), |pages| {
        let all: Vec<Frame> =
            core::iter::from_fn(|| pages.alloc(Order::ZERO, AllocFlags::ATOMIC).ok()).collect();
        let found = pages.alloc(Order::ZERO, AllocFlags::ATOMIC);
        pages.free_many(&all, Order::ZERO).unwrap();
        found
    });
    let odd: Vec<Frame> =
        core::iter::from_fn(|| pages.alloc(Order::ZERO, AllocFlags::ATOMIC).ok()).collect();
    let (odd, even): (Vec<Frame>, Vec<Frame>) =
        odd.into_iter().partition(|frame| frame.number() % 2 == 1);
    pages.free_many(&even, Order::ZERO).unwrap();
    let available = even.len();
    let allocs = || pages.zones().map(|zone| zone.counts.allocs).sum::<u64>();
    let before = allocs();
    let found = pages.alloc(order(1), AllocFlags::ATOMIC);
    assert_eq!(found, Err(AllocError::Fragmented { available, largest: Order::ZERO }));
    assert_eq!(allocs(), before, "only what was served counts");
    assert_eq!(pages.alloc_exact(available, AllocFlags::ATOMIC).err(), found.err());
    pages.verify().unwrap();
    pages.free_many(&odd, Order::ZERO).unwrap();
    exercise(&pages);
}

#[test]
fn the_largest_block_is_named_however_much_memory_is_spare() {
    // Three of the largest blocks, of which there is only what holds the metadata.
    let block = Order::MAX.frames();
    let (start, end) = (16 * block, 19 * block);
    let pages = PageAllocator::new(Machine::new([frames(end - 0x800, end)]));
    let options = InitOptions { owners: Owners::Omit, ..SMALL };
    // SAFETY: the metadata lie at the top, and nothing else is touched.
    unsafe { pages.init_with([usable(start, end)], options) }.expect("the map has memory");
    for first in (start..end).step_by(block) {
        pages.claim(frames(first, first + 1)).expect("available");
    }
    let found = pages.alloc(Order::MAX, AllocFlags::empty());
    let Err(AllocError::Fragmented { available, largest }) = found else { panic!("{found:?}") };
    assert!(available > 2 * block);
    assert_eq!(Some(largest), pages.largest());
}

#[test]
fn nothing_can_be_had_before_initialisation() {
    let pages = PageAllocator::new(Machine::new([frames(0, 1)]));
    let none = AllocFlags::empty();
    let range = frames(1, 2);
    assert_eq!(pages.alloc(Order::ZERO, none), Err(AllocError::NotInitialized));
    assert_eq!(pages.alloc_exact(1, none), Err(AllocError::NotInitialized));
    let reach = crate::page::Reach::ANYWHERE;
    assert_eq!(pages.alloc_within(1, &reach, none), Err(AllocError::NotInitialized));
    assert_eq!(pages.alloc_many(Order::ZERO, &mut [Frame::default()], none), 0);
    assert_eq!(pages.free(frame(1), Order::ZERO), Err(FreeError::NotInitialized));
    assert_eq!(pages.free_exact(range), Err(FreeError::NotInitialized));
    assert_eq!(pages.free_many(&[frame(1)], Order::ZERO), Err((0, FreeError::NotInitialized)));
    assert_eq!(pages.claim(range), Err(ClaimError::NotInitialized));
    let resized = pages.resize(range, 2);
    assert_eq!(resized, Err(ResizeError::NotAllocated(FreeError::NotInitialized)));
    assert_eq!(pages.remove(range), Err(RemoveError::NotInitialized));
    // SAFETY: refused before anything is touched.
    assert_eq!(unsafe { pages.add(range) }, Err(AddMemoryError::NotInitialized));
    assert_eq!(pages.lookup(frame(1)), FrameState::OutOfRange);
    assert!(pages.owner(frame(1)).is_none() && pages.run_of(frame(1)).is_none());
    assert_eq!(pages.zones().count(), 0);
    assert_eq!((pages.frames_managed(), pages.frames_available(), pages.largest()), (0, 0, None));
    assert!(pages.verify().is_ok());
}

#[test]
fn frames_are_claimed_only_where_they_are_available() {
    let pages = machine();
    pages.claim(frames(0x30, 0x35)).unwrap();
    let in_use = |number| Err(ClaimError::InUse { frame: frame(number) });
    refused(&pages, in_use(0x34), |pages| pages.claim(frames(0x34, 0x40)));
    refused(&pages, in_use(0x500), |pages| pages.claim(frames(0x4f0, 0x501)));
    refused(&pages, in_use(0x200), |pages| pages.claim(frames(0x1ff, 0x201)));
    refused(&pages, Err(ClaimError::ZeroSize), |pages| pages.claim(frames(0x40, 0x40)));
    for outside in [frames(0, 1), frames(0xf0, 0x110), frames(0x900, 0x901)] {
        let before = pages.frames_available();
        let found = pages.claim(outside);
        assert!(matches!(found, Err(ClaimError::OutOfRange { .. })), "{found:?}");
        assert_eq!(pages.frames_available(), before);
    }
    pages.free_exact(frames(0x30, 0x35)).unwrap();
    exercise(&pages);
}

#[test]
fn memory_that_is_managed_is_not_added_and_memory_in_use_is_not_removed() {
    let pages = machine();
    let overlap = |number| Err(AddMemoryError::Overlap { frame: frame(number) });
    // Of every `add` here a frame is managed, so nothing is touched.
    let add = |range| {
        move |pages: &PageAllocator<Machine>| {
            // SAFETY: it is refused before anything is touched.
            unsafe { pages.add(range) }
        }
    };
    refused(&pages, overlap(0x30), add(frames(0x30, 0x31)));
    refused(&pages, overlap(0x1ff), add(frames(0x1ff, 0x220)));
    refused(&pages, overlap(0x240), add(frames(0x210, 0x241)));
    let metadata = (0x700..0x800).find(|&n| pages.lookup(frame(n)) == FrameState::Reserved);
    let metadata = metadata.expect("metadata lie at the top");
    refused(&pages, overlap(metadata), add(frames(metadata, 0x800)));
    refused(&pages, overlap(metadata), add(frames(metadata, 0x900)));

    let held = frame(0x42);
    pages.claim(frames(0x42, 0x43)).unwrap();
    let in_use = |number| Err(RemoveError::InUse { frame: frame(number) });
    refused(&pages, in_use(0x42), |pages| pages.remove(frames(0x40, 0x50)));
    // Over a zone's limit: what has been removed below comes back.
    pages.claim(frames(0x150, 0x151)).unwrap();
    refused(&pages, in_use(0x150), |pages| pages.remove(frames(0x80, 0x160)));
    refused(&pages, in_use(metadata), |pages| pages.remove(frames(metadata, 0x800)));
    refused(&pages, Err(RemoveError::Hole { frame: frame(0x200) }), |pages| {
        pages.remove(frames(0x1f0, 0x210))
    });
    let before = pages.frames_available();
    let found = pages.remove(frames(0x8, 0x20));
    assert!(matches!(found, Err(RemoveError::OutOfRange { .. })), "{found:?}");
    assert_eq!(pages.frames_available(), before);
    pages.free(held, Order::ZERO).unwrap();
    pages.remove(frames(0x40, 0x50)).unwrap();
    exercise(&pages);
}

#[test]
fn what_is_wrong_with_a_free_can_be_told_as_a_violation() {
    let at = frame(0x12);
    let [allocated, given] = [4, 3].map(|len| FrameRange::from_len(at, len).unwrap());
    let table = [
        (FreeError::NotAllocated, "freed, but not allocated (freed twice, or never allocated)"),
        (FreeError::OutOfRange, "freed, but not kmem's"),
        (FreeError::Hole, "freed, but in a hole of the memory map"),
        (FreeError::Reserved, "freed, but reserved"),
        (
            FreeError::NotHead { head: frame(0x10), order: order(2) },
            "freed by an address inside its block: expected 0x10000, found 0x12000",
        ),
        (
            FreeError::WrongOrder { allocated: order(2), given: order(1) },
            "freed with the wrong order: expected order 2, found order 1",
        ),
        (
            FreeError::WrongRange { allocated, given },
            "freed with the wrong size or alignment: expected 16384 bytes, found 12288 bytes",
        ),
        (FreeError::OwnedByCaller, "described by corrupt records"),
        (FreeError::OwnedBySlab, "freed as frames, but owned by a slab"),
        (FreeError::OwnedByHeap, "freed as frames, but owned by the heap"),
        (FreeError::NotInitialized, "used before set-up"),
        (FreeError::Corrupted { frame: at }, "described by corrupt records"),
    ];
    for (error, words) in table {
        let expected = std::format!("kmem: 0x12000 {words} (CPU 0)");
        assert_eq!(std::string::ToString::to_string(&error.violation(at)), expected);
    }
}
