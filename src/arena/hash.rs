//! From the start of an allocated segment to its record.
//!
//! The buckets are the records themselves: record *i* holds the head of chain *i*. There are
//! at least half as many buckets as segments, so a chain is one or two long in expectation. Starts
//! may be chosen so that they collide; a chain is therefore followed for [`CHAIN_LIMIT`] steps at
//! most, and then the tree by address answers, in O(log n).

use super::runs::Runs;
use super::segment::{Pool, Slot};

/// Steps along a chain before the tree is asked.
const CHAIN_LIMIT: usize = 8;

const NEXT: usize = 0;
const PREVIOUS: usize = 1;

/// Starts of allocated and cached segments.
#[derive(Debug)]
pub(super) struct Starts {
    shift: u32,
}

impl Starts {
    pub(super) fn new(pool: &Pool<'_>) -> Self {
        // A pool has at least 2 records, so the shift stays below 64.
        Self { shift: u64::BITS - pool.len().ilog2() }
    }

    /// The record that holds the chain of `start`: multiplicative (Fibonacci) hashing.
    #[inline]
    pub(super) fn bucket(&self, start: u64) -> Slot {
        Slot((start.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as u32)
    }

    // The caller hands the start over in a register: read back from the record it would be the
    // longest wait of the whole call.
    #[inline]
    pub(super) fn insert(&self, pool: &mut Pool<'_>, slot: Slot, start: u64) {
        let bucket = self.bucket(start);
        let first = pool[bucket].bucket;
        pool[slot].chain = [first, Slot::NIL];
        if !first.is_nil() {
            pool[first].chain[PREVIOUS] = slot;
        }
        pool[bucket].bucket = slot;
    }

    #[inline]
    pub(super) fn remove(&self, pool: &mut Pool<'_>, slot: Slot, start: u64) {
        let [next, previous] = pool[slot].chain;
        if previous.is_nil() {
            let bucket = self.bucket(start);
            pool[bucket].bucket = next;
        } else {
            pool[previous].chain[NEXT] = next;
        }
        if !next.is_nil() {
            pool[next].chain[PREVIOUS] = previous;
        }
    }

    /// The allocated or cached segment that starts at `start`, or NIL.
    #[inline]
    pub(super) fn find(&self, pool: &Pool<'_>, runs: &Runs, start: u64) -> Slot {
        let mut slot = pool[self.bucket(start)].bucket;
        for _ in 0..CHAIN_LIMIT {
            if slot.is_nil() || pool[slot].start == start {
                return slot;
            }
            slot = pool[slot].chain[NEXT];
        }
        Self::find_in_tree(pool, runs, start)
    }

    #[cold]
    fn find_in_tree(pool: &Pool<'_>, runs: &Runs, start: u64) -> Slot {
        let slot = runs.floor(pool, start);
        let hit = pool[slot].start == start && !pool[slot].is_available();
        if hit { slot } else { Slot::NIL }
    }
}
