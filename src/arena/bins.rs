//! Instant fit: available segments in lists by the power of two below their length.
//!
//! List *k* holds lengths from `2^k` up to, not including, `2^(k+1)`. Whatever lies in list
//! `⌈log2 len⌉` or above is long enough, so one look at a word of bits finds a list, and its head
//! is the answer.

use super::constraint::Request;
use super::segment::{BY_POLICY, Pool, Slot};

/// Segments of the list just too low to be sure of that are looked at before a request is refused.
pub(super) const PROBES: usize = 16;

const LISTS: usize = u64::BITS as usize;
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
        len.ilog2() as usize
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
        let sure = len
            .checked_next_power_of_two()
            .map_or(0, |rounded| self.occupied & (u64::MAX << rounded.trailing_zeros()));
        if sure != 0 {
            return self.heads[sure.trailing_zeros() as usize];
        }
        let mut near = self.list(pool, Self::list_of(len)).take(PROBES);
        near.find(|&slot| pool[slot].len >= len).unwrap_or(Slot::NIL)
    }

    /// A segment that meets a constraint. Without a window one that is long enough for any
    /// alignment is found at once; otherwise every available segment at least half as long as
    /// asked may be looked at, shorter lists first.
    pub(super) fn constrained(&self, pool: &Pool<'_>, request: &Request) -> Option<(Slot, u64)> {
        let placed = |slot: Slot| Some((slot, request.place_in(pool[slot].range())?));
        if let Some(len) = request.len.checked_add(request.slack) {
            let slot = self.at_least(pool, len);
            if !slot.is_nil()
                && let Some(found) = placed(slot)
            {
                return Some(found);
            }
        }
        (Self::list_of(request.len)..LISTS).flat_map(|list| self.list(pool, list)).find_map(placed)
    }
}
