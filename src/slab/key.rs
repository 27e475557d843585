//! Keys: by one comparison, a hit knows that a slab is one of its cache's and of its CPU's way, and
//! that nobody uses the CPU's slot: they are the numbers of the slots' gates.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::way::Way;
use crate::gate::BUSY;

/// The number of a cache, which no other cache has had: unlike a record's, it is never used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct CacheNumber(u32);

/// The last number that was given out.
static LAST: AtomicU32 = AtomicU32::new(0);

impl CacheNumber {
    /// What caches have when all numbers are used up: their frees are no hits.
    const NONE: Self = Self(0);

    /// The last one.
    const MOST: u32 = u32::MAX / Way::COUNT as u32 - 1;

    /// A new number.
    pub(super) fn new() -> Self {
        let next = |last| (last < Self::MOST).then_some(last + 1);
        LAST.fetch_update(Relaxed, Relaxed, next).map_or(Self::NONE, |last| Self(last + 1))
    }
}

/// A cache's number and a way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(super) struct Key(pub(super) u32);

const _: () = {
    let highest = CacheNumber::MOST * Way::COUNT as u32 + Way::COUNT as u32 - 1;
    assert!(highest < Key::NOBODY.0 && Key::NOBODY.0 != BUSY);
};

impl Key {
    /// What no slab has, nor a gate where somebody is inside.
    pub(super) const NOBODY: Self = Self(u32::MAX - 1);

    /// The key of slabs of a cache.
    pub(super) const fn of(cache: CacheNumber, way: Way) -> Self {
        Self(cache.0 * Way::COUNT as u32 + way.number() as u32)
    }

    /// What hits of a CPU demand of a slab.
    pub(super) const fn demanded(cache: CacheNumber, way: Way) -> Self {
        if cache.0 == CacheNumber::NONE.0 { Self::NOBODY } else { Self::of(cache, way) }
    }

    #[inline]
    pub(super) const fn way(self) -> Way {
        Way::new((self.0 % Way::COUNT as u32) as u8)
    }

    /// Whether both are keys of one cache.
    pub(super) const fn is_sibling_of(self, other: Self) -> bool {
        self.0 / Way::COUNT as u32 == other.0 / Way::COUNT as u32
    }

    /// The same cache's key for another way.
    #[inline]
    pub(super) const fn with_way(self, way: Way) -> Self {
        Self(self.0 - self.0 % Way::COUNT as u32 + way.number() as u32)
    }
}
