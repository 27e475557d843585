//! The buddy algorithm over one span of frames.
//!
//! A [`Buddy`] knows which frames of one span are available, hands out aligned blocks of `2^k` of
//! them, and joins what comes back with its neighbours. It knows nothing of zones, locks or CPUs,
//! and never looks into a frame: its books lie in [`Metadata`] that the caller provides.
//!
//! # Invariants
//!
//! A *block* of order `k` is `2^k` frames from a multiple of `2^k` on.
//!
//! 1. Every frame of the span has exactly one state, which is one of those in `state` and is kept
//!    where `states` says. The first frame of an allocated block, of each piece of an allocated
//!    run, and of a block in a CPU's frame list says so together with the order; all other frames
//!    of it are *plain*.
//! 2. These blocks are aligned, lie inside the span and do not overlap. A run is the tiling by
//!    [`FrameRange::blocks`](crate::frame::FrameRange::blocks) of its range, and has at least two
//!    pieces.
//! 3. A plain frame outside of all of them is *available*.
//! 4. A group of 512 frames is *whole* if all of it lies in one free block of order 9 or more, or
//!    all of it in one allocation, so in one allocated block or piece of order 9 or more. The bits
//!    of a whole group are all set. In any other group a frame's bit is set exactly if the frame is
//!    available, and not all of them are.
//! 5. A *cluster* is a group of 512 groups, from a multiple of 2^18 frames on. A group's bit in it
//!    is set exactly if the group lies in a free block of order 9 or more; it is whole then.
//! 6. The masks of groups and clusters are what their bits demand. The summary of an order up to 8
//!    has exactly the groups with a maximal available block of that order, that of an order from 9
//!    to 17 the clusters.
//! 7. The summary of an order from 18 on has exactly the clusters at which a free block of that
//!    order begins: aligned, inside the span, of clusters whose bits are all set. Each such cluster
//!    lies in one of them, and no two buddies of equal order below [`Order::MAX`] are both free.
//! 8. `available` and `managed` are the recounted numbers of frames; `nonempty` has a bit for each
//!    summary that is not empty.
//!
//! # How it works
//!
//! Below 1 GiB there is nothing to split or merge: a block is available when its bits are set,
//! those of its frames or from 2 MiB on those of its groups (see `group`). Only from there on free
//! blocks are split and merged as the textbook says, over two orders at most. The smallest order
//! that suffices is the lowest bit of `nonempty` at or above the one asked for; the lowest block of
//! it comes from the summary in one descent. The summaries of all orders of a group lie side by
//! side, so taking the first frame of a wholly free gigabyte, which changes all of them, touches as
//! many cache lines as taking the second. So every operation on a block is bounded by the number of
//! orders and levels, whatever the history, and writes one state byte, however large the block.
//!
//! That the bits of an allocated block of order 9 and more are left as they are is what keeps a
//! gigabyte as cheap as 2 MiB: its 512 groups stay whole from the time they were free, and only
//! their cluster and the state byte of the first group tell that they are free no longer.
//!
//! # What was rejected
//!
//! A hierarchical bitmap an order all the way down is more uniform, but two to three times slower
//! in bulk; one from 2 MiB on, which this module had, costs a step an order where a large block is
//! split or merged. Doubly linked lists in frame descriptors give the fastest single operation, but
//! need ten times the metadata and miss the cache on every random free. Links in the free frames
//! themselves need no metadata, but then every dangling write can corrupt them, and memory that is
//! not mapped cannot be managed.
//!
//! # Sources
//!
//! Knowlton, "A fast storage allocator" (CACM 8, 1965); Peterson and Norman, "Buddy systems" (CACM
//! 20, 1977); Wrenger et al., "LLFree: Scalable and optionally-persistent page-frame allocation"
//! (USENIX ATC 2023), for metadata that lie apart and have no pointers.

#![forbid(unsafe_code)]

mod blocks;
mod bulk;
mod eight;
mod error;
mod exact;
mod group;
mod lookup;
mod range;
mod span;
mod state;
mod states;
mod verify;
mod within;
mod word;

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

pub use error::{
    AddError, AllocError, ClaimError, Corruption, FreeError, RemoveError, ResizeError, SpanError,
};
pub use group::Group;
pub use lookup::FrameState;
pub use span::{Metadata, Need};
pub use state::{BlockOwner, Kind, State};
pub use states::States;
pub use within::Constraint;

use crate::bitmap::Bitmaps;
use crate::frame::{Frame, FrameRange, Order};
use group::{CLUSTER_ORDER, GROUP_ORDER};

/// Orders below that of a group.
const SMALL_ORDERS: usize = GROUP_ORDER as usize;

/// Orders from that of a group on.
const LARGE_ORDERS: usize = Order::COUNT - SMALL_ORDERS;

/// Which of the free blocks of the smallest sufficient order is taken, and which end of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Placement {
    /// The one at the lowest address, so that high memory stays whole.
    #[default]
    Low,
    /// The one at the highest address: for what will go again, away from what stays.
    High,
}

impl Placement {
    /// The lowest or highest of the bits that are set.
    #[inline]
    fn pick(self, bits: u64) -> Option<usize> {
        match self {
            Self::Low => (bits != 0).then(|| bits.trailing_zeros() as usize),
            Self::High => bits.checked_ilog2().map(|bit| bit as usize),
        }
    }
}

/// One span of frames under the buddy algorithm.
#[derive(Debug)]
pub struct Buddy<'m> {
    cover: FrameRange,
    states: States<'m>,
    /// The groups of 512 frames.
    groups: &'m mut [Group],
    /// The clusters: groups of 512 groups.
    clusters: &'m mut [Group],
    /// By order, up to 8: the groups that have free blocks.
    small: Bitmaps<'m, SMALL_ORDERS>,
    /// By order less 9: the clusters that have free blocks, or from order 18 on in which they
    /// start.
    large: Bitmaps<'m, LARGE_ORDERS>,
    /// Bit `k` says that there is a free block of order `k`.
    nonempty: u32,
    available: usize,
    managed: usize,
}

impl<'m> Buddy<'m> {
    /// The span: all frames that can ever be managed here.
    #[inline]
    pub const fn cover(&self) -> FrameRange {
        self.cover
    }

    /// How many frames are managed: available, cached or allocated.
    #[inline]
    pub const fn frames_managed(&self) -> usize {
        self.managed
    }

    /// How many frames are available here; frames in CPUs' lists are not.
    #[inline]
    pub const fn frames_available(&self) -> usize {
        self.available
    }

    /// The order of the largest free block.
    #[inline]
    pub const fn largest(&self) -> Option<Order> {
        match self.nonempty.checked_ilog2() {
            Some(order) => Order::new(order as u8),
            None => None,
        }
    }

    /// How many free blocks of exactly `order` there are. Below order 18 this looks at every group
    /// or cluster that has one: it is for reports, not for decisions.
    pub fn available_blocks(&self, order: Order) -> usize {
        let order = u32::from(order.get());
        if order < GROUP_ORDER {
            let count = |group: usize| self.groups[group].count(order);
            return self.small.iter(order as usize).map(count).sum();
        }
        let above = order - GROUP_ORDER;
        if order < CLUSTER_ORDER {
            let count = |cluster: usize| self.clusters[cluster].count(above);
            return self.large.iter(above as usize).map(count).sum();
        }
        self.large.count(above as usize)
    }

    /// The states of the frames of [`cover`](Self::cover).
    #[inline]
    pub const fn states(&self) -> States<'m> {
        self.states
    }

    /// Takes a block of `order` for `owner`: from the smallest free block that suffices, the
    /// lowest or highest of these as `placement` says, and the same end of it. Bounded by the
    /// number of orders.
    ///
    /// # Errors
    ///
    /// [`AllocError::OutOfMemory`] if there are fewer frames than that, [`AllocError::Fragmented`]
    /// if no free block is large enough, [`AllocError::Corrupted`] if the metadata contradict each
    /// other.
    #[inline]
    pub fn alloc(
        &mut self,
        order: Order,
        owner: BlockOwner,
        placement: Placement,
    ) -> Result<Frame, AllocError> {
        self.take(order, State::head(owner, order), placement)
    }

    /// Gives back the block of `order` at `frame` that was taken for `owner`. Bounded by the number
    /// of orders.
    ///
    /// # Errors
    ///
    /// The [`FreeError`] that says what the frame is instead; nothing has changed then.
    #[inline]
    pub fn free(&mut self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError> {
        match self.give(frame, order, State::head(owner, order)) {
            Ok(()) => Ok(()),
            Err(Mismatch::State) => self.free_odd(frame, order, owner),
            Err(Mismatch::Books) => Err(FreeError::Corrupted { frame }),
        }
    }

    /// Takes a block of `order` and writes `state` to its first frame.
    #[inline]
    fn take(
        &mut self,
        order: Order,
        state: State,
        placement: Placement,
    ) -> Result<Frame, AllocError> {
        let wanted = u32::from(order.get());
        let Some(block) = self.find(wanted, placement) else {
            return Err(self.shortage(order.frames()));
        };
        let at = match placement {
            Placement::Low => block.at,
            Placement::High => block.at + (1 << block.order) - order.frames(),
        };
        let frame = frame_at(at);
        if !claim(self.states.byte(at, wanted), State::vacant(wanted), state) {
            return Err(AllocError::Corrupted { frame });
        }
        self.take_block(block, at, wanted);
        Ok(frame)
    }

    /// Gives back the block of `order` at `frame` if its first frame has `state`.
    #[inline]
    fn give(&mut self, frame: Frame, order: Order, state: State) -> Result<(), Mismatch> {
        let at = frame.number();
        let byte = match self.states.of_block(frame, order) {
            Some(byte) if byte.load(Relaxed) == state.byte() => byte,
            _ => return Err(Mismatch::State),
        };
        if !self.could_start(at, order) {
            return Err(Mismatch::Books);
        }
        let order = u32::from(order.get());
        if order < GROUP_ORDER {
            if !self.give_small(at, order) {
                return Err(Mismatch::Books);
            }
        } else if self.is_taken_large(at, order) {
            self.give_block(at, order);
        } else {
            return Err(Mismatch::Books);
        }
        byte.store(State::vacant(order).byte(), Relaxed);
        Ok(())
    }

    /// Frees a run that has as many frames as a block of `order` but is not aligned like one;
    /// otherwise says why nothing can be freed.
    #[cold]
    fn free_odd(&mut self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError> {
        match self.lookup(frame) {
            FrameState::Run { run, owner: actual }
                if actual == owner && run.start() == frame && run.frames() == order.frames() =>
            {
                self.free_exact(run, owner)
            }
            _ => Err(self.why_not_free(frame, order, owner)),
        }
    }

    /// Why no block of `frames` frames was found.
    #[cold]
    fn shortage(&self, frames: usize) -> AllocError {
        match self.largest() {
            Some(largest) if self.available >= frames => {
                AllocError::Fragmented { available: self.available, largest }
            }
            _ => AllocError::OutOfMemory,
        }
    }
}

/// Why a block cannot be given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mismatch {
    /// Its first frame has another state.
    State,
    /// Its bits contradict its state.
    Books,
}

/// Gives the frame or group with this state byte `state`; whether it was `vacant`.
#[inline]
fn claim(byte: Option<&AtomicU8>, vacant: State, state: State) -> bool {
    match byte {
        Some(byte) if byte.load(Relaxed) == vacant.byte() => {
            byte.store(state.byte(), Relaxed);
            true
        }
        _ => false,
    }
}

/// The frame with number `at`, which lies in the span; corrupted metadata may give other numbers.
#[inline]
fn frame_at(at: usize) -> Frame {
    Frame::new(at).unwrap_or(Frame::MAX)
}

#[cfg(test)]
mod tests;
