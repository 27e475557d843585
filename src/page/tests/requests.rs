//! Zones, fallback, watermarks, placement, constraints, zeroing, shrinkers, counts.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::vec::Vec;

use spin::Once;

use super::*;
use crate::buddy::{AllocError, BlockOwner, ResizeError};
use crate::page::{FrameSource, MAX_SHRINKERS, Reach, Shrinker, TooManyShrinkers, Watermarks};
use crate::test_support::frame;

fn zone_of(frame: Frame) -> ZoneKind {
    match frame.number() {
        ..0x100 => ZoneKind::Dma,
        0x100..0x400 => ZoneKind::Dma32,
        _ => ZoneKind::Normal,
    }
}

/// Allocates single frames until that fails, and says how many came from each zone.
fn drain(pages: &PageAllocator<Machine>, flags: AllocFlags) -> [usize; 3] {
    let mut counts = [0; 3];
    while let Ok(frame) = pages.alloc(Order::ZERO, flags) {
        counts[zone_of(frame).index()] += 1;
    }
    counts
}

#[test]
fn a_request_is_served_by_the_highest_zone_it_allows() {
    let pages = three_zones();
    let table = [
        (AllocFlags::empty(), ZoneKind::Normal),
        (AllocFlags::ZONE_DMA32, ZoneKind::Dma32),
        (AllocFlags::ZONE_DMA, ZoneKind::Dma),
        (AllocFlags::ZONE_DMA | AllocFlags::ZONE_DMA32, ZoneKind::Dma),
        (AllocFlags::ATOMIC, ZoneKind::Normal),
        (AllocFlags::MOVABLE, ZoneKind::Normal),
    ];
    for (flags, kind) in table {
        let frame = pages.alloc(order(2), flags).unwrap();
        assert_eq!(zone_of(frame), kind, "{flags:?}");
        pages.free(frame, order(2)).unwrap();
    }
}

#[test]
fn ordinary_requests_leave_their_reserve_and_more_of_it_in_lower_zones() {
    let pages = three_zones();
    let managed = ZoneKind::ALL.map(|kind| pages.stats(kind).managed_frames);
    let marks = ZoneKind::ALL.map(|kind| pages.stats(kind).watermarks);
    let taken = drain(&pages, AllocFlags::empty());
    let normal = ZoneKind::Normal.index();
    assert_eq!(taken[normal], managed[normal] - marks[normal].min);
    for low in [0, 1] {
        assert_eq!(taken[low], managed[low] - marks[low].high);
    }
    // It is not told of as memory that is there.
    assert_eq!(pages.alloc(Order::ZERO, AllocFlags::empty()), Err(AllocError::OutOfMemory));
    // Those that need a lower zone find what was left there.
    let taken = drain(&pages, AllocFlags::ZONE_DMA32);
    assert_eq!(taken, [0, marks[1].high - marks[1].min, 0]);
    let taken = drain(&pages, AllocFlags::ZONE_DMA);
    assert_eq!(taken, [marks[0].high - marks[0].min, 0, 0]);
    // And those that cannot wait take the last frame of all.
    let taken = drain(&pages, AllocFlags::ATOMIC);
    assert_eq!(taken, marks.map(|marks| marks.min));
    assert_eq!(pages.frames_available(), 0);
    pages.verify().unwrap();
}

#[test]
fn lower_zones_with_plenty_are_asked_before_the_own_reserve() {
    let pages = three_zones();
    let low = pages.stats(ZoneKind::Normal).watermarks.low;
    while pages.stats(ZoneKind::Normal).available_frames > low {
        pages.alloc(Order::ZERO, AllocFlags::empty()).unwrap();
    }
    let next = pages.alloc(Order::ZERO, AllocFlags::empty()).unwrap();
    assert_eq!(zone_of(next), ZoneKind::Dma32);
    let stats = pages.stats(ZoneKind::Dma32);
    assert_eq!((stats.counts.allocs, stats.counts.fallbacks), (1, 1));
}

#[test]
fn no_fallback_means_the_highest_zone_that_has_memory() {
    let pages = three_zones();
    let taken = drain(&pages, AllocFlags::NO_FALLBACK);
    assert!(taken[2] > 0);
    assert_eq!(taken[..2], [0, 0]);
    // A machine without Normal memory.
    let (pages, _) = boot(0x400, &[usable(0x10, 0x400)], SMALL);
    let taken = drain(&pages, AllocFlags::NO_FALLBACK);
    assert_eq!((taken[0], taken[2]), (0, 0));
    assert!(taken[1] > 0);
    assert!(pages.alloc(Order::ZERO, AllocFlags::empty()).is_ok(), "zone DMA has memory");
}

#[test]
fn a_zone_that_a_request_excludes_is_never_touched() {
    let (pages, _) = boot(0x800, &[usable(0x400, 0x800)], SMALL);
    for flags in [AllocFlags::ZONE_DMA, AllocFlags::ZONE_DMA32] {
        assert_eq!(pages.alloc(Order::ZERO, flags), Err(AllocError::OutOfMemory));
        assert_eq!(pages.alloc_exact(3, flags | AllocFlags::ATOMIC), Err(AllocError::OutOfMemory));
        assert_eq!(pages.alloc_exact(0, flags), Err(AllocError::ZeroSize));
    }
    exercise(&pages);
}

#[test]
fn movable_blocks_lie_at_the_other_end() {
    let pages = three_zones();
    // Four free blocks of one order are left in zone Normal.
    let free = [0x410, 0x450, 0x480, 0x600].map(|start| frames(start, start + 8));
    while pages.alloc(Order::ZERO, AllocFlags::NO_FALLBACK | AllocFlags::ATOMIC).is_ok() {}
    assert_eq!(pages.stats(ZoneKind::Normal).available_frames, 0);
    for frame in free.into_iter().flat_map(FrameRange::iter) {
        pages.free(frame, Order::ZERO).unwrap();
    }
    let atomic = AllocFlags::ATOMIC | AllocFlags::NO_FALLBACK;
    assert_eq!(pages.alloc(order(3), atomic | AllocFlags::MOVABLE), Ok(frame(0x600)));
    assert_eq!(pages.alloc(order(3), atomic), Ok(frame(0x410)));
    assert_eq!(pages.alloc_exact(3, atomic | AllocFlags::MOVABLE), Ok(frames(0x485, 0x488)));
    assert_eq!(pages.alloc(Order::ZERO, atomic), Ok(frame(0x484)));
}

#[test]
fn zero_zeroes_exactly_the_block() {
    let pages = three_zones();
    // All of zone Normal but the metadata above it.
    let all = frames(0x400, 0x400 + pages.stats(ZoneKind::Normal).available_frames);
    pages.claim(all).unwrap();
    // SAFETY: just allocated.
    unsafe { pages.platform().fill(all, 0xa5) };
    pages.free_exact(all).unwrap();
    let block = pages.alloc_within(8, &Reach::below(all.end().start()), AllocFlags::ZERO).unwrap();
    let one = pages.alloc_exact(3, AllocFlags::ZERO).unwrap();
    let two = pages.alloc(order(1), AllocFlags::ZERO).unwrap();
    let two = FrameRange::from_len(two, 2).unwrap();
    let mut many = [Frame::default(); 3];
    assert_eq!(pages.alloc_many(Order::ZERO, &mut many, AllocFlags::ZERO), 3);
    let many = many.map(|frame| FrameRange::from_len(frame, 1).unwrap());
    let zeroed: Vec<FrameRange> = [block, one, two].into_iter().chain(many).collect();
    assert!(zeroed.iter().all(|zeroed| all.contains_range(*zeroed)), "{zeroed:?}");
    for frame in all.iter() {
        let range = FrameRange::from_len(frame, 1).unwrap();
        let taken = zeroed.iter().any(|zeroed| zeroed.contains(frame));
        let expected = if taken { 0 } else { 0xa5 };
        // SAFETY: nobody writes while this thread looks.
        let bytes = unsafe { pages.platform().bytes(range) };
        assert!(bytes.iter().all(|&byte| byte == expected), "{frame}");
    }
}

#[test]
fn free_memory_is_not_touched() {
    let pages = three_zones();
    let all: Vec<FrameRange> =
        [frames(0x10, 0x100), frames(0x100, 0x400), frames(0x400, 0x7f0)].into();
    for &range in &all {
        pages.claim(range).unwrap();
        // SAFETY: just allocated.
        unsafe { pages.platform().fill(range, 0x5a) };
        pages.free_exact(range).unwrap();
    }
    exercise(&pages);
    exhaust(&pages);
    for &range in &all {
        // SAFETY: nobody writes while this thread looks.
        let bytes = unsafe { pages.platform().bytes(range) };
        assert!(bytes.iter().all(|&byte| byte == 0x5a), "{range}");
    }
}

#[test]
fn devices_get_what_they_reach() {
    let pages = three_zones();
    let reach = |end: usize, align: u64, boundary: u64| Reach {
        end: PhysAddr::new((end as u64) << 12),
        align_bytes: align,
        boundary_bytes: boundary,
        ..Reach::ANYWHERE
    };
    let table = [
        (3, reach(0x100, 1, 0)),
        (3, reach(0x80, 0x1000, 0x4000)),
        (16, reach(0x300, 0x1_0000, 0x1_0000)),
        (5, reach(0x800, 0x10_0000, 0)),
        (1, reach(0x11, 1, 0x1000)),
        (7, reach(0x800, 0x8000, 1 << 40)),
        (2, Reach { start: PhysAddr::new(0x20_0001), ..reach(0x800, 1, 0) }),
        (2, Reach { start: PhysAddr::new(0x20_0001), ..reach(0x203, 1, 0) }),
    ];
    for (len, reach) in table {
        let range = pages.alloc_within(len, &reach, AllocFlags::empty()).unwrap();
        let (first, behind) = (range.start().start().as_u64(), range.end().start().as_u64());
        assert_eq!(range.frames(), len);
        assert!(reach.start.as_u64() <= first && behind <= reach.end.as_u64(), "{range}");
        assert!(first.is_multiple_of(reach.align_bytes), "{range} {reach:?}");
        let block = |address: u64| address.checked_div(reach.boundary_bytes);
        assert_eq!(block(first), block(behind - 1), "{range} {reach:?}");
        pages.free_exact(range).unwrap();
    }
    exercise(&pages);
}

#[test]
fn what_no_device_can_be_given_is_refused() {
    let pages = three_zones();
    let anywhere = Reach::ANYWHERE;
    let table = [
        (0, anywhere, AllocError::ZeroSize),
        (1, Reach { align_bytes: 0, ..anywhere }, AllocError::BadAlignment),
        (1, Reach { align_bytes: 0x3000, ..anywhere }, AllocError::BadAlignment),
        (1, Reach { boundary_bytes: 0x3000, ..anywhere }, AllocError::BadAlignment),
        (1, Reach { boundary_bytes: 0x800, ..anywhere }, AllocError::TooLarge),
        (3, Reach { boundary_bytes: 0x2000, ..anywhere }, AllocError::TooLarge),
        (1, Reach { align_bytes: 1 << 40, ..anywhere }, AllocError::TooLarge),
        (usize::MAX, anywhere, AllocError::TooLarge),
        (usize::MAX >> 12, anywhere, AllocError::TooLarge),
        ((1 << 20) + 1, anywhere, AllocError::TooLarge),
        (0x2000, anywhere, AllocError::OutOfMemory),
    ];
    for (len, reach, error) in table {
        let found = pages.alloc_within(len, &reach, AllocFlags::empty());
        assert_eq!(found, Err(error), "{len} {reach:?}");
    }
    let nowhere = Reach { start: PhysAddr::new(0x5000), end: PhysAddr::new(0x5fff), ..anywhere };
    let few = Reach {
        end: PhysAddr::new(0x1_4000),
        ..Reach { start: PhysAddr::new(0x1_0000), ..anywhere }
    };
    for (len, reach) in [(1, nowhere), (5, few)] {
        let found = pages.alloc_within(len, &reach, AllocFlags::empty());
        assert_eq!(found, Err(AllocError::TooLarge), "{len} {reach:?}");
    }
    assert!(pages.alloc_within(4, &few, AllocFlags::empty()).is_ok());
    // Where there is no memory it is not the request's length.
    let found = pages.alloc_within(
        1,
        &Reach { start: PhysAddr::new(1 << 40), ..anywhere },
        AllocFlags::empty(),
    );
    assert!(matches!(found, Err(AllocError::Fragmented { .. })), "{found:?}");
    pages.free_exact(frames(0x10, 0x14)).unwrap();
    exercise(&pages);
}

#[test]
fn resizing_takes_from_behind_and_keeps_the_reserve() {
    let pages = three_zones();
    let range = frames(0x410, 0x418);
    pages.claim(range).unwrap();
    let grown = pages.resize(range, 20).unwrap();
    assert_eq!((grown.start(), grown.frames()), (range.start(), 20));
    let shrunk = pages.resize(grown, 3).unwrap();
    assert_eq!((shrunk.start(), shrunk.frames()), (range.start(), 3));
    let normal = pages.stats(ZoneKind::Normal);
    let spare = normal.available_frames - normal.watermarks.min;
    assert_eq!(pages.resize(shrunk, 3 + spare + 1), Err(ResizeError::OutOfMemory));
    let whole = pages.resize(shrunk, 3 + spare).unwrap();
    pages.free_exact(whole).unwrap();
    exercise(&pages);
}

#[test]
fn counts_say_what_happened() {
    let pages = three_zones();
    let held: Vec<Frame> =
        (0..5).map(|_| pages.alloc(Order::ZERO, AllocFlags::empty()).unwrap()).collect();
    assert!(pages.alloc(Order::MAX, AllocFlags::empty()).is_err());
    pages.free_many(&held[1..], Order::ZERO).unwrap();
    pages.free(held[0], Order::ZERO).unwrap();
    let counts = pages.stats(ZoneKind::Normal).counts;
    assert_eq!((counts.allocs, counts.frees, counts.failures, counts.fallbacks), (5, 5, 1, 0));
    let lower = [ZoneKind::Dma, ZoneKind::Dma32].map(|kind| pages.stats(kind).counts.failures);
    assert_eq!(lower, [0, 0], "a failure is one of the zone that was to serve");
    pages.claim(frames(0x500, 0x510)).unwrap();
    pages.free_exact(frames(0x500, 0x510)).unwrap();
    let counts = pages.stats(ZoneKind::Normal).counts;
    assert_eq!((counts.allocs, counts.frees), (6, 6));
    // Bulk calls count blocks, in each zone those that it served.
    let mut out = std::vec![Frame::default(); 0x800];
    let filled = pages.alloc_many(Order::ZERO, &mut out, AllocFlags::ATOMIC);
    let stats: Vec<_> = pages.zones().collect();
    assert_eq!(stats.len(), 3);
    assert_eq!(stats.iter().map(|stats| stats.counts.allocs).sum::<u64>(), 6 + filled as u64);
    assert_eq!(stats[0].counts.fallbacks, stats[0].managed_frames as u64);
    for stats in stats {
        let blocks = stats.available_blocks.iter().zip(Order::all());
        let frames: usize = blocks.map(|(count, order)| count * order.frames()).sum();
        assert_eq!(frames, stats.available_frames);
        assert!(stats.watermarks.min < stats.watermarks.high);
        assert!(stats.cover.frames() >= stats.managed_frames);
    }
}

#[test]
fn a_zone_of_several_spans_is_one_pool() {
    let (pages, _) = boot(0x4000, &[usable(0x400, 0x600), usable(0x3000, 0x3100)], SMALL);
    let normal = pages.stats(ZoneKind::Normal);
    assert_eq!(normal.spans, 2);
    assert_eq!(pages.largest(), Some(order(9)), "the lower span is a block of it");
    // What is movable lies in the upper span, all else in the lower one.
    let (other, movable) = (AllocFlags::empty(), AllocFlags::MOVABLE);
    for (flags, in_span) in [(other, frames(0x400, 0x600)), (movable, frames(0x3000, 0x3100))] {
        let block = pages.alloc(order(2), flags).unwrap();
        let range = pages.alloc_exact(3, flags).unwrap();
        assert!(in_span.contains(block) && in_span.contains_range(range), "{flags:?}");
        pages.free(block, order(2)).unwrap();
        pages.free_exact(range).unwrap();
    }
    // The reserve is kept in all of them together.
    let mut out = std::vec![Frame::default(); 0x400];
    let filled = pages.alloc_many(Order::ZERO, &mut out, AllocFlags::empty());
    assert_eq!(pages.stats(ZoneKind::Normal).available_frames, normal.watermarks.min);
    pages.free_many(&out[..filled], Order::ZERO).unwrap();
    exercise(&pages);
}

#[test]
fn the_watermarks_grow_with_the_root_of_the_zone_and_stay_within_a_thirty_second_of_it() {
    let marks = |frames| {
        let Watermarks { min, low, high } = Watermarks::of(frames);
        [min, low, high]
    };
    assert_eq!(marks(1 << 20), [1024, 1280, 1536]);
    assert_eq!(marks(320), [10, 12, 15]);
    assert_eq!(marks(31), [0, 0, 0]);
}

/// Holds blocks of an allocator and gives them back when asked.
struct Hoard {
    pages: &'static PageAllocator<Machine>,
    held: spin::Mutex<Vec<Frame>>,
    asked: AtomicUsize,
}

impl Shrinker for Hoard {
    fn shrink(&self, frames: usize) -> usize {
        self.asked.fetch_add(1, Ordering::Relaxed);
        // Asks for memory itself, which must fail at once and not start shrinkers again.
        assert!(self.pages.alloc(Order::MAX, AllocFlags::empty()).is_err());
        assert!(!crate::test_support::interrupts_masked());
        let mut held = self.held.lock();
        let given = held.len().min(frames);
        for frame in held.drain(..given) {
            self.pages.free(frame, Order::ZERO).unwrap();
        }
        given
    }
}

static PAGES: Once<PageAllocator<Machine>> = Once::new();
static HOARD: Once<Hoard> = Once::new();

#[test]
fn shrinkers_run_before_a_request_fails_but_not_for_atomic_ones() {
    let pages = PAGES.call_once(|| *three_zones());
    let hoard = HOARD.call_once(|| Hoard {
        pages,
        held: spin::Mutex::new(Vec::new()),
        asked: AtomicUsize::new(0),
    });
    pages.register_shrinker(hoard).unwrap();
    while let Ok(frame) = pages.alloc(Order::ZERO, AllocFlags::NO_WAIT) {
        hoard.held.lock().push(frame);
    }
    assert_eq!(hoard.asked.load(Ordering::Relaxed), 0);
    while pages.alloc(Order::ZERO, AllocFlags::ATOMIC).is_ok() {}
    assert_eq!(hoard.asked.load(Ordering::Relaxed), 0);
    // Hundreds of frames have to come back until the reserves are whole again.
    let mut tries = 0;
    while pages.alloc(Order::ZERO, AllocFlags::empty()).is_err() {
        tries += 1;
        assert!(tries < 1000, "shrinkers make room in the end");
    }
    assert!(hoard.asked.load(Ordering::Relaxed) > 0);
    for _ in 1..MAX_SHRINKERS {
        pages.register_shrinker(hoard).unwrap();
    }
    let refused = pages.register_shrinker(hoard);
    assert_eq!(refused, Err(TooManyShrinkers { limit: MAX_SHRINKERS }));
}

/// Asks for more than there is, as if its thread had been moved to another CPU.
struct Mover {
    pages: &'static PageAllocator<Machine>,
    asked: AtomicUsize,
}

impl Shrinker for Mover {
    fn shrink(&self, _: usize) -> usize {
        let depth = self.asked.fetch_add(1, Ordering::Relaxed);
        assert!(depth < 8, "shrinkers start shrinkers");
        let request = || self.pages.alloc(Order::MAX, AllocFlags::empty()).is_err();
        assert!(thread::scope(|scope| scope.spawn(request).join().unwrap()));
        0
    }
}

#[test]
fn where_threads_migrate_a_shrinkers_requests_start_none_on_any_cpu() {
    let pages: &'static PageAllocator<Machine> = Box::leak(three_zones());
    let mover = Box::leak(Box::new(Mover { pages, asked: AtomicUsize::new(0) }));
    pages.register_shrinker(mover).unwrap();
    assert!(pages.alloc(Order::MAX, AllocFlags::empty()).is_err());
    assert_eq!(mover.asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_caller_that_cannot_wait_is_told_so() {
    let pages = three_zones();
    let normal = pages.zones[ZoneKind::Normal.index()].lock(pages.platform());
    let found = pages.alloc(Order::ZERO, AllocFlags::NO_WAIT | AllocFlags::ATOMIC);
    assert_eq!(found, Err(AllocError::WouldBlock));
    drop(normal);
    assert!(pages.alloc(Order::ZERO, AllocFlags::NO_WAIT).is_ok());
}

#[test]
fn the_source_of_slabs_and_heap_is_the_same_allocator() {
    let pages = three_zones();
    let source: &PageAllocator<Machine> = &pages;
    let slab = source.take(order(3), BlockOwner::Slab, AllocFlags::empty()).unwrap();
    let run = source.take_run(5, order(2), BlockOwner::Heap, AllocFlags::ZERO).unwrap();
    assert!(run.is_aligned_to(order(2)));
    let [slab, run] =
        [(slab, 8), (run, 5)].map(|(head, len)| FrameRange::from_len(head, len).unwrap());
    for (taken, owner) in [(slab, BlockOwner::Slab), (run, BlockOwner::Heap)] {
        assert!(taken.iter().all(|frame| source.run_of(frame) == Some((taken, owner))));
    }
    assert_eq!(source.run_of(frame(0x9000)), None);
    let records: BTreeSet<*const _> = slab
        .iter()
        .map(|frame| {
            let record = source.owner(frame).unwrap();
            // SAFETY: the block was taken by this test.
            let found =
                unsafe { record.compare_exchange(0, 7, Ordering::Relaxed, Ordering::Relaxed) };
            assert_eq!(found, Ok(0));
            core::ptr::from_ref(record)
        })
        .collect();
    assert_eq!(records.len(), 8);
    assert_eq!(source.owner(slab.start()).unwrap().load(Ordering::Relaxed), 7);
    assert!(source.owner(frame(0x9000)).is_none());
    // SAFETY: it grows.
    let longer = unsafe { source.resize_run(run, 9, BlockOwner::Heap) }.unwrap();
    assert_eq!(longer.frames(), 9);
    assert_eq!(source.run_of(longer.start()), Some((longer, BlockOwner::Heap)));
    // SAFETY: nobody uses either.
    unsafe {
        source.give_run(longer, BlockOwner::Heap).unwrap();
        source.give(slab.start(), order(3), BlockOwner::Slab).unwrap();
    }
    exercise(&pages);
}

#[test]
fn a_run_is_aligned_as_asked_behind_frames_that_are_not() {
    let pages = three_zones();
    let take = |frames, align| {
        pages.take_run(frames, order(align), BlockOwner::Heap, AllocFlags::empty()).unwrap()
    };
    for align in [0, 1, 4, 6] {
        let first = take(1, 0);
        assert_eq!(take(3, align).number() % (1 << align), 0, "behind {first}");
    }
}

#[test]
fn without_owner_records_there_are_none() {
    let options = InitOptions { owners: crate::page::Owners::Omit, ..SMALL };
    let (pages, report) = boot(0x800, &[usable(0x10, 0x800)], options);
    assert_eq!(report.owner_bytes, 0);
    assert!(pages.owner(frame(0x20)).is_none());
    exercise(&pages);
}
