//! Runs: allocations of any number of frames, which may consist of several blocks.
//!
//! A run is tiled by the largest aligned blocks that fit; a run that is one such block is simply
//! an allocated block. A group lies wholly inside a run exactly if one of these blocks has order 9
//! or more and covers it, so growing or cutting a run turns at most one group from whole to not, or
//! back.

use core::sync::atomic::Ordering::Relaxed;

use super::group::GROUP_FRAMES;
use super::{
    AllocError, BlockOwner, Buddy, ClaimError, FreeError, Kind, Placement, ResizeError, State,
    frame_at,
};
use crate::frame::{Frame, FrameRange, Order};

impl Buddy<'_> {
    /// Takes `frames` frames in a row for `owner`: one end of the block that
    /// [`alloc`](Self::alloc) would take, whose rest stays available. Bounded by the number of
    /// pieces, at most two of each order.
    ///
    /// # Errors
    ///
    /// [`AllocError::ZeroSize`] for no frames, [`AllocError::TooLarge`] for more than the largest
    /// block has, and as [`alloc`](Self::alloc).
    pub fn alloc_exact(
        &mut self,
        frames: usize,
        owner: BlockOwner,
        placement: Placement,
    ) -> Result<FrameRange, AllocError> {
        if frames == 0 {
            return Err(AllocError::ZeroSize);
        }
        let order = Order::for_frames(frames).ok_or(AllocError::TooLarge)?;
        let Some(block) = self.find(u32::from(order.get()), placement) else {
            return Err(self.shortage(frames));
        };
        let start = match placement {
            Placement::Low => block.at,
            Placement::High => block.at + (1 << block.order) - frames,
        };
        self.take_run(start, frames, owner)
    }

    /// Gives back the allocation `range` of `owner`, whichever call it came from. Bounded by the
    /// number of pieces.
    ///
    /// # Errors
    ///
    /// The [`FreeError`] that says what `range` is instead; nothing has changed then.
    pub fn free_exact(&mut self, range: FrameRange, owner: BlockOwner) -> Result<(), FreeError> {
        self.check_run(range, owner)?;
        self.write_heads(range, None);
        for (frame, order) in range.blocks() {
            self.give_block(frame.number(), u32::from(order.get()));
        }
        Ok(())
    }

    /// Takes these very frames for `owner`. Bounded by the number of groups and pieces.
    ///
    /// # Errors
    ///
    /// [`ClaimError::ZeroSize`], [`ClaimError::OutOfRange`], or [`ClaimError::InUse`] for the first
    /// frame that is not available. Nothing has changed then.
    pub fn claim(&mut self, range: FrameRange, owner: BlockOwner) -> Result<(), ClaimError> {
        if range.is_empty() {
            return Err(ClaimError::ZeroSize);
        }
        if !self.cover().contains_range(range) {
            return Err(ClaimError::OutOfRange { range, cover: self.cover() });
        }
        if let Some(at) = self.first_unavailable(range) {
            return Err(ClaimError::InUse { frame: frame_at(at) });
        }
        self.take_range(range, owner).map_err(|frame| ClaimError::Corrupted { frame })
    }

    /// Makes the allocation `range` of `owner` `frames` frames long, in place: a tail is given
    /// back, or the frames behind it are taken. Bounded by the number of pieces, and for growing by
    /// the number of groups that are added.
    ///
    /// # Errors
    ///
    /// [`ResizeError::NotAllocated`] if `range` is not such an allocation,
    /// [`ResizeError::ZeroSize`], and [`ResizeError::InUse`] or [`ResizeError::OutOfRange`] if
    /// the frames behind it are not available. Nothing has changed then.
    pub fn resize(
        &mut self,
        range: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        self.check_run(range, owner).map_err(ResizeError::NotAllocated)?;
        if frames == 0 {
            return Err(ResizeError::ZeroSize);
        }
        let beyond = ResizeError::OutOfRange { frame: self.cover().end() };
        let resized = FrameRange::from_len(range.start(), frames).ok_or(beyond)?;
        if !self.cover().contains_range(resized) {
            return Err(beyond);
        }
        let (_, added) = resized.split_at(range.end());
        if let Some(at) = self.first_unavailable(added) {
            return Err(ResizeError::InUse { frame: frame_at(at) });
        }
        self.carve_range(added).map_err(|frame| ResizeError::Corrupted { frame })?;
        self.write_heads(range, None);
        self.regroup(range, resized);
        self.write_heads(resized, Some(owner));
        let (_, cut) = range.split_at(resized.end());
        for (frame, order) in cut.blocks() {
            self.give_block(frame.number(), u32::from(order.get()));
        }
        Ok(resized)
    }

    /// Takes the `frames` frames from `start` on, all of which lie in one free block.
    pub(super) fn take_run(
        &mut self,
        start: usize,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, AllocError> {
        let corrupted = |frame| AllocError::Corrupted { frame };
        let first = frame_at(start);
        let range = FrameRange::from_len(first, frames).ok_or(corrupted(first))?;
        if !self.cover().contains_range(range) || self.first_unavailable(range).is_some() {
            return Err(corrupted(first));
        }
        self.take_range(range, owner).map_err(corrupted)?;
        Ok(range)
    }

    /// Takes `range`, whose frames are available; where metadata contradict each other otherwise.
    fn take_range(&mut self, range: FrameRange, owner: BlockOwner) -> Result<(), Frame> {
        self.carve_range(range)?;
        self.write_heads(range, Some(owner));
        Ok(())
    }

    /// Takes all of `range` out of the free blocks; its frames are available.
    fn carve_range(&mut self, range: FrameRange) -> Result<(), Frame> {
        let is_plain = |frame: Frame| self.state(frame.number()) == State::PLAIN;
        if let Some((frame, _)) = range.blocks().find(|&(frame, _)| !is_plain(frame)) {
            return Err(frame);
        }
        for (frame, order) in range.blocks() {
            if !self.carve(frame.number(), u32::from(order.get())) {
                return Err(frame);
            }
        }
        Ok(())
    }

    /// Refuses `range` unless it is exactly one allocation of `owner` whose bits agree.
    fn check_run(&self, range: FrameRange, owner: BlockOwner) -> Result<(), FreeError> {
        let first = range.start();
        let mut pieces = range.blocks();
        let Some((_, order)) = pieces.next() else { return Err(self.why_not_run(range, owner)) };
        let single = order.frames() == range.frames();
        let expected =
            if single { State::head(owner, order) } else { State::run_head(owner, order) };
        let tail =
            |(frame, order): (Frame, Order)| self.state(frame.number()) == State::run_tail(order);
        let goes_on = || matches!(self.state(range.end().number()).kind(), Kind::RunTail(_));
        if self.state(first.number()) != expected || !pieces.all(tail) || (!single && goes_on()) {
            return Err(self.why_not_run(range, owner));
        }
        match range.blocks().find(|&(frame, order)| !self.is_taken(frame.number(), order)) {
            Some((frame, _)) => Err(FreeError::Corrupted { frame }),
            None => Ok(()),
        }
    }

    /// Why `range` is not an allocation of `owner`.
    #[cold]
    fn why_not_run(&self, range: FrameRange, owner: BlockOwner) -> FreeError {
        let state = self.lookup(range.start());
        self.why_not_freed(range.start(), state, range.frames(), owner)
    }

    /// Writes the state of each piece of `range`: that of an allocation of `owner`, or of none.
    fn write_heads(&self, range: FrameRange, owner: Option<BlockOwner>) {
        for (frame, order) in range.blocks() {
            let state = match owner {
                None => State::vacant(u32::from(order.get())),
                Some(owner) if order.frames() == range.frames() => State::head(owner, order),
                Some(owner) if frame == range.start() => State::run_head(owner, order),
                Some(_) => State::run_tail(order),
            };
            if let Some(byte) = self.states.of_block(frame, order) {
                byte.store(state.byte(), Relaxed);
            }
        }
    }

    /// An allocation that was `before` is now `after`, from the same frame on. Makes the group in
    /// which the shorter of the two ends whole or not, as invariant 4 demands.
    fn regroup(&mut self, before: FrameRange, after: FrameRange) {
        let end = before.end().min(after.end()).number();
        if end.is_multiple_of(GROUP_FRAMES) {
            return;
        }
        let base = end & !(GROUP_FRAMES - 1);
        let holds = |range: FrameRange| {
            range.start().number() <= base && range.end().number() - base >= GROUP_FRAMES
        };
        let index = self.group_of(end);
        match (holds(before), holds(after)) {
            (true, false) => self.groups[index].clear(),
            (false, true) => self.groups[index].fill(),
            _ => {}
        }
    }
}
