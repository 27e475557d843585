//! Memory that nobody uses goes back to the system.

use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use super::frames::HostFrames;
use super::{locks, span, thread};
use crate::buddy::FrameState;
use crate::frame::{FRAME_SIZE, Frame, FrameRange};
use crate::platform::Platform;

/// Most frames that are taken to be trimmed at a time: nobody else can have them meanwhile.
const MAX_TRIM_FRAMES: usize = 4096;

impl HostFrames {
    /// Gives the memory of available frames back to the system; how many bytes that were. They stay
    /// open and read as zero when they are next used. Takes time in proportion to the memory
    /// there is to give back.
    pub fn trim(&self) -> usize {
        self.trim_runs(1)
    }

    /// The same for `least` frames side by side, or more.
    fn trim_runs(&self, least: usize) -> usize {
        locks::enter();
        let trimmed = match self.trimming.try_begin() {
            Some(_one) => self.trim_dirty(least),
            // Another thread is at it.
            None => 0,
        };
        locks::leave();
        trimmed
    }

    fn trim_dirty(&self, least: usize) -> usize {
        self.give_kept();
        let mut trimmed = 0;
        let mut at = 0;
        while let Some(dirty) = self.dirty.next(at, MAX_TRIM_FRAMES) {
            let run = match dirty.frames() < least {
                true => self.rest_of_block(dirty.start()),
                false => dirty,
            };
            if run.frames() >= least {
                trimmed += match self.trim_frames(run) {
                    Some(bytes) => bytes,
                    None => self.trim_available(run, least),
                };
            }
            at = dirty.end().max(run.end()).number();
        }
        let opened_bytes = self.opened_bytes.load(Relaxed);
        let used = (opened_bytes / FRAME_SIZE).saturating_sub(self.pages.frames_available());
        self.trimming.done(self.dirty.count(), used, opened_bytes);
        trimmed
    }

    /// What follows in the available block that `frame` lies in, dirty or not; nothing if that is
    /// not available.
    fn rest_of_block(&self, frame: Frame) -> FrameRange {
        let FrameState::Available { head, order } = self.pages.lookup(frame) else {
            return FrameRange::EMPTY;
        };
        let block = FrameRange::from_len(head, order.frames());
        let rest = block.map_or(FrameRange::EMPTY, |block| block.split_at(frame).1);
        rest.split_at(frame.checked_add(MAX_TRIM_FRAMES).unwrap_or(rest.end())).0
    }

    /// Trims what of `dirty` is available, where that is `least` frames side by side, or more.
    fn trim_available(&self, dirty: FrameRange, least: usize) -> usize {
        let mut trimmed = 0;
        let mut trim = |start: Frame, end: Frame| {
            if let Some(run) = FrameRange::new(start, end)
                && run.frames() >= least
            {
                trimmed += self.trim_frames(run).unwrap_or(0);
            }
        };
        // From `start` to `at` all are available.
        let (mut start, mut at) = (dirty.start(), dirty.start());
        while dirty.contains(at) {
            let Some(next) = at.checked_add(1) else { break };
            if let FrameState::Available { head, order } = self.pages.lookup(at)
                && let Some(block) = FrameRange::from_len(head, order.frames())
            {
                at = block.end().min(dirty.end());
            } else {
                trim(start, at);
                (start, at) = (next, next);
            }
        }
        trim(start, at);
        trimmed
    }

    /// Takes frames so that nobody else does, takes their memory away, and gives them back; `None`
    /// if they are not all available.
    fn trim_frames(&self, frames: FrameRange) -> Option<usize> {
        self.pages.claim(frames).ok()?;
        let start = self.pages.platform().phys_to_virt(frames.start().start());
        let bytes = frames.frames() * FRAME_SIZE;
        // SAFETY: the frames were opened before they were added, and `claim` made them this
        // function's alone.
        let is_purged = unsafe { span::purge(start, bytes) };
        if is_purged {
            self.dirty.clear(frames);
        }
        // They were claimed just now.
        let freed = self.pages.free_exact(frames);
        debug_assert!(freed.is_ok());
        Some(if is_purged { bytes } else { 0 })
    }

    /// How long memory is kept that nobody uses, at least while somebody frees.
    pub fn set_trim_delay(&self, delay: Duration) {
        self.trimming.set_delay(delay);
    }

    /// Whether what keeps apart frames that nobody uses should be freed before more memory goes
    /// back.
    #[inline]
    pub(super) fn is_reclaim_due(&self) -> bool {
        self.trimming.is_reclaim_due()
    }

    /// If that is due, has `reclaim` do it, and gives memory back. Not on top of a lock.
    #[cold]
    pub(super) fn trim_after(&self, reclaim: impl FnOnce()) {
        if !thread::is_locking()
            && let Some(least) = self.trimming.take_reclaim()
        {
            reclaim();
            self.trim_runs(least);
            // What stayed nevertheless, another reclaim would not free either.
            self.trimming.take_reclaim();
        }
    }

    /// Gives memory back if it is due.
    pub(super) fn trim_if_due(&self) {
        let opened_bytes = self.opened_bytes.load(Relaxed);
        if let Some(least) = self.trimming.due(self.dirty.count(), opened_bytes) {
            self.trim_runs(least);
        }
    }
}
