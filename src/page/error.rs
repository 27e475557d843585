//! What can be wrong with memory that is handed over. Requests for frames have the errors of
//! [`crate::buddy`]; what one of them is as a violation is said here.

use core::error::Error;
use core::fmt;

use crate::buddy::{FreeError, SpanError};
use crate::check::{Detail, Rule, Violation};
use crate::frame::Frame;

/// Why a page allocator was not initialised. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum InitError {
    /// It has been initialised before.
    AlreadyInitialized,
    /// There is not one usable frame in the map.
    NoMemory,
    /// No usable range is large enough for the metadata, or they would leave nothing to manage.
    MetadataTooSmall {
        /// Frames that the metadata need in one piece; one more where nothing else is there.
        need: usize,
        /// Frames of the largest usable range.
        largest: usize,
    },
    /// The platform maps this frame, where metadata would lie, to no aligned pointer.
    Unmapped {
        /// The frame.
        frame: Frame,
    },
    /// A span cannot be described.
    Span(SpanError),
}

/// Why memory was not added. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AddMemoryError {
    /// The page allocator has not been initialised.
    NotInitialized,
    /// This frame is managed already.
    Overlap {
        /// The first such frame.
        frame: Frame,
    },
    /// Neither the new memory nor what is available can hold the metadata of the new memory.
    MetadataTooSmall {
        /// Frames that the metadata need, in one piece.
        need: usize,
    },
    /// The memory touches no span, and there are as many spans as there can be.
    TooManySpans {
        /// How many there can be.
        limit: usize,
    },
    /// Spans began or grew too often: each time leaves records that never move, and taking the
    /// memory away does not take those away. There is no limit for memory that was
    /// [provisioned](super::InitOptions::provision).
    TooManyGrowths {
        /// How often they can.
        limit: usize,
    },
    /// The range has too many gaps between spans.
    TooManyGaps {
        /// How many it can have.
        limit: usize,
    },
    /// The platform maps this frame, where metadata would lie, to no aligned pointer.
    Unmapped {
        /// The frame.
        frame: Frame,
    },
    /// A span would have to move its metadata, but a CPU's frame lists could not be emptied first:
    /// the platform does not [synchronize](crate::platform::Platform::synchronize) CPUs, or a
    /// CPU stayed inside its lists for long.
    ListsInUse,
}

/// Why a shrinker was not registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TooManyShrinkers {
    /// How many there can be.
    pub limit: usize,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyInitialized => write!(f, "expected one initialisation, found a second"),
            Self::NoMemory => write!(f, "expected usable memory, found none in the memory map"),
            Self::MetadataTooSmall { need, largest } => write!(
                f,
                "expected a usable range of {need} frames for metadata, found at most {largest}"
            ),
            Self::Unmapped { frame } => {
                write!(f, "expected {frame} to be mapped, found no aligned pointer")
            }
            Self::Span(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for AddMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialized => write!(f, "the allocator has been given no memory yet"),
            Self::Overlap { frame } => {
                write!(f, "expected frames that are not managed, found that {frame} is")
            }
            Self::MetadataTooSmall { need } => {
                write!(f, "expected {need} frames for metadata, found no room for them")
            }
            Self::TooManySpans { limit } => write!(
                f,
                "expected memory that touches a span, found all {limit} spans to lie elsewhere"
            ),
            Self::TooManyGrowths { limit } => {
                write!(f, "expected spans to grow at most {limit} times, found one more")
            }
            Self::TooManyGaps { limit } => {
                write!(f, "expected at most {limit} gaps between spans, found more")
            }
            Self::Unmapped { frame } => {
                write!(f, "expected {frame} to be mapped, found no aligned pointer")
            }
            Self::ListsInUse => {
                write!(f, "expected all CPUs' frame lists to be empty, found one that is in use")
            }
        }
    }
}

impl fmt::Display for TooManyShrinkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected at most {} shrinkers, found one more", self.limit)
    }
}

impl Error for InitError {}
impl Error for AddMemoryError {}
impl Error for TooManyShrinkers {}

impl FreeError {
    /// This error as a violation by the block at `frame`, for faces that cannot return it.
    pub const fn violation(self, frame: Frame) -> Violation<'static> {
        let address = frame.start().as_u64() as usize;
        let (rule, expected, found) = match self {
            Self::NotAllocated => (Rule::NotAllocated, Detail::Unknown, Detail::Unknown),
            Self::OutOfRange => (Rule::OutOfRange, Detail::Unknown, Detail::Unknown),
            Self::Hole => (Rule::Hole, Detail::Unknown, Detail::Unknown),
            Self::Reserved => (Rule::Reserved, Detail::Unknown, Detail::Unknown),
            Self::NotHead { head, .. } => {
                let head = head.start().as_u64() as usize;
                (Rule::NotHead, Detail::Address(head), Detail::Address(address))
            }
            Self::WrongOrder { allocated, given } => {
                (Rule::WrongOrder, Detail::Order(allocated), Detail::Order(given))
            }
            Self::WrongRange { allocated, given } => {
                let [allocated, given] = [allocated.len_bytes(), given.len_bytes()];
                let (expected, found) = (allocated as usize, given as usize);
                (Rule::SizeMismatch, Detail::Bytes(expected), Detail::Bytes(found))
            }
            Self::OwnedBySlab => (Rule::OwnedBySlab, Detail::Unknown, Detail::Unknown),
            Self::OwnedByHeap => (Rule::OwnedByHeap, Detail::Unknown, Detail::Unknown),
            Self::NotInitialized => (Rule::NotInitialized, Detail::Unknown, Detail::Unknown),
            // Of these two the first is an error of the layers above.
            Self::OwnedByCaller | Self::Corrupted { .. } => {
                (Rule::Corrupted, Detail::Unknown, Detail::Unknown)
            }
        };
        Violation::new(rule, address).expected_found(expected, found)
    }
}
