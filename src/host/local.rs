//! The shortest way to a hit: from the thread to its slot in a cache.
//!
//! The heap's caches have a slot for each CPU; a thread *is* a CPU. So each thread slot has a **row** with the addresses of
//! its slots in all of the heap's caches, and each thread the address of its row. A hit is then: the thread's row, the slot, the object.
//!
//! # Invariants
//!
//! 1. A row is used by the one thread that holds its thread slot. Threads that share a slot have no row.
//! 2. What is in a row is a slot of that CPU in the cache of that class, and lives as long as the heap: for ever.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use super::allocator::{FRAMES, HEAP};
use super::frames::HostFrames;
use super::thread;
use crate::heap::{Heap, SizeClass};
use crate::platform::{CpuId, MAX_CPUS};
use crate::slab::{self, Slot};

/// One thread slot's slots; null where there is none yet.
pub(super) struct Row([AtomicPtr<Slot>; SizeClass::COUNT]);

static ROWS: [Row; MAX_CPUS] =
    [const { Row([const { AtomicPtr::new(ptr::null_mut()) }; SizeClass::COUNT]) }; MAX_CPUS];

/// The row of a thread slot.
pub(super) fn row_of(cpu: CpuId) -> *const Row {
    &raw const ROWS[cpu.index()]
}

/// This thread's slot in the cache of `class`.
#[inline(always)]
fn slot(class: SizeClass) -> Option<&'static Slot> {
    // SAFETY: a thread's row is one of `ROWS`, or null.
    let row = unsafe { thread::row().as_ref() }?;
    // SAFETY: invariant 2.
    unsafe { row.0[class.index()].load(Relaxed).as_ref() }
}

/// A block of `class` from this thread's slot.
#[inline(always)]
pub(super) fn allocate(class: SizeClass) -> Option<NonNull<u8>> {
    // SAFETY: the slot is this thread's (invariant 1), and in a row since its cache watches nothing.
    unsafe { slot(class)?.pop_hit() }
}

/// Gives a block back to this thread's slot; `false`, and nothing has changed, if that cannot be.
///
/// # Safety
///
/// If the block is allocated, nobody uses it any more.
#[inline(always)]
pub(super) unsafe fn deallocate(block: NonNull<u8>) -> bool {
    let Some(slab) = slab::find(&FRAMES, block) else { return false };
    let Some(class) = Heap::<HostFrames>::class_of_tag(slab.tag()) else { return false };
    let Some(slot) = slot(class) else { return false };
    // SAFETY: as above; the block lies in `slab`.
    unsafe { slot.push_hit(slab, block) }
}

/// The class of the cache that a block's slab belongs to, if it lies in one.
pub(super) fn class_of(block: NonNull<u8>) -> Option<SizeClass> {
    Heap::<HostFrames>::class_of_tag(slab::find(&FRAMES, block)?.tag())
}

/// Bytes of an allocated block of a class; `None` says to ask the heap.
#[inline(always)]
pub(super) fn usable_bytes(block: NonNull<u8>) -> Option<usize> {
    let slab = slab::find(&FRAMES, block)?;
    let class = Heap::<HostFrames>::class_of_tag(slab.tag())?;
    slab.is_users_at(block).then_some(class.bytes())
}

/// Notes this thread's slot in the cache of `class`, if it has got one.
pub(super) fn note(class: SizeClass) {
    // SAFETY: a thread's row is one of `ROWS`, or null.
    let Some(row) = (unsafe { thread::row().as_ref() }) else { return };
    let place = &row.0[class.index()];
    if place.load(Relaxed).is_null()
        && let Some(slot) = HEAP.local_slot(class, super::slot::current())
    {
        place.store(slot.as_ptr(), Relaxed);
    }
}
