//! Work for heaps.

use core::{
    alloc::Layout,
    mem::MaybeUninit,
    ptr::{self, NonNull},
};
use std::{
    hint::{black_box, spin_loop},
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering},
};

use super::{Batch, PAIRS, WARM_UP_PAIRS, at_once};
use crate::{
    Timing, memory,
    peers::{
        cpu,
        heaps::{Heap, SharedHeap},
        kmem::Objects,
    },
    random::Random,
    timed,
};

/// A layout of `bytes` bytes, aligned as most of a program's data are.
#[inline(always)]
pub fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).expect("sizes of the benchmarks are small")
}

/// Writes a word, as whoever asked for memory will.
#[inline]
fn touch(block: *mut u8) {
    assert!(!block.is_null(), "the heap is exhausted");
    // SAFETY: every block of the benchmarks has at least 8 bytes, aligned to 8, and is the
    // caller's own.
    unsafe { block.cast::<u64>().write(0x5A5A_5A5A) };
}

/// An object of `BYTES` bytes, which the compiler knows as it does in most callers, taken and given
/// back, again and again.
pub fn pair<const BYTES: usize, H: Heap>(heap: &mut H) -> Timing {
    let pairs = |count: usize, heap: &mut H| {
        for _ in 0..count {
            let layout = layout(BYTES);
            let object = black_box(heap.take(layout));
            touch(object);
            // SAFETY: taken two lines above, and not kept.
            unsafe { heap.give(object, layout) };
        }
    };
    pairs(WARM_UP_PAIRS, heap);
    timed(PAIRS, || pairs(PAIRS, heap))
}

/// Objects in a burst.
const OBJECTS: usize = 32;

/// 32 objects taken one by one, then given back as they came; counted in pairs.
pub fn bulk<H: Heap>(heap: &mut H, layout: Layout) -> Timing {
    let mut objects = [ptr::null_mut(); OBJECTS];
    let mut bursts = |count: usize| {
        for _ in 0..count / OBJECTS {
            for object in &mut objects {
                *object = heap.take(layout);
                touch(*object);
            }
            for &object in &objects {
                // SAFETY: taken in the loop above, once, and not kept.
                unsafe { heap.give(object, layout) };
            }
        }
    };
    bursts(WARM_UP_PAIRS);
    timed(PAIRS, || bursts(PAIRS))
}

/// The same through the calls that take and give many.
pub fn bulk_at_once(cache: &Objects) -> Timing {
    let mut room = [MaybeUninit::<NonNull<u8>>::uninit(); OBJECTS];
    let mut bursts = |count: usize| {
        for _ in 0..count / OBJECTS {
            assert!(cache.take_many(&mut room), "the cache is exhausted");
            // SAFETY: the cache just filled every place.
            let objects = unsafe { room.assume_init_ref() };
            objects.iter().for_each(|object| touch(object.as_ptr()));
            // SAFETY: taken above, and not kept.
            unsafe { cache.give_many(objects) };
        }
    };
    bursts(WARM_UP_PAIRS);
    timed(PAIRS, || bursts(PAIRS))
}

/// Blocks of 8 to 2048 bytes, replaced one at a time at random.
pub struct Mix<H> {
    heap: H,
    live: Vec<(*mut u8, Layout)>,
    random: Random,
    steps: Vec<(usize, Layout)>,
}

impl<H: Heap> Mix<H> {
    /// Fills the heap with `blocks` blocks.
    pub fn new(mut heap: H, blocks: usize) -> Self {
        let mut random = Random::new(3);
        let live = (0..blocks)
            .map(|_| {
                let layout = mixed(&mut random);
                let block = heap.take(layout);
                touch(block);
                (block, layout)
            })
            .collect();
        Self { heap, live, random, steps: Vec::new() }
    }

    /// Replaces `steps` blocks, after as many that only warm the caches: each step gives one back
    /// and takes one of another size.
    pub fn run(&mut self, steps: usize) -> Timing {
        self.draw(steps);
        self.replace();
        self.draw(steps);
        timed(steps, || self.replace())
    }

    /// Decides on the next steps.
    fn draw(&mut self, steps: usize) {
        self.steps.clear();
        for _ in 0..steps {
            let slot = self.random.below(self.live.len());
            self.steps.push((slot, mixed(&mut self.random)));
        }
    }

    fn replace(&mut self) {
        for &(slot, layout) in &self.steps {
            let (block, old) = self.live[slot];
            // SAFETY: a live block, replaced before anybody sees it again.
            unsafe { self.heap.give(block, old) };
            let block = self.heap.take(layout);
            touch(block);
            self.live[slot] = (block, layout);
        }
    }
}

/// A size of the mix: every multiple of 8 up to 2048 as often as any other.
fn mixed(random: &mut Random) -> Layout {
    layout(8 + 8 * random.below(256))
}

/// `threads` threads at once, each replacing blocks of a thousand of its own.
pub fn private_mix<H: SharedHeap>(heap: &H, threads: usize) -> Timing {
    const LIVE: usize = 1000;
    const STEPS: usize = 16_384;
    let elapsed = at_once(threads, &|| {
        let mut random = Random::new(4 + cpu::current_number() as u64);
        let mut live: Vec<(*mut u8, Layout)> = Vec::with_capacity(LIVE);
        move |batch| match batch {
            Batch::WarmUp => live.extend((0..LIVE).map(|_| {
                let layout = mixed(&mut random);
                (heap.take(layout), layout)
            })),
            Batch::Measured => {
                for _ in 0..STEPS {
                    let slot = random.below(LIVE);
                    let (block, old) = live[slot];
                    // SAFETY: a live block of this thread's, replaced below.
                    unsafe { heap.give(block, old) };
                    let layout = mixed(&mut random);
                    let block = heap.take(layout);
                    touch(block);
                    live[slot] = (block, layout);
                }
            }
            Batch::CleanUp => {
                for (block, layout) in live.drain(..) {
                    // SAFETY: a live block of this thread's, which forgets it.
                    unsafe { heap.give(block, layout) };
                }
            }
        }
    });
    Timing { operations: STEPS, elapsed }
}

/// A ring of pointers from one thread to one other.
struct Ring {
    slots: [AtomicPtr<u8>; Self::SLOTS],
}

impl Ring {
    const SLOTS: usize = 1024;

    const fn new() -> Self {
        Self { slots: [const { AtomicPtr::new(ptr::null_mut()) }; Self::SLOTS] }
    }

    /// Puts `pointer` into slot `turn`, as soon as the other thread has emptied it.
    fn put(&self, turn: usize, pointer: *mut u8) {
        let slot = &self.slots[turn % Self::SLOTS];
        // Acquire pairs with the release of `get`, and the other way round.
        while !slot.load(Ordering::Acquire).is_null() {
            spin_loop();
        }
        slot.store(pointer, Ordering::Release);
    }

    /// Takes the pointer out of slot `turn`, as soon as there is one.
    fn get(&self, turn: usize) -> *mut u8 {
        let slot = &self.slots[turn % Self::SLOTS];
        loop {
            let pointer = slot.load(Ordering::Acquire);
            if !pointer.is_null() {
                slot.store(ptr::null_mut(), Ordering::Release);
                return pointer;
            }
            spin_loop();
        }
    }
}

/// One thread takes objects, another one gives them back.
pub fn producer_consumer<H: SharedHeap>(heap: &H) -> Timing {
    const OBJECTS: usize = 4096;
    let ring = Ring::new();
    let turns = AtomicUsize::new(0);
    let size = |turn: usize| layout(64 + 64 * (turn % 8));
    let ring = &ring;
    let elapsed = at_once(2, &|| {
        let produces = turns.fetch_add(1, Ordering::Relaxed) == 0;
        move |batch| {
            if batch != Batch::Measured {
                return;
            }
            for turn in 0..OBJECTS {
                if produces {
                    let object = heap.take(size(turn));
                    touch(object);
                    ring.put(turn, object);
                } else {
                    // SAFETY: the producer took it in this turn, with this layout, and let it go.
                    unsafe { heap.give(ring.get(turn), size(turn)) };
                }
            }
        }
    });
    Timing { operations: OBJECTS, elapsed }
}

/// The pages that blocks have lain in, as a set that has all its memory before the first one.
struct Pages {
    slots: Vec<usize>,
    count: usize,
}

impl Pages {
    const SLOTS: usize = 1 << 20;

    fn new() -> Self {
        // Not zero, so that the memory is there and not only promised.
        Self { slots: vec![usize::MAX; Self::SLOTS], count: 0 }
    }

    fn insert(&mut self, block: *mut u8, bytes: usize) {
        let first = block.addr() / kmem::frame::FRAME_SIZE;
        let last = (block.addr() + bytes - 1) / kmem::frame::FRAME_SIZE;
        for page in first..=last {
            let mut slot = page.wrapping_mul(0x9E37_79B9_7F4A_7C15) % Self::SLOTS;
            while self.slots[slot] != page {
                if self.slots[slot] == usize::MAX {
                    self.slots[slot] = page;
                    self.count += 1;
                    break;
                }
                slot = (slot + 1) % Self::SLOTS;
            }
        }
    }
}

/// How much memory a heap takes for what it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// The most bytes that the process had resident for it, over the most bytes that were live.
    pub resident: f64,
    /// The pages that blocks ever lay in, over the same.
    pub handed_out: f64,
}

/// Replaces `steps` blocks of 10,000 of the mix, writing every byte of each.
pub fn footprint<H: Heap>(new: impl FnOnce() -> H, steps: usize) -> Footprint {
    const LIVE: usize = 10_000;
    let mut live: Vec<(*mut u8, Layout)> = vec![(ptr::dangling_mut(), layout(8)); LIVE];
    let mut pages = Pages::new();
    let mut random = Random::new(5);
    let (mut bytes, mut most_bytes, mut most_resident) = (0, 0, 0);
    let before = memory::resident_bytes();
    let mut heap = new();
    for step in 0..LIVE + steps {
        let slot = if step < LIVE { step } else { random.below(LIVE) };
        if step >= LIVE {
            let (block, old) = live[slot];
            // SAFETY: a live block, replaced below.
            unsafe { heap.give(block, old) };
            bytes -= old.size();
        }
        let layout = mixed(&mut random);
        live[slot] = (filled(&mut heap, layout), layout);
        pages.insert(live[slot].0, layout.size());
        bytes += layout.size();
        most_bytes = most_bytes.max(bytes);
        if step >= LIVE && (step - LIVE).is_multiple_of((steps / 16).max(1)) {
            most_resident = most_resident.max(memory::resident_bytes());
        }
    }
    most_resident = most_resident.max(memory::resident_bytes());
    Footprint {
        resident: most_resident.saturating_sub(before) as f64 / most_bytes as f64,
        handed_out: (pages.count * kmem::frame::FRAME_SIZE) as f64 / most_bytes as f64,
    }
}

fn filled<H: Heap>(heap: &mut H, layout: Layout) -> *mut u8 {
    let block = heap.take(layout);
    touch(block);
    // SAFETY: the block is of that size, and the caller's own.
    unsafe { block.write_bytes(0x5A, layout.size()) };
    block
}

/// How sizes are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// 8 to 128 bytes, all multiples of 8 alike.
    Small,
    /// 8 to 2048 bytes, all multiples of 8 alike.
    Even,
    /// Powers of two from 16 to 2048.
    PowersOfTwo,
    /// Eight bytes more than a power of two: the worst for an allocator of powers of two.
    JustAbove,
    /// Half of them up to 64 bytes, a quarter up to 128, an eighth up to 256, and so on.
    Geometric,
}

impl Sizes {
    /// All of them, with a name for each.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Small, "8 to 128 bytes"),
        (Self::Even, "8 to 2048 bytes"),
        (Self::PowersOfTwo, "powers of two, 16 to 2048"),
        (Self::JustAbove, "8 bytes above powers of two"),
        (Self::Geometric, "geometric, half below 64"),
    ];

    fn draw(self, random: &mut Random) -> usize {
        match self {
            Self::Small => 8 + 8 * random.below(16),
            Self::Even => 8 + 8 * random.below(256),
            Self::PowersOfTwo => 16 << random.below(8),
            Self::JustAbove => (16 << random.below(7)) + 8,
            Self::Geometric => {
                let doublings = random.next_u64().trailing_ones().min(5);
                let most = 64 << doublings;
                let least = if doublings == 0 { 0 } else { most / 2 };
                least + 8 + 8 * random.below((most - least) / 8)
            }
        }
    }
}

/// Bytes that the process has resident for each byte of 32 MiB of blocks of such sizes.
pub fn density<H: Heap>(new: impl FnOnce() -> H, sizes: Sizes) -> f64 {
    const BYTES: usize = 32 << 20;
    let mut random = Random::new(6);
    let before = memory::resident_bytes();
    let mut heap = new();
    let mut bytes = 0;
    while bytes < BYTES {
        let layout = layout(sizes.draw(&mut random));
        black_box(filled(&mut heap, layout));
        bytes += layout.size();
    }
    memory::resident_bytes().saturating_sub(before) as f64 / bytes as f64
}
