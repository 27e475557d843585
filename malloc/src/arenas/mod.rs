//! The arena engines: every block a segment of one arena of bytes, so that a real program shows
//! what a fit policy does to it.
//!
//! One arena with a quantum of 16 bytes, the alignment that C asks of `malloc`, under one lock. It
//! imports spans of bytes from kmem's frames (a quarter of what it has, from 256 KiB to 16 MiB;
//! larger requests get a span of their own) and gives them back when they fall wholly free. Each
//! segment has a record of 64 bytes, in frames of their own; when they run short, all move to twice
//! as many.
//!
//! # Invariants
//!
//! 1. The fit is chosen once, before the first block, and stays.
//! 2. Blocks from before the environment was read are the heap's: an address in no span is passed
//!    on to it.
//! 3. With the lock held nothing of the heap is used, only frames; and no signal is delivered to
//!    the thread that holds it, so that no handler finds it held. (The heap has a reserve for
//!    handlers; here, where two system calls a call do not matter, this is simpler.)
//!
//! # Rejected
//!
//! *Quantum caches*: they would keep what was freed from the fit, which is what is to be seen. *A
//! lock for each thread's own arena*: the picture would be of threads, not of the policy.

mod records;
mod spans;

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::engine::Request;
use crate::lock::{Lock, OWNERS};
use crate::signals::Mask;
use kmem::arena::{
    Arena, Config, Constraint, Corruption, Fit, FreeError, ResizeError, SegmentInfo, SegmentState,
};
use kmem::check::{Detail, Rule, Violation};
use kmem::frame::FRAME_SIZE;
use spans::Spans;

/// What every start and length is a multiple of.
const QUANTUM: u64 = 16;

/// Frames of records at first.
const FIRST_FRAMES: usize = 4;

/// Records that one call can need: for a span, and for what its block leaves on both sides.
const SPARES: usize = 4;

/// Whether an arena serves the program.
static IS_CHOSEN: AtomicBool = AtomicBool::new(false);

// SAFETY: the owner is the arena's.
static BYTES: Lock<Option<Bytes>> = unsafe { Lock::new(&OWNERS.arena, None) };

/// The arena and what was seen of it.
struct Bytes {
    arena: Arena<'static, Spans>,
    peak_live_bytes: usize,
    held_at_peak_bytes: usize,
}

/// What a fit has made of the memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picture {
    pub(crate) fit: Fit,
    pub(crate) spans: usize,
    pub(crate) held_bytes: usize,
    pub(crate) live_segments: usize,
    pub(crate) live_bytes: usize,
    pub(crate) available_segments: usize,
    pub(crate) available_bytes: usize,
    pub(crate) largest_available_bytes: usize,
    /// The most that was ever in live blocks, and what was held then.
    pub(crate) peak_live_bytes: usize,
    pub(crate) held_at_peak_bytes: usize,
    pub(crate) peak_held_bytes: usize,
    pub(crate) record_bytes: usize,
}

/// What a wrong address is.
enum Wrong {
    /// In no span: perhaps the heap's.
    Foreign,
    Violation(Violation<'static>),
}

/// Chooses the fit for good; `false` if there is no memory for the first records.
pub(crate) fn choose(fit: Fit) -> bool {
    let Some(pool) = records::take(FIRST_FRAMES) else { return false };
    let config = Config::new("malloc", QUANTUM, fit);
    let Ok(arena) = Arena::with_source(config, pool, Spans::new()) else { return false };
    let bytes = Bytes { arena, peak_live_bytes: 0, held_at_peak_bytes: 0 };
    let is_set = BYTES.with(|place| *place = Some(bytes)).is_some();
    IS_CHOSEN.store(is_set, Relaxed);
    is_set
}

/// Whether an arena serves the program.
#[inline]
pub(crate) fn is_chosen() -> bool {
    IS_CHOSEN.load(Relaxed)
}

/// Lets `work` use the arena; `None` if there is none.
fn with<R>(work: impl FnOnce(&mut Bytes) -> R) -> Option<R> {
    if !is_chosen() {
        return None;
    }
    let mask = Mask::block_all();
    let answer = BYTES.with(|bytes| bytes.as_mut().map(work)).flatten();
    mask.restore();
    answer
}

/// A block.
pub(crate) fn allocate(request: Request) -> Option<NonNull<u8>> {
    request.layout()?;
    let (block, has_wanted) = with(|bytes| bytes.allocate(request))??;
    if !has_wanted {
        // SAFETY: the block is new and has so many bytes.
        unsafe { block.write_bytes(0, request.bytes()) };
    }
    Some(block)
}

/// Frees a block; `None` if the address is in no span, so that the heap may know it.
pub(crate) fn free(block: NonNull<u8>) -> Option<Result<(), Violation<'static>>> {
    let freed = with(|bytes| bytes.arena.free_at(start_of(block)))?;
    match freed.map_err(|error| wrong(block, &error)) {
        Ok(_) => Some(Ok(())),
        Err(Wrong::Foreign) => None,
        Err(Wrong::Violation(violation)) => Some(Err(violation)),
    }
}

/// Gives a block another size where it lies; `false`, and nothing has changed, where there is no
/// room. `None` if the address is in no span.
pub(crate) fn resize(
    block: NonNull<u8>,
    request: Request,
) -> Option<Result<bool, Violation<'static>>> {
    let resized = with(|bytes| {
        bytes.provide_records();
        let resized = bytes.arena.resize(start_of(block), request.bytes().max(1) as u64);
        bytes.note_peak();
        resized
    })?;
    match resized {
        Ok(_) => Some(Ok(true)),
        Err(ResizeError::Free(error)) => match wrong(block, &error) {
            Wrong::Foreign => None,
            Wrong::Violation(violation) => Some(Err(violation)),
        },
        Err(_) => Some(Ok(false)),
    }
}

/// Bytes of a block that its owner may use; `None` if the address is in no span.
pub(crate) fn usable_bytes(block: NonNull<u8>) -> Option<Result<usize, Violation<'static>>> {
    let start = start_of(block);
    let SegmentInfo { range, state } = with(|bytes| bytes.arena.lookup(start))??;
    let error = match state {
        SegmentState::Allocated if range.start == start => {
            return Some(Ok((range.end - range.start) as usize));
        }
        SegmentState::Allocated => FreeError::NotAStart { start, allocated: range },
        _ => FreeError::NotAllocated { start, available: range },
    };
    match wrong(block, &error) {
        Wrong::Foreign => None,
        Wrong::Violation(violation) => Some(Err(violation)),
    }
}

/// Calls `visit` with every segment and the lower border of every span, the lowest address first.
/// It must not allocate.
pub(crate) fn for_each_segment(visit: &mut dyn FnMut(SegmentInfo)) {
    with(|bytes| bytes.arena.segments().for_each(visit));
}

/// Takes the memory of whole pages that are in no block away; how many bytes they have.
pub(crate) fn trim() -> usize {
    with(|bytes| {
        let segments = bytes.arena.segments();
        segments.map(|segment| if is_available(&segment) { purge(&segment.range) } else { 0 }).sum()
    })
    .unwrap_or(0)
}

/// Recounts the arena's books.
pub(crate) fn verify() -> Result<(), Corruption> {
    with(|bytes| bytes.arena.verify()).unwrap_or(Ok(()))
}

/// What the fit has made of the memory. Takes time in proportion to the segments.
pub(crate) fn picture() -> Option<Picture> {
    with(|bytes| bytes.picture())
}

/// Live bytes, and bytes held for them and for others.
pub(crate) fn usage() -> (usize, usize) {
    let usage = with(|bytes| (bytes.arena.stats().allocated as usize, bytes.held_bytes()));
    usage.unwrap_or((0, 0))
}

impl Bytes {
    fn allocate(&mut self, request: Request) -> Option<(NonNull<u8>, bool)> {
        self.provide_records();
        let len = request.bytes().max(1) as u64;
        let align = request.alignment() as u64;
        self.arena.source_mut().begin(request.contents());
        let start = if align <= QUANTUM {
            self.arena.alloc(len)
        } else {
            self.arena.alloc_constrained(len, &Constraint { align, ..Constraint::NONE })
        };
        let start = start.ok()?;
        self.note_peak();
        let block = core::ptr::with_exposed_provenance_mut(start as usize);
        Some((NonNull::new(block)?, self.arena.source().has_wanted(start)))
    }

    /// Makes sure that the next call has records. Without memory for them it may fail, and all
    /// stays as it is.
    fn provide_records(&mut self) {
        let (used, records) = self.arena.segments_used();
        if records - used >= SPARES {
            return;
        }
        if let Some(larger) = records::take(2 * records / records::PER_FRAME)
            && let Ok(smaller) = self.arena.grow_pool(larger)
        {
            records::give(smaller);
        }
    }

    fn held_bytes(&self) -> usize {
        self.arena.source().held_bytes().0
    }

    fn note_peak(&mut self) {
        let live_bytes = self.arena.stats().allocated as usize;
        if live_bytes > self.peak_live_bytes {
            self.peak_live_bytes = live_bytes;
            self.held_at_peak_bytes = self.held_bytes();
        }
    }

    fn picture(&self) -> Picture {
        let stats = self.arena.stats();
        let (held_bytes, peak_held_bytes) = self.arena.source().held_bytes();
        let mut picture = Picture {
            fit: self.arena.fit(),
            spans: stats.spans,
            held_bytes,
            live_segments: 0,
            live_bytes: stats.allocated as usize,
            available_segments: 0,
            available_bytes: stats.available as usize,
            largest_available_bytes: 0,
            peak_live_bytes: self.peak_live_bytes,
            held_at_peak_bytes: self.held_at_peak_bytes,
            peak_held_bytes,
            record_bytes: self.arena.segments_used().1 / records::PER_FRAME * FRAME_SIZE,
        };
        for segment in self.arena.segments() {
            let len = (segment.range.end - segment.range.start) as usize;
            match segment.state {
                SegmentState::Allocated => picture.live_segments += 1,
                SegmentState::Available => {
                    picture.available_segments += 1;
                    picture.largest_available_bytes = picture.largest_available_bytes.max(len);
                }
                _ => {}
            }
        }
        picture
    }
}

fn start_of(block: NonNull<u8>) -> u64 {
    block.addr().get() as u64
}

fn is_available(segment: &SegmentInfo) -> bool {
    segment.state == SegmentState::Available
}

/// Takes the memory of the whole pages of an available segment away.
fn purge(range: &Range<u64>) -> usize {
    let start = (range.start as usize).next_multiple_of(FRAME_SIZE);
    let end = range.end as usize / FRAME_SIZE * FRAME_SIZE;
    if start >= end {
        return 0;
    }
    let pages = core::ptr::with_exposed_provenance_mut(start);
    // SAFETY: the pages lie in a span, which is mapped, and in no block.
    let purged = unsafe { libc::madvise(pages, end - start, libc::MADV_DONTNEED) };
    if purged == 0 { end - start } else { 0 }
}

/// What is wrong with an address, in the words of the heap.
fn wrong(block: NonNull<u8>, error: &FreeError) -> Wrong {
    let address = block.addr().get();
    let violation = match error {
        FreeError::OutOfRange { .. } => return Wrong::Foreign,
        FreeError::NotAStart { allocated, .. } => Violation::new(Rule::NotAnObject, address)
            .expected_found(Detail::Address(allocated.start as usize), Detail::Address(address)),
        _ => Violation::new(Rule::NotAllocated, address),
    };
    Wrong::Violation(violation)
}
