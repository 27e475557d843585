//! Shelves: where magazines lie that no CPU has in use, full ones and empty ones.
//!
//! Each CPU has a shelf in its slot. It gets back the magazines that it filled itself, the last
//! first: their objects are still in its caches, and lie in slabs that other CPUs have no objects
//! of. The shelf that all CPUs share is the **depot**: there goes what a CPU's own has no place
//! for, and from there it is handed to whoever finds no slab at hand.
//!
//! A shelf has a lock, since whoever runs short of memory clears all of them. A CPU's own is seldom
//! held by another.

use super::descriptor::Entry;
use super::magazine::{Magazines, rounds_for};
use super::way::Way;

/// Free objects that the shelves of a cache's CPUs hold together, in bytes, where there are at most
/// eight; of more CPUs each has as much as each of eight.
const WAVE_BYTES: usize = 512 << 10;

/// Magazines that no CPU has in use.
pub(super) struct Shelf {
    pub(super) full: Magazines,
    pub(super) empty: Magazines,
    /// How often a CPU came here because its magazines in use did not do.
    pub(super) visits: u32,
}

impl Shelf {
    pub(super) const fn new() -> Self {
        Self { full: Magazines::new(), empty: Magazines::new(), visits: 0 }
    }

    /// Begins a new interval for what is idle.
    pub(super) fn settle(&mut self) {
        self.full.settle();
        self.empty.settle();
    }
}

/// Whether another full magazine has a place on a CPU's shelf with `full` of them, in a cache of
/// such objects that so many CPUs use: two have, and the CPU's part of a wave of [`WAVE_BYTES`]
/// that is to pass without touching the slabs. One CPU has no more of it than each of two.
pub(super) fn has_own_place(full: usize, object_bytes: usize, cpus: usize) -> bool {
    let magazine_bytes = rounds_for(object_bytes) as usize * object_bytes.max(size_of::<Entry>());
    full < 2 || (full - 1) * magazine_bytes * cpus.clamp(2, Way::COUNT) <= WAVE_BYTES
}

/// Whether another full magazine has a place in the depot with `full` of them: two have for each
/// CPU.
pub(super) const fn has_depot_place(full: usize, cpus: usize) -> bool {
    full < 2 * cpus
}
