//! Chunks with a header and a footer: what managers 4 and 5 share.
//!
//! ```text
//! header: size in units, lowest bit: in use | next free chunk     payload ...
//! footer: size in units | previous free chunk
//! ```
//!
//! The size at both ends leads to both neighbours in memory; the status in the header says whether
//! they are free; links both ways take a chunk out of the middle of a list. So nothing is walked
//! to coalesce.

use super::System;
use super::system::WORD;

/// The unit: a header, or a footer.
pub(crate) const UNIT: usize = 2 * WORD;
/// The heap grows by at least this many units.
pub(crate) const MIN_UNITS: usize = 512;
/// Header, footer and one unit of payload.
pub(crate) const LEAST_UNITS: usize = 3;

const LINK: usize = WORD;

/// A heap cut into tagged chunks.
pub(crate) struct Tagged {
    pub system: System,
}

impl Tagged {
    pub(crate) fn units(&self, chunk: usize) -> usize {
        self.system.word(chunk) >> 1
    }

    pub(crate) fn in_use(&self, chunk: usize) -> bool {
        self.system.word(chunk) & 1 == 1
    }

    /// Writes both tags.
    pub(crate) fn set(&mut self, chunk: usize, units: usize, in_use: bool) {
        self.system.set_word(chunk, units << 1 | usize::from(in_use));
        self.system.set_word(chunk + (units - 1) * UNIT, units);
    }

    pub(crate) fn next(&self, chunk: usize) -> usize {
        self.system.word(chunk + LINK)
    }

    pub(crate) fn set_next(&mut self, chunk: usize, next: usize) {
        self.system.set_word(chunk + LINK, next);
    }

    pub(crate) fn previous(&self, chunk: usize) -> usize {
        self.system.word(self.footer(chunk) + LINK)
    }

    pub(crate) fn set_previous(&mut self, chunk: usize, previous: usize) {
        self.system.set_word(self.footer(chunk) + LINK, previous);
    }

    fn footer(&self, chunk: usize) -> usize {
        chunk + (self.units(chunk) - 1) * UNIT
    }

    /// Puts `chunk` at the front of the list whose first chunk is `head`.
    pub(crate) fn push(&mut self, head: &mut usize, chunk: usize) {
        self.set_next(chunk, *head);
        self.set_previous(chunk, 0);
        if *head != 0 {
            self.set_previous(*head, chunk);
        }
        *head = chunk;
    }

    /// Takes `chunk` out of that list.
    pub(crate) fn unlink(&mut self, head: &mut usize, chunk: usize) {
        let (next, previous) = (self.next(chunk), self.previous(chunk));
        if next != 0 {
            self.set_previous(next, previous);
        }
        if previous == 0 {
            *head = next;
        } else {
            self.set_next(previous, next);
        }
    }

    /// The chunk above `chunk` in memory, if it is free.
    pub(crate) fn free_above(&self, chunk: usize) -> Option<usize> {
        let above = chunk + self.units(chunk) * UNIT;
        (above < self.system.heap().end && !self.in_use(above)).then_some(above)
    }

    /// The chunk below `chunk` in memory, if it is free.
    pub(crate) fn free_below(&self, chunk: usize) -> Option<usize> {
        if chunk == self.system.heap().start {
            return None;
        }
        let below = chunk - self.system.word(chunk - UNIT) * UNIT;
        (!self.in_use(below)).then_some(below)
    }

    /// Extends the heap by a free chunk of at least `units` that is in no list.
    pub(crate) fn grow(&mut self, units: usize) -> Option<usize> {
        let units = units.max(MIN_UNITS);
        let chunk = self.system.heap().end;
        self.system.set_break(chunk + units * UNIT).then(|| self.set(chunk, units, false))?;
        Some(chunk)
    }
}

/// Units of a chunk for `len` bytes.
pub(crate) fn units_for(len: usize) -> usize {
    2 + len.div_ceil(UNIT).max(1)
}
