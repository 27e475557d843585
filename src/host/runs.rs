//! Runs that came back lately and are kept, and runs of which a user has the beginning: see [`recent`](super::recent).

use super::frames::{HostFrames, with_lock};
use super::recent::{self, Lent, Offer};
use crate::buddy::{BlockOwner, ResizeError};
use crate::frame::FrameRange;
use crate::page::FrameSource;

impl HostFrames {
    /// A run of this very length that came back lately.
    pub(super) fn take_recent(&self, frames: usize) -> Option<FrameRange> {
        if frames > recent::MAX_FRAMES {
            return None;
        }
        with_lock(&self.recent, |recent| match recent.take(frames) {
            Offer::Run(run) => Some(run),
            Offer::Cut(lent) => {
                self.cut(lent);
                None
            }
            Offer::Nothing => None,
        })
    }

    /// Gives back what the user of a run that was lent has not got. The lock of `recent` is held, so the user cannot give it back
    /// meanwhile.
    fn cut(&self, lent: Lent) {
        let cut = self.resize_taken(lent.whole, lent.used, BlockOwner::Heap);
        debug_assert!(cut.is_ok());
    }

    /// Makes a run, which the page allocator knows by this length, another length.
    pub(super) fn resize_taken(
        &self,
        run: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        // Marked before anybody else can take them.
        let (_, tail) = run.split_at(run.start().checked_add(frames).unwrap_or(run.end()));
        self.dirty.mark(tail);
        let resized = self.pages.resize_run(run, frames, owner);
        match resized {
            Ok(resized) => _ = self.dirty.clear(resized),
            Err(_) => _ = self.dirty.clear(run),
        }
        resized
    }

    /// Makes a run that was lent another length; `None` if it was not.
    pub(super) fn resize_lent(
        &self,
        run: FrameRange,
        frames: usize,
    ) -> Option<Result<FrameRange, ResizeError>> {
        if run.frames() > recent::MAX_FRAMES {
            return None;
        }
        with_lock(&self.recent, |recent| {
            let lent = recent.lent_at(run.start())?;
            if (1..lent.whole.frames()).contains(&frames) {
                lent.used = frames;
                return Some(Ok(lent.user()));
            }
            let resized = self.resize_taken(lent.whole, frames, BlockOwner::Heap);
            if resized.is_ok() {
                recent.forget_lent(run.start());
            }
            Some(resized)
        })
    }

    /// Gives the runs back that were kept.
    pub(super) fn give_recent(&self) {
        with_lock(&self.recent, |recent| {
            let lent = recent.clear(|run| {
                self.dirty.mark(run);
                // SAFETY: a run that was kept is nobody's.
                let given = unsafe { self.pages.give_run(run, BlockOwner::Heap) };
                debug_assert!(given.is_ok());
            });
            if let Some(lent) = lent {
                self.cut(lent);
            }
        });
    }
}
