//! The page allocator over the memory of this machine.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use kmem::frame::FRAME_SIZE;
use kmem::page::{AllocError, ClaimError, FreeError, Reach, ZoneKind};
use kmem::{AllocFlags, Frame, FrameRange, Order, PhysAddr, Platform};
use x86_64::instructions::hlt;

use super::available;
use super::random::Random;
use crate::memory::{self, PAGES};
use crate::platform::Pc;
use crate::timer;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const ANY: AllocFlags = AllocFlags::empty();
/// Down to the last frame.
const ALL: AllocFlags = AllocFlags::ATOMIC;

#[track_caller]
fn order(order: u8) -> Order {
    Order::new(order).expect("an order")
}

#[track_caller]
fn free_all(blocks: &[(Frame, Order)]) {
    for &(frame, order) in blocks {
        PAGES.free(frame, order).expect("it was allocated");
    }
}

/// Everything that is available, in the largest blocks, appended to `blocks`, which has room.
fn take_everything(blocks: &mut Vec<(Frame, Order)>) {
    for order in Order::all().rev() {
        while let Ok(frame) = PAGES.alloc(order, ALL) {
            assert!(blocks.len() < blocks.capacity(), "more blocks than there is room for");
            blocks.push((frame, order));
        }
    }
}

pub(super) fn single_frames_to_the_last_and_back() {
    let mut frames = Vec::with_capacity(available());
    let before = available();
    while let Ok(frame) = PAGES.alloc(Order::ZERO, ALL) {
        frames.push(frame);
    }
    assert_eq!((frames.len(), available()), (before, 0));
    PAGES.verify().expect("sound when empty");
    frames.sort_unstable();
    assert!(frames.is_sorted_by(|lower, upper| lower < upper), "a frame was handed out twice");
    for &frame in &frames {
        PAGES.free(frame, Order::ZERO).expect("it was allocated");
    }
    assert_eq!(available(), before);
    PAGES.verify().expect("sound when full again");
}

pub(super) fn largest_blocks_take_everything() {
    let mut blocks = Vec::with_capacity(8192);
    let before = available();
    take_everything(&mut blocks);
    assert_eq!(blocks.iter().map(|(_, order)| order.frames()).sum::<usize>(), before);
    assert!(matches!(PAGES.alloc(Order::ZERO, ALL), Err(AllocError::OutOfMemory)));
    free_all(&blocks);
    assert_eq!(available(), before);
    PAGES.verify().expect("sound afterwards");
}

pub(super) fn blocks_are_aligned_disjoint_and_usable() {
    let mut blocks = Vec::with_capacity(8192);
    take_everything(&mut blocks);
    blocks.sort_unstable();
    for &(frame, order) in &blocks {
        assert!(frame.is_aligned_to(order), "{frame} for {order}");
    }
    let end = |&(frame, order): &(Frame, Order)| frame.checked_add(order.frames());
    for pair in blocks.windows(2) {
        assert!(end(&pair[0]) <= Some(pair[1].0), "{pair:?} overlap");
    }
    let usable = memory::regions().filter(memory::Region::is_usable);
    let holds = |block: &(Frame, Order)| {
        let frames = FrameRange::from_len(block.0, block.1.frames()).expect("in memory");
        // Usable regions that touch are one to kmem.
        usable.clone().map(|region| region.frames.intersect(frames).frames()).sum::<usize>()
            == frames.frames()
    };
    assert_eq!(blocks.iter().find(|block| !holds(block)), None);
    free_all(&blocks);
}

pub(super) fn blocks_coalesce_to_what_they_were() {
    let blocks = || {
        PAGES.drain();
        ZoneKind::ALL.map(|kind| PAGES.stats(kind).available_blocks)
    };
    let before = blocks();
    let mut frames = [Frame::default(); 1024];
    for chunk in frames.chunks_mut(100) {
        assert_eq!(PAGES.alloc_many(Order::ZERO, chunk, ANY), chunk.len());
    }
    let mut random = Random::new(7);
    for last in (1..frames.len()).rev() {
        frames.swap(last, random.below(last + 1));
    }
    for frame in frames {
        PAGES.free(frame, Order::ZERO).expect("it was allocated");
    }
    assert_eq!(blocks(), before);
}

pub(super) fn zones_follow_the_address_limits() {
    let limits = [(0, 16 * MIB), (16 * MIB, 4 * GIB), (4 * GIB, u64::MAX)];
    for zone in PAGES.zones() {
        let (start, end) = limits[zone.kind.index()];
        assert!(zone.cover.start().start().as_u64() >= start, "{zone:?}");
        assert!(zone.cover.end().start().as_u64() <= end, "{zone:?}");
        assert!(zone.managed_frames > 0, "{zone:?}");
    }
    let managed: usize = PAGES.zones().map(|zone| zone.managed_frames).sum();
    assert_eq!(managed, PAGES.frames_managed());
}

#[track_caller]
fn stays_below(flags: AllocFlags, limit: u64) {
    for number in 0..=6 {
        let frame = PAGES.alloc(order(number), flags).expect("the zone has memory");
        assert!(frame.start().as_u64() < limit, "{frame} above {limit:#x}");
        PAGES.free(frame, order(number)).expect("it was allocated");
    }
}

pub(super) fn dma_requests_stay_below_16_mib() {
    stays_below(AllocFlags::ZONE_DMA, 16 * MIB);
}

pub(super) fn dma32_requests_stay_below_4_gib() {
    stays_below(AllocFlags::ZONE_DMA32, 4 * GIB);
}

pub(super) fn ordinary_requests_prefer_high_memory() {
    let frame = PAGES.alloc(Order::ZERO, ANY).expect("memory");
    assert!(frame.start().as_u64() >= 4 * GIB, "{frame}");
    PAGES.free(frame, Order::ZERO).expect("it was allocated");
}

pub(super) fn exhausted_zone_falls_back_to_the_one_below() {
    let mut blocks = Vec::with_capacity(available() / 64);
    let fallbacks =
        || ZoneKind::ALL.map(|kind| PAGES.stats(kind).counts.fallbacks).iter().sum::<u64>();
    while fallbacks() == 0 {
        let frame = PAGES.alloc(order(6), ANY).expect("the zones below are not empty");
        blocks.push((frame, order(6)));
    }
    free_all(&blocks);
    PAGES.verify().expect("sound afterwards");
}

pub(super) fn ordinary_requests_leave_a_reserve() {
    let mut blocks = Vec::with_capacity(8192);
    for order in Order::all().rev() {
        while let Ok(frame) = PAGES.alloc(order, ANY) {
            blocks.push((frame, order));
        }
    }
    let left = available();
    assert!(left > 0, "nothing is held back");
    let urgent = PAGES.alloc(Order::ZERO, ALL).expect("the reserve is for this");
    PAGES.free(urgent, Order::ZERO).expect("it was allocated");
    free_all(&blocks);
}

pub(super) fn zeroed_blocks_are_zero() {
    let size = order(3);
    for _ in 0..2 {
        let frame = PAGES.alloc(size, AllocFlags::ZERO).expect("memory");
        let words = Pc.phys_to_virt(frame.start()).cast::<u64>();
        for index in 0..size.frames() * FRAME_SIZE / 8 {
            let word = words.wrapping_add(index);
            // SAFETY: the block is this function's, mapped, and the word lies inside.
            unsafe {
                assert_eq!(word.read(), 0, "word {index}");
                word.write(!0);
            }
        }
        PAGES.free(frame, size).expect("it was allocated");
    }
}

pub(super) fn blocks_keep_what_is_written() {
    let mut blocks = Vec::with_capacity(8192);
    take_everything(&mut blocks);
    // One word in every 2 MiB, which is how the direct map is made.
    let words = |&(frame, order): &(Frame, Order)| {
        let steps = (0..order.frames()).step_by(512);
        steps.map(move |step| {
            let phys = frame.checked_add(step).expect("in the block").start();
            (Pc.phys_to_virt(phys).cast::<u64>(), !phys.as_u64())
        })
    };
    for (word, value) in blocks.iter().flat_map(words) {
        // SAFETY: the block is this function's, and mapped.
        unsafe { word.write_volatile(value) };
    }
    for (word, value) in blocks.iter().flat_map(words) {
        // SAFETY: as above.
        assert_eq!(unsafe { word.read_volatile() }, value, "{word:p}");
    }
    free_all(&blocks);
}

pub(super) fn every_bad_free_has_its_own_error() {
    let size = order(3);
    let head = PAGES.alloc(size, ANY).expect("memory");
    let inside = head.checked_add(5).expect("in the block");
    let reserved = memory::regions()
        .find(|region| !region.is_usable() && region.frames.start() > Frame::default())
        .expect("every machine has reserved memory")
        .frames
        .start();
    let before = available();
    let wrong_order = FreeError::WrongOrder { allocated: size, given: order(4) };
    assert_eq!(PAGES.free(head, order(4)), Err(wrong_order));
    assert_eq!(PAGES.free(inside, Order::ZERO), Err(FreeError::NotHead { head, order: size }));
    assert!(matches!(
        PAGES.free(reserved, Order::ZERO),
        Err(FreeError::Reserved | FreeError::Hole | FreeError::OutOfRange)
    ));
    assert_eq!(PAGES.free(Frame::MAX, Order::ZERO), Err(FreeError::OutOfRange));
    assert_eq!(available(), before, "a refused free changes nothing");
    PAGES.free(head, size).expect("it was allocated");
    assert_eq!(PAGES.free(head, size), Err(FreeError::NotAllocated));
    PAGES.verify().expect("sound afterwards");
}

pub(super) fn the_kernels_own_frames_cannot_be_had() {
    for region in memory::regions().filter(|region| !region.is_usable()) {
        let one = FrameRange::from_len(region.frames.start(), 1).expect("in memory");
        assert!(PAGES.claim(one).is_err(), "{region:?}");
    }
}

pub(super) fn claimed_frames_are_these_very_ones() {
    let block = PAGES.alloc(order(4), ANY).expect("memory");
    PAGES.free(block, order(4)).expect("it was allocated");
    let third = block.checked_add(3).expect("in memory");
    let frames = FrameRange::from_len(third, 5).expect("in memory");
    PAGES.claim(frames).expect("they are available");
    assert!(matches!(PAGES.claim(frames), Err(ClaimError::InUse { frame }) if frame == third));
    PAGES.free_exact(frames).expect("they were claimed");
    PAGES.verify().expect("sound afterwards");
}

pub(super) fn exact_counts_waste_nothing() {
    for frames in [1, 3, 5, 17, 100, 300, 500] {
        let before = available();
        let range = PAGES.alloc_exact(frames, ANY).expect("memory");
        assert_eq!((range.frames(), available()), (frames, before - frames));
        PAGES.free_exact(range).expect("it was allocated");
        assert_eq!(available(), before);
    }
}

pub(super) fn device_buffers_lie_within_reach() {
    let reach = Reach {
        boundary_bytes: 64 * 1024,
        align_bytes: 8192,
        ..Reach::below(PhysAddr::new(16 * MIB))
    };
    let mut buffers = Vec::with_capacity(16);
    for _ in 0..16 {
        let buffer = PAGES.alloc_within(10, &reach, ANY).expect("memory below 16 MiB");
        let (first, last) = (buffer.start().start().as_u64(), buffer.end().start().as_u64() - 1);
        assert!(last < 16 * MIB && first % 8192 == 0, "{buffer}");
        assert_eq!(first / (64 * 1024), last / (64 * 1024), "{buffer} crosses a boundary");
        buffers.push(buffer);
    }
    for buffer in buffers {
        PAGES.free_exact(buffer).expect("it was allocated");
    }
    PAGES.verify().expect("sound afterwards");
}

pub(super) fn allocations_are_resized_in_place() {
    let range = PAGES.alloc_exact(64, ANY).expect("memory");
    let shorter = PAGES.resize(range, 20).expect("a tail can always go");
    assert_eq!((shorter.start(), shorter.frames()), (range.start(), 20));
    let longer = PAGES.resize(shorter, 50).expect("what went is still there");
    assert_eq!((longer.start(), longer.frames()), (range.start(), 50));
    PAGES.free_exact(longer).expect("it was allocated");
    PAGES.verify().expect("sound afterwards");
}

/// Thirty thousand calls in random order, of which a model knows what must come of them.
pub(super) fn random_calls_keep_every_invariant() {
    let mut random = Random::new(2026);
    let mut live: Vec<(Frame, Order)> = Vec::with_capacity(512);
    let before = available();
    for step in 0..30_000 {
        if live.len() < live.capacity() && random.below(2) == 0 {
            let size = order(random.below(8) as u8);
            if let Ok(frame) = PAGES.alloc(size, ANY) {
                live.push((frame, size));
            }
        } else if !live.is_empty() {
            let (frame, size) = live.swap_remove(random.below(live.len()));
            PAGES.free(frame, size).expect("it was allocated");
        }
        if step % 3_000 == 0 {
            PAGES.verify().expect("sound at every step");
            let held: usize = live.iter().map(|(_, size)| size.frames()).sum();
            assert_eq!(available(), before - held);
        }
    }
    free_all(&live);
    assert_eq!(available(), before);
    PAGES.verify().expect("sound afterwards");
}

pub(super) fn timer_allocates_while_the_kernel_does() {
    static SERVED: AtomicU64 = AtomicU64::new(0);
    let before = available();
    timer::set_hook(Some(|| {
        // An interrupt may find the allocator short, or busy, but never broken.
        if let Ok(frame) = PAGES.alloc(Order::ZERO, AllocFlags::ATOMIC | AllocFlags::NO_WAIT) {
            PAGES.free(frame, Order::ZERO).expect("it was allocated");
            SERVED.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let mut random = Random::new(5);
    while SERVED.load(Ordering::Relaxed) < 100 {
        for _ in 0..1_000 {
            let size = order(random.below(5) as u8);
            let frame = PAGES.alloc(size, ANY).expect("memory");
            PAGES.free(frame, size).expect("it was allocated");
        }
    }
    timer::set_hook(None);
    hlt();
    assert_eq!(available(), before);
    PAGES.verify().expect("sound afterwards");
}
