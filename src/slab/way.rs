//! Ways: what one CPU took from and filled is kept apart from what others did.
//!
//! A slab's objects share cache lines, at least those of their states, so two CPUs that have
//! objects of one slab are in each other's way for as long as they keep them. Slabs and full
//! magazines are therefore sorted by the CPU that had them last. CPUs beyond the first eight share
//! ways with those: a list for each CPU would take memory in every cache.

use crate::platform::CpuId;

/// A way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Way(u8);

impl Way {
    /// How many there are.
    pub(super) const COUNT: usize = 8;

    /// The way of a CPU.
    #[inline]
    pub(super) const fn of(cpu: CpuId) -> Self {
        Self((cpu.index() % Self::COUNT) as u8)
    }

    /// The way with this number, modulo their count.
    #[inline]
    pub(super) const fn new(number: u8) -> Self {
        Self(number % Self::COUNT as u8)
    }

    /// Below [`COUNT`](Self::COUNT).
    #[inline]
    pub(super) const fn number(self) -> u8 {
        self.0
    }

    /// All ways.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }
}
