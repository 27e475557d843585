//! What does a range cost? kmem's arena beside allocators of ranges and of bytes, with 100,000
//! segments.
//!
//! `vm-allocator` is not among the lanes: with 100,000 ranges one pair takes it more than a
//! millisecond, and setting it up for a case several minutes.

use std::alloc::Layout;
use std::hint::black_box;
use std::ptr::NonNull;

use harness::{Lane, Options, Report, Timing, memory::Region, race, random::Random, timed};
use kmem::arena::{Arena, Config, Fit, Segment};
use range_alloc::RangeAllocator;

/// Segments of every case.
const SEGMENTS: usize = 100_000;
/// Units of a range; a multiple of what `linked_list_allocator` rounds to.
const UNIT: usize = 16;
const LEN: usize = 4 * UNIT;
/// The integers that are managed, and for the peers that manage memory, its bytes.
const SPAN: usize = 64 << 20;

/// Whatever hands out ranges.
trait Ranges {
    fn alloc(&mut self, len: usize) -> usize;
    fn free(&mut self, start: usize, len: usize);
}

impl Ranges for Arena<'static> {
    fn alloc(&mut self, len: usize) -> usize {
        Arena::alloc(self, len as u64).expect("room") as usize
    }
    fn free(&mut self, start: usize, len: usize) {
        Arena::free(self, start as u64, len as u64).expect("a range of ours");
    }
}

impl Ranges for RangeAllocator<u64> {
    fn alloc(&mut self, len: usize) -> usize {
        self.allocate_range(len as u64).expect("room").start as usize
    }
    fn free(&mut self, start: usize, len: usize) {
        self.free_range(start as u64..(start + len) as u64);
    }
}

/// A heap of bytes, with the memory that it needs.
struct ListHeap {
    heap: linked_list_allocator::Heap,
    _memory: Region,
}

impl Ranges for ListHeap {
    fn alloc(&mut self, len: usize) -> usize {
        let block = self.heap.allocate_first_fit(layout(len)).expect("room");
        block.as_ptr().expose_provenance()
    }
    fn free(&mut self, start: usize, len: usize) {
        let block = NonNull::new(std::ptr::with_exposed_provenance_mut(start)).expect("a block");
        // SAFETY: every caller here gives back, once, what `alloc` returned for this length.
        unsafe { self.heap.deallocate(block, layout(len)) };
    }
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, UNIT).expect("a small layout")
}

fn arena(fit: Fit, cached_quanta: usize) -> Arena<'static> {
    let records = vec![Segment::SPARE; 4 * SEGMENTS].leak();
    let config = Config { cached_quanta, ..Config::new("bench", UNIT as u64, fit) };
    let mut arena = Arena::new(config, records).expect("a sound configuration");
    arena.add(SPAN as u64..2 * SPAN as u64).expect("an empty arena");
    arena
}

type Maker = (&'static str, fn() -> Box<dyn Ranges>);

const LANES: [Maker; 8] = [
    ("kmem Instant", || Box::new(arena(Fit::Instant, 0))),
    ("kmem Instant, cached quanta", || Box::new(arena(Fit::Instant, 16))),
    ("kmem Best", || Box::new(arena(Fit::Best, 0))),
    ("kmem First", || Box::new(arena(Fit::First, 0))),
    ("kmem Next", || Box::new(arena(Fit::Next, 0))),
    ("kmem Worst", || Box::new(arena(Fit::Worst, 0))),
    ("range-alloc", || Box::new(RangeAllocator::new(SPAN as u64..2 * SPAN as u64))),
    ("linked_list_allocator", || {
        let memory = Region::new(SPAN);
        // SAFETY: the memory is this heap's alone for as long as the heap is.
        let heap = unsafe { linked_list_allocator::Heap::new(memory.start(), SPAN) };
        Box::new(ListHeap { heap, _memory: memory })
    }),
];

fn main() {
    let options = Options::from_env();
    let mut report = Report::new("arena", &options);

    let case = "range pair, 100,000 ranges live";
    if options.wants_case(case) {
        let prepare = |ranges: &mut dyn Ranges| {
            (0..SEGMENTS).for_each(|_| _ = black_box(ranges.alloc(LEN)));
        };
        let lanes = lanes(&options, prepare, |ranges, (), _| pairs(ranges, LEN));
        race(case, 1, lanes, &options, &mut report);
    }
    let case = "range pair, 50,000 holes among 100,000 segments, each fits";
    if options.wants_case(case) {
        let lanes =
            lanes(&options, |ranges| drop(holes(ranges)), |ranges, (), _| pairs(ranges, LEN));
        race(case, 1, lanes, &options, &mut report);
    }
    let case = "range pair, 50,000 holes among 100,000 segments, all too short";
    if options.wants_case(case) {
        let lanes =
            lanes(&options, |ranges| drop(holes(ranges)), |ranges, (), _| pairs(ranges, 2 * LEN));
        race(case, 1, lanes, &options, &mut report);
    }
    let case = "ranges of 1 to 8 units replaced at random, 100,000 segments";
    if options.wants_case(case) {
        let lanes = lanes(&options, mixed, |ranges, live, random| replace(ranges, live, random));
        race(case, 1, lanes, &options, &mut report);
    }
    report.finish(&options);
}

/// One lane for each allocator that is wanted, prepared by `prepare`, whose batches are `batch`.
fn lanes<'a, State: 'a>(
    options: &Options,
    prepare: impl Fn(&mut dyn Ranges) -> State,
    batch: impl Fn(&mut dyn Ranges, &mut State, &mut Random) -> Timing + Copy + 'a,
) -> Vec<Lane<'a>> {
    let wanted = LANES.iter().filter(|(name, _)| options.wants_peer(name));
    let lane = |(name, make): &Maker| {
        let mut ranges = make();
        let mut state = prepare(&mut *ranges);
        let mut random = Random::new(7);
        Lane::new(name, move |_| batch(&mut *ranges, &mut state, &mut random))
    };
    wanted.map(lane).collect()
}

/// Takes a range of `len` and gives it back, again and again.
fn pairs(ranges: &mut dyn Ranges, len: usize) -> Timing {
    const PAIRS: usize = 64;
    timed(PAIRS, || {
        for _ in 0..PAIRS {
            let start = black_box(ranges.alloc(len));
            ranges.free(start, len);
        }
    })
}

/// 100,000 ranges, every second of them given back: nothing coalesces. What stays is returned.
fn holes(ranges: &mut dyn Ranges) -> Vec<usize> {
    let mut starts: Vec<usize> = (0..SEGMENTS).map(|_| ranges.alloc(LEN)).collect();
    starts.sort_unstable();
    starts.iter().step_by(2).for_each(|&start| ranges.free(start, LEN));
    starts.into_iter().skip(1).step_by(2).collect()
}

/// Ranges of random lengths, half of them given back at random: about 100,000 segments.
fn mixed(ranges: &mut dyn Ranges) -> Vec<(usize, usize)> {
    let mut random = Random::new(1);
    let mut live: Vec<(usize, usize)> = Vec::new();
    for _ in 0..SEGMENTS {
        let len = UNIT * (1 + random.below(8));
        live.push((ranges.alloc(len), len));
    }
    random.shuffle(&mut live);
    for (start, len) in live.drain(SEGMENTS * 2 / 3..) {
        ranges.free(start, len);
    }
    live
}

/// Gives a random range back and takes one of random length, again and again.
fn replace(ranges: &mut dyn Ranges, live: &mut [(usize, usize)], random: &mut Random) -> Timing {
    const REPLACEMENTS: usize = 64;
    timed(REPLACEMENTS, || {
        for _ in 0..REPLACEMENTS {
            let slot = random.below(live.len());
            let (start, len) = live[slot];
            ranges.free(start, len);
            let len = UNIT * (1 + random.below(8));
            live[slot] = (black_box(ranges.alloc(len)), len);
        }
    })
}
