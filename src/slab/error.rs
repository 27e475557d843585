//! What can be wrong with an object that is given back, and with a cache that is destroyed.

use core::fmt;
use core::ptr::NonNull;

use crate::check::{Detail, Rule, Violation};

/// Why an object was not freed. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ObjectError {
    /// The object is free already: freed twice, or never allocated.
    NotAllocated,
    /// The address lies inside the object that starts at `base`.
    NotAnObject {
        /// The first byte of the object that the address lies in.
        base: NonNull<u8>,
    },
    /// The address belongs to no object: outside all memory of the source, in a block that is
    /// no slab, or between a slab's objects and its ends.
    OutOfRange,
    /// The object belongs to another cache.
    WrongCache {
        /// The cache that the object came from.
        owner: &'static str,
        /// The cache that it was given to.
        given: &'static str,
    },
    /// The object has another size or alignment than the caller says.
    SizeMismatch {
        /// Bytes in an object of this cache.
        object_bytes: usize,
        /// Bytes that the caller said.
        given_bytes: usize,
    },
    /// The slab's records contradict each other; the object is left alone.
    Corrupted,
    /// A byte of a red zone was overwritten; the object is left alone.
    Overrun {
        /// Where the first bad byte lies, in bytes from the object's start.
        offset: isize,
        /// What it is.
        found: u8,
    },
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotAllocated => f.write_str("expected an allocated object, found a free one"),
            Self::NotAnObject { base } => {
                write!(
                    f,
                    "expected an object's first byte, found an address inside the one at {base:p}"
                )
            }
            Self::OutOfRange => f.write_str("expected an object, found an address that is none"),
            Self::WrongCache { owner, given } => {
                write!(f, "expected an object of cache {given}, found one of cache {owner}")
            }
            Self::SizeMismatch { object_bytes, given_bytes } => {
                write!(f, "expected {object_bytes} bytes, found {given_bytes}")
            }
            Self::Corrupted => f.write_str("expected records that agree, found a contradiction"),
            Self::Overrun { offset, found } => {
                write!(f, "expected a whole red zone, found {found:#04x} at offset {offset}")
            }
        }
    }
}

impl core::error::Error for ObjectError {}

impl ObjectError {
    /// This error as a violation by `object`, for faces that cannot return it; `cache` is where
    /// it was given to.
    pub fn violation(self, object: NonNull<u8>, cache: &'static str) -> Violation<'static> {
        let address = object.as_ptr() as usize;
        let (rule, expected, found) = match self {
            Self::NotAllocated => (Rule::NotAllocated, Detail::Unknown, Detail::Unknown),
            Self::OutOfRange => (Rule::OutOfRange, Detail::Unknown, Detail::Unknown),
            Self::Corrupted => (Rule::Corrupted, Detail::Unknown, Detail::Unknown),
            Self::NotAnObject { base } => {
                let base = base.as_ptr() as usize;
                (Rule::NotAnObject, Detail::Address(base), Detail::Address(address))
            }
            Self::WrongCache { owner, given } => {
                (Rule::WrongCache, Detail::Name(owner), Detail::Name(given))
            }
            Self::SizeMismatch { object_bytes, given_bytes } => {
                (Rule::SizeMismatch, Detail::Bytes(object_bytes), Detail::Bytes(given_bytes))
            }
            Self::Overrun { offset, found } => {
                (Rule::RedZone, Detail::Unknown, Detail::Byte { offset, value: found })
            }
        };
        Violation::new(rule, address).expected_found(expected, found).in_cache(cache)
    }
}

/// How many addresses of live objects a [`Busy`] names.
pub const LEAKS_NAMED: usize = 8;

/// Why a cache was not destroyed: some of its objects are in use, or lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Busy {
    /// How many objects are in use.
    pub live: usize,
    /// How many are free, but in neither slab nor magazine: lost with a CPU that was
    /// [abandoned](super::RawCache::abandon_cpu), with a [`Stock`](super::Stock) that was forgotten
    /// and not dropped, or by damaged records.
    pub lost: usize,
    /// The first of those in use; where there are none, of those that are lost.
    pub objects: [Option<NonNull<u8>>; LEAKS_NAMED],
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.counted() {
            (Rule::Lost, lost) => {
                write!(f, "expected every object in its slab, found {lost} lost:")?
            }
            (_, live) => write!(f, "expected no live object, found {live}:")?,
        }
        let named = self.objects.into_iter().flatten();
        for object in named.clone() {
            write!(f, " {object:p}")?;
        }
        if self.counted().1 > named.count() { f.write_str(" and others") } else { Ok(()) }
    }
}

impl core::error::Error for Busy {}

impl Busy {
    /// This error as a violation by the first object of `cache` that is named, for faces that
    /// cannot return it.
    pub fn violation(&self, cache: &'static str) -> Violation<'static> {
        let first = self.objects.iter().flatten().next();
        let address = first.map_or(0, |object| object.as_ptr() as usize);
        let (rule, count) = self.counted();
        Violation::new(rule, address)
            .expected_found(Detail::Count(0), Detail::Count(count))
            .in_cache(cache)
    }

    /// Which rule is broken, and by how many objects: the first of those are named.
    const fn counted(&self) -> (Rule, usize) {
        if self.live == 0 { (Rule::Lost, self.lost) } else { (Rule::Busy, self.live) }
    }
}
