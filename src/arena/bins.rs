//! Instant fit: available segments in lists by the power of two below their length.
//!
//! List *k* holds lengths from `2^k` up to, not including, `2^(k+1)`. Whatever lies in list
//! `⌈log2 len⌉` or above is long enough, so one look at a word of bits finds a list, and its head
//! is the answer.

use super::segment::{BY_POLICY, Pool, Slot};

/// Segments of the list just too low to be sure of that are looked at before a request is refused.
pub(super) const PROBES: usize = 16;

pub(super) const LISTS: usize = u64::BITS as usize;
const NEXT: usize = 0;
const PREVIOUS: usize = 1;

#[derive(Debug)]
pub(super) struct Bins {
    heads: [Slot; LISTS],
    /// Bit *k*: list *k* is not empty.
    occupied: u64,
}

impl Bins {
    pub(super) const fn new() -> Self {
        Self { heads: [Slot::NIL; LISTS], occupied: 0 }
    }

    /// The list of segments of `len` (above 0).
    #[inline]
    pub(super) const fn list_of(len: u64) -> usize {
        // The lowest bit changes nothing, and says that there is one.
        (len | 1).ilog2() as usize
    }

    pub(super) const fn occupied(&self) -> u64 {
        self.occupied
    }

    #[inline]
    pub(super) fn insert(&mut self, pool: &mut Pool<'_>, slot: Slot) {
        let list = Self::list_of(pool[slot].len);
        let first = self.heads[list];
        pool[slot].links[BY_POLICY].children = [first, Slot::NIL];
        if !first.is_nil() {
            pool[first].links[BY_POLICY].children[PREVIOUS] = slot;
        }
        self.heads[list] = slot;
        self.occupied |= 1 << list;
    }

    #[inline]
    pub(super) fn remove(&mut self, pool: &mut Pool<'_>, slot: Slot) {
        let [next, previous] = pool[slot].links[BY_POLICY].children;
        if !next.is_nil() {
            pool[next].links[BY_POLICY].children[PREVIOUS] = previous;
        }
        if !previous.is_nil() {
            pool[previous].links[BY_POLICY].children[NEXT] = next;
            return;
        }
        let list = Self::list_of(pool[slot].len);
        self.heads[list] = next;
        if next.is_nil() {
            self.occupied &= !(1 << list);
        }
    }

    /// The segments of one list, the one last given back first.
    pub(super) fn list(&self, pool: &Pool<'_>, list: usize) -> impl Iterator<Item = Slot> {
        let mut at = self.heads[list];
        core::iter::from_fn(move || {
            let slot = at;
            at = pool[slot].links[BY_POLICY].children[NEXT];
            (!slot.is_nil()).then_some(slot)
        })
    }

    /// A segment of at least `len`: the head of the lowest list that holds nothing shorter, or one
    /// of [`PROBES`] in the list below.
    #[inline]
    pub(super) fn at_least(&self, pool: &Pool<'_>, len: u64) -> Slot {
        let lowest_sure = u64::BITS - (len - 1).leading_zeros();
        let sure = self.occupied & u64::MAX.checked_shl(lowest_sure).unwrap_or(0);
        if sure != 0 {
            return self.heads[sure.trailing_zeros() as usize];
        }
        let mut near = self.list(pool, Self::list_of(len)).take(PROBES);
        near.find(|&slot| pool[slot].len >= len).unwrap_or(Slot::NIL)
    }

    /// The segments of every list that may hold one of at least `len`, shorter lists first.
    pub(super) fn long_enough(&self, pool: &Pool<'_>, len: u64) -> impl Iterator<Item = Slot> {
        (Self::list_of(len)..LISTS).flat_map(move |list| self.list(pool, list))
    }
}
