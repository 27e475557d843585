//! Random calls of a heap against a model: which ranges are allocated, and what was written into
//! them.
//!
//! `KMEM_SEED` and `KMEM_STEPS` choose other runs. A run that fails is made as short as it can be
//! and printed.

mod support;

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use kmem::AllocFlags;
use kmem::frame::FRAME_SIZE;
use kmem::heap::{Heap, HeapFreeError, SizeClass};
use kmem::memory_map::{Region, RegionKind};
use kmem::page::PageAllocator;
use support::shrink::shrink;
use support::{Machine, Random, env};

/// Calls in one run: each begins with an empty heap.
const RUN_STEPS: usize = 2_000;

/// Memory of each heap.
const MEMORY_FRAMES: usize = 600;

/// Blocks that a run tends towards.
const LIVE: usize = 48;

/// One call.
#[derive(Clone, Copy, Debug)]
enum Step {
    Allocate {
        size: usize,
        align: usize,
        zeroed: bool,
    },
    /// Of the live block with this number, modulo their count; likewise below.
    Free {
        nth: usize,
    },
    FreeUnsized {
        nth: usize,
    },
    Reallocate {
        nth: usize,
        size: usize,
        zeroed: bool,
    },
    FreeTwice {
        nth: usize,
    },
    FreeInside {
        nth: usize,
        offset: usize,
    },
    FreeWithOtherSize {
        nth: usize,
        size: usize,
    },
    Reclaim,
    Reap,
}

impl Step {
    fn random(random: &mut Random, live: usize) -> Self {
        let nth = random.below(LIVE * 2);
        let zeroed = random.below(4) == 0;
        let size = random_size(random);
        match random.below(100) {
            0..3 => Self::FreeTwice { nth },
            3..6 => Self::FreeInside { nth, offset: 1 + random.below(8 * FRAME_SIZE) },
            6..9 => Self::FreeWithOtherSize { nth, size },
            9 => Self::Reclaim,
            10 => Self::Reap,
            11..35 => Self::Reallocate { nth, size, zeroed },
            // The fuller, the more is freed.
            35..100 if random.below(2 * LIVE) < live => {
                if random.below(3) == 0 {
                    Self::FreeUnsized { nth }
                } else {
                    Self::Free { nth }
                }
            }
            _ => Self::Allocate { size, align: random_align(random), zeroed },
        }
    }
}

/// Mostly small, at times a few frames, rarely many; often at the edge of a class.
fn random_size(random: &mut Random) -> usize {
    let most = match random.below(100) {
        0..60 => 512,
        60..90 => SizeClass::MAX_BYTES,
        _ => 40 * FRAME_SIZE,
    };
    let size = 1 + random.below(most);
    match SizeClass::for_bytes(size) {
        Some(class) if random.below(3) == 0 => class.bytes() + random.below(3) - 1,
        _ => size,
    }
}

fn random_align(random: &mut Random) -> usize {
    match random.below(10) {
        0..7 => 1 << random.below(5),
        7..9 => 1 << random.below(13),
        _ => FRAME_SIZE << random.below(4),
    }
}

/// What the model is held against.
trait Subject {
    fn allocate(&mut self, layout: Layout, zeroed: bool) -> Option<NonNull<[u8]>>;
    /// # Safety
    ///
    /// As `Heap::deallocate`.
    unsafe fn free(&mut self, block: NonNull<u8>, layout: Layout);
    /// # Safety
    ///
    /// As `Heap::reallocate`.
    unsafe fn reallocate(
        &mut self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Option<NonNull<[u8]>>;
    /// A call that is not for every heap: what `step` does to the block that it names.
    fn special(&mut self, step: Step, block: NonNull<u8>, layout: Layout) -> Outcome;
    fn verify(&self);
    /// With nothing allocated any more.
    fn end(self);
}

/// What became of the block of a special step.
enum Outcome {
    Kept,
    Freed,
}

struct Block {
    layout: Layout,
    usable: usize,
    pattern: u8,
}

/// The live blocks by address.
#[derive(Default)]
struct Model {
    blocks: BTreeMap<usize, Block>,
    next_pattern: u8,
}

impl Model {
    fn nth(&self, nth: usize) -> Option<(NonNull<u8>, Layout)> {
        let (&address, block) = self.blocks.iter().nth(nth % self.blocks.len().max(1))?;
        let pointer = NonNull::new(std::ptr::with_exposed_provenance_mut(address))?;
        Some((pointer, block.layout))
    }

    /// Enters a new block and fills all of it.
    fn enter(&mut self, memory: NonNull<[u8]>, layout: Layout) {
        let start = memory.cast::<u8>().as_ptr().expose_provenance();
        assert!(memory.len() >= layout.size(), "{} bytes for {layout:?}", memory.len());
        assert!(start.is_multiple_of(layout.align()), "{start:#x} for {layout:?}");
        if let Some((&before, block)) = self.blocks.range(..start).next_back() {
            assert!(before + block.usable <= start, "{start:#x} overlaps the block at {before:#x}");
        }
        if let Some((&behind, _)) = self.blocks.range(start..).next() {
            assert!(start + memory.len() <= behind, "{start:#x} overlaps the block at {behind:#x}");
        }
        self.next_pattern = self.next_pattern % 250 + 1;
        let pattern = self.next_pattern;
        // SAFETY: the heap says that all of it is the caller's, and the model that nobody else has
        // it.
        unsafe { memory.cast::<u8>().write_bytes(pattern, memory.len()) };
        self.blocks.insert(start, Block { layout, usable: memory.len(), pattern });
    }

    /// Takes a block out, whose bytes must be as they were written up to `kept`.
    fn leave(&mut self, pointer: NonNull<u8>, kept: usize) -> Block {
        let block = self.blocks.remove(&pointer.addr().get()).expect("the model has it");
        // SAFETY: the block is allocated and no longer than that.
        let bytes = unsafe { std::slice::from_raw_parts(pointer.as_ptr(), kept) };
        assert!(bytes.iter().all(|byte| *byte == block.pattern), "{pointer:p} was written to");
        block
    }
}

fn is_zero(memory: NonNull<[u8]>, from: usize) -> bool {
    // SAFETY: the heap has just handed the memory out, all of it initialised if this is asked.
    unsafe { &memory.as_ref()[from..] }.iter().all(|byte| *byte == 0)
}

/// One run. Panics if the subject does not do what the model says.
fn run(mut subject: impl Subject, steps: &[Step]) {
    let mut model = Model::default();
    for &step in steps {
        apply(&mut subject, &mut model, step);
        subject.verify();
    }
    while let Some((pointer, layout)) = model.nth(0) {
        let usable = model.blocks[&pointer.addr().get()].usable;
        model.leave(pointer, usable);
        // SAFETY: the block is allocated, and the model has let go of it.
        unsafe { subject.free(pointer, layout) };
    }
    subject.verify();
    subject.end();
}

fn apply(subject: &mut impl Subject, model: &mut Model, step: Step) {
    match step {
        Step::Allocate { size, align, zeroed } => {
            let layout = Layout::from_size_align(size, align).expect("valid");
            if let Some(memory) = subject.allocate(layout, zeroed) {
                assert!(!zeroed || is_zero(memory, 0), "not zeroed");
                model.enter(memory, layout);
            }
        }
        Step::Free { nth } => {
            if let Some((pointer, layout)) = model.nth(nth) {
                let usable = model.blocks[&pointer.addr().get()].usable;
                model.leave(pointer, usable);
                // SAFETY: the block is allocated, and the model has let go of it.
                unsafe { subject.free(pointer, layout) };
            }
        }
        Step::Reallocate { nth, size, zeroed } => {
            let Some((pointer, old)) = model.nth(nth) else { return };
            let new = Layout::from_size_align(size, old.align()).expect("valid");
            // SAFETY: the block is allocated, and the model does not use it during the call.
            let moved = unsafe { subject.reallocate(pointer, old, new, zeroed) };
            let Some(memory) = moved else { return };
            let block = model.blocks.remove(&pointer.addr().get()).expect("the model has it");
            // What was written is still there, now at the new place, and the rest zero if so asked.
            let kept = old.size().min(new.size());
            // SAFETY: `kept` bytes of the new block are initialised: copied, or never moved.
            let bytes = unsafe { std::slice::from_raw_parts(memory.cast::<u8>().as_ptr(), kept) };
            assert!(bytes.iter().all(|byte| *byte == block.pattern), "{pointer:p} lost its bytes");
            assert!(!zeroed || is_zero(memory, old.size().min(memory.len())), "not zeroed");
            model.enter(memory, new);
        }
        Step::Reclaim | Step::Reap => {
            subject.special(step, NonNull::dangling(), Layout::new::<u8>());
        }
        Step::FreeUnsized { nth }
        | Step::FreeTwice { nth }
        | Step::FreeInside { nth, .. }
        | Step::FreeWithOtherSize { nth, .. } => {
            let Some((pointer, layout)) = model.nth(nth) else { return };
            if let Outcome::Freed = subject.special(step, pointer, layout) {
                model.blocks.remove(&pointer.addr().get());
            }
        }
    }
}

fn random_script(random: &mut Random) -> Vec<Step> {
    let mut live = 0_usize;
    let mut step = || {
        let step = Step::random(random, live);
        match step {
            Step::Allocate { .. } => live += 1,
            Step::Free { .. } | Step::FreeUnsized { .. } | Step::FreeTwice { .. } => {
                live = live.saturating_sub(1);
            }
            _ => {}
        }
        step
    };
    (0..RUN_STEPS).map(|_| step()).collect()
}

/// Runs until so many steps are done; a failing run is shortened and printed.
fn explore<S: Subject>(steps: usize, subject: impl Fn() -> S) {
    let seed = env("KMEM_SEED", 1);
    let steps = env("KMEM_STEPS", steps);
    for run_index in 0..steps.div_ceil(RUN_STEPS) {
        let mut random = Random::new(seed + run_index);
        let script = random_script(&mut random);
        if fails(&subject, &script) {
            let shortest = shrink(script, |script| fails(&subject, script));
            eprintln!("seed {}: these steps fail:\n{shortest:#?}", seed + run_index);
            run(subject(), &shortest);
            unreachable!("it failed before");
        }
    }
}

fn fails<S: Subject>(subject: &impl Fn() -> S, script: &[Step]) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(subject(), script))).is_err()
}

// kmem

type Pages = PageAllocator<Machine>;

struct Kmem {
    /// Dropped before the frames that it is made of.
    heap: Heap<'static, Pages>,
    pages: Owned<Pages>,
}

/// A value that others refer to as long as this lives.
struct Owned<T: 'static>(&'static T);

impl<T> Owned<T> {
    fn new(value: T) -> Self {
        Self(Box::leak(Box::new(value)))
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: leaked by `new`; who refers to it is dropped first.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(self.0).cast_mut()) });
    }
}

impl Kmem {
    fn new() -> Self {
        let machine = Machine::new(MEMORY_FRAMES, 1);
        let region = Region::from_frames(machine.frames(), RegionKind::Usable);
        let pages = Owned::new(PageAllocator::new(machine));
        // SAFETY: the memory is the machine's, for nobody else.
        unsafe { pages.init([region]) }.expect("memory for the metadata");
        Self { heap: Heap::new(pages.0), pages }
    }
}

fn flags(zeroed: bool) -> AllocFlags {
    if zeroed { AllocFlags::ZERO } else { AllocFlags::empty() }
}

impl Kmem {
    /// Frames that can be had, in the zones and on this CPU.
    fn frames_free(&self) -> usize {
        self.pages.frames_available() + self.pages.frames_kept()
    }
}

impl Subject for Kmem {
    fn allocate(&mut self, layout: Layout, zeroed: bool) -> Option<NonNull<[u8]>> {
        self.heap.allocate(layout, flags(zeroed)).ok()
    }

    unsafe fn free(&mut self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on.
        unsafe { self.heap.deallocate(block, layout) }.expect("allocated with this layout");
    }

    unsafe fn reallocate(
        &mut self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Option<NonNull<[u8]>> {
        // SAFETY: passed on.
        unsafe { self.heap.reallocate(block, old, new, flags(zeroed)) }.ok()
    }

    fn special(&mut self, step: Step, block: NonNull<u8>, layout: Layout) -> Outcome {
        // SAFETY: nobody else uses the heap.
        let usable = || unsafe { self.heap.usable_bytes(block) }.expect("allocated");
        match step {
            Step::Reclaim | Step::Reap => {
                let available = self.frames_free();
                // More may go: frames that only described the slabs.
                let given = match step {
                    Step::Reap => self.heap.reap(),
                    _ => self.heap.reclaim(),
                };
                assert!(self.frames_free() >= available + given);
                Outcome::Kept
            }
            Step::FreeUnsized { .. } => {
                // SAFETY: the model gives the block up.
                unsafe { self.heap.deallocate_unsized(block) }.expect("allocated");
                Outcome::Freed
            }
            Step::FreeTwice { .. } => {
                // SAFETY: the model gives the block up; the second free is to be refused.
                unsafe {
                    self.heap.deallocate(block, layout).expect("allocated");
                    let again = self.heap.deallocate(block, layout);
                    assert_eq!(again, Err(HeapFreeError::NotAllocated));
                }
                Outcome::Freed
            }
            Step::FreeInside { offset, .. } => {
                let offset = 1 + offset % (usable() - 1);
                // SAFETY: inside the block.
                let inside = unsafe { block.add(offset) };
                let refusal = Err(HeapFreeError::NotAnObject { base: block.addr().get() });
                // SAFETY: to be refused.
                unsafe {
                    assert_eq!(self.heap.deallocate(inside, layout), refusal);
                    assert_eq!(self.heap.deallocate_unsized(inside), refusal);
                }
                Outcome::Kept
            }
            Step::FreeWithOtherSize { size, .. } => {
                let other = Layout::from_size_align(size, layout.align()).expect("valid");
                let allocated_bytes = usable();
                let same_class = match SizeClass::for_layout(other) {
                    Some(class) => class.bytes() == allocated_bytes,
                    None => size.next_multiple_of(FRAME_SIZE) == allocated_bytes,
                };
                if !same_class {
                    let refusal =
                        HeapFreeError::SizeMismatch { allocated_bytes, given_bytes: size };
                    // SAFETY: to be refused.
                    assert_eq!(unsafe { self.heap.deallocate(block, other) }, Err(refusal));
                }
                Outcome::Kept
            }
            _ => Outcome::Kept,
        }
    }

    fn verify(&self) {
        self.heap.verify().expect("the heap is sound");
        self.pages.verify().expect("the frames are sound");
        let held = self.heap.stats().held_bytes() / FRAME_SIZE;
        assert_eq!(self.frames_free() + held, self.pages.frames_managed());
    }

    fn end(self) {
        self.heap.reclaim();
        let stats = self.heap.stats();
        assert_eq!((stats.objects, stats.runs, stats.live_bytes()), (0, 0, 0), "{stats:?}");
    }
}

#[test]
fn a_million_random_calls_do_what_the_model_says() {
    explore(1_000_000, Kmem::new);
}

// linked_list_allocator: that the model demands nothing of kmem alone.

struct LinkedList {
    heap: linked_list_allocator::Heap,
    memory: NonNull<u8>,
}

impl LinkedList {
    const MEMORY: Layout = match Layout::from_size_align(MEMORY_FRAMES * FRAME_SIZE, FRAME_SIZE) {
        Ok(layout) => layout,
        Err(_) => panic!("valid"),
    };

    fn new() -> Self {
        // SAFETY: the layout has bytes.
        let memory = NonNull::new(unsafe { std::alloc::alloc(Self::MEMORY) }).expect("memory");
        memory.as_ptr().expose_provenance();
        let mut heap = linked_list_allocator::Heap::empty();
        // SAFETY: the memory was just allocated for the heap, and lives longer than it.
        unsafe { heap.init(memory.as_ptr(), Self::MEMORY.size()) };
        Self { heap, memory }
    }
}

impl Subject for LinkedList {
    fn allocate(&mut self, layout: Layout, zeroed: bool) -> Option<NonNull<[u8]>> {
        let block = self.heap.allocate_first_fit(layout).ok()?;
        if zeroed {
            // SAFETY: just allocated.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        Some(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn free(&mut self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on.
        unsafe { self.heap.deallocate(block, layout) };
    }

    unsafe fn reallocate(
        &mut self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Option<NonNull<[u8]>> {
        let moved = self.allocate(new, zeroed)?;
        // SAFETY: both have so many bytes, and they are different blocks.
        unsafe { moved.cast::<u8>().copy_from_nonoverlapping(block, old.size().min(new.size())) };
        // SAFETY: passed on.
        unsafe { self.free(block, old) };
        Some(moved)
    }

    fn special(&mut self, step: Step, block: NonNull<u8>, layout: Layout) -> Outcome {
        if let Step::FreeUnsized { .. } = step {
            // SAFETY: the model gives the block up.
            unsafe { self.free(block, layout) };
            return Outcome::Freed;
        }
        Outcome::Kept
    }

    fn verify(&self) {
        assert!(self.heap.used() + self.heap.free() == self.heap.size());
    }

    fn end(self) {
        assert_eq!(self.heap.used(), 0);
        // SAFETY: allocated with this layout in `new`, and not used any more.
        unsafe { std::alloc::dealloc(self.memory.as_ptr(), Self::MEMORY) };
    }
}

#[test]
fn another_heap_passes_the_same_model() {
    explore(50_000, LinkedList::new);
}
