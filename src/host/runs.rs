//! Runs that came back lately: [`kept`](super::kept) by the thread that gave them back, or
//! [`recent`](super::recent), for all.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Acquire, Release};

use super::frames::{HostFrames, with_lock};
use super::kept::{Keeper, LENT, MAX_FRAMES};
use super::local;
use crate::buddy::{BlockOwner, ResizeError};
use crate::check::violation;
use crate::frame::{FRAME_SIZE, Frame, FrameRange};
use crate::heap::{HeapFreeError, frames_for, run_frames_of, run_record_of};
use crate::page::FrameSource;
use crate::platform::Platform;

impl HostFrames {
    /// A block of at least `bytes` bytes that this thread keeps, taken as the heap takes it.
    #[inline]
    pub(super) fn take_run_hit(&self, bytes: usize) -> Option<NonNull<u8>> {
        let frames = frames_for(bytes);
        if !(1..=MAX_FRAMES).contains(&frames) || local::are_hits_held_back() {
            return None;
        }
        let taken = self.kept.with_own(|own| {
            let whole = own.kept.get().filter(|kept| kept.frames() >= frames)?;
            let is_lent = whole.frames() > frames;
            if is_lent && !own.lent.is_empty() {
                return None;
            }
            let block = NonNull::new(self.pages.platform().phys_to_virt(whole.start().start()))?;
            let record = self.directory.record(block.addr().get())?;
            own.kept.set(None);
            if record.load(Acquire) != 0 {
                own.count(1, whole.frames() as isize);
                return Some(Err(whole));
            }
            if is_lent {
                own.lend(whole, frames);
            }
            // Release: whoever finds the run finds it taken.
            let told = run_record_of(frames) | if is_lent { LENT } else { 0 };
            // SAFETY: what is kept is taken, and this thread's.
            unsafe { record.store(told, Release) };
            own.count(1, frames as isize);
            Some(Ok(block))
        });
        match taken.flatten()? {
            Ok(block) => Some(block),
            Err(whole) => {
                self.report_twice(whole);
                None
            }
        }
    }

    /// The same, if need be after this thread's last loan is ended.
    pub(super) fn take_run_at_hand(&self, bytes: usize) -> Option<NonNull<u8>> {
        self.take_run_hit(bytes).or_else(|| {
            let own = self.kept.own()?;
            let kept = own.kept.get()?;
            if kept.frames() <= frames_for(bytes) || own.lent.is_empty() {
                return None;
            }
            with_lock(&self.kept.lending, |()| self.cut(own)).then(|| self.take_run_hit(bytes))?
        })
    }

    /// Keeps the run at `block`, given back as the heap gives it; `false`, and nothing has changed,
    /// if that cannot be.
    #[inline]
    pub(super) fn give_run_hit(&self, block: NonNull<u8>) -> bool {
        let address = block.addr().get();
        if !address.is_multiple_of(FRAME_SIZE) || local::are_hits_held_back() {
            return false;
        }
        let kept = self.kept.with_own(|own| {
            let record = self.directory.record(address)?;
            let told = record.load(Acquire);
            let phys = self.pages.platform().virt_to_phys(block.as_ptr())?;
            let run = FrameRange::from_len(Frame::containing(phys)?, run_frames_of(told)?)?;
            let whole = match own.lent.get() {
                Some(lent) if lent.start() == run.start() => lent,
                // Perhaps another thread's to give back.
                _ if told & LENT != 0 || run.frames() > MAX_FRAMES => return None,
                _ => run,
            };
            if !own.kept.is_empty() {
                return None;
            }
            // SAFETY: whoever gives the run back has it.
            unsafe { record.store(0, Release) };
            if whole != run {
                own.lent.set(None);
            }
            own.kept.set(Some(whole));
            own.count(-1, -(run.frames() as isize));
            Some(())
        });
        matches!(kept, Some(Some(())))
    }

    /// A run of so many frames that came back lately.
    pub(super) fn take_recent(&self, frames: usize) -> Option<FrameRange> {
        if frames > MAX_FRAMES {
            return None;
        }
        let own = self.kept.with_own(|own| match own.kept.get() {
            Some(kept) if kept.frames() == frames => own.kept.take(),
            _ => None,
        });
        let run = own.flatten().or_else(|| with_lock(&self.recent, |recent| recent.take(frames)));
        run.filter(|&run| self.is_nobodys(run))
    }

    /// Whether nobody uses a run that was kept: somebody may if two threads freed it at the same
    /// moment, and what one of them kept was handed out since.
    fn is_nobodys(&self, run: FrameRange) -> bool {
        let record = self.pages.owner(run.start());
        let is_nobodys = record.is_none_or(|record| record.load(Acquire) == 0);
        if !is_nobodys {
            self.report_twice(run);
        }
        is_nobodys
    }

    /// Says that a run, which somebody uses, was kept.
    #[cold]
    fn report_twice(&self, run: FrameRange) {
        let start = self.pages.platform().phys_to_virt(run.start().start());
        violation(&HeapFreeError::NotAllocated.violation(start.addr()));
    }

    /// Keeps a run that came back; the run that has to make way for it, or is not kept itself.
    pub(super) fn give_recent(&self, run: FrameRange) -> Option<FrameRange> {
        let run = self.unlend(run);
        if run.frames() > MAX_FRAMES {
            return Some(run);
        }
        let replaced = self.kept.with_own(|own| {
            let before = own.kept.take();
            own.kept.set(Some(run));
            before
        });
        let run = replaced.unwrap_or(Some(run))?;
        with_lock(&self.recent, |recent| recent.give(run)).filter(|&run| self.is_nobodys(run))
    }

    /// All of a run of which its user, who gives it back, may have the beginning only.
    fn unlend(&self, run: FrameRange) -> FrameRange {
        if self.kept.lender_of(run.start()).is_none() {
            return run;
        }
        let whole = with_lock(&self.kept.lending, |()| {
            self.kept.lender_of(run.start()).and_then(|lender| lender.lent.take())
        });
        // Otherwise it was cut meanwhile.
        whole.unwrap_or(run)
    }

    /// Gives back what the user of a lent run has not got; whether nothing is lent now. By the
    /// slot's own thread or inside the gate, with the lock of `lending` held.
    fn cut(&self, keeper: &Keeper) -> bool {
        let Some(whole) = keeper.lent.get() else { return true };
        // SAFETY: what the user of a lent run has not got is nobody's.
        let is_cut = unsafe { self.resize_taken(whole, keeper.used(), BlockOwner::Heap) }.is_ok();
        if is_cut {
            keeper.lent.set(None);
        }
        is_cut
    }

    /// Makes a run, which the page allocator knows by this length, another length.
    ///
    /// # Safety
    ///
    /// Nobody uses what a shorter run gives back.
    pub(super) unsafe fn resize_taken(
        &self,
        run: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        // Marked before anybody else can take them.
        let (_, tail) = run.split_at(run.start().checked_add(frames).unwrap_or(run.end()));
        self.dirty.mark(tail);
        // SAFETY: the caller's promise.
        let resized = unsafe { self.pages.resize_run(run, frames, owner) };
        match resized {
            Ok(resized) => _ = self.dirty.clear(resized),
            Err(_) => _ = self.dirty.clear(run),
        }
        resized
    }

    /// Makes a run that was lent another length, and ends the loan; `None` if it was not lent.
    ///
    /// # Safety
    ///
    /// As [`resize_taken`](Self::resize_taken).
    pub(super) unsafe fn resize_lent(
        &self,
        run: FrameRange,
        frames: usize,
    ) -> Option<Result<FrameRange, ResizeError>> {
        self.kept.lender_of(run.start())?;
        with_lock(&self.kept.lending, |()| {
            let lent = &self.kept.lender_of(run.start())?.lent;
            // SAFETY: the caller's promise; what its user has not got of a lent run is nobody's.
            let resized = unsafe { self.resize_taken(lent.get()?, frames, BlockOwner::Heap) };
            if resized.is_ok() {
                lent.set(None);
            }
            Some(resized)
        })
    }

    /// Gives the runs back that were kept, and what the users of lent ones have not got.
    pub(super) fn give_kept(&self) {
        let mut give = |run: FrameRange| {
            if self.is_nobodys(run) {
                self.dirty.mark(run);
                // SAFETY: a run that was kept is nobody's. If two threads kept it the page
                // allocator refuses the second.
                let _ = unsafe { self.pages.give_run(run, BlockOwner::Heap) };
            }
        };
        with_lock(&self.kept.lending, |()| {
            self.kept.visit_all(self.pages.platform(), |keeper| {
                self.cut(keeper);
                keeper.kept.take().into_iter().for_each(&mut give);
            });
        });
        with_lock(&self.recent, |recent| recent.clear(give));
    }
}
