//! Every state of a buddy system of 16 frames, and from each every legal and illegal call.
//!
//! A block of order `k` has as many states as its two halves together, and one more in which it is
//! allocated whole: 2, 5, 26, 677, 458330.

use std::collections::HashSet;
use std::sync::atomic::AtomicU8;

use kmem::buddy::{AllocError, BlockOwner, Buddy, FreeError, Group, Metadata, Need, Placement};
use kmem::frame::{Frame, FrameRange, Order};

/// Number of the span's first frame.
const START: usize = 48;
/// Frames in the span.
const FRAMES: usize = 16;
const OWNER: BlockOwner = BlockOwner::Caller;

fn frame(offset: usize) -> Frame {
    Frame::new(START + offset).unwrap()
}

fn order(order: u32) -> Order {
    Order::new(order as u8).unwrap()
}

/// The frames of the block of `order` at `offset`, one bit each.
fn block(offset: usize, order: u32) -> u32 {
    ((1 << (1 << order)) - 1) << offset
}

/// One state: which frames are free, and by offset the order of the block allocated there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Picture {
    free: u32,
    heads: [Option<u8>; FRAMES],
}

impl Picture {
    /// The order of the free block that begins at `offset` and is part of no larger one.
    fn maximal(&self, offset: usize) -> Option<u32> {
        let is_free = |&order: &u32| {
            let within = offset & !((1 << order) - 1);
            self.free & block(within, order) == block(within, order)
        };
        let largest = (0..=4).take_while(is_free).last()?;
        (offset.is_multiple_of(1 << largest)).then_some(largest)
    }

    /// Where the block of `wanted` comes from.
    fn alloc(&self, wanted: u32, placement: Placement) -> Result<usize, AllocError> {
        let available = self.free.count_ones() as usize;
        for order in wanted..=4 {
            let mut starts = (0..FRAMES).filter(|&offset| self.maximal(offset) == Some(order));
            let start = match placement {
                Placement::Low => starts.next(),
                Placement::High => starts.next_back().map(|at| at + (1 << order) - (1 << wanted)),
            };
            if let Some(start) = start {
                return Ok(start);
            }
        }
        let largest = (0..FRAMES).filter_map(|offset| self.maximal(offset)).max();
        match largest {
            Some(largest) if available >= 1 << wanted => {
                Err(AllocError::Fragmented { available, largest: order(largest) })
            }
            _ => Err(AllocError::OutOfMemory),
        }
    }

    /// What freeing `given` at `offset` says.
    fn free(&self, offset: usize, given: u32) -> Result<(), FreeError> {
        if self.free >> offset & 1 == 1 {
            return Err(FreeError::NotAllocated);
        }
        let covers = |&at: &usize| self.heads[at].is_some_and(|order| at + (1 << order) > offset);
        let head = (0..=offset).rev().find(covers).unwrap();
        let allocated = order(u32::from(self.heads[head].unwrap()));
        if head != offset {
            Err(FreeError::NotHead { head: frame(head), order: allocated })
        } else if allocated != order(given) {
            Err(FreeError::WrongOrder { allocated, given: order(given) })
        } else {
            Ok(())
        }
    }

    fn with(mut self, offset: usize, order: u32) -> Self {
        self.free &= !block(offset, order);
        self.heads[offset] = Some(order as u8);
        self
    }

    /// Six bits a frame would do; the order of the heads and the free frames fit in one number.
    fn key(&self) -> u128 {
        let nibble = |key: u128, head: &Option<u8>| key << 4 | u128::from(head.map_or(0xf, |o| o));
        self.heads.iter().fold(0, nibble) << 16 | u128::from(self.free)
    }
}

#[track_caller]
fn expect<T: PartialEq + std::fmt::Debug>(picture: &Picture, found: T, expected: T) {
    assert!(found == expected, "{picture:?}: expected {expected:?}, found {found:?}");
}

struct Explorer {
    buddy: Buddy<'static>,
    seen: HashSet<u128>,
}

impl Explorer {
    /// Visits every state of the blocks `rest`, given that all others are as in `picture`.
    fn visit(&mut self, rest: &[(usize, u32)], picture: Picture) {
        let Some((&(offset, k), others)) = rest.split_last() else {
            return self.try_everything(picture);
        };
        let range = FrameRange::from_len(frame(offset), 1 << k).unwrap();
        self.buddy.claim(range, OWNER).unwrap();
        self.visit(others, picture.with(offset, k));
        self.buddy.free(frame(offset), order(k), OWNER).unwrap();
        if k == 0 {
            self.visit(others, picture);
        } else {
            let halves = [(offset, k - 1), (offset + (1 << (k - 1)), k - 1)];
            self.visit(&[others, &halves].concat(), picture);
        }
    }

    fn try_everything(&mut self, picture: Picture) {
        assert!(self.seen.insert(picture.key()), "{picture:?} reached twice");
        self.same_as(&picture);
        for wanted in 0..=20 {
            for placement in [Placement::Low, Placement::High] {
                if wanted > 5 && wanted < 20 {
                    continue;
                }
                let expected = picture.alloc(wanted, placement);
                let found = self.buddy.alloc(order(wanted), OWNER, placement);
                expect(&picture, found, expected.map(frame));
                if let Ok(offset) = expected {
                    self.same_as(&picture.with(offset, wanted));
                    self.buddy.free(frame(offset), order(wanted), OWNER).unwrap();
                }
            }
        }
        for offset in 0..FRAMES {
            for given in 0..=5 {
                let expected = picture.free(offset, given);
                expect(&picture, self.buddy.free(frame(offset), order(given), OWNER), expected);
                if expected.is_ok() {
                    let mut without = picture;
                    without.free |= block(offset, given);
                    without.heads[offset] = None;
                    self.same_as(&without);
                    let range = FrameRange::from_len(frame(offset), 1 << given).unwrap();
                    self.buddy.claim(range, OWNER).unwrap();
                }
            }
        }
        for outside in [START - 1, START + FRAMES] {
            let outside = Frame::new(outside).unwrap();
            let found = self.buddy.free(outside, Order::ZERO, OWNER);
            expect(&picture, found, Err(FreeError::OutOfRange));
        }
        self.same_as(&picture);
    }

    /// The books agree with themselves and with `picture`.
    #[track_caller]
    fn same_as(&self, picture: &Picture) {
        expect(picture, self.buddy.verify(), Ok(()));
        let available = picture.free.count_ones() as usize;
        expect(picture, self.buddy.frames_available(), available);
    }
}

#[test]
fn every_call_from_every_state_of_sixteen_frames_is_answered_rightly() {
    let cover = FrameRange::from_len(frame(0), FRAMES).unwrap();
    let need = Need::for_span(cover);
    let metadata = Metadata {
        states: Box::leak((0..need.states).map(|_| AtomicU8::new(0)).collect()),
        groups: Box::leak(vec![Group::EMPTY; need.groups].into_boxed_slice()),
        words: Box::leak(vec![0; need.words].into_boxed_slice()),
    };
    let mut buddy = Buddy::new(cover, metadata).unwrap();
    buddy.add(cover).unwrap();
    let mut explorer = Explorer { buddy, seen: HashSet::new() };
    explorer.visit(&[(0, 4)], Picture { free: 0xffff, heads: [None; FRAMES] });
    assert_eq!(explorer.seen.len(), 458_330);
    assert_eq!(explorer.buddy.frames_available(), FRAMES);
}
