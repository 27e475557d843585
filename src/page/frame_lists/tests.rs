use std::boxed::Box;
use std::vec::Vec;

use super::*;
use crate::frame::Order;

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

/// The frames of the span.
const FRAMES: usize = 4096;

/// Lists without a span.
fn no_span() -> &'static FrameLists {
    Box::leak(Box::new(FrameLists::new(SHARE)))
}

/// Enters lists that no other thread knows.
fn enter(lists: &FrameLists) -> Visit<'_> {
    // SAFETY: this thread is the CPU, and the only one.
    unsafe { lists.visit(Pinning::Pinned) }.expect("nobody is inside")
}

/// Lists of a span, for who is inside, and that span's states.
fn lists() -> (Visit<'static>, States<'static>) {
    let cover = FrameRange::from_len(frame(0), FRAMES).unwrap();
    let bytes: Vec<_> = (0..1 + States::needed(cover)).map(|_| AtomicU8::new(0)).collect();
    let bytes: &'static [AtomicU8] = Box::leak(bytes.into_boxed_slice());
    let states = States::new(cover, &bytes[1..]);
    states.of_frames().iter().for_each(|byte| byte.store(State::PLAIN.byte(), Relaxed));
    // What lies beside them looks like frames that can be given.
    for beside in [&bytes[0], &states.of_groups()[0]] {
        beside.store(State::head(OWNER, Order::ZERO).byte(), Relaxed);
    }
    let lists = enter(no_span());
    lists.set_span(cover, states);
    (lists, states)
}

fn state(states: States<'_>, frame: Frame, order: u8) -> u8 {
    states.of_block(frame, Order::new(order).unwrap()).unwrap().load(Relaxed)
}

/// Has the zone cache blocks of `order` at the offsets.
fn cache(lists: &mut Visit<'_>, states: States<'_>, order: u8, offsets: &[usize]) -> usize {
    let blocks: Vec<_> = offsets.iter().copied().map(frame).collect();
    let order_of = Order::new(order).unwrap();
    for &block in &blocks {
        let byte = states.of_block(block, order_of).unwrap();
        byte.store(State::cached(order_of).byte(), Relaxed);
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
        // SAFETY: nobody else knows them.
        let lists = unsafe { lists.inside() };
        let all: Vec<_> = ListIndex::all().collect();
        for &index in &all {
            assert_eq!(ListIndex::of(index.order()), Some(index));
            assert_eq!(lists.spill(index).is_some(), lists.limit(index) > 0);
        }
        all.iter().map(|&index| lists.limit(index)).collect::<Vec<_>>()
    };
    // A share of 16 MiB, of 256 MiB, of 1 GiB, of 8 GiB.
    assert_eq!(blocks(1 << 12), [96, 48, 24, 12, 0, 0, 0, 2]);
    assert_eq!(blocks(1 << 16), [128, 128, 128, 128, 85, 42, 21, 2]);
    assert_eq!(blocks(1 << 18), [128, 128, 128, 128, 128, 128, 85, 2]);
    assert_eq!(blocks(1 << 21), [128, 128, 128, 128, 128, 128, 128, 2]);
    for share in (1 << 14..1 << 20).step_by(1 << 10) {
        let small = &blocks(share)[..7];
        let frames: usize = small.iter().zip(0..).map(|(blocks, order)| blocks << order).sum();
        assert!(frames <= share / 9, "{frames} of {share} frames");
    }
    // A third of a list, but no more than half of the largest refill.
    assert_eq!([2, 12, 24, 96, 128].map(spill), [1, 4, 8, 32, 32]);
}

#[test]
fn lists_without_a_span_neither_take_nor_give() {
    let lists = enter(no_span());
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
    assert_eq!(
        state(states, block, 1),
        State::head(BlockOwner::Slab, Order::new(1).unwrap()).byte()
    );
    assert_eq!(lists.give(block, index(1), OWNER), Given::Refused, "another owner's block");
    assert_eq!(lists.give(block, index(0), BlockOwner::Slab), Given::Refused, "another order");
    assert_eq!(lists.give(block, index(1), BlockOwner::Slab), Given::Taken);
    assert_eq!(lists.give(block, index(1), BlockOwner::Slab), Given::Refused, "twice");
    assert_eq!(state(states, block, 1), State::cached(Order::new(1).unwrap()).byte());
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
    states.of_frames()[200].store(State::head(OWNER, Order::ZERO).byte(), Relaxed);
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
    states.of_frames()[8].store(State::PLAIN.byte(), Relaxed);
    assert_eq!(lists.take(index(3), OWNER), None);
    assert_eq!(lists.frames(), 8, "it stays where `verify` finds it");
}

#[test]
fn frames_outside_the_span_are_refused() {
    let (lists, _) = lists();
    assert_eq!(lists.give(Frame::new(START - 1).unwrap(), index(0), OWNER), Given::Refused);
    assert_eq!(lists.give(frame(4096), index(0), OWNER), Given::Refused);
    assert_eq!(lists.give(Frame::MAX, index(0), OWNER), Given::Refused);
}

#[test]
fn a_2_mib_block_is_taken_back_at_its_first_frame_alone() {
    let (mut lists, states) = lists();
    let block = 0x200 - START;
    assert_eq!(cache(&mut lists, states, 9, &[block]), 1);
    assert_eq!(lists.take(index(9), OWNER), Some(frame(block)));
    let head = State::head(OWNER, States::GROUP).byte();
    assert_eq!(state(states, frame(block), 9), head);
    assert_eq!(state(states, frame(block), 0), State::PLAIN.byte(), "the frame's own");
    for inside in [1, 0x100, 0x1ff] {
        assert_eq!(lists.give(frame(block + inside), index(9), OWNER), Given::Refused);
        assert_eq!(state(states, frame(block), 9), head);
    }
    assert_eq!(lists.give(frame(block), index(9), OWNER), Given::Taken);
    assert_eq!(lists.give(frame(block), index(9), OWNER), Given::Refused, "twice");
}

#[test]
fn hits_pass_between_visits_and_not_during_one() {
    let (mut visit, states) = lists();
    cache(&mut visit, states, 0, &[5, 6]);
    let Inside(lists) = *visit;
    // SAFETY: this thread is the CPU, and the only one.
    let take = || unsafe { lists.take(Pinning::Pinned, index(0), OWNER) };
    // SAFETY: as above.
    let give = |frame| unsafe { lists.give(Pinning::Pinned, frame, index(0), OWNER) };
    // SAFETY: as above.
    let again = unsafe { lists.visit(Pinning::Pinned) };
    assert!(again.is_none(), "a handler, in the midst of a visit");
    assert_eq!(take(), None, "the same");
    drop(visit);
    assert_eq!(take(), Some(frame(5)));
    assert!(!give(frame(6)), "it is in the list");
    assert!(!give(Frame::new(START - 1).unwrap()) && !give(frame(FRAMES)), "outside the span");
    assert!(give(frame(5)) && !give(frame(5)), "twice");
    lists.gate().shut();
    assert_eq!(take(), None, "a remote has shut the gate");
    assert!(!give(frame(5)));
    drop(enter(lists));
    assert_eq!(take(), Some(frame(5)), "the next visit has opened it");
    lists.gate().shut();
    assert!(!give(frame(5)), "shut, with room");
    assert_eq!(enter(lists).frames(), 1);
}

#[test]
fn a_cpu_without_lists_never_enters() {
    let lists = FrameLists::absent();
    // SAFETY: this thread is the CPU, and the only one.
    unsafe {
        assert_eq!(lists.take(Pinning::Pinned, index(0), OWNER), None);
        assert!(!lists.give(Pinning::Pinned, Frame::ZERO, index(0), OWNER));
        assert!(lists.visit(Pinning::Pinned).is_none());
    }
}

#[test]
fn what_is_given_back_first_is_the_newest() {
    let (mut lists, states) = lists();
    let offsets: Vec<_> = (0..96).collect();
    cache(&mut lists, states, 0, &offsets);
    let mut room = [Frame::ZERO; 64];
    for (len, newest, oldest) in [(64, 0, 63), (32, 64, 95)] {
        assert_eq!(lists.newest(index(0), &mut room), len);
        assert_eq!(room[len - 1], frame(newest), "the next to be handed out");
        assert_eq!(room[0], frame(oldest));
        lists.forget_newest(index(0), len);
    }
    assert_eq!(lists.newest(index(0), &mut room), 0);
    assert_eq!(lists.frames(), 0);
}

#[test]
fn lists_hold_as_little_of_a_cpus_share_as_the_options_say() {
    let held = |share| {
        let limits = ListIndex::all().zip(ListIndex::limits(share));
        let small = limits.filter(|(index, _)| !index.moves_singly());
        small.map(|(index, limit)| index.order().frames() * limit).sum::<usize>()
    };
    for share in (0..10_000).chain((10_000..2_000_000).step_by(48)) {
        let frames = held(share);
        assert!(frames == 4 * 96 || 9 * frames < share, "{frames} of {share}");
    }
}
