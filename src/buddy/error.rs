//! What can be wrong with a request for frames. Nothing has changed when one of these is returned.

use core::error::Error;
use core::fmt;

use super::Need;
use crate::frame::{Frame, FrameRange, Order};

/// Why no frames were allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AllocError {
    /// No frames were asked for.
    ZeroSize,
    /// More frames than any block has, or than the constraint leaves room for.
    TooLarge,
    /// The alignment is not a power of two; or the frames have it, but not the direct map.
    BadAlignment,
    /// There are fewer available frames than were asked for.
    OutOfMemory,
    /// There are enough available frames, but in pieces, or not where they were asked for.
    Fragmented {
        /// Frames available.
        available: usize,
        /// The largest block that is available.
        largest: Order,
    },
    /// There are available frames, but none where the caller can use them: records of slabs and
    /// heap lie in the first 256 GiB of physical memory, and this is the lowest frame that was
    /// offered.
    OutOfReach {
        /// That frame.
        frame: Frame,
    },
    /// There are available frames, but this one has no owner record, which slabs and heap need: the
    /// page allocator was initialised without.
    NoOwnerRecord {
        /// That frame.
        frame: Frame,
    },
    /// The allocator has been given no memory yet.
    NotInitialized,
    /// The allocator is in use, by another CPU or by what this interrupted, and was not to be
    /// waited for.
    WouldBlock,
    /// The allocator's own data contradict each other at this frame.
    Corrupted {
        /// Where the contradiction was found.
        frame: Frame,
    },
}

/// Why a block was not freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FreeError {
    /// The frame is available, or lies in a CPU's frame list: it was freed already, or never
    /// allocated.
    NotAllocated,
    /// The frame lies outside the managed span.
    OutOfRange,
    /// The frame is not managed memory.
    Hole,
    /// The frame is reserved.
    Reserved,
    /// The frame lies inside an allocated block, but does not begin it.
    NotHead {
        /// The block's first frame.
        head: Frame,
        /// The block's order.
        order: Order,
    },
    /// The block has another order.
    WrongOrder {
        /// The order that was allocated.
        allocated: Order,
        /// The order that was given.
        given: Order,
    },
    /// The frames are part of an allocation of another length.
    WrongRange {
        /// The frames that were allocated together.
        allocated: FrameRange,
        /// The frames that were to be freed.
        given: FrameRange,
    },
    /// The block was allocated by the caller, not by the layer that frees it.
    OwnedByCaller,
    /// The block is a slab of objects.
    OwnedBySlab,
    /// The block is a page run of the heap.
    OwnedByHeap,
    /// The allocator has been given no memory yet.
    NotInitialized,
    /// The allocator's own data contradict each other at this frame.
    Corrupted {
        /// Where the contradiction was found.
        frame: Frame,
    },
}

/// Why a span could not be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SpanError {
    /// The span has no frames.
    Empty,
    /// The span has more frames than the summaries can cover.
    TooLarge {
        /// Frames in the span.
        frames: usize,
    },
    /// The metadata slices have other lengths than the span needs.
    MetadataTooSmall {
        /// The lengths that are needed.
        need: Need,
    },
    /// The new span does not contain the old one.
    NotCovered {
        /// The old span.
        old: FrameRange,
        /// The new span.
        new: FrameRange,
    },
}

/// Why frames were not added or reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AddError {
    /// Some of the frames lie outside the span.
    OutOfRange {
        /// The frames that were to be added.
        range: FrameRange,
        /// The span.
        cover: FrameRange,
    },
    /// This frame is managed already.
    Overlap {
        /// The first such frame.
        frame: Frame,
    },
}

/// Why frames were not removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RemoveError {
    /// Some of the frames lie outside the span.
    OutOfRange {
        /// The frames that were to be removed.
        range: FrameRange,
        /// The span.
        cover: FrameRange,
    },
    /// This frame is not managed.
    Hole {
        /// The first such frame.
        frame: Frame,
    },
    /// This frame is allocated, cached or reserved.
    InUse {
        /// The first such frame.
        frame: Frame,
    },
    /// The allocator's own data contradict each other at this frame.
    Corrupted {
        /// Where the contradiction was found.
        frame: Frame,
    },
    /// The allocator has been given no memory yet.
    NotInitialized,
}

/// Why these very frames were not allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClaimError {
    /// No frames were asked for.
    ZeroSize,
    /// Some of the frames lie outside the span.
    OutOfRange {
        /// The frames that were asked for.
        range: FrameRange,
        /// The span.
        cover: FrameRange,
    },
    /// This frame is not available.
    InUse {
        /// The first such frame.
        frame: Frame,
    },
    /// The allocator's own data contradict each other at this frame.
    Corrupted {
        /// Where the contradiction was found.
        frame: Frame,
    },
    /// The allocator has been given no memory yet.
    NotInitialized,
}

/// Why an allocation was not resized in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ResizeError {
    /// A length of no frames was asked for.
    ZeroSize,
    /// The frames given are not an allocation of the given owner.
    NotAllocated(FreeError),
    /// This frame behind the allocation is not available.
    InUse {
        /// The first such frame.
        frame: Frame,
    },
    /// The span ends too soon behind the allocation.
    OutOfRange {
        /// The first frame that would lie outside.
        frame: Frame,
    },
    /// The allocator's own data contradict each other at this frame.
    Corrupted {
        /// Where the contradiction was found.
        frame: Frame,
    },
    /// The frames behind are held back as a reserve.
    OutOfMemory,
}

/// The first invariant that a recount found broken; the numbers are those of the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Corruption {
    /// The state byte means nothing, or contradicts its neighbours (invariants 1 to 3).
    State {
        /// Where.
        frame: Frame,
        /// The byte found there.
        found: u8,
    },
    /// The frame's bit, or its group's in the cluster, contradicts its state (invariants 4 and 5).
    Bit {
        /// Where.
        frame: Frame,
    },
    /// The masks of a group or cluster disagree with its bits (invariant 6).
    Group {
        /// The group's first frame.
        frame: Frame,
    },
    /// A summary of an order disagrees with the groups or clusters (invariants 6 to 8).
    Summary {
        /// The order.
        order: Order,
    },
    /// A free block of this order overlaps another block, or its buddy is free as well
    /// (invariant 7).
    Block {
        /// The block's first frame.
        frame: Frame,
        /// The block's order.
        order: Order,
    },
    /// A counter of frames disagrees with a recount (invariant 8).
    Counter {
        /// What a recount gives.
        expected: usize,
        /// What the counter says.
        found: usize,
    },
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroSize => write!(f, "expected at least one frame, found a request for none"),
            Self::TooLarge => {
                write!(f, "expected a request that some block can hold, found a larger one")
            }
            Self::BadAlignment => {
                write!(f, "expected an alignment that memory can have, found another")
            }
            Self::OutOfMemory => write!(f, "expected available frames, found too few of them"),
            Self::Fragmented { available, largest } => write!(
                f,
                "expected available frames in one piece, found {available} of them in pieces of at most {largest}"
            ),
            Self::OutOfReach { frame } => {
                write!(f, "expected a frame below 256 GiB for records, found none below {frame}")
            }
            Self::NoOwnerRecord { frame } => {
                write!(f, "expected an owner record for each frame, found none for {frame}")
            }
            Self::NotInitialized => {
                write!(f, "expected an allocator with memory, found none added yet")
            }
            Self::WouldBlock => write!(f, "expected a free lock, found it held"),
            Self::Corrupted { frame } => {
                write!(f, "expected sound metadata, found a contradiction at {frame}")
            }
        }
    }
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllocated => write!(f, "expected an allocated block, found free frames"),
            Self::OutOfRange => write!(f, "expected a managed frame, found one outside every span"),
            Self::Hole => write!(f, "expected a managed frame, found a hole"),
            Self::Reserved => write!(f, "expected an allocated block, found a reserved frame"),
            Self::NotHead { head, order } => write!(
                f,
                "expected the first frame of a block, found one inside the block of {order} at {head}"
            ),
            Self::WrongOrder { allocated, given } => {
                write!(f, "expected {allocated} as allocated, found {given}")
            }
            Self::WrongRange { allocated, given } => {
                write!(f, "expected {allocated} as allocated, found {given}")
            }
            Self::OwnedByCaller => write!(f, "expected a block of this layer, found a caller's"),
            Self::OwnedBySlab => write!(f, "expected a block of another owner, found a slab"),
            Self::OwnedByHeap => {
                write!(f, "expected a block of another owner, found a page run of the heap")
            }
            Self::NotInitialized => {
                write!(f, "expected an allocator with memory, found none added yet")
            }
            Self::Corrupted { frame } => {
                write!(f, "expected sound metadata, found a contradiction at {frame}")
            }
        }
    }
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "expected a span with frames, found an empty one"),
            Self::TooLarge { frames } => write!(f, "a span of {frames} frames is too large"),
            Self::MetadataTooSmall { need } => write!(
                f,
                "expected metadata of exactly {} states, {} groups and {} words",
                need.states, need.groups, need.words
            ),
            Self::NotCovered { old, new } => {
                write!(f, "expected a span that contains {old}, found {new}")
            }
        }
    }
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { range, cover } => {
                write!(f, "expected a part of {cover}, found {range}")
            }
            Self::Overlap { frame } => {
                write!(f, "expected frames that are not managed, found that {frame} is")
            }
        }
    }
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { range, cover } => {
                write!(f, "expected a part of {cover}, found {range}")
            }
            Self::Hole { frame } => {
                write!(f, "expected frames that are managed, found a hole at {frame}")
            }
            Self::InUse { frame } => {
                write!(f, "expected frames that are available, found {frame} in use")
            }
            Self::NotInitialized => write!(f, "the allocator has been given no memory yet"),
            Self::Corrupted { frame } => {
                write!(f, "expected sound metadata, found a contradiction at {frame}")
            }
        }
    }
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroSize => write!(f, "expected at least one frame, found a request for none"),
            Self::OutOfRange { range, cover } => {
                write!(f, "expected a part of {cover}, found {range}")
            }
            Self::InUse { frame } => {
                write!(f, "expected frames that are available, found {frame} in use")
            }
            Self::NotInitialized => write!(f, "the allocator has been given no memory yet"),
            Self::Corrupted { frame } => {
                write!(f, "expected sound metadata, found a contradiction at {frame}")
            }
        }
    }
}

impl fmt::Display for ResizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroSize => write!(f, "expected at least one frame, found a request for none"),
            Self::NotAllocated(error) => error.fmt(f),
            Self::InUse { frame } => {
                write!(f, "expected available frames behind the allocation, found {frame} in use")
            }
            Self::OutOfRange { frame } => {
                write!(
                    f,
                    "expected the span to go on behind the allocation, found its end at {frame}"
                )
            }
            Self::OutOfMemory => write!(f, "out of memory: the frames behind are held back"),
            Self::Corrupted { frame } => {
                write!(f, "expected sound metadata, found a contradiction at {frame}")
            }
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { frame, found } => {
                write!(f, "{frame} has state {found:#04x}, which contradicts its neighbours")
            }
            Self::Bit { frame } => write!(f, "the bit of {frame} contradicts its state"),
            Self::Group { frame } => {
                write!(f, "the summary of the group at {frame} contradicts its bits")
            }
            Self::Summary { order } => write!(f, "the summary of {order} contradicts the groups"),
            Self::Block { frame, order } => {
                write!(f, "the free block of {order} at {frame} overlaps another or is not merged")
            }
            Self::Counter { expected, found } => {
                write!(f, "a recount gives {expected} frames, the counter says {found}")
            }
        }
    }
}

impl Error for AllocError {}
impl Error for FreeError {}
impl Error for SpanError {}
impl Error for AddError {}
impl Error for RemoveError {}
impl Error for ClaimError {}
impl Error for Corruption {}
impl Error for ResizeError {}
