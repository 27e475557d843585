use std::boxed::Box;
use std::vec::Vec;

use super::*;

const START: usize = 0x100;
/// 16 MiB for each CPU.
const SHARE: usize = 4096;
const OWNER: BlockOwner = BlockOwner::Caller;

fn frame(offset: usize) -> Frame {
    Frame::new(START + offset).unwrap()
}

fn index(order: u8) -> ListIndex {
    ListIndex::of(Order::new(order).unwrap()).unwrap()
}

/// Lists of a span of 4096 frames, and that span's states.
fn lists() -> (FrameLists, &'static [AtomicU8]) {
    let states: Vec<_> = (0..4096).map(|_| AtomicU8::new(State::PLAIN.byte())).collect();
    let states: &'static [AtomicU8] = Box::leak(states.into_boxed_slice());
    let mut lists = FrameLists::new(SHARE);
    lists.set_span(frame(0), states);
    (lists, states)
}

fn state(states: &[AtomicU8], frame: Frame) -> u8 {
    states[frame.number() - START].load(Ordering::Relaxed)
}

/// Has the zone cache blocks of `order` at the offsets.
fn cache(lists: &mut FrameLists, states: &[AtomicU8], order: u8, offsets: &[usize]) -> usize {
    let blocks: Vec<_> = offsets.iter().copied().map(frame).collect();
    for &block in &blocks {
        let cached = State::cached(Order::new(order).unwrap()).byte();
        states[block.number() - START].store(cached, Ordering::Relaxed);
    }
    lists.fill(index(order), &blocks)
}

#[test]
fn small_orders_and_2_mib_have_lists_that_grow_with_the_memory() {
    for order in Order::all() {
        assert_eq!(ListIndex::of(order).is_some(), matches!(order.get(), 0..=6 | 9), "{order}");
    }
    let blocks = |share: usize| {
        let lists = FrameLists::new(share);
        let all: Vec<_> = ListIndex::all().collect();
        for &index in &all {
            assert_eq!(ListIndex::of(index.order()), Some(index));
            assert_eq!(lists.spill(index).is_some(), lists.limit(index) > 0);
        }
        all.iter().map(|&index| lists.limit(index)).collect::<Vec<_>>()
    };
    // A share of 16 MiB, of 256 MiB, of 1 GiB, of 8 GiB.
    assert_eq!(blocks(1 << 12), [96, 48, 24, 12, 0, 0, 0, 2]);
    assert_eq!(blocks(1 << 16), [96, 96, 96, 96, 85, 42, 21, 2]);
    assert_eq!(blocks(1 << 18), [96, 96, 96, 96, 96, 96, 85, 2]);
    assert_eq!(blocks(1 << 21), [96, 96, 96, 96, 96, 96, 96, 2]);
    for share in (1 << 14..1 << 20).step_by(1 << 10) {
        let small = &blocks(share)[..7];
        let frames: usize = small.iter().zip(0..).map(|(blocks, order)| blocks << order).sum();
        assert!(frames <= share / 9, "{frames} of {share} frames");
    }
}

#[test]
fn lists_without_a_span_neither_take_nor_give() {
    let mut lists = FrameLists::new(SHARE);
    assert_eq!(lists.take(index(0), OWNER), None);
    assert_eq!(lists.give(Frame::ZERO, index(0), OWNER), Given::Refused);
    assert_eq!(lists.span_start(), None);
}

#[test]
fn blocks_change_hands_with_their_state() {
    let (mut lists, states) = lists();
    assert_eq!(cache(&mut lists, states, 1, &[2, 8, 4]), 3);
    assert_eq!(lists.frames(), 6);
    let block = lists.take(index(1), BlockOwner::Slab).unwrap();
    assert_eq!(block, frame(2), "the first of the zone's blocks comes first");
    assert_eq!(state(states, block), State::head(BlockOwner::Slab, Order::new(1).unwrap()).byte());
    assert_eq!(lists.give(block, index(1), OWNER), Given::Refused, "another owner's block");
    assert_eq!(lists.give(block, index(0), BlockOwner::Slab), Given::Refused, "another order");
    assert_eq!(lists.give(block, index(1), BlockOwner::Slab), Given::Taken);
    assert_eq!(lists.give(block, index(1), BlockOwner::Slab), Given::Refused, "twice");
    assert_eq!(state(states, block), State::cached(Order::new(1).unwrap()).byte());
    assert_eq!(lists.frames(), 6);
}

#[test]
fn what_is_given_last_is_taken_first() {
    let (mut lists, states) = lists();
    cache(&mut lists, states, 0, &[10, 11, 12]);
    let taken: Vec<_> = (0..3).map(|_| lists.take(index(0), OWNER).unwrap()).collect();
    assert_eq!(taken, [frame(10), frame(11), frame(12)]);
    assert_eq!(lists.take(index(0), OWNER), None);
    for block in [frame(11), frame(10)] {
        assert_eq!(lists.give(block, index(0), OWNER), Given::Taken);
    }
    assert_eq!(lists.take(index(0), OWNER), Some(frame(10)));
}

#[test]
fn a_full_list_takes_no_more_and_spills_its_oldest() {
    let (mut lists, states) = lists();
    let offsets: Vec<_> = (0..102).collect();
    assert_eq!(cache(&mut lists, states, 0, &offsets), 96);
    let extra = lists.take(index(0), OWNER).unwrap();
    assert_eq!(lists.give(extra, index(0), OWNER), Given::Taken);
    states[200].store(State::head(OWNER, Order::ZERO).byte(), Ordering::Relaxed);
    assert_eq!(lists.give(frame(200), index(0), OWNER), Given::NoRoom);
    // The zone's blocks are put in from the back, so the oldest are the last.
    let expected: Vec<_> = (70..102).rev().map(frame).collect();
    assert_eq!(lists.oldest(index(0), 32), expected);
    lists.forget_oldest(index(0), 32);
    assert_eq!(lists.give(frame(200), index(0), OWNER), Given::Taken);
    assert_eq!(lists.take(index(0), OWNER), Some(frame(200)));
    assert_eq!(lists.take(index(0), OWNER), Some(frame(6)));
    assert_eq!(lists.oldest(index(0), 64).len(), 63);
    lists.forget_oldest(index(0), 64);
    assert!(lists.oldest(index(0), 64).is_empty());
    assert_eq!(lists.frames(), 0);
}

#[test]
fn a_block_whose_state_was_damaged_is_not_handed_out() {
    let (mut lists, states) = lists();
    cache(&mut lists, states, 3, &[8]);
    states[8].store(State::PLAIN.byte(), Ordering::Relaxed);
    assert_eq!(lists.take(index(3), OWNER), None);
    assert_eq!(lists.frames(), 8, "it stays where `verify` finds it");
}

#[test]
fn frames_outside_the_span_are_refused() {
    let (mut lists, _) = lists();
    assert_eq!(lists.give(Frame::new(START - 1).unwrap(), index(0), OWNER), Given::Refused);
    assert_eq!(lists.give(frame(4096), index(0), OWNER), Given::Refused);
    assert_eq!(lists.give(Frame::MAX, index(0), OWNER), Given::Refused);
}
