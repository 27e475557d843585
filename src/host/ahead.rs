//! Memory that is had from the system before its first touch, for several frames in one go: a fault
//! for each costs the way there and back each time.
//!
//! This is done for available frames right behind one that is taken, which come next as long as low
//! ones come first, and for more of them the more have been touched: the memory of those that never
//! are hardly counts.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::dirty::Dirty;
use super::platform::HostPlatform;
use super::span;
use crate::buddy::FrameState;
use crate::frame::{FRAME_SIZE, Frame, FrameRange};
use crate::page::PageAllocator;
use crate::platform::Platform;

/// Most frames that get memory together.
const MAX_BATCH: usize = 16;

/// Of frames that were touched, so many bring one ahead.
const TOUCHED_FOR_ONE: usize = 16;

/// As [`TOUCHED_FOR_ONE`], for each frame of a block: slabs of few objects, of which a program may
/// need one.
const TOUCHED_FOR_BLOCKS: usize = 512;

/// Longer blocks are left to their users' faults.
const MAX_BLOCK: usize = 8;

/// Whether, and how, memory is had ahead.
pub(super) struct Ahead {
    /// Frames that were taken without memory: some of them more than once, or by two threads at
    /// once and counted for one.
    touched: AtomicUsize,
    /// The system cannot do it.
    is_refused: AtomicBool,
}

impl Ahead {
    pub(super) const fn new() -> Self {
        Self { touched: AtomicUsize::new(0), is_refused: AtomicBool::new(false) }
    }

    /// To be called with a block that was just taken and has no memory.
    #[inline]
    pub(super) fn taken(
        &self,
        pages: &PageAllocator<HostPlatform>,
        dirty: &Dirty,
        block: FrameRange,
    ) {
        let touched = self.touched.load(Relaxed).wrapping_add(block.frames());
        self.touched.store(touched, Relaxed);
        let frames = match block.frames() {
            1 => {
                let batch = batch(touched);
                if batch == 1 || !block.start().number().is_multiple_of(batch) {
                    return;
                }
                1 + available_behind(pages, block.start(), batch - 1)
            }
            frames @ 2..=MAX_BLOCK if touched >= frames * TOUCHED_FOR_BLOCKS => frames,
            _ => return,
        };
        self.get(pages, dirty, block, frames);
    }

    /// Gets memory for `frames` frames from `block` on, as far as they have none.
    #[cold]
    fn get(
        &self,
        pages: &PageAllocator<HostPlatform>,
        dirty: &Dirty,
        block: FrameRange,
        frames: usize,
    ) {
        let Some(wanted) = FrameRange::from_len(block.start(), frames) else { return };
        let clean = dirty.clean_frames(wanted);
        if clean < 2 || self.is_refused.load(Relaxed) {
            return;
        }
        let start = pages.platform().phys_to_virt(block.start().start());
        if !span::populate(start, clean * FRAME_SIZE) {
            self.is_refused.store(true, Relaxed);
            return;
        }
        // Those that are available have memory now, which goes back like that of any other.
        let behind = block.start().checked_add(block.frames());
        let rest = clean.saturating_sub(block.frames());
        if let Some(rest) = behind.and_then(|behind| FrameRange::from_len(behind, rest)) {
            dirty.mark(rest);
        }
    }
}

/// How many frames get memory together after so many were touched: a power of two.
fn batch(touched: usize) -> usize {
    match (touched / TOUCHED_FOR_ONE).checked_ilog2() {
        Some(log) => 1 << log.min(MAX_BATCH.ilog2()),
        None => 1,
    }
}

/// How many frames behind `frame`, at most `most`, are available, one after the other.
fn available_behind(pages: &PageAllocator<HostPlatform>, frame: Frame, most: usize) -> usize {
    let mut behind = 0;
    while behind < most
        && let Some(next) = frame.checked_add(1 + behind)
        && let FrameState::Available { head, order } = pages.lookup(next)
        && let Some(into) = next.checked_offset_from(head)
    {
        behind += order.frames() - into;
    }
    behind.min(most)
}
