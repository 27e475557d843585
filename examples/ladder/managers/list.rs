//! Manager 3, list: freed chunks are kept in a list by address, and used again.
//!
//! ```text
//! header: size in units | next free chunk     payload ...
//! ```
//!
//! Teaches: reuse, splitting and coalescing. Because the list is in address order, the neighbours
//! of a freed chunk are its neighbours in the list; but to find that place, and to find a chunk
//! that is long enough, the list is walked from its head: both calls are O(n).

use super::system::WORD;
use super::{Ledger, Manager, System, ledger};

/// The unit: a header.
pub(crate) const UNIT: usize = 2 * WORD;
/// The heap grows by at least this many units.
pub(crate) const MIN_UNITS: usize = 512;

const NEXT: usize = WORD;

pub(crate) struct List {
    system: System,
    /// First free chunk, or 0.
    head: usize,
    steps: usize,
}

impl List {
    pub(crate) fn new() -> Self {
        Self { system: System::new(), head: 0, steps: 0 }
    }

    fn units(&self, chunk: usize) -> usize {
        self.system.word(chunk)
    }

    fn next(&self, chunk: usize) -> usize {
        self.system.word(chunk + NEXT)
    }

    /// Makes `next` follow `chunk`; 0 is the head of the list.
    fn set_next(&mut self, chunk: usize, next: usize) {
        if chunk == 0 {
            self.head = next;
        } else {
            self.system.set_word(chunk + NEXT, next);
        }
    }

    /// The first free chunk of at least `units`, and the one before it in the list.
    fn find(&mut self, units: usize) -> (usize, usize) {
        let (mut previous, mut chunk) = (0, self.head);
        while chunk != 0 {
            self.steps += 1;
            if self.units(chunk) >= units {
                break;
            }
            previous = chunk;
            chunk = self.next(chunk);
        }
        (previous, chunk)
    }

    /// Puts a chunk where its address belongs, and coalesces it with its neighbours.
    fn insert(&mut self, chunk: usize) {
        let (mut previous, mut next) = (0, self.head);
        while next != 0 && next < chunk {
            self.steps += 1;
            previous = next;
            next = self.next(next);
        }
        self.set_next(chunk, next);
        self.set_next(previous, chunk);
        self.coalesce(chunk);
        if previous != 0 {
            self.coalesce(previous);
        }
    }

    /// Joins `chunk` with the next free one if that begins where it ends.
    fn coalesce(&mut self, chunk: usize) {
        let next = self.next(chunk);
        if next != 0 && chunk + self.units(chunk) * UNIT == next {
            self.system.set_word(chunk, self.units(chunk) + self.units(next));
            self.set_next(chunk, self.next(next));
        }
    }

    /// Extends the heap by a chunk of at least `units`.
    fn grow(&mut self, units: usize) -> bool {
        let units = units.max(MIN_UNITS);
        let chunk = self.system.heap().end;
        if !self.system.set_break(chunk + units * UNIT) {
            return false;
        }
        self.system.set_word(chunk, units);
        self.insert(chunk);
        true
    }
}

impl Manager for List {
    fn malloc(&mut self, len: usize) -> usize {
        let units = 1 + len.div_ceil(UNIT);
        let (mut previous, mut chunk) = self.find(units);
        if chunk == 0 {
            if !self.grow(units) {
                return 0;
            }
            (previous, chunk) = self.find(units);
        }
        let rest = self.units(chunk) - units;
        if rest < 2 {
            // Too short to be of use: the request gets it all.
            self.set_next(previous, self.next(chunk));
        } else {
            // The tail goes out, so that no link changes.
            self.system.set_word(chunk, rest);
            chunk += rest * UNIT;
            self.system.set_word(chunk, units);
        }
        chunk + UNIT
    }

    fn free(&mut self, at: usize) {
        self.insert(at - UNIT);
    }

    fn ledger(&self) -> Ledger {
        ledger(&self.system, self.steps)
    }
}
