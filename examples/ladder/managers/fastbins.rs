//! Manager 11, fastbins and an unsorted bin: manager 10, with everything put off.
//!
//! Teaches: coalescing and sorting are work, and often in vain, because the next request has the
//! size of the last free. So a short chunk goes to a **fastbin**, a singly linked stack of its
//! very size, from where the next request pops it; to its neighbours it stays in use. A longer
//! one is coalesced, and waits in the **unsorted bin**. Only a request that they do not serve sorts
//! that bin, giving every chunk one chance to fit exactly on its way. And only one that is long, or
//! that no bin serves, empties the fastbins and coalesces what was in them. `free` is O(1), without
//! a walk; one `malloc` in many pays for it.

use super::lea::{LONG, Lea, PAYLOAD, UNSORTED, size_for};
use super::system::WORD;
use super::{Ledger, Manager, ledger};

/// The longest chunk that a fastbin takes.
pub(crate) const MOST_FAST: usize = 128;

pub(crate) struct Fastbins {
    heap: Lea,
    /// The chunk of each size that was freed last, or 0; the first word of its payload is the
    /// next.
    fast: [usize; MOST_FAST / WORD + 1],
}

impl Fastbins {
    pub(crate) fn new() -> Self {
        Self { heap: Lea::new(), fast: [0; MOST_FAST / WORD + 1] }
    }

    fn pop(&mut self, size: usize) -> Option<usize> {
        let first = self.fast.get_mut(size / WORD)?;
        self.heap.steps += 1;
        let chunk = *first;
        (chunk != 0).then(|| *first = self.heap.system.word(chunk + PAYLOAD))?;
        Some(chunk)
    }

    /// Coalesces what lies in the fastbins, into the unsorted bin. Whether there was anything.
    fn consolidate(&mut self) -> bool {
        let mut found = false;
        for bin in 0..self.fast.len() {
            let mut chunk = std::mem::take(&mut self.fast[bin]);
            while chunk != 0 {
                self.heap.steps += 1;
                found = true;
                let next = self.heap.system.word(chunk + PAYLOAD);
                let merged = self.heap.coalesce(chunk);
                self.heap.put_off(merged);
                chunk = next;
            }
        }
        found
    }

    /// Puts what waits into bins, oldest first, until a chunk has the very size that is wanted.
    fn sort(&mut self, size: usize) -> Option<usize> {
        while let Some(chunk) = self.heap.first(UNSORTED) {
            self.heap.steps += 1;
            self.heap.unlink(chunk);
            if self.heap.size(chunk) == size {
                return Some(chunk);
            }
            self.heap.place(chunk);
        }
        None
    }

    /// A chunk in no bin that has at least `size` bytes.
    fn find(&mut self, size: usize) -> Option<usize> {
        if size >= LONG {
            self.consolidate();
        }
        loop {
            if let Some(chunk) = self.sort(size).or_else(|| self.heap.take(size)) {
                return Some(chunk);
            }
            if !self.consolidate() {
                return self.heap.grow(size);
            }
        }
    }
}

impl Manager for Fastbins {
    fn malloc(&mut self, len: usize) -> usize {
        let size = size_for(len);
        if let Some(chunk) = self.pop(size) {
            return chunk + PAYLOAD;
        }
        let Some(chunk) = self.find(size) else { return 0 };
        if let Some(tail) = self.heap.cut(chunk, size) {
            self.heap.put_off(tail);
        }
        chunk + PAYLOAD
    }

    fn free(&mut self, at: usize) {
        let chunk = at - PAYLOAD;
        let size = self.heap.size(chunk);
        if let Some(first) = self.fast.get_mut(size / WORD) {
            self.heap.system.set_word(at, *first);
            *first = chunk;
        } else {
            let merged = self.heap.coalesce(chunk);
            self.heap.put_off(merged);
        }
    }

    fn ledger(&self) -> Ledger {
        ledger(&self.heap.system, self.heap.steps)
    }
}
