//! The behaviours of one span.

use std::boxed::Box;
use std::vec::Vec;

use core::sync::atomic::AtomicU8;

use super::*;

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

#[test]
fn every_order_can_be_taken_until_nothing_is_left_and_comes_back_whole() {
    for (start, end) in [(0, 4096), (3, 5000), (511, 513), (100, 101), (512, 1024), (1000, 70_001)]
    {
        for k in 0..=12 {
            let mut buddy = full(start, end);
            let before: Vec<_> = Order::all().map(|o| buddy.available_blocks(o)).collect();
            let mut taken = Vec::new();
            while let Ok(at) = buddy.alloc(order(k), BlockOwner::Caller, Placement::Low) {
                taken.push(at);
            }
            buddy.verify().unwrap();
            let blocks = (start.next_multiple_of(1 << k)..end).step_by(1 << k);
            let fitting = blocks.filter(|at| at + (1 << k) <= end).count();
            assert_eq!(taken.len(), fitting);
            assert_eq!(buddy.frames_available(), (end - start) - fitting * (1 << k));
            for at in taken {
                buddy.free(at, order(k), BlockOwner::Caller).unwrap();
            }
            buddy.verify().unwrap();
            let after: Vec<_> = Order::all().map(|o| buddy.available_blocks(o)).collect();
            assert_eq!(before, after);
        }
    }
}
