//! Allocation under constraints: in a window, aligned, not across a boundary. What DMA engines
//! need.
//!
//! Of the free blocks of one order that are large enough, those that lie wholly inside the window
//! all fit, because aligned blocks do not cross boundaries of their own size or more, and smaller
//! boundaries can be avoided inside them. At most one of them hangs over the start of the window.
//! So the first block that reaches into the window and the one after it decide for the whole order,
//! and the search is bounded by the number of orders.

use super::{AllocError, BlockOwner, Buddy};
use crate::frame::{Frame, FrameRange, Order};

/// Where an allocation must lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Constraint {
    /// All its frames lie in this range.
    pub window: FrameRange,
    /// Its first frame is one at which a block of this order may start.
    pub align: Order,
    /// It does not cross a multiple of the size of this order.
    pub boundary: Option<Order>,
}

impl Constraint {
    /// Anywhere in `window`.
    pub const fn within(window: FrameRange) -> Self {
        Self { window, align: Order::ZERO, boundary: None }
    }

    /// The lowest start of `frames` frames inside `block` that this constraint allows.
    fn first_fit(&self, block: FrameRange, frames: usize) -> Option<usize> {
        let room = block.intersect(self.window);
        let start = room.start().align_up(self.align)?;
        let end = start.number().checked_add(frames)?;
        let start = match self.boundary {
            // Crossing: the first frame and the last lie in different blocks of the boundary's
            // order.
            Some(boundary) if start.number() >> boundary.get() != (end - 1) >> boundary.get() => {
                start.checked_add(1)?.align_up(boundary.max(self.align))?
            }
            _ => start,
        };
        let end = start.number().checked_add(frames)?;
        (end <= room.end().number()).then_some(start.number())
    }
}

impl Buddy<'_> {
    /// Takes `frames` frames in a row for `owner` where `constraint` allows them: of the smallest
    /// order that has a free block that serves, at the lowest address. Bounded by the number of
    /// orders and of pieces.
    ///
    /// An alignment larger than the request is served from free blocks of at least its size, and
    /// the rest of them stays available.
    ///
    /// # Errors
    ///
    /// [`AllocError::ZeroSize`] for no frames; [`AllocError::TooLarge`] for more than the largest
    /// block, the window or the boundary has; [`AllocError::OutOfMemory`] if there are fewer frames
    /// in the whole span, [`AllocError::Fragmented`] if none of the free blocks serves.
    pub fn alloc_within(
        &mut self,
        frames: usize,
        constraint: &Constraint,
        owner: BlockOwner,
    ) -> Result<FrameRange, AllocError> {
        if frames == 0 {
            return Err(AllocError::ZeroSize);
        }
        let order = Order::for_frames(frames).ok_or(AllocError::TooLarge)?;
        let bounded = constraint.boundary.is_some_and(|boundary| frames > boundary.frames());
        if bounded || frames > constraint.window.frames() {
            return Err(AllocError::TooLarge);
        }
        match order
            .max(constraint.align)
            .and_above()
            .find_map(|order| self.fit_in(order, frames, constraint))
        {
            Some(start) => self.take_run(start, frames, owner),
            None => Err(self.shortage_within(frames)),
        }
    }

    /// The lowest start that `constraint` allows for `frames` frames inside a free block of exactly
    /// `order`.
    fn fit_in(&self, order: Order, frames: usize, constraint: &Constraint) -> Option<usize> {
        let shift = u32::from(order.get());
        let mut from = constraint.window.start().align_down(order).number();
        for _ in 0..2 {
            let block = self.next_free(shift, from)?;
            let frames_of = FrameRange::from_len(Frame::new(block)?, order.frames())?;
            if let Some(start) = constraint.first_fit(frames_of, frames) {
                return Some(start);
            }
            from = frames_of.end().number();
        }
        None
    }

    /// Why no free block served a constrained request for `frames` frames.
    #[cold]
    fn shortage_within(&self, frames: usize) -> AllocError {
        match self.largest() {
            Some(largest) if self.frames_available() >= frames => {
                AllocError::Fragmented { available: self.frames_available(), largest }
            }
            _ => AllocError::OutOfMemory,
        }
    }
}
