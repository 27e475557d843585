//! What can be wrong with each operation.

use core::fmt;
use core::ops::Range;

/// Why no arena could be made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The quantum is not a power of two.
    BadQuantum {
        /// The quantum that was given.
        quantum: u64,
    },
    /// More multiples of the quantum are to be cached than there are quantum caches.
    TooManyCaches {
        /// The largest multiple to cache.
        given: usize,
        /// How many there are.
        most: usize,
    },
    /// The pool is too small for one span with one segment.
    PoolTooSmall {
        /// Records that were given.
        given: usize,
        /// Fewest records an arena needs.
        need: usize,
    },
}

/// Why a range could not be added.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AddError {
    /// The range has no integers.
    Empty {
        /// The range that was given.
        range: Range<u64>,
    },
    /// An end of the range is not a multiple of the quantum.
    Misaligned {
        /// The range that was given.
        range: Range<u64>,
        /// The arena's quantum.
        quantum: u64,
    },
    /// Part of the range is in the arena already.
    Overlap {
        /// The range that was given.
        range: Range<u64>,
        /// The lowest segment that it overlaps.
        with: Range<u64>,
    },
    /// The pool has no record left for it.
    NoSegments {
        /// Records in the pool.
        pool: usize,
    },
}

/// Why a request was refused. The arena is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum AllocError {
    /// Nothing was asked for.
    ZeroLength,
    /// The length, rounded up to the quantum, exceeds 64 bits.
    TooLong {
        /// The length that was asked for.
        len: u64,
    },
    /// The alignment is not a power of two.
    BadAlignment {
        /// The alignment that was asked for.
        align: u64,
    },
    /// The phase is not a multiple of the quantum below the alignment.
    BadPhase {
        /// The phase that was asked for.
        phase: u64,
        /// The alignment, at least the quantum.
        align: u64,
    },
    /// The boundary is not a power of two, or every range so long and so aligned crosses it.
    BadBoundary {
        /// The boundary that was asked for.
        boundary: u64,
        /// The length, rounded up to the quantum.
        len: u64,
    },
    /// There is no room for the length between the limits.
    BadWindow {
        /// The lowest start allowed.
        min: u64,
        /// The highest end allowed.
        max: u64,
        /// The length, rounded up to the quantum.
        len: u64,
    },
    /// Less is available than was asked for, and the source had nothing.
    Exhausted {
        /// The length, rounded up to the quantum.
        len: u64,
        /// All that is available.
        available: u64,
    },
    /// Enough is available, but not in one piece that meets the request (Instant: that could be
    /// found in constant time), and the source had nothing.
    Fragmented {
        /// The length, rounded up to the quantum.
        len: u64,
        /// All that is available.
        available: u64,
    },
    /// The pool has no record left to split a segment.
    NoSegments {
        /// Records in the pool.
        pool: usize,
    },
}

/// Why a range was not taken back. The arena is unchanged.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FreeError {
    /// The address lies in no span of the arena.
    OutOfRange {
        /// The address that was given.
        start: u64,
    },
    /// The address is available: given back already, or never allocated.
    NotAllocated {
        /// The address that was given.
        start: u64,
        /// The available segment that it lies in.
        available: Range<u64>,
    },
    /// The address lies inside an allocated segment, not at its start.
    NotAStart {
        /// The address that was given.
        start: u64,
        /// The segment that it lies in.
        allocated: Range<u64>,
    },
    /// The segment that starts there has another length.
    WrongLength {
        /// The segment.
        allocated: Range<u64>,
        /// The length that was given.
        given: u64,
    },
}

/// Why a segment kept its length.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ResizeError {
    /// No allocated segment starts there: what [`free`](super::Arena::free) would say.
    Free(FreeError),
    /// No segment can be so long: [`AllocError::ZeroLength`] or [`AllocError::TooLong`].
    Alloc(AllocError),
    /// What lies behind the segment is not available so far.
    Blocked {
        /// The longest that the segment could be.
        room: u64,
    },
    /// The pool has no record left for what a shorter segment leaves behind.
    NoSegments {
        /// Records in the pool.
        pool: usize,
    },
}

/// A range in hexadecimal.
struct Hex<'r>(&'r Range<u64>);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.0.start, self.0.end)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadQuantum { quantum } => {
                write!(f, "expected a power of two as quantum, found {quantum:#x}")
            }
            Self::TooManyCaches { given, most } => {
                write!(f, "expected at most {most} quantum caches, found {given}")
            }
            Self::PoolTooSmall { given, need } => {
                write!(f, "expected a pool of at least {need} records, found {given}")
            }
        }
    }
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { range } => write!(f, "expected a range, found nothing: {}", Hex(range)),
            Self::Misaligned { range, quantum } => {
                write!(f, "expected multiples of {quantum:#x}, found {}", Hex(range))
            }
            Self::Overlap { range, with } => {
                write!(
                    f,
                    "expected a range not in the arena, found {} in {}",
                    Hex(with),
                    Hex(range)
                )
            }
            Self::NoSegments { pool } => {
                write!(f, "expected a spare record, found all {pool} of the pool in use")
            }
        }
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroLength => f.write_str("expected a length, found 0"),
            Self::TooLong { len } => {
                write!(f, "expected a length that can be rounded up, found {len:#x}")
            }
            Self::BadAlignment { align } => {
                write!(f, "expected a power of two as alignment, found {align:#x}")
            }
            Self::BadPhase { phase, align } => write!(
                f,
                "expected a multiple of the quantum below {align:#x} as phase, found {phase:#x}"
            ),
            Self::BadBoundary { boundary, len } => {
                write!(f, "expected a boundary that {len:#x} need not cross, found {boundary:#x}")
            }
            Self::BadWindow { min, max, len } => {
                write!(f, "expected room for {len:#x}, found {min:#x}..{max:#x}")
            }
            Self::Exhausted { len, available } => {
                write!(f, "expected {len:#x} available, found {available:#x}")
            }
            Self::Fragmented { len, available } => {
                write!(f, "expected {len:#x} in one piece, found {available:#x} in pieces")
            }
            Self::NoSegments { pool } => {
                write!(f, "expected a spare record, found all {pool} of the pool in use")
            }
        }
    }
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { start } => {
                write!(f, "expected an address of the arena, found {start:#x} outside every span")
            }
            Self::NotAllocated { start, available } => write!(
                f,
                "expected an allocated segment, found {start:#x} in {}, which is available",
                Hex(available)
            ),
            Self::NotAStart { start, allocated } => write!(
                f,
                "expected the start of a segment, found {start:#x} inside {}",
                Hex(allocated)
            ),
            Self::WrongLength { allocated, given } => {
                let len = allocated.end - allocated.start;
                write!(f, "expected length {len:#x} for {}, found {given:#x}", Hex(allocated))
            }
        }
    }
}

impl fmt::Display for ResizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free(error) => error.fmt(f),
            Self::Alloc(error) => error.fmt(f),
            Self::Blocked { room } => write!(f, "expected room to grow, found {room:#x} at most"),
            Self::NoSegments { pool } => {
                write!(f, "expected a spare record, found all {pool} of the pool in use")
            }
        }
    }
}

impl core::error::Error for ConfigError {}
impl core::error::Error for AddError {}
impl core::error::Error for AllocError {}
impl core::error::Error for FreeError {}
impl core::error::Error for ResizeError {}
