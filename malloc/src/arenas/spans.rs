//! Where arenas have their memory from: runs of the frames that kmem's own pages hand out.

use core::ops::Range;
use core::ptr::NonNull;

use crate::engine::Contents;
use kmem::arena::{Kept, Source};
use kmem::frame::{FRAME_SIZE, Frame, FrameRange, Order};
use kmem::host::MmapAllocator;
use kmem::page::{AllocFlags, BlockOwner, FrameSource};
use kmem::platform::Platform;

/// Least and most bytes of a span where a request does not need more; between them, a quarter of
/// what there is.
const LEAST_STEP_BYTES: usize = 256 << 10;
const MOST_STEP_BYTES: usize = 16 << 20;

const KMEM: MmapAllocator = MmapAllocator::new();

/// Spans of bytes, by address.
pub(super) struct Spans {
    held_bytes: usize,
    peak_bytes: usize,
    /// What the request that is being served wants in its block.
    wanted: Contents,
    /// The span that was imported for it, cleared if that was wanted.
    imported: Option<Range<u64>>,
}

impl Spans {
    pub(super) const fn new() -> Self {
        Self { held_bytes: 0, peak_bytes: 0, wanted: Contents::Undefined, imported: None }
    }

    /// A request begins.
    pub(super) fn begin(&mut self, wanted: Contents) {
        self.wanted = wanted;
        self.imported = None;
    }

    /// Whether the block that the request was given at `start` holds what was wanted.
    pub(super) fn has_wanted(&self, start: u64) -> bool {
        let is_imported = self.imported.as_ref().is_some_and(|span| span.contains(&start));
        self.wanted == Contents::Undefined || is_imported
    }

    /// Bytes in spans, now and at most.
    pub(super) fn held_bytes(&self) -> (usize, usize) {
        (self.held_bytes, self.peak_bytes)
    }
}

impl Source for Spans {
    fn import(&mut self, len: u64) -> Option<Range<u64>> {
        let least = usize::try_from(len).ok()?.div_ceil(FRAME_SIZE);
        let step = (self.held_bytes / 4).clamp(LEAST_STEP_BYTES, MOST_STEP_BYTES) / FRAME_SIZE;
        let flags = match self.wanted {
            Contents::Undefined => AllocFlags::empty(),
            Contents::Zero => AllocFlags::ZERO,
        };
        let take = |frames| Some((take_frames(frames, flags)?, frames * FRAME_SIZE));
        let (start, bytes) = take(least.max(step)).or_else(|| take(least))?;
        self.held_bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.held_bytes);
        let start = start.as_ptr().expose_provenance() as u64;
        let span = start..start + bytes as u64;
        self.imported = Some(span.clone());
        Some(span)
    }

    fn release(&mut self, span: Range<u64>) -> Result<(), Kept> {
        let bytes = (span.end - span.start) as usize;
        let start = core::ptr::with_exposed_provenance_mut(span.start as usize);
        // SAFETY: the arena releases spans that `import` handed out, whole and with nothing in use.
        if !unsafe { give_frames(start, bytes / FRAME_SIZE) } {
            return Err(Kept);
        }
        self.held_bytes -= bytes;
        Ok(())
    }
}

/// A run of `frames` frames, by its first byte.
pub(super) fn take_frames(frames: usize, flags: AllocFlags) -> Option<NonNull<u8>> {
    let host = KMEM.frames();
    let head = host.take_run(frames, Order::ZERO, BlockOwner::Caller, flags).ok()?;
    NonNull::new(host.platform().phys_to_virt(head.start()))
}

/// Gives a run back; `false` if it is none.
///
/// # Safety
///
/// Nobody uses it any more.
pub(super) unsafe fn give_frames(start: *mut u8, frames: usize) -> bool {
    let host = KMEM.frames();
    let run = (host.platform().virt_to_phys(start).and_then(Frame::containing))
        .and_then(|head| FrameRange::from_len(head, frames));
    // SAFETY: the caller's promise.
    run.is_some_and(|run| unsafe { host.give_run(run, BlockOwner::Caller) }.is_ok())
}
