//! Which available segment serves a request: the fits, and the structure behind each.

use super::bins::Bins;
use super::constraint::Request;
use super::runs::Runs;
use super::segment::{BY_POLICY, Kind, Pool, Slot};
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
    pub(super) by_address: Runs,
    pub(super) by_len: Tree<BY_POLICY>,
    pub(super) bins: Bins,
    /// Next fit: the end of the last allocation.
    pub(super) cursor: u64,
}

impl Index {
    pub(super) const fn new(fit: Fit) -> Self {
        let summary = match fit {
            Fit::First | Fit::Next => Summary::Largest,
            Fit::Instant | Fit::Best | Fit::Worst => Summary::None,
        };
        Self {
            fit,
            by_address: Runs::new(summary),
            by_len: Tree::new(Summary::None),
            bins: Bins::new(),
            cursor: 0,
        }
    }

    /// Puts `new`, a fresh record, between two neighbours in ring and runs.
    #[inline]
    pub(super) fn link_between(
        &mut self,
        pool: &mut Pool<'_>,
        before: Slot,
        new: Slot,
        after: Slot,
    ) {
        pool.link_between(before, new, after);
        self.by_address.insert_after(pool, before, new);
    }

    /// Puts `new`, a fresh record, after `before` in ring and runs.
    pub(super) fn link_after(&mut self, pool: &mut Pool<'_>, before: Slot, new: Slot) {
        let after = pool[before].after;
        self.link_between(pool, before, new, after);
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
        self.enlist(pool, slot);
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
        self.by_address.heads.refresh_from(pool, slot);
    }

    /// Gives `slot`, an available segment, other ends.
    #[inline]
    pub(super) fn reshape(&mut self, pool: &mut Pool<'_>, slot: Slot, start: u64, len: u64) {
        let segment = &mut pool[slot];
        if self.fit == Fit::Instant && Bins::list_of(segment.len) == Bins::list_of(len) {
            segment.start = start;
            segment.len = len;
        } else {
            self.reorder(pool, slot, start, len);
        }
    }

    /// The same where it changes the place of the segment in the structure of the fit.
    #[inline(never)]
    fn reorder(&mut self, pool: &mut Pool<'_>, slot: Slot, start: u64, len: u64) {
        match self.fit {
            Fit::Instant => self.bins.remove(pool, slot),
            Fit::Best | Fit::Worst => self.by_len.remove(pool, slot),
            Fit::First | Fit::Next => {}
        }
        pool[slot].start = start;
        pool[slot].len = len;
        self.enlist(pool, slot);
    }

    /// Puts an available segment into the structure of the fit.
    #[inline]
    fn enlist(&mut self, pool: &mut Pool<'_>, slot: Slot) {
        match self.fit {
            Fit::Instant => self.bins.insert(pool, slot),
            Fit::Best | Fit::Worst => self.by_len.insert(pool, slot),
            Fit::First | Fit::Next => self.by_address.heads.refresh_from(pool, slot),
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
            Fit::First => self.by_address.heads.first(pool, len),
            Fit::Next => return self.find(pool, &Request::anywhere(len)),
        };
        (!slot.is_nil()).then(|| (slot, pool[slot].start))
    }

    /// The first of the longest segments, if it is at least `len`.
    pub(super) fn longest(&self, pool: &Pool<'_>, len: u64) -> Slot {
        let longest = pool[self.by_len.last(pool)].len;
        if longest >= len { self.by_len.at_least(pool, longest) } else { Slot::NIL }
    }
}
