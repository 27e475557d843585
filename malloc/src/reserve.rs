//! Memory for signal handlers that interrupt the heap while it holds a lock.
//!
//! Such a handler must not wait for the lock, which its own thread holds. POSIX lets it call nothing of this library;
//! programs do all the same. What it asks for comes out of a reserve that only grows, without a lock; what it frees is put on a
//! list, and freed by the next call that can.
//!
//! # Invariants
//!
//! 1. A block of the reserve is handed out once. Its size stands in the 16 bytes before it.
//! 2. An address is on the list until one call takes it, by an exchange.

use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicPtr, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use crate::mapped;

/// Addresses that the reserve has; memory is taken where it is used.
const RESERVE_BYTES: usize = 1 << 30;

/// Bytes before a block.
const HEADER_BYTES: usize = 16;

static START: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static USED: AtomicUsize = AtomicUsize::new(0);

/// Blocks to be freed later.
static DEFERRED: [AtomicPtr<u8>; 64] = [const { AtomicPtr::new(ptr::null_mut()) }; 64];

/// At most how many there are.
static WAITING: AtomicUsize = AtomicUsize::new(0);

fn start() -> Option<NonNull<u8>> {
    if let Some(start) = NonNull::new(START.load(Acquire)) {
        return Some(start);
    }
    let mapped = mapped::map(RESERVE_BYTES)?;
    match START.compare_exchange(ptr::null_mut(), mapped.as_ptr(), AcqRel, Acquire) {
        Ok(_) => Some(mapped),
        Err(first) => {
            // SAFETY: mapped above, and nobody else knows of it.
            unsafe { libc::munmap(mapped.as_ptr().cast(), RESERVE_BYTES) };
            NonNull::new(first)
        }
    }
}

/// A block of zeros.
#[cold]
pub(crate) fn allocate(bytes: usize, alignment: usize) -> Option<NonNull<u8>> {
    let start = start()?;
    let room = bytes.checked_add(alignment)?.checked_add(HEADER_BYTES)?;
    let room = room.checked_next_multiple_of(HEADER_BYTES)?;
    if room > RESERVE_BYTES {
        return None;
    }
    let offset = USED.fetch_add(room, Relaxed);
    if offset.checked_add(room)? > RESERVE_BYTES {
        return None;
    }
    let lead = (start.addr().get() + offset + HEADER_BYTES).next_multiple_of(alignment.max(16));
    // SAFETY: the block and its header lie within the room that this call alone was given.
    unsafe {
        let block = start.add(lead - start.addr().get());
        block.sub(HEADER_BYTES).cast::<usize>().write(bytes);
        Some(block)
    }
}

/// Whether a block is one of the reserve's.
pub(crate) fn owns(block: NonNull<u8>) -> bool {
    let start = START.load(Acquire).addr();
    start != 0 && block.addr().get().wrapping_sub(start) < RESERVE_BYTES
}

/// Bytes of a block of the reserve.
pub(crate) fn usable_bytes(block: NonNull<u8>) -> Option<usize> {
    // SAFETY: blocks of the reserve have their size before them (invariant 1).
    owns(block).then(|| unsafe { block.sub(HEADER_BYTES).cast::<usize>().read() })
}

/// Has a block freed later; lost if too many wait already.
#[cold]
pub(crate) fn defer(block: NonNull<u8>) {
    for place in &DEFERRED {
        let empty = ptr::null_mut();
        if place.compare_exchange(empty, block.as_ptr(), AcqRel, Relaxed).is_ok() {
            WAITING.fetch_add(1, Relaxed);
            return;
        }
    }
}

/// A block that was to be freed later.
#[inline]
pub(crate) fn take_deferred() -> Option<NonNull<u8>> {
    if WAITING.load(Relaxed) == 0 { None } else { search_deferred() }
}

#[cold]
fn search_deferred() -> Option<NonNull<u8>> {
    let found =
        DEFERRED.iter().find_map(|place| NonNull::new(place.swap(ptr::null_mut(), AcqRel)))?;
    WAITING.fetch_sub(1, Relaxed);
    Some(found)
}
