//! Which available segment serves a request: the fits, and the structure behind each.

use super::bins::Bins;
use super::constraint::Request;
use super::segment::{BY_ADDRESS, BY_POLICY, Kind, Pool, Slot};
use super::tree::{Summary, Tree};

/// Which available segment a request takes. Among equals the lowest address wins, except under
/// [`Fit::Instant`]. A request is placed at the lowest address of the segment at which it fits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Fit {
    /// One that is sure to be long enough, found in constant time: from the lowest list of a power
    /// of two that holds nothing shorter, the segment last given back. A segment shorter than
    /// twice the request may be passed over, so a request can be refused as fragmented although one
    /// such segment is left.
    #[default]
    Instant,
    /// The shortest in which it fits.
    Best,
    /// The one at the lowest address in which it fits.
    First,
    /// The lowest start at or after the end of the last allocation; if there is none, the lowest.
    Next,
    /// The longest in which it fits.
    Worst,
}

/// Every segment by address, and the available ones as the fit needs them.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) fit: Fit,
    pub(super) by_address: Tree<BY_ADDRESS>,
    pub(super) by_len: Tree<BY_POLICY>,
    pub(super) bins: Bins,
    /// Next fit: the end of the last allocation.
    cursor: u64,
}

impl Index {
    pub(super) const fn new(fit: Fit) -> Self {
        let summary = match fit {
            Fit::First | Fit::Next => Summary::Largest,
            Fit::Instant | Fit::Best | Fit::Worst => Summary::None,
        };
        Self {
            fit,
            by_address: Tree::new(summary),
            by_len: Tree::new(Summary::None),
            bins: Bins::new(),
            cursor: 0,
        }
    }

    /// Puts `new` after `before` in the ring and the tree by address.
    #[inline]
    pub(super) fn link_after(&mut self, pool: &mut Pool<'_>, before: Slot, new: Slot) {
        pool.link_after(before, new);
        self.by_address.insert_after(pool, before, new);
    }

    /// Takes a segment that is not in the fit's structure out of the others; its record is spare.
    #[inline]
    pub(super) fn erase(&mut self, pool: &mut Pool<'_>, slot: Slot) {
        self.by_address.remove(pool, slot);
        pool.unlink(slot);
        pool.put(slot);
    }

    /// Makes `slot` available.
    #[inline]
    pub(super) fn admit(&mut self, pool: &mut Pool<'_>, slot: Slot) {
        pool[slot].kind = Kind::Available;
        match self.fit {
            Fit::Instant => self.bins.insert(pool, slot),
            Fit::Best | Fit::Worst => self.by_len.insert(pool, slot),
            Fit::First | Fit::Next => self.by_address.refresh_from(pool, slot),
        }
    }

    /// Makes `slot`, an available segment, one of `kind`.
    #[inline]
    pub(super) fn withdraw(&mut self, pool: &mut Pool<'_>, slot: Slot, kind: Kind) {
        match self.fit {
            Fit::Instant => self.bins.remove(pool, slot),
            Fit::Best | Fit::Worst => self.by_len.remove(pool, slot),
            Fit::First | Fit::Next => {}
        }
        pool[slot].kind = kind;
        self.by_address.refresh_from(pool, slot);
    }

    /// Gives `slot`, an available segment, other ends.
    #[inline]
    pub(super) fn reshape(&mut self, pool: &mut Pool<'_>, slot: Slot, start: u64, len: u64) {
        match self.fit {
            Fit::Instant if Bins::list_of(pool[slot].len) == Bins::list_of(len) => {}
            Fit::Instant => self.bins.remove(pool, slot),
            Fit::Best | Fit::Worst => self.by_len.remove(pool, slot),
            Fit::First | Fit::Next => {}
        }
        let old_len = pool[slot].len;
        pool[slot].start = start;
        pool[slot].len = len;
        match self.fit {
            Fit::Instant if Bins::list_of(old_len) == Bins::list_of(len) => {}
            Fit::Instant => self.bins.insert(pool, slot),
            Fit::Best | Fit::Worst => self.by_len.insert(pool, slot),
            Fit::First | Fit::Next => self.by_address.refresh_from(pool, slot),
        }
    }

    /// Remembers where the last allocation ended.
    #[inline]
    pub(super) fn advance(&mut self, end: u64) {
        self.cursor = end;
    }

    /// The segment that serves a request for `len` anywhere, and where in it.
    #[inline]
    pub(super) fn find_anywhere(&self, pool: &Pool<'_>, len: u64) -> Option<(Slot, u64)> {
        let slot = match self.fit {
            Fit::Instant => self.bins.at_least(pool, len),
            Fit::Best => self.by_len.at_least(pool, len),
            Fit::Worst => self.longest(pool, len),
            Fit::First => self.by_address.first(pool, len),
            Fit::Next => return self.find(pool, &Request::anywhere(len)),
        };
        (!slot.is_nil()).then(|| (slot, pool[slot].start))
    }

    /// The segment that serves `request`, and where in it.
    pub(super) fn find(&self, pool: &Pool<'_>, request: &Request) -> Option<(Slot, u64)> {
        if request.is_plain() && self.fit != Fit::Next {
            return self.find_anywhere(pool, request.len);
        }
        match self.fit {
            Fit::Instant => self.bins.constrained(pool, request),
            Fit::Best => self.shortest_placed(pool, request),
            Fit::Worst => self.longest_placed(pool, request),
            Fit::First => self.lowest_placed(pool, request),
            Fit::Next => self
                .lowest_placed(pool, &request.not_below(self.cursor))
                .or_else(|| self.lowest_placed(pool, request)),
        }
    }

    /// The first of the longest segments, if it is at least `len`.
    fn longest(&self, pool: &Pool<'_>, len: u64) -> Slot {
        let longest = pool[self.by_len.last(pool)].len;
        if longest >= len { self.by_len.at_least(pool, longest) } else { Slot::NIL }
    }

    fn shortest_placed(&self, pool: &Pool<'_>, request: &Request) -> Option<(Slot, u64)> {
        let mut slot = self.by_len.at_least(pool, request.len);
        while !slot.is_nil() {
            if let Some(start) = request.place_in(pool[slot].range()) {
                return Some((slot, start));
            }
            slot = self.by_len.successor(pool, slot);
        }
        None
    }

    fn longest_placed(&self, pool: &Pool<'_>, request: &Request) -> Option<(Slot, u64)> {
        let mut first = self.longest(pool, request.len);
        while !first.is_nil() {
            let len = pool[first].len;
            let mut slot = first;
            while !slot.is_nil() && pool[slot].len == len {
                if let Some(start) = request.place_in(pool[slot].range()) {
                    return Some((slot, start));
                }
                slot = self.by_len.successor(pool, slot);
            }
            let shorter = pool[self.by_len.predecessor(pool, first)].len;
            if shorter < request.len {
                break;
            }
            first = self.by_len.at_least(pool, shorter);
        }
        None
    }

    fn lowest_placed(&self, pool: &Pool<'_>, request: &Request) -> Option<(Slot, u64)> {
        let from = self.by_address.floor(pool, request.min);
        let from = if from.is_nil() { pool[Slot::NIL].after } else { from };
        let mut slot = self.by_address.first_from(pool, from, request.len);
        while !slot.is_nil() && pool[slot].start < request.max {
            if let Some(start) = request.place_in(pool[slot].range()) {
                return Some((slot, start));
            }
            slot = self.by_address.first_from(pool, pool[slot].after, request.len);
        }
        None
    }
}
