//! The shortest way to a hit: from the thread to its slot in a cache.
//!
//! The heap's caches have a slot for each CPU; a thread *is* a CPU. So each thread slot has a
//! **row** with the addresses of its slots in all of the heap's caches, and each thread the address
//! of its row. A hit is then: the thread's row, the slot, the object. A row is read by the size of
//! a request and by the tag of a block's slab: neither needs the class in between.
//!
//! # Invariants
//!
//! 1. A row is used by the one thread that holds its thread slot. Threads that share a slot, and
//!    those that have none yet, have [`EMPTY`], which is never written.
//! 2. What is in a row is a slot of that CPU in the cache of that class, which lives as long as the
//!    heap: for ever; or the slot that no hit finds free ([`Slot::absent`]), which stands for none.
//! 3. While hits are held back, all rows hold only that, or are about to.

use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

use super::allocator::{FRAMES, HEAP};
use super::frames::HostFrames;
use super::thread;
use crate::heap::{Heap, SizeClass, frames_for, run_frames_of};
use crate::page::FrameSource;
use crate::platform::{CpuId, MAX_CPUS};
use crate::slab::{self, Slab, Slot};

/// Requests of up to so many bytes find their slot by their size.
const DIRECT_BYTES: usize = 1024;

/// Tags of the heap's slabs are below this power of two: what is beyond wraps around, and is told
/// by the slot's cache.
const TAGS: usize = (SizeClass::COUNT + 1).next_power_of_two();

/// One thread slot's slots.
#[repr(C, align(64))]
pub(super) struct Row {
    /// For requests of `8 * i + 1` to `8 * i + 8` bytes.
    by_size: [AtomicPtr<Slot>; DIRECT_BYTES / 8],
    /// For blocks of slabs with the tag.
    by_tag: [AtomicPtr<Slot>; TAGS],
}

const ABSENT: *mut Slot = Slot::absent().cast_mut();

/// The row of threads that have no slot of their own.
pub(super) static EMPTY: Row = Row {
    by_size: [const { AtomicPtr::new(ABSENT) }; DIRECT_BYTES / 8],
    by_tag: [const { AtomicPtr::new(ABSENT) }; TAGS],
};

/// The rows of thread slots: null until the slot is first taken, so that they take no memory
/// before.
static ROWS: [Row; MAX_CPUS] = [const {
    Row {
        by_size: [const { AtomicPtr::new(ptr::null_mut()) }; DIRECT_BYTES / 8],
        by_tag: [const { AtomicPtr::new(ptr::null_mut()) }; TAGS],
    }
}; MAX_CPUS];

/// Thread slots from this one on have never been held.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

/// Hits are held back.
static HELD_BACK: AtomicBool = AtomicBool::new(false);

impl Row {
    /// All places, the one that says whether the row was begun last.
    fn places(&self) -> impl Iterator<Item = &AtomicPtr<Slot>> {
        let (beginning, others) = self.by_tag.split_at(1);
        self.by_size.iter().chain(others).chain(beginning)
    }

    /// Puts no slot into all places.
    fn clear(&self) {
        // Release, for the Acquire in `is_begun`: of the last one, which who holds hits back may be
        // the first to write.
        self.places().for_each(|place| place.store(ABSENT, Release));
    }

    /// Whether no place is null.
    fn is_begun(&self) -> bool {
        // No slab of the heap has the tag 0.
        !self.by_tag[0].load(Acquire).is_null()
    }

    /// The slot that lies in a place.
    #[inline(always)]
    fn slot(place: &AtomicPtr<Slot>) -> &'static Slot {
        // SAFETY: invariant 2: threads have rows that were begun.
        unsafe { &*place.load(Relaxed) }
    }

    /// The slot for so many bytes, of up to [`DIRECT_BYTES`] alone.
    #[inline(always)]
    fn for_few(&self, bytes: usize) -> Option<&'static Slot> {
        self.by_size.get(bytes.wrapping_sub(1) / 8).map(Self::slot)
    }

    #[inline(always)]
    fn for_class(&self, class: SizeClass) -> &'static Slot {
        Self::slot(&self.by_tag[(class.index() + 1) % TAGS])
    }

    /// The slot for blocks of a slab, unless its cache is none of the heap's.
    #[inline(always)]
    fn for_slab(&self, slab: Slab<'_>) -> &'static Slot {
        Self::slot(&self.by_tag[slab.tag() as usize % TAGS])
    }

    /// Puts `slot` into the places of `class`.
    fn put(&self, class: SizeClass, slot: *mut Slot) {
        let first =
            class.index().checked_sub(1).and_then(SizeClass::new).map_or(0, SizeClass::bytes);
        let end = class.bytes().min(DIRECT_BYTES);
        for place in self.by_size.get(first / 8..end / 8).unwrap_or(&[]) {
            place.store(slot, Relaxed);
        }
        self.by_tag[class.index() + 1].store(slot, Relaxed);
    }
}

/// The row of a thread slot, which the caller holds.
pub(super) fn row_of(cpu: CpuId) -> *const Row {
    let row = &ROWS[cpu.index()];
    if !row.is_begun() {
        row.clear();
    }
    row
}

/// A block of at least `bytes` bytes from this thread's slot.
#[inline(always)]
pub(super) fn allocate_bytes(bytes: usize) -> Option<NonNull<u8>> {
    let row = thread::row();
    let slot = match row.for_few(bytes) {
        Some(slot) => slot,
        None => row.for_class(SizeClass::for_bytes(bytes)?),
    };
    // SAFETY: the slot is this thread's (invariant 1), and in a row since its cache watches
    // nothing.
    unsafe { slot.pop_hit() }
}

/// As [`allocate_bytes`], of up to [`DIRECT_BYTES`] alone: that has no more steps than must be.
#[inline(always)]
pub(super) fn allocate_few_bytes(bytes: usize) -> Option<NonNull<u8>> {
    let slot = thread::row().for_few(bytes)?;
    // SAFETY: as above.
    unsafe { slot.pop_hit() }
}

/// A block of `class` from this thread's slot.
#[inline(always)]
pub(super) fn allocate(class: SizeClass) -> Option<NonNull<u8>> {
    // SAFETY: as above.
    unsafe { thread::row().for_class(class).pop_hit() }
}

/// The slab that an address of the first span lies in.
///
/// # Safety
///
/// As [`slab::find`].
#[inline(always)]
unsafe fn slab_of<'r>(address: usize) -> Option<Slab<'r>> {
    // SAFETY: the caller's promise.
    unsafe { FRAMES.directory.slab(address) }
}

/// Gives a block back to this thread's slot; `false`, and nothing has changed, if that cannot be.
///
/// # Safety
///
/// As [`Heap::deallocate_unsized`].
#[inline(always)]
pub(super) unsafe fn deallocate(block: *mut u8) -> bool {
    // Nothing lies at the null pointer.
    // SAFETY: the caller's promise.
    let Some(slab) = (unsafe { slab_of(block.addr()) }) else { return false };
    // SAFETY: what lies in a slab is not null.
    let block = unsafe { NonNull::new_unchecked(block) };
    // SAFETY: the slot is this thread's (invariant 1), the block lies in `slab`; the rest is the
    // caller's promise.
    unsafe { thread::row().for_slab(slab).push_hit(slab, block) }
}

/// As [`allocate_bytes`], where that has failed: from this thread's second magazine, or its shelf,
/// or the run that it keeps.
pub(super) fn allocate_second(bytes: usize) -> Option<NonNull<u8>> {
    match SizeClass::for_bytes(bytes) {
        Some(class) => allocate_second_of(class),
        None => FRAMES.take_run_hit(bytes),
    }
}

/// As [`allocate`], where that has failed: from this thread's second magazine, or its shelf.
pub(super) fn allocate_second_of(class: SizeClass) -> Option<NonNull<u8>> {
    let slot = thread::row().for_class(class);
    // SAFETY: as above.
    let block = unsafe { slot.take_second(FRAMES.platform()) };
    if block.is_none() && has_shelf(slot) { HEAP.cache_of(class).take_shelved() } else { block }
}

/// As [`deallocate`], where that has failed: to this thread's second magazine, or to that for
/// objects of others, or to its shelf, or as the run that it keeps.
///
/// # Safety
///
/// As there.
pub(super) unsafe fn deallocate_second(block: NonNull<u8>) -> bool {
    // SAFETY: the caller's promise.
    let Some(slab) = (unsafe { slab_of(block.addr().get()) }) else {
        return FRAMES.give_run_hit(block);
    };
    let slot = thread::row().for_slab(slab);
    // SAFETY: the slot is this thread's (invariant 1), the block lies in `slab`; the rest is the
    // caller's promise.
    if unsafe { slot.put_second(FRAMES.platform(), slab, block) } {
        return true;
    }
    // What lies in magazines may be due to go back.
    if !has_shelf(slot) || FRAMES.is_reclaim_due() {
        return false;
    }
    // SAFETY: as above.
    HEAP.cache_of_tag(slab.tag()).is_some_and(|cache| unsafe { cache.put_shelved(slab, block) })
}

/// Whether the shelf of a slot that lies in this thread's row may be used: it has a lock, which is
/// waited for, so not on top of a call that holds one.
fn has_shelf(slot: &Slot) -> bool {
    !ptr::eq(slot, ABSENT) && !thread::is_locking()
}

/// Whether what starts at `block` may serve `layout`: any object, or a run of that very length.
pub(super) fn may_be_for(block: *mut u8, layout: Layout) -> bool {
    match FRAMES.directory.owner(block.addr()).and_then(run_frames_of) {
        None => true,
        Some(frames) => {
            SizeClass::for_layout(layout).is_none() && frames == frames_for(layout.size())
        }
    }
}

/// The class of the cache that a block's slab belongs to, if it lies in one.
///
/// # Safety
///
/// As [`slab::find`].
pub(super) unsafe fn class_of(block: NonNull<u8>) -> Option<SizeClass> {
    let address = block.addr().get();
    let slab = match FRAMES.directory.owner(address) {
        // SAFETY: an owner record's, loaded with Acquire; the rest is the caller's promise.
        Some(record) => unsafe { slab::named(&FRAMES, record) },
        // SAFETY: the caller's promise.
        None => unsafe { slab::find(&FRAMES, block) },
    };
    Heap::<HostFrames>::class_of_tag(slab?.tag())
}

/// Bytes of an allocated block of a class; `None` says to ask the heap.
///
/// # Safety
///
/// As [`Heap::usable_bytes`].
#[inline(always)]
pub(super) unsafe fn usable_bytes(block: NonNull<u8>) -> Option<usize> {
    // SAFETY: the caller's promise.
    let slab = unsafe { slab_of(block.addr().get()) }?;
    let class = Heap::<HostFrames>::class_of_tag(slab.tag())?;
    slab.is_users_at(block).then_some(class.bytes())
}

/// Notes this thread's slot in the cache of `class`, if it has got one.
pub(super) fn note(class: SizeClass) {
    let row = thread::row();
    if ptr::eq(row, &EMPTY) || !ptr::eq(row.for_class(class), ABSENT) || HELD_BACK.load(Relaxed) {
        return;
    }
    if let Some(slot) = HEAP.cache_of(class).local_slot(super::slot::current()) {
        row.put(class, slot.as_ptr());
        // Between the fences of this thread and one that holds hits back each has written what the
        // other then looks at, or overwrites: so at least one of them clears the row.
        fence(SeqCst);
        if HELD_BACK.load(Relaxed) {
            row.put(class, ABSENT);
        }
    }
}

/// Rows from this one on are not in use, nor is anything else of their thread slots.
pub(super) fn begun() -> usize {
    BEGUN.load(SeqCst)
}

/// Says that a thread slot is held, before anything of it is used.
pub(super) fn begin(cpu: CpuId) {
    BEGUN.fetch_max(cpu.index() + 1, SeqCst);
}

/// Whether no call is to be a hit.
#[inline]
pub(super) fn are_hits_held_back() -> bool {
    HELD_BACK.load(Relaxed)
}

/// From now on no call is a hit, until [`allow_hits`].
pub(super) fn hold_hits_back() {
    HELD_BACK.store(true, SeqCst);
    fence(SeqCst);
    ROWS.iter().take(begun()).for_each(Row::clear);
}

/// Ends what [`hold_hits_back`] began.
pub(super) fn allow_hits() {
    HELD_BACK.store(false, SeqCst);
}

#[cfg(test)]
mod tests;
