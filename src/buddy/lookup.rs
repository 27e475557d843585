//! What a frame is, and why it cannot be freed.

use super::blocks::group_in_cluster;
use super::group::{CLUSTER_ORDER, GROUP_FRAMES, GROUP_ORDER};
use super::{BlockOwner, Buddy, FreeError, Kind, State, frame_at};
use crate::frame::{Frame, FrameRange, Order};

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameState {
    /// It lies outside the span.
    OutOfRange,
    /// It is no memory, or not managed.
    Hole,
    /// It must never be allocated.
    Reserved,
    /// It lies in this free block.
    Available {
        /// The block's first frame.
        head: Frame,
        /// The block's order.
        order: Order,
    },
    /// It lies in this block of a CPU's frame list.
    Cached {
        /// The block's first frame.
        head: Frame,
        /// The block's order.
        order: Order,
    },
    /// It lies in this allocated block.
    Allocated {
        /// The block's first frame.
        head: Frame,
        /// The block's order.
        order: Order,
        /// For whom it was allocated.
        owner: BlockOwner,
    },
    /// It lies in this allocation, whose length is not a power of two or not aligned to it.
    Run {
        /// The whole allocation.
        run: FrameRange,
        /// For whom it was allocated.
        owner: BlockOwner,
    },
    /// Its metadata contradict each other.
    Corrupted,
}

impl Buddy<'_> {
    /// What `frame` is. Bounded by the number of orders, and for a run by the number of its pieces.
    pub fn lookup(&self, frame: Frame) -> FrameState {
        if !self.cover.contains(frame) {
            return FrameState::OutOfRange;
        }
        let at = frame.number();
        match self.state(at).kind() {
            Kind::Hole => FrameState::Hole,
            Kind::Reserved => FrameState::Reserved,
            Kind::Invalid => FrameState::Corrupted,
            _ => match self.head_of(at) {
                Some(head) => self.describe(head),
                None => match self.free_block_around(at) {
                    Some(block) => FrameState::Available {
                        head: frame_at(block.at),
                        order: order_of(block.order),
                    },
                    None => FrameState::Corrupted,
                },
            },
        }
    }

    /// How many frames the allocation has whose first frame is `head`; `None` if none starts there.
    pub fn allocated_frames(&self, head: Frame) -> Option<usize> {
        match self.lookup(head) {
            FrameState::Allocated { head: first, order, .. } if first == head => {
                Some(order.frames())
            }
            FrameState::Run { run, .. } if run.start() == head => Some(run.frames()),
            _ => None,
        }
    }

    /// The state of frame `at`; a hole outside the span.
    #[inline]
    pub(super) fn state(&self, at: usize) -> State {
        self.states.at(at)
    }

    /// Whether a block of `order` can start at frame `at`, which lies in the span.
    #[inline]
    pub(super) fn could_start(&self, at: usize, order: Order) -> bool {
        at.is_multiple_of(order.frames()) && self.end() - at >= order.frames()
    }

    /// Whether the frames of the block of `order` at `at` are those of an allocated block, as far
    /// as bits tell: the cross-check of a state byte.
    #[inline]
    pub(super) fn is_taken(&self, at: usize, order: Order) -> bool {
        if !self.could_start(at, order) {
            return false;
        }
        let order = u32::from(order.get());
        let Some(group) = self.groups.get(self.group_of(at)) else { return false };
        if order < GROUP_ORDER {
            return group.has_none(at % GROUP_FRAMES, order);
        }
        group.is_whole() && self.is_taken_large(at, order)
    }

    /// As [`is_taken`](Self::is_taken), for a block of `order`, at least 9, that can start at `at`,
    /// as far as clusters and groups' states tell: no look at the group itself, which is in no
    /// cache where there are many.
    pub(super) fn is_taken_large(&self, at: usize, order: u32) -> bool {
        let Some(cluster) = self.clusters.get(self.cluster_of(at)) else { return false };
        let taken = if order < CLUSTER_ORDER {
            cluster.widest_taken(group_in_cluster(at), order - GROUP_ORDER)
        } else {
            self.has_no_free_group(at, order).then_some(GROUP_ORDER)
        };
        taken.is_some_and(|widest| !self.is_piece(at, widest + GROUP_ORDER))
    }

    /// Whether the block at `at`, of an order of at least 9, is a piece of a larger allocated
    /// block, of which no group is free. In the cluster such a block is at most of order
    /// `widest`; so the search mostly ends before it has begun.
    fn is_piece(&self, at: usize, widest: u32) -> bool {
        // Larger blocks around this one begin where the lowest bits of its number that are set are
        // clear, one, two or more of them.
        let mut head = at;
        while head != 0 {
            let above = head.trailing_zeros() + 1;
            head &= head - 1;
            let taken = above <= widest
                || widest == CLUSTER_ORDER
                    && above < Order::COUNT as u32
                    && self.has_no_free_group(head, above);
            if !taken {
                return false;
            }
            let held = self.states.large_at(head).and_then(State::order);
            if held.is_some_and(|held| u32::from(held.get()) >= above) {
                return true;
            }
        }
        false
    }

    /// The first frame of the allocated or cached block or piece that frame `at` lies in.
    pub(super) fn head_of(&self, at: usize) -> Option<usize> {
        (0..Order::COUNT as u32).find_map(|order| {
            let head = at & !((1 << order) - 1);
            let held = self.state(head).order()?;
            (u32::from(held.get()) >= order).then_some(head)
        })
    }

    /// What the block or piece is that starts at `head`.
    fn describe(&self, head: usize) -> FrameState {
        let frame = frame_at(head);
        match self.state(head).kind() {
            Kind::Cached(order) => FrameState::Cached { head: frame, order },
            Kind::Head(owner, order) => FrameState::Allocated { head: frame, order, owner },
            _ => match self.run_around(head) {
                Some((run, owner)) => FrameState::Run { run, owner },
                None => FrameState::Corrupted,
            },
        }
    }

    /// The run that the piece at `piece` belongs to.
    fn run_around(&self, piece: usize) -> Option<(FrameRange, BlockOwner)> {
        let mut start = piece;
        let (owner, first) = loop {
            match self.state(start).kind() {
                Kind::RunHead(owner, order) => break (owner, order),
                Kind::RunTail(_) => start = self.head_of(start.checked_sub(1)?)?,
                _ => return None,
            }
        };
        let mut end = start.checked_add(first.frames())?;
        while let Kind::RunTail(order) = self.state(end).kind() {
            end = end.checked_add(order.frames())?;
        }
        Some((FrameRange::new(Frame::new(start)?, Frame::new(end)?)?, owner))
    }

    /// Why the block of `order` at `frame` cannot be freed for `owner`.
    #[cold]
    pub(super) fn why_not_free(&self, frame: Frame, order: Order, owner: BlockOwner) -> FreeError {
        match self.lookup(frame) {
            FrameState::Allocated { head, order: allocated, owner: actual } => {
                if actual != owner {
                    owned_by(actual)
                } else if head != frame {
                    FreeError::NotHead { head, order: allocated }
                } else if allocated != order {
                    FreeError::WrongOrder { allocated, given: order }
                } else {
                    FreeError::Corrupted { frame }
                }
            }
            other => self.why_not_freed(frame, other, order.frames(), owner),
        }
    }

    /// Why the block of `order` at `frame` is not one of a CPU's frame list.
    #[cold]
    pub(super) fn why_not_cached(&self, frame: Frame, order: Order) -> FreeError {
        match self.lookup(frame) {
            FrameState::Cached { head, order: cached } if head != frame => {
                FreeError::NotHead { head, order: cached }
            }
            FrameState::Cached { order: cached, .. } if cached != order => {
                FreeError::WrongOrder { allocated: cached, given: order }
            }
            FrameState::Cached { .. } => FreeError::Corrupted { frame },
            FrameState::Allocated { owner, .. } | FrameState::Run { owner, .. } => owned_by(owner),
            other => self.why_not_freed(frame, other, order.frames(), BlockOwner::Caller),
        }
    }

    /// Why `frames` frames from `frame` on, which is `state`, cannot be freed for `owner`.
    #[cold]
    pub(super) fn why_not_freed(
        &self,
        frame: Frame,
        state: FrameState,
        frames: usize,
        owner: BlockOwner,
    ) -> FreeError {
        match state {
            FrameState::OutOfRange => FreeError::OutOfRange,
            FrameState::Hole => FreeError::Hole,
            FrameState::Reserved => FreeError::Reserved,
            FrameState::Available { .. } | FrameState::Cached { .. } => FreeError::NotAllocated,
            FrameState::Corrupted => FreeError::Corrupted { frame },
            FrameState::Allocated { owner: actual, .. } | FrameState::Run { owner: actual, .. }
                if actual != owner =>
            {
                owned_by(actual)
            }
            FrameState::Allocated { head, order, .. } if head != frame => {
                FreeError::NotHead { head, order }
            }
            FrameState::Allocated { head, order, .. } => {
                wrong_range(FrameRange::from_len(head, order.frames()), frame, frames)
            }
            FrameState::Run { run, .. } => wrong_range(Some(run), frame, frames),
        }
    }
}

/// The error for an allocation of `allocated` of which `frames` frames from `frame` on were given.
fn wrong_range(allocated: Option<FrameRange>, frame: Frame, frames: usize) -> FreeError {
    match (allocated, FrameRange::from_len(frame, frames)) {
        (Some(allocated), Some(given)) if allocated != given => {
            FreeError::WrongRange { allocated, given }
        }
        _ => FreeError::Corrupted { frame },
    }
}

/// The error that names the owner of a block.
fn owned_by(owner: BlockOwner) -> FreeError {
    match owner {
        BlockOwner::Caller => FreeError::OwnedByCaller,
        BlockOwner::Slab => FreeError::OwnedBySlab,
        BlockOwner::Heap => FreeError::OwnedByHeap,
    }
}

/// `order` as an [`Order`]; it is never above the largest.
pub(super) fn order_of(order: u32) -> Order {
    Order::new(order as u8).unwrap_or(Order::MAX)
}
