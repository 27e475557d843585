//! Manager 9, buddies and bins: a user-level `mymalloc` over mappings of four pages.
//!
//! ```text
//! size: negative while in use | payload, or links to next and previous in the bin
//! ```
//!
//! Teaches: a block is halved until it is the smallest power of two that holds the request; its
//! buddy is the other half, found by flipping one bit, and joined when both are free. Blocks are 32
//! to 16,384 bytes, 8 of them for the size, so an int wastes 20. Longer requests are mapped in
//! pages and kept in a bin of their own. Nothing ever goes back to the system. The lecture's
//! version needs set-up calls, and `malloc` for its bins; an array of ten does without.

use super::system::{PAGE, WORD};
use super::{Ledger, Manager, System, ledger};

/// One mapping: a block of the highest order.
pub(crate) const REGION: usize = 4 * PAGE;
/// A block of the lowest order: size, two links, and one word more.
pub(crate) const LEAST: usize = 32;

const ORDERS: usize = (REGION / LEAST).ilog2() as usize + 1;
const NEXT: usize = WORD;
const PREVIOUS: usize = 2 * WORD;

pub(crate) struct Buddies {
    system: System,
    /// First free block of each order, then of the blocks longer than a region.
    bins: [usize; ORDERS + 1],
    steps: usize,
}

impl Buddies {
    pub(crate) fn new() -> Self {
        Self { system: System::new(), bins: [0; ORDERS + 1], steps: 0 }
    }

    fn size(&self, block: usize) -> isize {
        self.system.word(block) as isize
    }

    fn set_size(&mut self, block: usize, size: isize) {
        self.system.set_word(block, size as usize);
    }

    fn bin_of(size: usize) -> usize {
        if size > REGION { ORDERS } else { (size / LEAST).ilog2() as usize }
    }

    /// A free block of `size` goes to the front of its bin.
    fn push(&mut self, block: usize, size: usize) {
        let bin = Self::bin_of(size);
        let first = self.bins[bin];
        self.set_size(block, size as isize);
        self.system.set_word(block + NEXT, first);
        self.system.set_word(block + PREVIOUS, 0);
        if first != 0 {
            self.system.set_word(first + PREVIOUS, block);
        }
        self.bins[bin] = block;
    }

    fn unlink(&mut self, block: usize) {
        let bin = Self::bin_of(self.size(block).unsigned_abs());
        let (next, previous) = (self.system.word(block + NEXT), self.system.word(block + PREVIOUS));
        if next != 0 {
            self.system.set_word(next + PREVIOUS, previous);
        }
        if previous == 0 {
            self.bins[bin] = next;
        } else {
            self.system.set_word(previous + NEXT, next);
        }
    }

    /// A block of the order that holds `size` bytes, halved off the smallest that is free.
    fn take(&mut self, size: usize) -> Option<usize> {
        let size = size.max(LEAST).next_power_of_two();
        let mut bin = Self::bin_of(size);
        while bin < ORDERS && self.bins[bin] == 0 {
            self.steps += 1;
            bin += 1;
        }
        if bin == ORDERS {
            let region = self.system.map(REGION, REGION)?;
            self.push(region, REGION);
            bin = ORDERS - 1;
        }
        let block = self.bins[bin];
        self.unlink(block);
        let mut whole = LEAST << bin;
        while whole > size {
            self.steps += 1;
            whole /= 2;
            self.push(block + whole, whole);
        }
        self.set_size(block, -(size as isize));
        Some(block)
    }

    /// A block longer than a region: the first that is long enough, or a new mapping.
    fn take_long(&mut self, size: usize) -> Option<usize> {
        let size = size.next_multiple_of(PAGE).max(REGION + PAGE);
        let mut block = self.bins[ORDERS];
        while block != 0 && (self.size(block) as usize) < size {
            self.steps += 1;
            block = self.system.word(block + NEXT);
        }
        if block == 0 {
            block = self.system.map(size, PAGE)?;
            self.set_size(block, -(size as isize));
        } else {
            self.unlink(block);
            let whole = self.size(block);
            self.set_size(block, -whole);
        }
        Some(block)
    }
}

impl Manager for Buddies {
    fn malloc(&mut self, len: usize) -> usize {
        let size = len + WORD;
        let block = if size > REGION { self.take_long(size) } else { self.take(size) };
        block.map_or(0, |block| block + WORD)
    }

    fn free(&mut self, at: usize) {
        let mut block = at - WORD;
        let mut size = self.size(block).unsigned_abs();
        while size < REGION {
            self.steps += 1;
            // Regions are aligned to their length, so the bit is the same in the address.
            let buddy = block ^ size;
            if self.size(buddy) != size as isize {
                break;
            }
            self.unlink(buddy);
            block = block.min(buddy);
            size *= 2;
        }
        self.push(block, size);
    }

    fn ledger(&self) -> Ledger {
        ledger(&self.system, self.steps)
    }
}
