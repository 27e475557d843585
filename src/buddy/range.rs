//! Ranges that come and go: add, reserve, remove.

use core::sync::atomic::Ordering::Relaxed;

use super::group::GROUP_ORDER;
use super::{AddError, Buddy, Kind, RemoveError, State, frame_at};
use crate::frame::FrameRange;

impl Buddy<'_> {
    /// Makes holes and reserved frames available; they join what is available around them. Linear
    /// in the length of the range.
    ///
    /// # Errors
    ///
    /// [`AddError::OutOfRange`] unless the whole range lies in the span, [`AddError::Overlap`] if
    /// one of its frames is managed already. Nothing has changed then.
    pub fn add(&mut self, range: FrameRange) -> Result<(), AddError> {
        self.check_in_cover(range)?;
        self.check_unmanaged(range, |kind| matches!(kind, Kind::Hole | Kind::Reserved))?;
        self.write_states(range, State::PLAIN);
        self.managed += range.frames();
        for (frame, order) in range.blocks() {
            let (at, order) = (frame.number(), u32::from(order.get()));
            if order >= GROUP_ORDER {
                let first = self.group_of(at);
                let groups = 1 << (order - GROUP_ORDER);
                self.groups[first..].iter_mut().take(groups).for_each(super::Group::fill);
            }
            self.give_block(at, order);
        }
        Ok(())
    }

    /// Marks holes as memory that must never be allocated, so that errors can tell. Linear in
    /// the length of the range.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add); a reserved frame is an overlap here.
    pub fn reserve(&mut self, range: FrameRange) -> Result<(), AddError> {
        self.check_in_cover(range)?;
        self.check_unmanaged(range, |kind| kind == Kind::Hole)?;
        self.write_states(range, State::RESERVED);
        Ok(())
    }

    /// Makes available frames holes again. Linear in the length of the range.
    ///
    /// # Errors
    ///
    /// [`RemoveError::OutOfRange`] unless the whole range lies in the span, [`RemoveError::Hole`]
    /// or [`RemoveError::InUse`] for the first frame that is not available. Nothing has changed
    /// then.
    pub fn remove(&mut self, range: FrameRange) -> Result<(), RemoveError> {
        if !self.cover.contains_range(range) {
            return Err(RemoveError::OutOfRange { range, cover: self.cover });
        }
        if let Some(at) = self.first_unavailable(range) {
            let frame = frame_at(at);
            return Err(match self.state(at).kind() {
                Kind::Hole => RemoveError::Hole { frame },
                _ => RemoveError::InUse { frame },
            });
        }
        for (frame, order) in range.blocks() {
            let (at, order) = (frame.number(), u32::from(order.get()));
            if !self.carve(at, order) {
                return Err(RemoveError::Corrupted { frame });
            }
            if order >= GROUP_ORDER {
                let first = self.group_of(at);
                let groups = 1 << (order - GROUP_ORDER);
                self.groups[first..].iter_mut().take(groups).for_each(super::Group::clear);
            }
        }
        self.write_states(range, State::HOLE);
        self.managed -= range.frames();
        Ok(())
    }

    /// Refuses a range that does not lie in the span.
    fn check_in_cover(&self, range: FrameRange) -> Result<(), AddError> {
        if self.cover.contains_range(range) {
            Ok(())
        } else {
            Err(AddError::OutOfRange { range, cover: self.cover })
        }
    }

    /// Refuses a range of which some frame's state is not `allowed`.
    fn check_unmanaged(
        &self,
        range: FrameRange,
        allowed: impl Fn(Kind) -> bool,
    ) -> Result<(), AddError> {
        let managed = |at: &usize| !allowed(self.state(*at).kind());
        match (range.start().number()..range.end().number()).find(managed) {
            Some(at) => Err(AddError::Overlap { frame: frame_at(at) }),
            None => Ok(()),
        }
    }

    /// Writes the state of every frame of `range`, which lies in the span.
    fn write_states(&self, range: FrameRange, state: State) {
        let from = range.start().number().wrapping_sub(self.start());
        for byte in self.states.of_frames().iter().skip(from).take(range.frames()) {
            byte.store(state.byte(), Relaxed);
        }
    }
}
