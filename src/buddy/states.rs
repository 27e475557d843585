//! Where states lie: one byte for each frame, and behind these one for each group of 512.
//!
//! The state of a block or piece is in its first frame's byte, or from order 9 on in its first
//! group's, while the frame's byte says *plain*. So 64 blocks of 2 MiB have their states in one
//! cache line, where bytes of frames would be 512 apart.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::State;
use super::group::{GROUP_FRAMES, GROUP_ORDER};
use crate::frame::{Frame, FrameRange, Order};

/// The states of a span. A CPU may exchange [`State::head`] and [`State::cached`] of blocks that it
/// holds without the span's lock.
#[derive(Clone, Copy, Debug)]
pub struct States<'m> {
    /// Number of the span's first frame.
    start: usize,
    frames: &'m [AtomicU8],
    groups: &'m [AtomicU8],
}

impl<'m> States<'m> {
    /// The order from which on the states of blocks are their groups'.
    pub const GROUP: Order = match Order::new(GROUP_ORDER as u8) {
        Some(order) => order,
        None => Order::MAX,
    };

    /// The states of no frames.
    pub const NONE: Self = Self { start: 0, frames: &[], groups: &[] };

    /// Bytes for the states of `cover`.
    pub(crate) const fn needed(cover: FrameRange) -> usize {
        cover.frames() + touched(cover, GROUP_ORDER)
    }

    /// The states of `cover`, in as many bytes as it [needs](Self::needed).
    pub(crate) fn new(cover: FrameRange, bytes: &'m [AtomicU8]) -> Self {
        let (frames, groups) = bytes.split_at(cover.frames().min(bytes.len()));
        Self { start: cover.start().number(), frames, groups }
    }

    /// Number of the span's first frame.
    #[inline]
    pub(super) const fn start(self) -> usize {
        self.start
    }

    /// The bytes of the frames, in their order.
    #[inline]
    pub const fn of_frames(self) -> &'m [AtomicU8] {
        self.frames
    }

    /// The bytes of the groups of 512 frames, in their order. The first frames of the first group
    /// may lie before the span.
    #[inline]
    pub const fn of_groups(self) -> &'m [AtomicU8] {
        self.groups
    }

    /// Where the state of a block of `order` at `frame` is kept; `None` outside the span, and from
    /// order 9 on where no group begins.
    #[inline]
    pub fn of_block(self, frame: Frame, order: Order) -> Option<&'m AtomicU8> {
        self.byte(frame.number(), u32::from(order.get()))
    }

    /// As [`of_block`](Self::of_block), by number.
    #[inline]
    pub(super) fn byte(self, at: usize, order: u32) -> Option<&'m AtomicU8> {
        if order < GROUP_ORDER {
            return self.frames.get(at.wrapping_sub(self.start));
        }
        // What is no multiple of a group's frames, or lies below the first one's, becomes an index
        // beyond all.
        let first = self.start & !(GROUP_FRAMES - 1);
        self.groups.get(at.wrapping_sub(first).rotate_right(GROUP_ORDER))
    }

    /// The state of frame `at`, wherever it is kept; a hole outside the span.
    #[inline]
    pub(super) fn at(self, at: usize) -> State {
        let Some(byte) = self.byte(at, 0) else { return State::HOLE };
        let own = State::from_byte(byte.load(Relaxed));
        if own == State::PLAIN {
            return self.large_at(at).unwrap_or(own);
        }
        // A large block's order is not this byte's to tell.
        if own.order().is_some_and(is_large) { State::INVALID } else { own }
    }

    /// The state of the block or piece from order 9 on that begins with frame `at`, if the group's
    /// byte says that there is one.
    #[inline]
    pub(super) fn large_at(self, at: usize) -> Option<State> {
        let state = State::from_byte(self.byte(at, GROUP_ORDER)?.load(Relaxed));
        if state == State::NO_HEAD {
            return None;
        }
        // A small block's order is not this byte's to tell.
        Some(if state.order().is_some_and(is_large) { state } else { State::INVALID })
    }

    /// Takes over the states of a span that this one covers, whose frames are all holes here.
    pub(super) fn absorb(self, old: States<'_>) {
        for (to, from) in self.frames.iter().skip(old.start - self.start).zip(old.frames) {
            to.store(from.load(Relaxed), Relaxed);
        }
        let lead = (old.start >> GROUP_ORDER) - (self.start >> GROUP_ORDER);
        for (to, from) in self.groups.iter().skip(lead).zip(old.groups) {
            // The groups at the ends may be shared with a span that was absorbed before: a block
            // fills its group.
            let state = from.load(Relaxed);
            if state != State::NO_HEAD.byte() {
                to.store(state, Relaxed);
            }
        }
    }
}

/// How many aligned blocks of `order` a span over `cover` touches.
pub(super) const fn touched(cover: FrameRange, order: u32) -> usize {
    if cover.is_empty() {
        return 0;
    }
    let last = cover.end().number() - 1;
    (last >> order) - (cover.start().number() >> order) + 1
}

#[inline]
fn is_large(order: Order) -> bool {
    u32::from(order.get()) >= GROUP_ORDER
}
