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
use super::magazine::{Magazine, Magazines, rounds_for};
use super::way::Way;
use crate::platform::Platform;

/// Free objects that the shelves of a cache's CPUs hold together, in bytes, where there are at most
/// eight; of more CPUs each has as much as each of eight.
const WAVE_BYTES: usize = 512 << 10;

/// The same where larger waves come again and again, of small objects:
const TIDE_BYTES: usize = 4 << 20;

/// at most so many bytes each. As many bytes of larger ones save fewer ways to the slabs, and keep
/// as many slabs.
const TIDE_OBJECT_BYTES: usize = 32;

/// Magazines that no CPU has in use.
pub(super) struct Shelf {
    pub(super) full: Magazines,
    pub(super) empty: Magazines,
    /// How often a CPU came here because its magazines in use did not do.
    pub(super) visits: u32,
    /// Full magazines that had no place anywhere, less those that the CPU missed since.
    turned_away: u16,
    /// Places that a CPU's shelf has beyond its part of a wave: as many as it missed magazines that
    /// had been turned away.
    earned: u16,
}

impl Shelf {
    pub(super) const fn new() -> Self {
        let (full, empty) = (Magazines::new(), Magazines::new());
        Self { full, empty, visits: 0, turned_away: 0, earned: 0 }
    }

    /// Whether another full magazine has a place here, on a CPU's shelf, in a cache of such objects
    /// that so many CPUs use: two have, and the CPU's part of a wave of [`WAVE_BYTES`] that is to
    /// pass without touching the slabs, and those that were earned.
    pub(super) fn has_place(&self, object_bytes: usize, cpus: usize) -> bool {
        let bytes = |magazines| bytes_in_all(magazines, object_bytes, cpus);
        let beyond_one = self.full.len().saturating_sub(1);
        let unearned = beyond_one.saturating_sub(self.earned.into());
        // CPUs may have come since a place was earned.
        bytes(unearned) <= WAVE_BYTES && bytes(beyond_one) <= TIDE_BYTES
    }

    /// Notes that a full magazine has no place here nor in the depot: it goes back to the slabs.
    pub(super) fn turn_away(&mut self) {
        self.turned_away = self.turned_away.saturating_add(1);
    }

    /// Notes that there is no full magazine, so that the CPU goes to the slabs for one's objects.
    /// Where one was turned away, that is a way to the slabs and back which a place would have
    /// spared: so a second wave has places for the next, and a single one pays for nothing.
    pub(super) fn miss(&mut self, object_bytes: usize, cpus: usize) {
        if self.turned_away == 0 {
            return;
        }
        self.turned_away -= 1;
        let earned = self.earned.saturating_add(1);
        if object_bytes <= TIDE_OBJECT_BYTES
            && bytes_in_all(earned.into(), object_bytes, cpus) <= TIDE_BYTES
        {
            self.earned = earned;
        }
    }

    /// A full magazine that has not been needed, and its place with it.
    pub(super) fn take_idle<P: Platform>(&mut self, platform: &P) -> Option<Magazine> {
        let magazine = self.full.pop(platform)?;
        self.earned = self.earned.saturating_sub(1);
        Some(magazine)
    }

    /// Begins a new interval for what is idle.
    pub(super) fn settle(&mut self) {
        self.full.settle();
        self.empty.settle();
        self.turned_away = 0;
    }
}

/// Bytes of the objects in so many magazines on each CPU's shelf, in a cache of such objects that
/// so many CPUs use. One CPU has no more of what they may have together than each of two.
fn bytes_in_all(magazines: usize, object_bytes: usize, cpus: usize) -> usize {
    let rounds = rounds_for(object_bytes) as usize;
    magazines * rounds * object_bytes.max(size_of::<Entry>()) * cpus.clamp(2, Way::COUNT)
}

/// Whether another full magazine has a place in the depot with `full` of them: two have for each
/// CPU.
pub(super) const fn has_depot_place(full: usize, cpus: usize) -> bool {
    full < 2 * cpus
}
