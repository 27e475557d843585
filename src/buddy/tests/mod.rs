//! What the tests of one span share.

mod corruption;
mod faults;
mod policy;

use std::boxed::Box;
use std::vec::Vec;

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::*;

const CALLER: BlockOwner = BlockOwner::Caller;
const LOW: Placement = Placement::Low;

/// Zeroed metadata for `cover`, leaked: tests are short.
fn metadata(cover: FrameRange) -> Metadata<'static> {
    let need = Need::for_span(cover);
    Metadata {
        states: Box::leak((0..need.states).map(|_| AtomicU8::new(0)).collect::<Box<[_]>>()),
        groups: Box::leak(std::vec![Group::EMPTY; need.groups].into_boxed_slice()),
        words: Box::leak(std::vec![0; need.words].into_boxed_slice()),
    }
}

#[track_caller]
fn frame(number: usize) -> Frame {
    Frame::new(number).unwrap()
}

#[track_caller]
fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

#[track_caller]
fn range(start: usize, end: usize) -> FrameRange {
    FrameRange::new(frame(start), frame(end)).unwrap()
}

/// A span over `start..end`, all of it available.
#[track_caller]
fn full(start: usize, end: usize) -> Buddy<'static> {
    let cover = range(start, end);
    let mut buddy = Buddy::new(cover, metadata(cover)).unwrap();
    buddy.add(cover).unwrap();
    buddy.verify().unwrap();
    buddy
}

/// What a reader of the books would see: everything but the order of events.
fn picture(buddy: &Buddy<'_>) -> (Vec<u8>, Vec<Group>, usize, usize, u32) {
    let states = buddy.states();
    let bytes = states.of_frames().iter().chain(states.of_groups());
    let states = bytes.map(|byte| byte.load(Relaxed)).collect();
    (states, buddy.groups.to_vec(), buddy.available, buddy.managed, buddy.nonempty)
}

/// A few thousand ordinary calls, after which everything is as before.
#[track_caller]
fn goes_on(buddy: &mut Buddy<'_>) {
    buddy.verify().unwrap();
    let before = picture(buddy);
    let mut live: Vec<(Frame, Order)> = Vec::new();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..4000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let k = order((random >> 40) as u8 % 8);
        if random & 1 == 0
            && let Ok(at) = buddy.alloc(k, BlockOwner::Slab, LOW)
        {
            live.push((at, k));
        } else if !live.is_empty() {
            let (at, k) = live.swap_remove((random >> 20) as usize % live.len());
            buddy.free(at, k, BlockOwner::Slab).unwrap();
        }
    }
    buddy.verify().unwrap();
    for (at, k) in live {
        buddy.free(at, k, BlockOwner::Slab).unwrap();
    }
    buddy.verify().unwrap();
    assert_eq!(picture(buddy), before);
}

/// The call fails with `error`, changes nothing, and the span works on.
#[track_caller]
fn refused<T: core::fmt::Debug, E: PartialEq + core::fmt::Debug>(
    buddy: &mut Buddy<'_>,
    call: impl FnOnce(&mut Buddy<'_>) -> Result<T, E>,
    error: E,
) {
    let before = picture(buddy);
    assert_eq!(call(buddy).unwrap_err(), error);
    assert_eq!(picture(buddy), before);
    goes_on(buddy);
}

/// A span with something of everything: holes, reserved, blocks, runs, cached and free blocks.
fn varied() -> Buddy<'static> {
    let cover = range(400, 3700);
    let mut buddy = Buddy::new(cover, metadata(cover)).unwrap();
    buddy.add(range(410, 3690)).unwrap();
    buddy.remove(range(440, 450)).unwrap();
    buddy.reserve(range(443, 446)).unwrap();
    for k in [0, 0, 1, 2, 3, 5, 9] {
        buddy.alloc(order(k), CALLER, LOW).unwrap();
        buddy.alloc(order(k), BlockOwner::Slab, Placement::High).unwrap();
    }
    for frames in [3, 6, 12, 48, 640] {
        buddy.alloc_exact(frames, BlockOwner::Heap, LOW).unwrap();
    }
    let mut cached = [Frame::default(); 5];
    assert_eq!(buddy.alloc_cached(order(0), &mut cached, 5, LOW), 5);
    assert_eq!(buddy.alloc_cached(order(2), &mut cached, 5, LOW), 5);
    buddy.verify().unwrap();
    buddy
}
