//! The CPUs' frame lists: what they keep, and that it never gets lost.

use core::iter;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::buddy::FrameState;
use crate::cpu_set::CpuSet;
use crate::page::cpus::Cpus;
use crate::page::frame_lists::FrameLists;
use crate::page::{AddMemoryError, AllocError, FreeError};
use crate::platform::{CpuId, IrqState, Pinning, Platform};
use crate::test_support::{alone_with_hook, frame};

#[test]
fn a_freed_block_stays_on_its_cpu_and_is_handed_out_next() {
    let pages = listed();
    for of in [0, 1, 2, 3, 9] {
        let block = take(&pages, of);
        let refills = pages.stats(ZoneKind::Normal).counts.refills;
        for _ in 0..100 {
            pages.free(block, order(of)).unwrap();
            assert_eq!(pages.lookup(block), FrameState::Cached { head: block, order: order(of) });
            assert_eq!(take(&pages, of), block);
        }
        assert_eq!(pages.stats(ZoneKind::Normal).counts.refills, refills);
        pages.free(block, order(of)).unwrap();
    }
    pages.verify().unwrap();
}

#[test]
fn where_there_is_much_memory_larger_blocks_stay_as_well() {
    const TOP: usize = 0xa000;
    let pages = PageAllocator::new(Machine::new([frames(0, TOP)]).with_one_cpu());
    // SAFETY: the whole machine is the allocator's.
    unsafe { pages.init_with([usable(0x400, TOP)], LISTED) }.expect("the map has memory");
    let before = pages.frames_available();
    let mut random = 1_usize;
    // Of each order, at least so many calls lie between two that reach the zone.
    for (of, batch) in [(4, 8), (5, 8), (6, 4)] {
        let block = take(&pages, of);
        let refills = pages.stats(ZoneKind::Normal).counts.refills;
        pages.free(block, order(of)).unwrap();
        assert_eq!(pages.lookup(block), FrameState::Cached { head: block, order: order(of) });
        assert_eq!(take(&pages, of), block);
        assert_eq!(pages.stats(ZoneKind::Normal).counts.refills, refills);
        let mut held = Vec::from([block]);
        let counts = pages.stats(ZoneKind::Normal).counts;
        let visits_before = counts.refills + counts.spills;
        for call in 1..=4000 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            // In waves, so that lists overflow and run dry.
            if random >> 60 < if call / 100 % 2 == 0 { 11 } else { 5 } {
                held.push(take(&pages, of));
            } else if let Some(block) = held.pop() {
                pages.free(block, order(of)).unwrap();
            }
            let counts = pages.stats(ZoneKind::Normal).counts;
            let visits = counts.refills + counts.spills - visits_before;
            assert!(visits <= call / batch + 1, "order {of}: {visits} visits in {call} calls");
        }
        assert!(pages.stats(ZoneKind::Normal).counts.spills > 0, "order {of} overflowed");
        for block in held {
            pages.free(block, order(of)).unwrap();
        }
        pages.verify().unwrap();
        assert!(pages.drain());
        assert_eq!(pages.frames_available(), before);
    }
}

#[test]
fn bad_frees_are_named_whether_the_cpu_has_the_block_or_not() {
    let pages = listed();
    let block = take(&pages, 2);
    let inside = block.checked_add(1).unwrap();
    assert_eq!(
        pages.free(inside, Order::ZERO),
        Err(FreeError::NotHead { head: block, order: order(2) })
    );
    for given in [0, 1, 3, 9] {
        let wrong = FreeError::WrongOrder { allocated: order(2), given: order(given) };
        assert_eq!(pages.free(block, order(given)), Err(wrong));
    }
    pages.free(block, order(2)).unwrap();
    assert_eq!(pages.free(block, order(2)), Err(FreeError::NotAllocated));
    assert_eq!(pages.free(block, Order::ZERO), Err(FreeError::NotAllocated));
    pages.drain_local();
    assert_eq!(pages.free(block, order(2)), Err(FreeError::NotAllocated));
    pages.verify().unwrap();
}

#[test]
fn a_drain_makes_everything_available_again() {
    let pages = listed();
    let (all, largest) = (pages.frames_available(), pages.largest());
    let blocks: Vec<_> =
        (0..100).map(|index| (take(&pages, index % 4), order(index % 4))).collect();
    for (block, of) in blocks {
        pages.free(block, of).unwrap();
    }
    assert!(pages.frames_available() < all);
    assert!(pages.drain());
    assert_eq!(pages.frames_available(), all);
    assert_eq!(pages.largest(), largest);
    pages.verify().unwrap();
}

#[test]
fn cpus_that_were_not_counted_have_no_lists() {
    let cpus = Cpus::new();
    assert!(cpus.are_absent());
    cpus.set(Box::leak(Box::new([FrameLists::new(0), FrameLists::new(0)])));
    let have_lists = CpuSet::of(|cpu| cpus.get(cpu).is_some());
    assert_eq!(have_lists.iter().map(CpuId::index).collect::<Vec<_>>(), [0, 1]);
    assert!(!cpus.are_absent());
}

#[test]
fn a_drain_says_when_something_stayed_behind() {
    let pages = listed();
    let block = take(&pages, 0);
    pages.free(block, Order::ZERO).unwrap();
    let kept = pages.frames_kept();
    // As when an interrupt handler drains while its CPU refills: nobody waits for anybody.
    let is_drained = pages.visit(|_| pages.drain());
    assert_eq!(is_drained, Some(false));
    assert_eq!(pages.frames_kept(), kept);
    assert!(pages.drain());
    assert_eq!(pages.frames_kept(), 0);
    assert_eq!(pages.visit(|_| pages.drain()), Some(true), "nothing is there to stay behind");
    pages.verify().unwrap();
}

#[test]
fn frames_that_another_cpu_keeps_never_cause_a_shortage() {
    let pages = listed();
    let (ready, wait) = mpsc::channel();
    let (finish, end) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let others = &pages;
        scope.spawn(move || {
            let blocks: Vec<_> = (0..64).map(|_| take(others, 0)).collect();
            blocks.into_iter().for_each(|block| others.free(block, Order::ZERO).unwrap());
            ready.send(()).unwrap();
            end.recv().unwrap();
        });
        wait.recv().unwrap();
        let kept = pages.frames_managed() - pages.frames_available();
        assert!(kept >= 32, "the other CPU keeps {kept} frames");
        let mut taken = 0;
        while pages.alloc(Order::ZERO, AllocFlags::ATOMIC).is_ok() {
            taken += 1;
        }
        assert_eq!(taken + kept, pages.frames_managed(), "a request that may not wait leaves them");
        while pages.alloc(Order::ZERO, AllocFlags::empty()).is_ok() {
            taken += 1;
        }
        let reserve = pages.stats(ZoneKind::Normal).watermarks.min;
        assert_eq!(taken, pages.frames_managed() - reserve.min(kept));
        finish.send(()).unwrap();
    });
    pages.verify().unwrap();
}

/// What a request is answered on a CPU whose lists hold frames of zone DMA32 while another one
/// holds that zone's lock.
#[track_caller]
fn beside_a_held_lock(
    request: impl FnOnce(&PageAllocator<Machine>) -> Result<Frame, AllocError> + Send,
) -> Result<Frame, AllocError> {
    let (pages, _) = boot(0x4000, &[usable(0x10, 0x4000)], LISTED);
    let (ready, wait) = mpsc::channel();
    let (go, held) = mpsc::channel();
    let (answer, answered) = mpsc::channel();
    let found = thread::scope(|scope| {
        let pages = &pages;
        scope.spawn(move || {
            // Only when Normal has no plenty do the lists hold frames of another zone.
            let normal = |frames| pages.alloc_exact(frames, AllocFlags::NO_FALLBACK).ok();
            let taken = [64, 1].map(|frames| Vec::from_iter(iter::from_fn(|| normal(frames))));
            assert!(take(pages, 0) < frame(0x400) && pages.frames_kept() > 0);
            taken.into_iter().flatten().for_each(|range| pages.free_exact(range).unwrap());
            ready.send(()).unwrap();
            held.recv().unwrap();
            let _ = answer.send(request(pages));
        });
        wait.recv().unwrap();
        let zone = pages.zones[ZoneKind::Dma32.index()].lock(pages.platform());
        go.send(()).unwrap();
        let found = answered.recv_timeout(Duration::from_secs(60));
        drop(zone);
        found.expect("a request that may not wait does not")
    });
    // What that CPU had to leave in its lists comes back by a drain.
    assert!(pages.drain());
    let is_kept = |frame| matches!(pages.lookup(frame), FrameState::Cached { .. });
    assert!(!frames(0x10, 0x4000).iter().any(is_kept));
    pages.verify().unwrap();
    found
}

#[test]
fn a_request_that_may_not_wait_does_not_wait_for_the_zone_of_its_cpus_lists() {
    // Neither to empty them before it fails,
    let short = beside_a_held_lock(|pages| {
        pages.alloc(order(9), AllocFlags::NO_WAIT | AllocFlags::ZONE_DMA)
    });
    assert_eq!(short, Err(AllocError::OutOfMemory));
    // nor to have them follow it to another span: in batches and one by one.
    for of in [1, 9] {
        let served = beside_a_held_lock(|pages| pages.alloc(order(of), AllocFlags::NO_WAIT));
        assert!(served.unwrap() >= frame(0x400));
    }
}

#[test]
fn an_allocation_grows_into_frames_that_its_own_cpu_keeps() {
    let pages = listed();
    let block = take(&pages, 3);
    let behind = FrameRange::from_len(block, 16).unwrap().split_at(block.checked_add(8).unwrap()).1;
    let kept = |frame| matches!(pages.lookup(frame), FrameState::Cached { .. });
    assert!(kept(behind.start()), "the blocks of one refill lie side by side");
    let grown = pages.resize(FrameRange::from_len(block, 8).unwrap(), 16).unwrap();
    assert_eq!((grown.start(), grown.frames()), (block, 16));
    pages.free_exact(grown).unwrap();
    pages.verify().unwrap();
}

#[test]
fn memory_moves_only_when_all_lists_are_empty() {
    let pages = listed();
    let block = take(&pages, 0);
    pages.free(block, Order::ZERO).unwrap();
    pages.remove(frames(0x1000, 0x1100)).unwrap();
    assert!(!matches!(pages.lookup(block), FrameState::Cached { .. }), "a removal drains");
    pages.claim(frames(0x1800, 0x1801)).unwrap();
    pages.verify().unwrap();
}

#[test]
fn a_request_that_may_not_wait_leaves_the_lower_zones_alone_where_its_own_has_plenty() {
    let (pages, _) = boot(0x4000, &[usable(0x10, 0x4000)], LISTED);
    // The lists hold blocks of DMA32, from when Normal was short.
    let normal = |frames| pages.alloc_exact(frames, AllocFlags::NO_FALLBACK).ok();
    let taken = [64, 1].map(|frames| Vec::from_iter(iter::from_fn(|| normal(frames))));
    assert!(take(&pages, 0) < frame(0x400) && pages.frames_kept() > 0);
    taken.into_iter().flatten().for_each(|range| pages.free_exact(range).unwrap());
    for _ in 0..400 {
        assert!(pages.alloc(order(1), AllocFlags::NO_WAIT).unwrap() >= frame(0x400));
    }
    pages.verify().unwrap();
}

#[test]
fn an_allocation_grows_by_what_its_own_cpu_keeps_where_the_zone_has_nothing_else_to_spare() {
    let pages = listed();
    let block = take(&pages, 0);
    let zone = pages.zones().last().unwrap();
    for _ in zone.watermarks.min..zone.available_frames {
        pages.alloc_exact(1, AllocFlags::NO_FALLBACK).unwrap();
    }
    let grown = pages.resize(FrameRange::from_len(block, 1).unwrap(), 2).unwrap();
    assert_eq!((grown.start(), grown.frames()), (block, 2));
    pages.verify().unwrap();
}

/// Writes a state that is none to a frame.
fn damage<P: Platform>(pages: &PageAllocator<P>, frame: Frame) {
    let mut zone = pages.zone(pages.setup.get().unwrap(), frame);
    let buddy = zone.buddy_of(frame).unwrap();
    let at = frame.checked_offset_from(buddy.cover().start()).unwrap();
    buddy.states().of_frames()[at].store(0xff, Ordering::Relaxed);
}

#[test]
fn blocks_that_go_back_are_forgotten_before_damage_among_them_is_reported() {
    let pages = listed();
    take(&pages, 0);
    let is_kept = |&frame: &Frame| matches!(pages.lookup(frame), FrameState::Cached { .. });
    let kept = Vec::from_iter((0x10..0x4000).map(frame).filter(is_kept));
    damage(&pages, kept[20]);
    let _alone = alone_with_hook();
    // The hook panics: each drain gets a batch further, and there are no more than this.
    let drain = |_: &_| catch_unwind(AssertUnwindSafe(|| pages.drain_local())).is_err();
    let reports = kept.iter().filter(drain).count();
    assert!(reports > 0, "the damage was reported");
    assert_eq!(pages.frames_kept(), 0);
}

/// A machine that counts how many threads are pinned.
struct Pins {
    machine: Machine,
    pinned: AtomicUsize,
}

// SAFETY: all answers are the machine's, whose threads are CPUs of their own: nothing pins them.
unsafe impl Platform for Pins {
    const PINNING: Pinning = Machine::PINNING;

    fn phys_to_virt(&self, phys: PhysAddr) -> *mut u8 {
        self.machine.phys_to_virt(phys)
    }

    fn virt_to_phys(&self, virt: *const u8) -> Option<PhysAddr> {
        self.machine.virt_to_phys(virt)
    }

    fn irq_save(&self) -> IrqState {
        self.machine.irq_save()
    }

    unsafe fn irq_restore(&self, state: IrqState) {
        // SAFETY: the caller's promise.
        unsafe { self.machine.irq_restore(state) };
    }

    fn cpu_id(&self) -> CpuId {
        self.machine.cpu_id()
    }

    fn cpu_count(&self) -> usize {
        self.machine.cpu_count()
    }

    fn pin(&self) {
        self.pinned.fetch_add(1, Ordering::Relaxed);
    }

    fn unpin(&self) {
        self.pinned.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn nobody_stays_pinned_where_a_hook_unwinds() {
    let machine = Machine::new([frames(0, 0x2000)]);
    let pages = PageAllocator::new(Pins { machine, pinned: AtomicUsize::new(0) });
    // SAFETY: the whole machine is the allocator's.
    unsafe { pages.init_with([usable(0x400, 0x2000)], LISTED) }.expect("the map has memory");
    let kept = pages.alloc(Order::ZERO, AllocFlags::empty()).unwrap();
    pages.free(kept, Order::ZERO).unwrap();
    damage(&pages, kept);
    let _alone = alone_with_hook();
    let drained = catch_unwind(AssertUnwindSafe(|| pages.drain_local()));
    assert!(drained.is_err(), "the default hook stops");
    assert_eq!(pages.platform().pinned.load(Ordering::Relaxed), 0);
}

#[test]
fn lists_do_not_stay_empty_for_good_where_a_hook_unwinds() {
    let pages = listed();
    let kept = take(&pages, 0);
    pages.free(kept, Order::ZERO).unwrap();
    damage(&pages, kept);
    let _alone = alone_with_hook();
    let claimed = catch_unwind(AssertUnwindSafe(|| pages.claim(frames(0x1000, 0x1001))));
    assert!(claimed.is_err(), "the default hook stops");
    assert_eq!(pages.lists_kept_empty.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_movable_does_not_come_from_the_lists() {
    let pages = listed();
    let block = take(&pages, 0);
    pages.free(block, Order::ZERO).unwrap();
    let movable = pages.alloc(Order::ZERO, AllocFlags::MOVABLE).unwrap();
    assert!(movable > frame(0x1000), "{movable}");
    assert!(matches!(pages.lookup(block), FrameState::Cached { .. }));
}

#[test]
fn lists_that_are_kept_empty_stay_so_whatever_is_taken() {
    let pages = listed();
    pages.free(take(&pages, 0), Order::ZERO).unwrap();
    let lists = pages.keep_lists_empty();
    assert!(lists.are_all_empty());
    let is_used = |cpu| pages.cpus.get(cpu).is_some_and(FrameLists::is_in_use);
    for of in [0, 9] {
        let block = take(&pages, of);
        assert_eq!((pages.frames_kept(), CpuSet::of(is_used).len()), (0, 0), "order {of}");
        pages.free(block, order(of)).unwrap();
        assert_eq!(pages.frames_kept(), 0, "order {of}: what comes back is not kept either");
    }
    drop(lists);
    pages.free(take(&pages, 0), Order::ZERO).unwrap();
    assert!(pages.frames_kept() > 0);
    pages.verify().unwrap();
}

#[test]
fn a_span_whose_blocks_a_cpu_keeps_does_not_grow() {
    let (pages, _) = boot(0x2800, &[usable(0x400, 0x2000)], LISTED);
    pages.free(take(&pages, 0), Order::ZERO).unwrap();
    let before = pages.frames_available();
    // SAFETY: nobody has the frames.
    let add = || unsafe { pages.add(frames(0x2000, 0x2800)) };
    // As when an interrupt handler adds memory while its CPU refills.
    assert_eq!(pages.visit(|_| add()), Some(Err(AddMemoryError::ListsInUse)));
    assert_eq!(pages.frames_available(), before);
    add().unwrap();
    pages.verify().unwrap();
}

#[test]
fn batches_are_counted_and_those_of_a_lower_zone_by_blocks() {
    let (pages, _) = boot(0x4000, &[usable(0x10, 0x4000)], LISTED);
    let count = |kind| pages.stats(kind).counts;
    let held = take(&pages, 0);
    assert_eq!((count(ZoneKind::Normal).refills, count(ZoneKind::Normal).spills), (1, 0));
    pages.free(held, Order::ZERO).unwrap();
    pages.drain_local();
    assert_eq!((count(ZoneKind::Normal).refills, count(ZoneKind::Normal).spills), (1, 1));
    let normal = |frames| pages.alloc_exact(frames, AllocFlags::NO_FALLBACK).ok();
    for frames in [64, 1] {
        iter::from_fn(|| normal(frames)).for_each(drop);
    }
    assert!(take(&pages, 0) < frame(0x400));
    let lower = count(ZoneKind::Dma32);
    assert_eq!((lower.refills, lower.fallbacks), (1, 1 + pages.frames_kept() as u64));
}

proptest! {
    /// Bonwick and Adams: of any sequence of n calls at most n / batch + 1 go to the depot; here,
    /// to the zone.
    #[test]
    fn at_most_one_call_in_a_batch_reaches_the_zone(
        steps in prop::collection::vec((any::<bool>(), 1_usize..80), 1..60),
        of in 0_u8..4,
        every in 1_usize..40,
    ) {
        let pages = listed();
        let batch = 32 >> of;
        // Some that stay taken leave holes of all kinds.
        let mut kept = Vec::from([Frame::ZERO; 1500]);
        let taken = pages.alloc_many(Order::ZERO, &mut kept, AllocFlags::empty());
        let mut nth = 0;
        let (kept, holes): (Vec<_>, Vec<_>) = kept[..taken].iter().partition(|_| {
            nth += 1;
            nth % every == 0
        });
        pages.free_many(&holes, Order::ZERO).unwrap();
        let mut held = Vec::new();
        let mut calls = 0;
        for (takes, times) in steps {
            for _ in 0..times {
                if takes && held.len() < 2000 >> of {
                    held.push(take(&pages, of));
                    calls += 1;
                } else if !takes && let Some(block) = held.pop() {
                    pages.free(block, order(of)).unwrap();
                    calls += 1;
                }
            }
        }
        let counts = pages.stats(ZoneKind::Normal).counts;
        let visits = counts.refills + counts.spills;
        prop_assert!(visits <= calls / batch + 1, "{visits} visits in {calls} calls");
        for block in held {
            pages.free(block, order(of)).unwrap();
        }
        pages.free_many(&kept, Order::ZERO).unwrap();
        prop_assert!(pages.drain());
        prop_assert_eq!(pages.frames_available(), pages.frames_managed());
        pages.verify().unwrap();
    }
}
