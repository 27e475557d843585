//! Manager 4, doubly linked list: headers, footers, and links both ways.
//!
//! Teaches: what the tags of [`Tagged`] buy. `free` no longer walks: it pushes the chunk to the
//! front of the list and finds both neighbours by arithmetic, O(1). `malloc` still searches one
//! unordered list, O(n).

use super::tags::{LEAST_UNITS, Tagged, UNIT, units_for};
use super::{Ledger, Manager, System, ledger};

pub(crate) struct Doubly {
    heap: Tagged,
    head: usize,
    steps: usize,
}

impl Doubly {
    pub(crate) fn new() -> Self {
        Self { heap: Tagged { system: System::new() }, head: 0, steps: 0 }
    }

    fn find(&mut self, units: usize) -> usize {
        let mut chunk = self.head;
        while chunk != 0 {
            self.steps += 1;
            if self.heap.units(chunk) >= units {
                break;
            }
            chunk = self.heap.next(chunk);
        }
        chunk
    }

    /// Puts a free chunk, coalesced with its neighbours, at the front of the list.
    fn insert(&mut self, mut chunk: usize) -> usize {
        let mut units = self.heap.units(chunk);
        if let Some(above) = self.heap.free_above(chunk) {
            self.heap.unlink(&mut self.head, above);
            units += self.heap.units(above);
        }
        if let Some(below) = self.heap.free_below(chunk) {
            self.heap.unlink(&mut self.head, below);
            units += self.heap.units(below);
            chunk = below;
        }
        self.heap.set(chunk, units, false);
        self.heap.push(&mut self.head, chunk);
        chunk
    }
}

impl Manager for Doubly {
    fn malloc(&mut self, len: usize) -> usize {
        let units = units_for(len);
        let mut chunk = self.find(units);
        if chunk == 0 {
            let Some(new) = self.heap.grow(units) else { return 0 };
            chunk = self.insert(new);
        }
        self.heap.unlink(&mut self.head, chunk);
        let whole = self.heap.units(chunk);
        if whole - units < LEAST_UNITS {
            self.heap.set(chunk, whole, true);
        } else {
            // The front goes out, the tail stays free.
            self.heap.set(chunk, units, true);
            let tail = chunk + units * UNIT;
            self.heap.set(tail, whole - units, false);
            self.heap.push(&mut self.head, tail);
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
