//! Work for allocators of frames.

use std::hint::black_box;

use super::{Batch, PAIRS, WARM_UP_PAIRS, at_once};
use crate::{
    Timing,
    peers::frames::{Frames, SharedFrames},
    random::Random,
    timed,
};

/// Frames in a gibibyte.
pub const FRAMES_PER_GIB: usize = 1 << 18;

/// One block of `order` taken and given back, again and again.
pub fn pair<A: Frames>(allocator: &mut A, order: u8) -> Timing {
    let pairs = |count: usize, allocator: &mut A| {
        for _ in 0..count {
            let block = black_box(allocator.take(order).expect("memory for one block"));
            allocator.give(block, order);
        }
    };
    pairs(WARM_UP_PAIRS, allocator);
    timed(PAIRS, || pairs(PAIRS, allocator))
}

/// Takes `count` frames and gives every second one back, so that no two neighbours are free.
pub fn fragment<A: Frames>(allocator: &mut A, count: usize) {
    let frames: Vec<usize> = (0..count).map_while(|_| allocator.take(0)).collect();
    let mut sorted = frames;
    sorted.sort_unstable();
    for frame in sorted.into_iter().step_by(2) {
        allocator.give(frame, 0);
    }
}

/// In which order frames come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// As they were taken.
    InOrder,
    /// Shuffled.
    AtRandom,
}

/// Many frames taken, then all given back, in slices.
pub struct Bulk<A> {
    allocator: A,
    frames: Vec<usize>,
    back: Return,
    random: Random,
}

impl<A: Frames> Bulk<A> {
    /// Frames taken before the first is given back: 256 MiB of them.
    pub const FRAMES: usize = 65_536;
    /// Frames in a slice.
    const SLICE: usize = 4096;
    /// Slices of a round: first those that take, then those that give.
    pub const SLICES: usize = 2 * Self::FRAMES / Self::SLICE;

    /// The work for `allocator`.
    pub fn new(allocator: A, back: Return) -> Self {
        Self { allocator, frames: Vec::with_capacity(Self::FRAMES), back, random: Random::new(1) }
    }

    /// Slice number `slice`.
    pub fn run(&mut self, slice: usize) -> Timing {
        if slice < Self::SLICES / 2 {
            return timed(Self::SLICE, || {
                for _ in 0..Self::SLICE {
                    self.frames.push(self.allocator.take(0).expect("a quarter of the memory"));
                }
            });
        }
        if slice == Self::SLICES / 2 {
            match self.back {
                Return::InOrder => self.frames.reverse(),
                Return::AtRandom => self.random.shuffle(&mut self.frames),
            }
        }
        let rest = self.frames.len() - Self::SLICE;
        timed(Self::SLICE, || {
            for frame in self.frames.drain(rest..).rev() {
                self.allocator.give(frame, 0);
            }
        })
    }
}

/// Blocks of orders 0 to 6 in most of the memory, replaced by and by.
pub struct Mixed<A> {
    allocator: A,
    live: Vec<(usize, u8)>,
    random: Random,
    orders: Vec<u8>,
}

/// How many orders the mix has, each as often as the others.
const ORDERS: usize = 7;
/// Frames in a block of the mix, on average, in sevenths.
const FRAMES_IN_SEVEN: usize = (1 << ORDERS) - 1;

impl<A: Frames> Mixed<A> {
    /// Fills `frames` frames with blocks.
    pub fn new(mut allocator: A, frames: usize) -> Self {
        let mut random = Random::new(2);
        let blocks = frames * ORDERS / FRAMES_IN_SEVEN;
        let live = (0..blocks)
            .map(|_| {
                let order = random.below(ORDERS) as u8;
                (allocator.take(order).expect("three quarters of the memory"), order)
            })
            .collect();
        Self { allocator, live, random, orders: Vec::new() }
    }

    /// Gives `blocks` blocks back, drawn at random, and takes as many of random orders.
    ///
    /// A request that cannot be met is repeated for one frame, which always can.
    pub fn run(&mut self, blocks: usize) -> Timing {
        for end in (self.live.len() - blocks..self.live.len()).rev() {
            let drawn = self.random.below(end + 1);
            self.live.swap(drawn, end);
        }
        self.orders.clear();
        self.orders.extend((0..blocks).map(|_| self.random.below(ORDERS) as u8));
        let rest = self.live.len() - blocks;
        timed(2 * blocks, || {
            for (block, order) in self.live.drain(rest..) {
                self.allocator.give(block, order);
            }
            for &order in &self.orders {
                self.live.push(match self.allocator.take(order) {
                    Some(block) => (block, order),
                    None => (self.allocator.take(0).expect("one frame"), 0),
                });
            }
        })
    }
}

/// `threads` threads at once, each taking bursts of frames and giving them back.
///
/// The timing counts one thread's operations, from the first start to the last end: it stays the
/// same if threads do not disturb each other, and doubles if two of them wait for each other all
/// the time.
pub fn private_bursts<A: SharedFrames>(allocator: &A, threads: usize) -> Timing {
    const BURST: usize = 32;
    const BURSTS: usize = 1024;
    let elapsed = at_once(threads, &|| {
        let mut burst = [0; BURST];
        move |batch| {
            let bursts = match batch {
                Batch::WarmUp => 8,
                Batch::Measured => BURSTS,
                Batch::CleanUp => 0,
            };
            for _ in 0..bursts {
                for frame in &mut burst {
                    *frame = allocator.take(0).expect("a few frames");
                }
                for &frame in &burst {
                    allocator.give(frame, 0);
                }
            }
        }
    });
    Timing { operations: 2 * BURST * BURSTS, elapsed }
}
