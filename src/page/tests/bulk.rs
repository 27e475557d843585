//! Bulk calls.

use core::iter;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::buddy::FreeError;
use crate::page::Shrinker;

/// Counts how often it is asked, and has nothing.
struct Counter(AtomicUsize);

impl Shrinker for Counter {
    fn shrink(&self, _: usize) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed);
        0
    }
}

impl Counter {
    /// One that the allocator asks from now on.
    fn of(pages: &PageAllocator<Machine>) -> &'static Self {
        let counter: &'static Self = Box::leak(Box::new(Self(AtomicUsize::new(0))));
        pages.register_shrinker(counter).unwrap();
        counter
    }

    fn asked(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn bulk_calls_take_and_give_what_there_is() {
    let pages = three_zones();
    let before = pages.frames_available();
    let mut out = std::vec![Frame::default(); 0x1000];
    let filled = pages.alloc_many(Order::ZERO, &mut out, AllocFlags::ATOMIC);
    assert_eq!(filled, before);
    assert_eq!(pages.frames_available(), 0);
    let distinct: BTreeSet<Frame> = out[..filled].iter().copied().collect();
    assert_eq!(distinct.len(), filled);
    pages.verify().unwrap();
    pages.free_many(&out[..filled], Order::ZERO).unwrap();
    assert_eq!(pages.frames_available(), before);

    // Ordinary requests keep to the reserves here too.
    let filled = pages.alloc_many(order(1), &mut out, AllocFlags::empty());
    let marks = ZoneKind::ALL.map(|kind| pages.stats(kind).watermarks);
    let left = ZoneKind::ALL.map(|kind| pages.stats(kind).available_frames);
    assert!(left[0] >= marks[0].high && left[1] >= marks[1].high && left[2] >= marks[2].min);
    assert!(filled * 2 + marks.iter().map(|marks| marks.high + 2).sum::<usize>() >= before);
    pages.free_many(&out[..filled], order(1)).unwrap();
    assert_eq!(pages.frames_available(), before);
    assert_eq!(pages.alloc_many(Order::ZERO, &mut [], AllocFlags::empty()), 0);
    exercise(&pages);
}

#[test]
fn a_bulk_free_says_which_block_was_wrong_and_counts_those_before_it() {
    let (pages, _) = boot(0x4000, &[usable(0x400, 0x600), usable(0x3000, 0x3200)], SMALL);
    let [low, high] = [0x410, 0x3010].map(|start| frames(start, start + 3));
    let blocks: Vec<Frame> = low.iter().chain(high.iter()).collect();
    blocks.iter().for_each(|&block| pages.claim(FrameRange::from_len(block, 1).unwrap()).unwrap());
    pages.free(blocks[4], Order::ZERO).unwrap();
    let freed = pages.free_many(&blocks, Order::ZERO);
    assert_eq!(freed, Err((4, FreeError::NotAllocated)));
    assert_eq!(pages.stats(ZoneKind::Normal).counts.frees, 1 + 4);
    pages.free(blocks[5], Order::ZERO).unwrap();
    pages.verify().unwrap();
}

#[test]
fn shrinkers_run_for_a_bulk_request_only_where_it_would_get_nothing() {
    let pages = three_zones();
    let counter = Counter::of(&pages);
    let mut out = std::vec![Frame::default(); 0x1000];
    for asked in [0, 1] {
        let filled = pages.alloc_many(Order::ZERO, &mut out, AllocFlags::empty());
        assert_eq!((filled == 0, counter.asked()), (asked == 1, asked));
    }
}

#[test]
fn a_bulk_request_gets_as_many_blocks_as_single_ones_would() {
    let pages = listed();
    let single = || pages.alloc(Order::ZERO, AllocFlags::empty()).ok();
    let taken = Vec::from_iter(iter::from_fn(single));
    let (some, others) = taken.split_at(100);
    some.iter().for_each(|&frame| pages.free(frame, Order::ZERO).unwrap());
    pages.free(take(&pages, 0), Order::ZERO).unwrap();
    assert!(pages.frames_kept() > 0, "there was enough again for a refill");
    let mut out = [Frame::ZERO; 100];
    assert_eq!(pages.alloc_many(Order::ZERO, &mut out, AllocFlags::empty()), 100);
    assert_eq!((single(), pages.frames_kept()), (None, 0));
    pages.free_many(&out, Order::ZERO).unwrap();
    pages.free_many(others, Order::ZERO).unwrap();
    pages.verify().unwrap();
}

#[test]
fn no_shrinker_runs_for_a_bulk_request_that_what_cpus_keep_serves_in_part() {
    let pages = listed();
    let single = || pages.alloc(Order::ZERO, AllocFlags::empty()).ok();
    let taken = Vec::from_iter(iter::from_fn(single));
    taken.iter().take(100).for_each(|&frame| pages.free(frame, Order::ZERO).unwrap());
    pages.free(take(&pages, 0), Order::ZERO).unwrap();
    let kept = pages.frames_kept();
    let mut out = [Frame::ZERO; 100];
    let of_the_zone = &mut out[kept..];
    let len = of_the_zone.len();
    assert_eq!(pages.alloc_many(Order::ZERO, of_the_zone, AllocFlags::empty()), len);
    assert!(kept > 0 && pages.frames_kept() == kept, "the zone has served that");

    let counter = Counter::of(&pages);
    let failures = || pages.stats(ZoneKind::Normal).counts.failures;
    let before = failures();
    assert_eq!(pages.alloc_many(Order::ZERO, &mut out, AllocFlags::empty()), kept);
    assert_eq!((counter.asked(), failures()), (0, before));
    assert_eq!(pages.alloc_many(Order::ZERO, &mut out, AllocFlags::empty()), 0);
    assert_eq!((counter.asked(), failures()), (1, before + 1));
}

#[test]
fn a_refill_leaves_frames_together_where_there_are_enough_apart() {
    let pages = listed();
    let whole_words = || {
        let mut words = [Frame::ZERO; 200];
        let taken = pages.alloc_many(order(6), &mut words, AllocFlags::empty());
        pages.free_many(&words[..taken], order(6)).unwrap();
        taken
    };
    let get = |frames: &mut [Frame]| {
        assert_eq!(pages.alloc_many(Order::ZERO, frames, AllocFlags::empty()), frames.len());
    };
    // All that is apart, and then one word.
    let (mut taken, all) = ([Frame::ZERO; 64], whole_words());
    while whole_words() == all {
        get(&mut taken[..1]);
    }
    get(&mut taken[1..]);
    let apart: Vec<_> = taken.iter().copied().step_by(2).chain([taken[1]]).collect();
    pages.free_many(&apart, Order::ZERO).unwrap();
    let before = whole_words();
    take(&pages, 0);
    let refill = 1 + pages.frames_kept();
    assert!((33..64).contains(&refill), "{refill}");
    assert_eq!(whole_words(), before);
    (1..refill).for_each(|_| _ = take(&pages, 0));
    // What lay apart is gone.
    take(&pages, 0);
    assert_eq!((1 + pages.frames_kept(), whole_words()), (64, before - 1));
    pages.verify().unwrap();
}
