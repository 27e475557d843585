//! Memory that is had from the system before its first touch, for several frames in one go: a fault for each costs the way there and
//! back each time.
//!
//! This is done for available frames right behind one that is taken, which come next as long as low ones come first, and only where so
//! much lies below them that the memory of those that are never touched hardly counts.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::dirty::Dirty;
use super::platform::HostPlatform;
use super::span;
use crate::buddy::FrameState;
use crate::frame::{FRAME_SIZE, Frame, FrameRange};
use crate::page::PageAllocator;
use crate::platform::Platform;

/// Frames that get memory together.
const BATCH: usize = 16;

/// Within so many frames from the lowest on, each waits for its own fault.
const LEAST: usize = 256;

/// As [`LEAST`], for blocks of more than a frame: slabs of few objects, of which a program may need one.
const LEAST_FOR_BLOCKS: usize = 4096;

/// Longer blocks are left to their users' faults.
const MAX_BLOCK: usize = 8;

/// Whether, and how, memory is had ahead.
pub(super) struct Ahead {
    /// The lowest frame that was ever taken, by number.
    lowest: AtomicUsize,
    /// The system cannot do it.
    is_refused: AtomicBool,
}

impl Ahead {
    pub(super) const fn new() -> Self {
        Self { lowest: AtomicUsize::new(usize::MAX), is_refused: AtomicBool::new(false) }
    }

    /// To be called with a block that was just taken and has no memory.
    #[inline]
    pub(super) fn taken(
        &self,
        pages: &PageAllocator<HostPlatform>,
        dirty: &Dirty,
        block: FrameRange,
    ) {
        let start = block.start().number();
        if block.frames() > 1 || start.is_multiple_of(BATCH) {
            self.get(pages, dirty, block);
        }
    }

    #[cold]
    fn get(&self, pages: &PageAllocator<HostPlatform>, dirty: &Dirty, block: FrameRange) {
        let start = block.start().number();
        let below = start - self.lowest.fetch_min(start, Relaxed).min(start);
        let frames = match block.frames() {
            1 if below >= LEAST => 1 + available_behind(pages, block.start()),
            frames @ 2..=MAX_BLOCK if below >= LEAST_FOR_BLOCKS => frames,
            _ => return,
        };
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

/// How many frames behind `frame` are available, one after the other, as far as a batch goes.
fn available_behind(pages: &PageAllocator<HostPlatform>, frame: Frame) -> usize {
    let mut behind = 0;
    while behind < BATCH - 1
        && let Some(next) = frame.checked_add(1 + behind)
        && let FrameState::Available { head, order } = pages.lookup(next)
        && let Some(into) = next.checked_offset_from(head)
    {
        behind += order.frames() - into;
    }
    behind.min(BATCH - 1)
}
