//! Memory for signal handlers that interrupt the heap, or the books, while they hold a lock.
//!
//! Such a handler must not wait for the lock, which its own thread holds. POSIX lets it call
//! nothing of this library; programs do all the same. What it asks for comes out of a reserve that
//! only grows, without a lock; what it frees is put on a list, and freed by the next call that can.
//!
//! One mapping holds the records, a page that nobody can reach, and the blocks.
//!
//! # Invariants
//!
//! 1. A block of the reserve is handed out once. The cell of its first 16 bytes says how many it
//!    has, or that it was freed; all other cells are 0.
//! 2. An address is on the list until one call takes it, by an exchange.

use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use crate::engine::Request;
use crate::mapped;
use kmem::check::{Rule, Violation};

/// Addresses that blocks have; memory is taken where it is used.
const BLOCK_BYTES: usize = 256 << 20;

/// What every block's start and length is a multiple of.
const QUANTUM: usize = 16;

/// Most blocks that can wait to be freed.
const MAX_WAITING: usize = 1 << 16;

/// In the cell of a block that was freed.
const FREED: u32 = u32::MAX;

const PAGE_BYTES: usize = 4096;

/// Where a mapping's blocks begin.
const BLOCKS: usize = size_of::<Records>() + PAGE_BYTES;

/// What is known of the blocks.
#[repr(C, align(4096))]
struct Records {
    /// Bytes of blocks that have been handed out.
    used: AtomicUsize,
    /// One for each quantum.
    cells: [AtomicU32; BLOCK_BYTES / QUANTUM],
}

/// The mapping, once there is one.
static START: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// The reserve, if it was ever needed.
fn reserve() -> Option<Reserve> {
    NonNull::new(START.load(Acquire)).map(Reserve)
}

/// The same, mapped if it was not.
#[cold]
fn begin() -> Option<Reserve> {
    if let Some(reserve) = reserve() {
        return Some(reserve);
    }
    let mapped = mapped::map(BLOCKS + BLOCK_BYTES)?;
    // SAFETY: mapped above, and nobody else knows of it.
    unsafe {
        libc::mprotect(
            mapped.add(size_of::<Records>()).as_ptr().cast(),
            PAGE_BYTES,
            libc::PROT_NONE,
        );
    }
    match START.compare_exchange(ptr::null_mut(), mapped.as_ptr(), AcqRel, Acquire) {
        Ok(_) => Some(Reserve(mapped)),
        Err(first) => {
            // SAFETY: as above.
            unsafe { libc::munmap(mapped.as_ptr().cast(), BLOCKS + BLOCK_BYTES) };
            NonNull::new(first).map(Reserve)
        }
    }
}

/// A mapping of so many bytes that stays for good.
#[derive(Clone, Copy)]
struct Reserve(NonNull<u8>);

impl Reserve {
    fn records(self) -> &'static Records {
        // SAFETY: they lie at the start of the mapping, page for page; atomic integers may be zero
        // bytes.
        unsafe { self.0.cast().as_ref() }
    }

    /// How far into the blocks an address lies.
    fn offset_of(self, block: NonNull<u8>) -> Option<usize> {
        let offset = block.addr().get().wrapping_sub(self.0.addr().get()).wrapping_sub(BLOCKS);
        (offset < BLOCK_BYTES).then_some(offset)
    }

    /// The cell of the quantum that begins there.
    fn cell(self, offset: usize) -> Option<&'static AtomicU32> {
        offset.is_multiple_of(QUANTUM).then(|| &self.records().cells[offset / QUANTUM])
    }

    fn allocate(self, request: Request) -> Option<NonNull<u8>> {
        let len = request.bytes().max(1).checked_next_multiple_of(QUANTUM)?;
        let alignment = request.alignment().max(QUANTUM);
        let room = len.checked_add(alignment - QUANTUM).filter(|&room| room <= BLOCK_BYTES)?;
        // Once it is used up nothing is taken any more, so this cannot overflow.
        let used = &self.records().used;
        let take = |used: usize| used.checked_add(room).filter(|&end| end <= BLOCK_BYTES);
        let offset = used.fetch_update(Relaxed, Relaxed, take).ok()?;
        let lowest = self.0.addr().get() + BLOCKS + offset;
        let offset = offset + (lowest.next_multiple_of(alignment) - lowest);
        self.cell(offset)?.store(len as u32, Relaxed);
        // SAFETY: the block lies within the room that this call alone was given.
        Some(unsafe { self.0.add(BLOCKS + offset) })
    }
}

/// Blocks to be freed later. Not in the mapping: it may be refused.
struct Deferred {
    /// How many there are.
    waiting: AtomicUsize,
    /// None waits from this place on.
    high: AtomicUsize,
    places: [AtomicPtr<u8>; MAX_WAITING],
}

static DEFERRED: Deferred = Deferred {
    waiting: AtomicUsize::new(0),
    high: AtomicUsize::new(0),
    places: [const { AtomicPtr::new(ptr::null_mut()) }; MAX_WAITING],
};

impl Deferred {
    fn put(&self, block: NonNull<u8>) {
        // Of two `take`s before a `put` has counted, it is less than nothing for a moment.
        let first = self.waiting.load(Relaxed);
        for place in (0..MAX_WAITING).map(|step| first.wrapping_add(step) % MAX_WAITING) {
            let empty = ptr::null_mut();
            if self.places[place].compare_exchange(empty, block.as_ptr(), AcqRel, Relaxed).is_ok() {
                self.high.fetch_max(place + 1, Relaxed);
                self.waiting.fetch_add(1, Relaxed);
                return;
            }
        }
    }

    #[cold]
    fn take(&self) -> Option<NonNull<u8>> {
        let end = self.high.load(Relaxed);
        let take = |place: usize| NonNull::new(self.places[place].swap(ptr::null_mut(), AcqRel));
        // Whoever put one behind the end meanwhile was seen in `waiting`.
        let places = (0..end).rev().chain(end..MAX_WAITING);
        let (place, found) = places.into_iter().find_map(|place| Some((place, take(place)?)))?;
        let _ = self.high.compare_exchange(end, place.min(end), Relaxed, Relaxed);
        self.waiting.fetch_sub(1, Relaxed);
        Some(found)
    }
}

/// A block of zeros.
#[cold]
pub(crate) fn allocate(request: Request) -> Option<NonNull<u8>> {
    begin()?.allocate(request)
}

/// Frees a block, which is not used again: there are few. `None` if it is not the reserve's.
pub(crate) fn free(block: NonNull<u8>) -> Option<Result<(), Violation<'static>>> {
    let reserve = reserve()?;
    let offset = reserve.offset_of(block)?;
    let is_live = |bytes: u32| live_bytes(block, Some(bytes)).is_ok();
    let cell = reserve.cell(offset).map(|cell| {
        let free = |bytes| is_live(bytes).then_some(FREED);
        cell.fetch_update(Relaxed, Relaxed, free).unwrap_or_else(|other| other)
    });
    Some(live_bytes(block, cell).map(|_| ()))
}

/// Bytes of a block. `None` if it is not the reserve's.
pub(crate) fn usable_bytes(block: NonNull<u8>) -> Option<Result<usize, Violation<'static>>> {
    let reserve = reserve()?;
    let offset = reserve.offset_of(block)?;
    Some(live_bytes(block, reserve.cell(offset).map(|cell| cell.load(Relaxed))))
}

/// What a cell says of a live block; `None` is no cell's.
fn live_bytes(block: NonNull<u8>, cell: Option<u32>) -> Result<usize, Violation<'static>> {
    match cell {
        Some(FREED) => Err(Violation::new(Rule::NotAllocated, block.addr().get())),
        None | Some(0) => Err(Violation::new(Rule::NotAnObject, block.addr().get())),
        Some(bytes) => Ok(bytes as usize),
    }
}

/// Has a block freed later; lost if too many wait already.
#[cold]
pub(crate) fn defer(block: NonNull<u8>) {
    DEFERRED.put(block);
}

/// Whether blocks wait to be freed.
#[inline]
pub(crate) fn has_deferred() -> bool {
    DEFERRED.waiting.load(Relaxed) != 0
}

/// A block that was to be freed later.
#[inline]
pub(crate) fn take_deferred() -> Option<NonNull<u8>> {
    if has_deferred() { DEFERRED.take() } else { None }
}
