//! Manager 5, bins: one doubly linked list for each size.
//!
//! Teaches: bin *i* holds the free chunks of *i* units, so the first chunk of the first bin that is
//! not empty is a best fit; only the last bin, for everything longer, is searched. At most
//! [`BINS`] bins are looked at: `malloc` is O(1) for small requests, and `free` is O(1).

use super::tags::{LEAST_UNITS, Tagged, UNIT, units_for};
use super::{Ledger, Manager, System, ledger};

/// Bins; the last one is for chunks of this many units less one, and longer.
pub(crate) const BINS: usize = 128;

pub(crate) struct Bins {
    heap: Tagged,
    bins: [usize; BINS],
    steps: usize,
}

fn bin_of(units: usize) -> usize {
    units.min(BINS - 1)
}

impl Bins {
    pub(crate) fn new() -> Self {
        Self { heap: Tagged { system: System::new() }, bins: [0; BINS], steps: 0 }
    }

    fn find(&mut self, units: usize) -> usize {
        for bin in bin_of(units)..BINS - 1 {
            self.steps += 1;
            if self.bins[bin] != 0 {
                return self.bins[bin];
            }
        }
        let mut chunk = self.bins[BINS - 1];
        while chunk != 0 {
            self.steps += 1;
            if self.heap.units(chunk) >= units {
                break;
            }
            chunk = self.heap.next(chunk);
        }
        chunk
    }

    fn push(&mut self, chunk: usize) {
        let bin = bin_of(self.heap.units(chunk));
        self.heap.push(&mut self.bins[bin], chunk);
    }

    fn unlink(&mut self, chunk: usize) {
        let bin = bin_of(self.heap.units(chunk));
        self.heap.unlink(&mut self.bins[bin], chunk);
    }

    /// Puts a free chunk, coalesced with its neighbours, into its bin.
    fn insert(&mut self, mut chunk: usize) -> usize {
        let mut units = self.heap.units(chunk);
        if let Some(above) = self.heap.free_above(chunk) {
            self.unlink(above);
            units += self.heap.units(above);
        }
        if let Some(below) = self.heap.free_below(chunk) {
            self.unlink(below);
            units += self.heap.units(below);
            chunk = below;
        }
        self.heap.set(chunk, units, false);
        self.push(chunk);
        chunk
    }
}

impl Manager for Bins {
    fn malloc(&mut self, len: usize) -> usize {
        let units = units_for(len);
        let mut chunk = self.find(units);
        if chunk == 0 {
            let Some(new) = self.heap.grow(units) else { return 0 };
            chunk = self.insert(new);
        }
        self.unlink(chunk);
        let whole = self.heap.units(chunk);
        if whole - units < LEAST_UNITS {
            self.heap.set(chunk, whole, true);
        } else {
            self.heap.set(chunk, units, true);
            let tail = chunk + units * UNIT;
            self.heap.set(tail, whole - units, false);
            self.push(tail);
        }
        chunk + UNIT
    }

    fn free(&mut self, at: usize) {
        self.insert(at - UNIT);
    }

    fn ledger(&self) -> Ledger {
        ledger(&self.heap.system, self.steps)
    }
}
