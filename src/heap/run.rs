//! Runs: contiguous frames for what no size class serves.
//!
//! The owner record of a run's first frame is the run's length in frames, shifted so far that it is never the
//! number of a slab's record: those are no multiples of [`RECORD_UNIT`].

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use super::HeapFreeError;
use crate::buddy::{AllocError, BlockOwner};
use crate::frame::{FRAME_SIZE, Frame, FrameRange, Order};
use crate::page::{AllocFlags, FrameSource};
use crate::platform::Platform;

/// What owner records of runs are multiples of.
const RECORD_UNIT: u32 = 64;

/// The longest run that a record can say: 256 GiB less a frame.
const MAX_FRAMES: usize = (u32::MAX / RECORD_UNIT) as usize;

/// A run that is allocated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    range: FrameRange,
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
pub(super) const fn frames_for(bytes: usize) -> usize {
    bytes.div_ceil(FRAME_SIZE)
}

/// What a run's first frame must be aligned to for `layout`.
fn alignment(layout: Layout) -> Result<Order, AllocError> {
    Order::for_frames(frames_for(layout.align())).ok_or(AllocError::TooLarge)
}

/// How many runs there are.
pub(super) struct Runs {
    /// Runs in the upper half, their frames in the lower: one atomic operation counts both.
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

    pub(super) fn count(&self) -> RunCount {
        let count = self.count.load(Relaxed);
        RunCount {
            runs: (count / ONE_RUN) as usize,
            frames: (count % ONE_RUN) as usize,
            frames_peak: self.frames_peak.load(Relaxed),
        }
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
        let (Some(cell), Some(bytes)) = (source.owner(head), NonNull::new(bytes)) else {
            return Err(AllocError::Corrupted { frame: head });
        };
        if !bytes.addr().get().is_multiple_of(layout.align()) {
            // The direct map is not as aligned as the frames are.
            // SAFETY: the run was just taken and told to nobody.
            let _ = unsafe { source.give_run(range, BlockOwner::Heap) };
            return Err(AllocError::BadAlignment);
        }
        // Release pairs with the Acquire in `find`: whoever finds the run finds it taken.
        cell.store(frames as u32 * RECORD_UNIT, Release);
        self.add(ONE_RUN + frames as u64);
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
        if !record.is_multiple_of(RECORD_UNIT) {
            return Ok(None);
        }
        let offset = block.addr().get() % FRAME_SIZE;
        if offset != 0 {
            return Err(HeapFreeError::NotAnObject { base: block.addr().get() - offset });
        }
        let range = FrameRange::from_len(frame, (record / RECORD_UNIT) as usize);
        Ok(Some(Run { range: range.ok_or(HeapFreeError::Corrupted)? }))
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
        // Of two that free the run one finds its record. AcqRel: the run's end comes after `find` and before
        // the frames can be taken again.
        cell.compare_exchange(frames as u32 * RECORD_UNIT, 0, AcqRel, Relaxed)
            .map_err(|_| HeapFreeError::NotAllocated)?;
        // SAFETY: the caller's promise; the exchange made this the only free of the run.
        if unsafe { source.give_run(run.range, BlockOwner::Heap) }.is_err() {
            return Err(HeapFreeError::Corrupted);
        }
        self.count.fetch_sub(ONE_RUN + frames as u64, Relaxed);
        Ok(())
    }

    /// Makes a run as long as `new` needs where it lies; `None`, and nothing changed, if that cannot be.
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
            source.resize_run(run.range, after, BlockOwner::Heap).ok()?;
            cell.store(after as u32 * RECORD_UNIT, Release);
            if after > before {
                self.add((after - before) as u64);
            } else {
                self.count.fetch_sub((before - after) as u64, Relaxed);
            }
        }
        Some(NonNull::slice_from_raw_parts(bytes, after * FRAME_SIZE))
    }

    fn add(&self, count: u64) {
        let now = ((self.count.fetch_add(count, Relaxed) + count) % ONE_RUN) as usize;
        if now > self.frames_peak.load(Relaxed) {
            self.frames_peak.fetch_max(now, Relaxed);
        }
    }
}

fn owner_of<S: FrameSource>(source: &S, run: Run) -> Result<&AtomicU32, HeapFreeError> {
    source.owner(run.range.start()).ok_or(HeapFreeError::OutOfRange)
}

/// What is wrong with the address of a frame that has no owner record: it lies inside a run, or is free.
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
