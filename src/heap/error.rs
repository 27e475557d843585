//! What can be wrong with a block that is given back, and what a recount can find.

use core::error::Error;
use core::fmt;

use crate::buddy::AllocError;
use crate::check::{Detail, Rule, Violation};
use crate::slab::{CacheFault, ObjectError};

/// Why a block was not freed. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HeapFreeError {
    /// The block is free already: freed twice, or never allocated.
    NotAllocated,
    /// The address lies inside the block that starts at `base`.
    NotAnObject {
        /// The address of the block's first byte.
        base: usize,
    },
    /// The address belongs to no block of a heap.
    OutOfRange,
    /// The address is an object of a cache that is not this heap's.
    WrongCache {
        /// That cache's name.
        owner: &'static str,
    },
    /// The block has another size or alignment than its layout says.
    SizeMismatch {
        /// Usable bytes of the block.
        allocated_bytes: usize,
        /// Bytes that the caller said.
        given_bytes: usize,
    },
    /// A byte of the object's red zone was overwritten; the object is left alone.
    Overrun {
        /// Where the byte lies, in bytes from the object's start.
        offset: isize,
        /// What it is.
        found: u8,
    },
    /// The allocator's records contradict each other; the block is left alone.
    Corrupted,
}

impl From<ObjectError> for HeapFreeError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NotAllocated => Self::NotAllocated,
            ObjectError::NotAnObject { base } => Self::NotAnObject { base: base.addr().get() },
            ObjectError::OutOfRange => Self::OutOfRange,
            ObjectError::WrongCache { owner, .. } => Self::WrongCache { owner },
            ObjectError::SizeMismatch { object_bytes, given_bytes } => {
                Self::SizeMismatch { allocated_bytes: object_bytes, given_bytes }
            }
            ObjectError::Overrun { offset, found } => Self::Overrun { offset, found },
            ObjectError::Corrupted => Self::Corrupted,
        }
    }
}

impl HeapFreeError {
    /// This error as the violation that the unchecked faces report, with the block's address.
    pub const fn violation(self, address: usize) -> Violation<'static> {
        let (rule, expected, found) = match self {
            Self::NotAllocated => (Rule::NotAllocated, Detail::Unknown, Detail::Unknown),
            Self::NotAnObject { base } => {
                (Rule::NotAnObject, Detail::Address(base), Detail::Address(address))
            }
            Self::OutOfRange => (Rule::OutOfRange, Detail::Unknown, Detail::Unknown),
            Self::WrongCache { owner } => (Rule::WrongCache, Detail::Name(owner), Detail::Unknown),
            Self::SizeMismatch { allocated_bytes, given_bytes } => {
                (Rule::SizeMismatch, Detail::Bytes(allocated_bytes), Detail::Bytes(given_bytes))
            }
            Self::Overrun { offset, found } => {
                (Rule::RedZone, Detail::Unknown, Detail::Byte { offset, value: found })
            }
            Self::Corrupted => (Rule::Corrupted, Detail::Unknown, Detail::Unknown),
        };
        Violation::new(rule, address).expected_found(expected, found)
    }
}

impl fmt::Display for HeapFreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotAllocated => f.write_str("expected an allocated block, found a free one"),
            Self::NotAnObject { base } => {
                write!(
                    f,
                    "expected a block's first byte, found an address inside the one at {base:#x}"
                )
            }
            Self::OutOfRange => {
                f.write_str("expected a block of the heap, found an address that is none")
            }
            Self::WrongCache { owner } => {
                write!(f, "expected a block of the heap, found an object of cache {owner}")
            }
            Self::SizeMismatch { allocated_bytes, given_bytes } => write!(
                f,
                "expected a layout of a block of {allocated_bytes} bytes, found one of {given_bytes} bytes"
            ),
            Self::Overrun { offset, found } => {
                write!(f, "expected a whole red zone, found {found:#04x} at offset {offset}")
            }
            Self::Corrupted => f.write_str("expected records that agree, found a contradiction"),
        }
    }
}

impl Error for HeapFreeError {}

/// Why a block was not reallocated. It is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReallocError {
    /// There is no memory for the new layout.
    Alloc(AllocError),
    /// The block is not one of the old layout.
    Free(HeapFreeError),
}

impl From<AllocError> for ReallocError {
    fn from(error: AllocError) -> Self {
        Self::Alloc(error)
    }
}

impl From<HeapFreeError> for ReallocError {
    fn from(error: HeapFreeError) -> Self {
        Self::Free(error)
    }
}

impl fmt::Display for ReallocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc(error) => error.fmt(f),
            Self::Free(error) => error.fmt(f),
        }
    }
}

impl Error for ReallocError {}

/// What a recount found wrong, and in which cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HeapFault {
    /// The cache's name.
    pub cache: &'static str,
    /// What is wrong with it.
    pub fault: CacheFault,
}

impl fmt::Display for HeapFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cache {}: {}", self.cache, self.fault)
    }
}

impl Error for HeapFault {}
