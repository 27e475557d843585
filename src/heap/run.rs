//! Runs: contiguous frames for what no size class serves.
//!
//! The owner record of a run's first frame is the run's length in frames, shifted so far that it is
//! never the number of a slab's record: those are no multiples of [`RECORD_UNIT`]. The highest bit
//! is for a source that hands out runs past the heap, to remember something by.

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use super::HeapFreeError;
use crate::buddy::{AllocError, BlockOwner};
use crate::frame::{FRAME_SIZE, Frame, FrameRange, Order};
use crate::page::{AllocFlags, FrameSource, OwnerRecord};
use crate::platform::Platform;

/// What owner records of runs are multiples of.
const RECORD_UNIT: u32 = 64;

/// What the source remembers something by.
pub(crate) const SOURCES_MARK: u32 = 1 << 31;

/// The longest run that a record can say: 128 GiB less a frame.
const MAX_FRAMES: usize = (!SOURCES_MARK / RECORD_UNIT) as usize;

/// A run that is allocated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    range: FrameRange,
    record: u32,
}

impl Run {
    /// Bytes in the run.
    pub(super) fn len_bytes(self) -> usize {
        self.range.frames() * FRAME_SIZE
    }

    /// The frames.
    pub(super) fn range(self) -> FrameRange {
        self.range
    }

    /// Whether a layout that no class serves is served by a run of this length that starts here.
    pub(super) fn fits(self, layout: Layout) -> bool {
        let is_aligned = match alignment(layout) {
            Ok(order) => self.range.start().is_aligned_to(order),
            Err(_) => false,
        };
        is_aligned && frames_for(layout.size()) == self.range.frames()
    }
}

/// Frames that hold so many bytes.
pub(crate) const fn frames_for(bytes: usize) -> usize {
    bytes.div_ceil(FRAME_SIZE)
}

/// The owner record of the first frame of a run of `frames` frames, [`MAX_FRAMES`] at most.
pub(crate) const fn record_of(frames: usize) -> u32 {
    frames as u32 * RECORD_UNIT
}

/// How long the run is that an owner record tells of, if it does.
pub(crate) const fn frames_of(record: u32) -> Option<usize> {
    if record == 0 || !record.is_multiple_of(RECORD_UNIT) {
        return None;
    }
    Some(((record & !SOURCES_MARK) / RECORD_UNIT) as usize)
}

/// What a run's first frame must be aligned to for `layout`.
fn alignment(layout: Layout) -> Result<Order, AllocError> {
    Order::for_frames(frames_for(layout.align())).ok_or(AllocError::TooLarge)
}

/// How many runs there are.
pub(super) struct Runs {
    /// Runs in the upper half, their frames in the lower, which has a sign: one atomic operation
    /// counts both, up to 8 TiB.
    count: AtomicU64,
    frames_peak: AtomicUsize,
}

/// One run, in [`Runs::count`].
const ONE_RUN: u64 = 1 << 32;

/// A count of runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunCount {
    pub(super) runs: usize,
    pub(super) frames: usize,
    pub(super) frames_peak: usize,
}

impl Runs {
    pub(super) const fn new() -> Self {
        Self { count: AtomicU64::new(0), frames_peak: AtomicUsize::new(0) }
    }

    pub(super) fn count<S: FrameSource>(&self, source: &S) -> RunCount {
        let (runs, frames) = with_uncounted(source, self.count.load(Relaxed));
        RunCount { runs, frames, frames_peak: self.frames_peak.load(Relaxed) }
    }

    /// A new run for `layout`.
    #[cold]
    pub(super) fn take<S: FrameSource>(
        &self,
        source: &S,
        layout: Layout,
        flags: AllocFlags,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let frames = frames_for(layout.size());
        let align = alignment(layout)?;
        if frames == 0 {
            return Err(AllocError::ZeroSize);
        }
        if frames > MAX_FRAMES {
            return Err(AllocError::TooLarge);
        }
        let head = source.take_run(frames, align, BlockOwner::Heap, flags)?;
        let range = FrameRange::from_len(head, frames).ok_or(AllocError::TooLarge)?;
        let bytes = source.platform().phys_to_virt(head.start());
        let place = match (source.owner(head), NonNull::new(bytes)) {
            (Some(cell), Some(bytes)) if bytes.addr().get().is_multiple_of(layout.align()) => {
                Ok((cell, bytes))
            }
            // The direct map is not as aligned as the frames are.
            (Some(_), Some(_)) => Err(AllocError::BadAlignment),
            (None, _) => Err(AllocError::NoOwnerRecord { frame: head }),
            (Some(_), None) => Err(AllocError::Corrupted { frame: head }),
        };
        if place.is_err() {
            // SAFETY: the run was just taken and told to nobody.
            let _ = unsafe { source.give_run(range, BlockOwner::Heap) };
        }
        let (cell, bytes) = place?;
        // Release pairs with the Acquire in `find`: whoever finds the run finds it taken.
        // SAFETY: the run was just taken.
        unsafe { cell.store(record_of(frames), Release) };
        self.add(source, ONE_RUN + frames as u64);
        Ok(NonNull::slice_from_raw_parts(bytes, frames * FRAME_SIZE))
    }

    /// The run that starts at `block`; `None` if a slab does.
    ///
    /// # Errors
    ///
    /// `OutOfRange`; `NotAnObject` inside a run; `NotAllocated` if nothing is allocated there.
    #[cold]
    pub(super) fn find<S: FrameSource>(
        &self,
        source: &S,
        block: NonNull<u8>,
    ) -> Result<Option<Run>, HeapFreeError> {
        let phys = source.platform().virt_to_phys(block.as_ptr());
        let frame = phys.and_then(Frame::containing).ok_or(HeapFreeError::OutOfRange)?;
        let record = source.owner(frame).ok_or(HeapFreeError::OutOfRange)?.load(Acquire);
        if record == 0 {
            return Err(inside_or_free(source, frame));
        }
        let Some(frames) = frames_of(record) else { return Ok(None) };
        let offset = block.addr().get() % FRAME_SIZE;
        if offset != 0 {
            return Err(HeapFreeError::NotAnObject { base: block.addr().get() - offset });
        }
        let range = FrameRange::from_len(frame, frames).ok_or(HeapFreeError::Corrupted)?;
        Ok(Some(Run { range, record }))
    }

    /// Gives a run back.
    ///
    /// # Safety
    ///
    /// `run` was found by [`find`](Self::find), and nobody uses it any more.
    pub(super) unsafe fn give<S: FrameSource>(
        &self,
        source: &S,
        run: Run,
    ) -> Result<(), HeapFreeError> {
        let frames = run.range.frames();
        let cell = owner_of(source, run)?;
        // Of two that free the run one finds its record. AcqRel: the run's end comes after `find`
        // and before the frames can be taken again.
        // SAFETY: whoever frees the run has it.
        unsafe { cell.compare_exchange(run.record, 0, AcqRel, Relaxed) }
            .map_err(|_| HeapFreeError::NotAllocated)?;
        // SAFETY: the caller's promise; the exchange made this the only free of the run.
        if unsafe { source.give_run(run.range, BlockOwner::Heap) }.is_err() {
            return Err(HeapFreeError::Corrupted);
        }
        self.count.fetch_sub(ONE_RUN + frames as u64, Relaxed);
        Ok(())
    }

    /// Makes a run as long as `new` needs where it lies; `None`, and nothing changed, if that
    /// cannot be.
    ///
    /// # Safety
    ///
    /// `run` was found by [`find`](Self::find), and nobody uses what `new` has no room for.
    pub(super) unsafe fn resize<S: FrameSource>(
        &self,
        source: &S,
        run: Run,
        new: Layout,
    ) -> Option<NonNull<[u8]>> {
        let (before, after) = (run.range.frames(), frames_for(new.size()));
        if after == 0 || after > MAX_FRAMES {
            return None;
        }
        let bytes = NonNull::new(source.platform().phys_to_virt(run.range.start().start()))?;
        if before != after {
            let cell = owner_of(source, run).ok()?;
            // SAFETY: the caller's promise.
            unsafe { source.resize_run(run.range, after, BlockOwner::Heap) }.ok()?;
            // SAFETY: whoever resizes the run has it.
            unsafe { cell.store(record_of(after), Release) };
            if after > before {
                self.add(source, (after - before) as u64);
            } else {
                self.count.fetch_sub((before - after) as u64, Relaxed);
            }
        }
        Some(NonNull::slice_from_raw_parts(bytes, after * FRAME_SIZE))
    }

    fn add<S: FrameSource>(&self, source: &S, count: u64) {
        let now = self.count.fetch_add(count, Relaxed).wrapping_add(count);
        let (_, now) = with_uncounted(source, now);
        if now > self.frames_peak.load(Relaxed) {
            self.frames_peak.fetch_max(now, Relaxed);
        }
    }
}

/// Runs and frames of a count, with what the source has handed out besides: each of the two may be
/// less than nothing.
fn with_uncounted<S: FrameSource>(source: &S, count: u64) -> (usize, usize) {
    let (runs, frames) = source.uncounted_runs();
    let count = count.wrapping_add((runs as u64).wrapping_mul(ONE_RUN)).wrapping_add(frames as u64);
    // A block that was freed twice, which was not noticed, may have been counted so.
    let frames = count as i32 as i64;
    let runs = (count as i64).wrapping_sub(frames) >> ONE_RUN.trailing_zeros();
    (usize::try_from(runs).unwrap_or(0), usize::try_from(frames).unwrap_or(0))
}

fn owner_of<S: FrameSource>(source: &S, run: Run) -> Result<&OwnerRecord, HeapFreeError> {
    source.owner(run.range.start()).ok_or(HeapFreeError::OutOfRange)
}

/// What is wrong with the address of a frame that has no owner record: it lies inside a run, or is
/// free.
#[cold]
fn inside_or_free<S: FrameSource>(source: &S, frame: Frame) -> HeapFreeError {
    match source.run_of(frame) {
        // Its first frame has a record, unless another CPU is freeing it just now.
        Some((run, BlockOwner::Heap)) if run.start() == frame => HeapFreeError::NotAllocated,
        Some((run, BlockOwner::Heap)) => {
            let base = source.platform().phys_to_virt(run.start().start());
            HeapFreeError::NotAnObject { base: base.addr() }
        }
        Some(_) => HeapFreeError::OutOfRange,
        None => HeapFreeError::NotAllocated,
    }
}
