//! A hash table from addresses to what is known of them, in mapped memory: open addressing, linear
//! probing.
//!
//! # Invariants
//!
//! 1. The number of cells is 0 or a power of two, and at most half of them are used.
//! 2. Between the cell that a key's hash names and the cell where it lies, all cells are used.

use crate::mapped::Mapped;

/// What a table keeps: plain data with a key that is not 0.
///
/// # Safety
///
/// A value whose bytes are all zero is valid, and its key is 0.
pub(crate) unsafe trait Record: Copy {
    fn key(&self) -> usize;
}

/// The table.
pub(crate) struct Table<R: Record> {
    cells: Mapped<R>,
    used: usize,
}

const FIRST_CELLS: usize = 1024;

impl<R: Record> Table<R> {
    pub(crate) const fn new() -> Self {
        Self { cells: Mapped::new(), used: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &R> {
        self.cells.as_slice().iter().filter(|record| record.key() != 0)
    }

    pub(crate) fn get(&self, key: usize) -> Option<&R> {
        let at = self.find(key).ok()?;
        Some(&self.cells.as_slice()[at])
    }

    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut R> {
        let at = self.find(key).ok()?;
        Some(&mut self.cells.as_mut_slice()[at])
    }

    /// Puts a record in the place of one with its key, if there is one; `false` if there is no
    /// memory for it.
    pub(crate) fn insert(&mut self, record: R) -> bool {
        if (self.used + 1) * 2 > self.cells.as_slice().len() && !self.grow() {
            return false;
        }
        let at = match self.find(record.key()) {
            Ok(at) => at,
            Err(at) => {
                self.used += 1;
                at
            }
        };
        self.cells.as_mut_slice()[at] = record;
        true
    }

    pub(crate) fn remove(&mut self, key: usize) -> Option<R> {
        let mut hole = self.find(key).ok()?;
        let mask = self.cells.as_slice().len() - 1;
        let cells = self.cells.as_mut_slice();
        let removed = cells[hole];
        let mut at = hole;
        // Moves back what would no longer be found behind the hole (invariant 2).
        loop {
            at = (at + 1) & mask;
            if cells[at].key() == 0 {
                break;
            }
            let home = hash(cells[at].key()) & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                cells[hole] = cells[at];
                hole = at;
            }
        }
        // SAFETY: the promise of `Record`.
        cells[hole] = unsafe { core::mem::zeroed() };
        self.used -= 1;
        Some(removed)
    }

    /// The cell with this key, or the empty one where it would lie. There is one by invariant 1;
    /// without cells the answer is `Err(0)`.
    fn find(&self, key: usize) -> Result<usize, usize> {
        let cells = self.cells.as_slice();
        let Some(mask) = cells.len().checked_sub(1) else { return Err(0) };
        let mut at = hash(key) & mask;
        loop {
            match cells[at].key() {
                0 => return Err(at),
                found if found == key => return Ok(at),
                _ => at = (at + 1) & mask,
            }
        }
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let len = (self.cells.as_slice().len() * 2).max(FIRST_CELLS);
        let mut larger = Self::new();
        // SAFETY: the promise of `Record`.
        if !unsafe { larger.cells.fill_zeroed(len) } {
            return false;
        }
        larger.used = self.used;
        for record in self.iter() {
            if let Err(at) = larger.find(record.key()) {
                larger.cells.as_mut_slice()[at] = *record;
            }
        }
        *self = larger;
        true
    }
}

/// Spreads keys whose low bits are zero (Fibonacci hashing).
fn hash(key: usize) -> usize {
    let spread = (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> 20) as usize
}
