//! Between managers 2 and 3, unsorted list: freed chunks are used again, and that is all.
//!
//! ```text
//! header: size in units | next free chunk     payload ...
//! ```
//!
//! Teaches: reuse alone. `free` pushes the chunk to the front of the list, O(1), and knows nothing
//! of its neighbours; `malloc` takes the first chunk that is long enough and splits it, O(n).
//! Chunks only ever become shorter: memory that was cut up for short requests serves no long one
//! again, and the pieces make the list that every request walks.

use super::system::WORD;
use super::{Ledger, Manager, System, ledger};

/// The unit: a header.
pub(crate) const UNIT: usize = 2 * WORD;
/// The heap grows by at least this many units.
pub(crate) const MIN_UNITS: usize = 512;

const NEXT: usize = WORD;

pub(crate) struct Unsorted {
    system: System,
    /// The chunk that was freed last, or 0.
    head: usize,
    steps: usize,
}

impl Unsorted {
    pub(crate) fn new() -> Self {
        Self { system: System::new(), head: 0, steps: 0 }
    }

    fn units(&self, chunk: usize) -> usize {
        self.system.word(chunk)
    }

    fn next(&self, chunk: usize) -> usize {
        self.system.word(chunk + NEXT)
    }

    fn push(&mut self, chunk: usize) {
        self.system.set_word(chunk + NEXT, self.head);
        self.head = chunk;
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

    /// Extends the heap by a chunk of at least `units`, which heads the list.
    fn grow(&mut self, units: usize) -> bool {
        let units = units.max(MIN_UNITS);
        let chunk = self.system.heap().end;
        if !self.system.set_break(chunk + units * UNIT) {
            return false;
        }
        self.system.set_word(chunk, units);
        self.push(chunk);
        true
    }
}

impl Manager for Unsorted {
    fn malloc(&mut self, len: usize) -> usize {
        let units = 1 + len.div_ceil(UNIT).max(1);
        let (mut previous, mut chunk) = self.find(units);
        if chunk == 0 {
            if !self.grow(units) {
                return 0;
            }
            (previous, chunk) = (0, self.head);
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
        self.push(at - UNIT);
    }

    fn ledger(&self) -> Ledger {
        ledger(&self.system, self.steps)
    }
}
