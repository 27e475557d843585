//! Work for allocators of frames.

use core::ops::Range;
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

/// One block of order `ORDER`, which the compiler knows as it does in most callers, taken and given
/// back, again and again.
pub fn pair<const ORDER: u8, A: Frames>(allocator: &mut A) -> Timing {
    let pairs = |count: usize, allocator: &mut A| {
        for _ in 0..count {
            let block = black_box(allocator.take(ORDER).expect("memory for one block"));
            allocator.give(block, ORDER);
        }
    };
    pairs(WARM_UP_PAIRS, allocator);
    timed(PAIRS, || pairs(PAIRS, allocator))
}

/// Takes `count` frames and gives every second one back, so that no two neighbours are free.
pub fn fragment<A: Frames>(allocator: &mut A, count: usize) {
    let mut frames: Vec<A::Block> = (0..count).map_while(|_| allocator.take(0)).collect();
    frames.sort_unstable();
    for frame in frames.into_iter().step_by(2) {
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
pub struct Bulk<A: Frames> {
    allocator: A,
    frames: Vec<A::Block>,
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

/// Blocks of several orders, each order as often as the others, replaced by and by.
pub struct Mixed<A: Frames> {
    allocator: A,
    orders: Range<u8>,
    live: Vec<(A::Block, u8)>,
    random: Random,
    next: Vec<u8>,
}

impl<A: Frames> Mixed<A> {
    /// Fills about `frames` frames with blocks of `orders`.
    pub fn new(mut allocator: A, orders: Range<u8>, frames: usize) -> Self {
        let mut random = Random::new(2);
        let frames_of_each: usize = orders.clone().map(|order| 1 << order).sum();
        let blocks = frames * orders.len() / frames_of_each;
        let live = (0..blocks)
            .map(|_| {
                let order = draw(&mut random, &orders);
                (allocator.take(order).expect("memory to spare"), order)
            })
            .collect();
        Self { allocator, orders, live, random, next: Vec::new() }
    }

    /// Gives `blocks` blocks back, drawn at random, and takes as many of random orders, after as
    /// many that only warm the caches.
    pub fn run(&mut self, blocks: usize) -> Timing {
        self.draw(blocks);
        self.exchange(blocks);
        self.draw(blocks);
        timed(2 * blocks, || self.exchange(blocks))
    }

    /// Decides which blocks go, the last ones of the list, and what comes.
    fn draw(&mut self, blocks: usize) {
        for end in (self.live.len() - blocks..self.live.len()).rev() {
            let drawn = self.random.below(end + 1);
            self.live.swap(drawn, end);
        }
        self.next.clear();
        self.next.extend((0..blocks).map(|_| draw(&mut self.random, &self.orders)));
    }

    /// A request that cannot be met is repeated for the smallest order, which always can.
    fn exchange(&mut self, blocks: usize) {
        let rest = self.live.len() - blocks;
        for (block, order) in self.live.drain(rest..) {
            self.allocator.give(block, order);
        }
        for &order in &self.next {
            self.live.push(match self.allocator.take(order) {
                Some(block) => (block, order),
                None => {
                    let order = self.orders.start;
                    (self.allocator.take(order).expect("a small block"), order)
                }
            });
        }
    }
}

fn draw(random: &mut Random, orders: &Range<u8>) -> u8 {
    orders.start + random.below(orders.len()) as u8
}

/// What a day leaves behind.
#[derive(Clone, Copy, Debug)]
pub struct Evening {
    /// Blocks of 2 MiB that can still be taken.
    pub whole: usize,
    /// How many there would be if the rest had been put together.
    pub possible: usize,
}

/// A day's churn in miniature: 24 hours of rising and falling load in `frames` frames, most of it
/// short-lived, one allocation in 50 for good; then everything short-lived is given back.
pub fn day<A: Frames>(allocator: &mut A, frames: usize) -> Evening {
    /// Load at the end of each hour, in per cent.
    const LOAD: [usize; 24] = [
        30, 25, 20, 20, 25, 35, 50, 65, 75, 80, 85, 80, 75, 85, 80, 75, 80, 85, 80, 70, 65, 55, 45,
        35,
    ];
    /// Requests in an hour, beside those that follow the load.
    const CHURN: usize = 30_000;
    /// Most requests in an hour, should memory be too broken to reach its load.
    const MOST: usize = 300_000;
    let mut random = Random::new(7);
    let mut live: Vec<(A::Block, u8)> = Vec::new();
    let (mut used, mut kept) = (0_usize, 0_usize);
    for load in LOAD {
        let target = frames * load / 100;
        let mut churn = 0;
        while churn < CHURN || (churn < MOST && used.abs_diff(target) > frames / 100) {
            churn += 1;
            if live.is_empty() || used < target {
                let order = order_of_the_day(&mut random);
                let lasting = random.below(50) == 0;
                let block =
                    if lasting { allocator.take(order) } else { allocator.take_movable(order) };
                let Some(block) = block else { continue };
                used += 1 << order;
                if lasting {
                    kept += 1 << order;
                } else {
                    live.push((block, order));
                }
            } else {
                let (block, order) = live.swap_remove(random.below(live.len()));
                allocator.give(block, order);
                used -= 1 << order;
            }
        }
    }
    for (block, order) in live {
        allocator.give(block, order);
    }
    let whole = core::iter::from_fn(|| allocator.take(BIG)).count();
    Evening { whole, possible: (frames - kept) >> BIG }
}

/// The order of a block of 2 MiB.
const BIG: u8 = 9;

/// Four in five are single frames; the others, up to order 3, ever rarer.
fn order_of_the_day(random: &mut Random) -> u8 {
    match random.below(100) {
        0..80 => 0,
        80..90 => 1,
        90..96 => 2,
        _ => 3,
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
        let mut burst = [None; BURST];
        move |batch| {
            let bursts = match batch {
                Batch::WarmUp => 8,
                Batch::Measured => BURSTS,
                Batch::CleanUp => 0,
            };
            for _ in 0..bursts {
                for frame in &mut burst {
                    *frame = allocator.take(0);
                }
                for frame in burst {
                    allocator.give(frame.expect("a few frames"), 0);
                }
            }
        }
    });
    Timing { operations: 2 * BURST * BURSTS, elapsed }
}
