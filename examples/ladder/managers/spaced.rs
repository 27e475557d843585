//! Manager 10, spaced bins: dlmalloc's, 8 bytes apart for short chunks, four a doubling for long
//! ones.
//!
//! Teaches: what the layout of [`Lea`] buys over manager 5. A tag of one word instead of a header
//! and a footer of two each, so an int takes 32 bytes and not 48; bins that tell long chunks apart
//! as well, so that every request gets a best fit; and first in, first out among chunks of one
//! length, so that a chunk waits long enough for its neighbours to come free. `malloc` looks at 128
//! bins at most. Chunks of one bin of long ones lie in order, which `free` walks to keep.

use super::lea::{Lea, PAYLOAD, size_for};
use super::{Ledger, Manager, ledger};

pub(crate) struct Spaced {
    heap: Lea,
}

impl Spaced {
    pub(crate) fn new() -> Self {
        Self { heap: Lea::new() }
    }
}

impl Manager for Spaced {
    fn malloc(&mut self, len: usize) -> usize {
        let size = size_for(len);
        let Some(chunk) = self.heap.take(size).or_else(|| self.heap.grow(size)) else { return 0 };
        if let Some(tail) = self.heap.cut(chunk, size) {
            self.heap.place(tail);
        }
        chunk + PAYLOAD
    }

    fn free(&mut self, at: usize) {
        let chunk = self.heap.coalesce(at - PAYLOAD);
        self.heap.place(chunk);
    }

    fn ledger(&self) -> Ledger {
        ledger(&self.heap.system, self.heap.steps)
    }
}
