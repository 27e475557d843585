//! Manager 7, segregated metadata: chunks without headers, sizes by page number.
//!
//! Teaches: a page holds chunks of one size only, so the number of the page says how long a chunk
//! is, through a hash table apart from the heap. No byte of a chunk is lost and nothing next to it
//! can be overwritten; each size has a list of its free chunks. `malloc` and `free` are O(1); but
//! chunks of different sizes never coalesce, and a page never changes its size.

use std::collections::HashMap;

use super::system::{PAGE, WORD};
use super::{Ledger, Manager, System, ledger};

pub(crate) struct Segregated {
    system: System,
    /// Page number to chunk size, for every page of the heap.
    sizes: HashMap<usize, usize>,
    /// First free chunk of each size; its first word is the next one.
    bins: HashMap<usize, usize>,
    steps: usize,
}

/// The chunk size for `len` bytes: a power of two up to half a page, then whole pages.
fn size_for(len: usize) -> usize {
    if len <= PAGE / 2 { len.max(WORD).next_power_of_two() } else { len.next_multiple_of(PAGE) }
}

impl Segregated {
    pub(crate) fn new() -> Self {
        Self { system: System::new(), sizes: HashMap::new(), bins: HashMap::new(), steps: 0 }
    }

    /// Cuts fresh pages into chunks of `size`, and returns the first.
    fn grow(&mut self, size: usize) -> usize {
        let start = self.system.heap().end;
        let len = size.max(PAGE);
        if !self.system.set_break(start + len) {
            return 0;
        }
        for page in (start..start + len).step_by(PAGE) {
            self.sizes.insert(page / PAGE, size);
        }
        for chunk in (start..start + len).step_by(size).skip(1) {
            self.push(size, chunk);
        }
        start
    }

    fn push(&mut self, size: usize, chunk: usize) {
        let head = self.bins.insert(size, chunk).unwrap_or(0);
        self.system.set_word(chunk, head);
    }
}

impl Manager for Segregated {
    fn malloc(&mut self, len: usize) -> usize {
        let size = size_for(len);
        self.steps += 1;
        match self.bins.get(&size).copied() {
            None | Some(0) => self.grow(size),
            Some(chunk) => {
                self.bins.insert(size, self.system.word(chunk));
                chunk
            }
        }
    }

    fn free(&mut self, at: usize) {
        self.steps += 1;
        let size = self.sizes[&(at / PAGE)];
        self.push(size, at);
    }

    fn ledger(&self) -> Ledger {
        ledger(&self.system, self.steps)
    }
}
