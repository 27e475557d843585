//! Constrained requests: which segments are looked at, and in which order.
//!
//! First and Next skip what is too short and stay inside the request's window. The others look at
//! segments in the order of the fit, so the first in which the request has room is the answer. That
//! may be far behind many that lie outside the window. So for each of them one segment inside the
//! window is looked at, too: when these come to an end, the best of them is the answer.

use core::iter::successors;

use super::constraint::Request;
use super::policy::{Fit, Index};
use super::segment::{Pool, Slot};

impl Index {
    /// The segment that serves `request`, and where in it.
    pub(super) fn find(&self, pool: &Pool<'_>, request: &Request) -> Option<(Slot, u64)> {
        if request.is_plain() && self.fit != Fit::Next {
            return self.find_anywhere(pool, request.len);
        }
        let some = |slot: Slot| (!slot.is_nil()).then_some(slot);
        match self.fit {
            Fit::Instant => {
                let sure = request.len.checked_add(request.slack);
                let sure = sure.and_then(|len| some(self.bins.at_least(pool, len)));
                let rest = self.bins.long_enough(pool, request.len);
                self.first_placed(pool, request, sure.into_iter().chain(rest))
            }
            Fit::Best => {
                let shortest = some(self.by_len.at_least(pool, request.len));
                let longer = |&slot: &Slot| some(self.by_len.successor(pool, slot));
                self.first_placed(pool, request, successors(shortest, longer))
            }
            Fit::Worst => {
                let longest = some(self.longest(pool, request.len));
                let shorter = |&slot: &Slot| some(self.next_longest(pool, slot, request.len));
                self.first_placed(pool, request, successors(longest, shorter))
            }
            Fit::First => self.lowest_placed(pool, request),
            Fit::Next => self
                .lowest_placed(pool, &request.not_below(self.cursor))
                .or_else(|| self.lowest_placed(pool, request)),
        }
    }

    /// The first of the segments `in_order` of the fit in which `request` has room. With a window
    /// as many segments inside it are looked at.
    fn first_placed(
        &self,
        pool: &Pool<'_>,
        request: &Request,
        in_order: impl Iterator<Item = Slot>,
    ) -> Option<(Slot, u64)> {
        let placed = |slot: Slot| Some((slot, request.place_in(pool[slot].range())?));
        let mut inside = request.windowed.then(|| self.inside(pool, request));
        let mut best: Option<(Slot, u64)> = None;
        for slot in in_order {
            if let Some(found) = placed(slot) {
                return Some(found);
            }
            let Some(inside) = &mut inside else { continue };
            let Some(slot) = inside.next() else { return best };
            if let Some(found) = placed(slot).filter(|_| pool[slot].is_available())
                && best.is_none_or(|(best, _)| self.comes_first(pool, slot, best))
            {
                best = Some(found);
            }
        }
        None
    }

    /// The segments inside the window of `request`, and perhaps one below it, by address.
    fn inside(&self, pool: &Pool<'_>, request: &Request) -> impl Iterator<Item = Slot> {
        let max = request.max;
        let floor = self.by_address.floor(pool, request.min);
        let first = if floor.is_nil() { pool[Slot::NIL].after } else { floor };
        successors(Some(first), |&slot| Some(pool[slot].after))
            .take_while(move |&slot| !slot.is_nil() && pool[slot].start < max)
    }

    /// Whether the fit takes `slot` rather than `other`, which stands at a lower address.
    fn comes_first(&self, pool: &Pool<'_>, slot: Slot, other: Slot) -> bool {
        match self.fit {
            Fit::Worst => pool[slot].len > pool[other].len,
            _ => pool[slot].len < pool[other].len,
        }
    }

    /// The segment that Worst takes after `slot`, if it is at least `len`.
    fn next_longest(&self, pool: &Pool<'_>, slot: Slot, len: u64) -> Slot {
        let longest = pool[slot].len;
        let next = self.by_len.successor(pool, slot);
        if pool[next].len == longest {
            return next;
        }
        let first = self.by_len.at_least(pool, longest);
        let shorter = pool[self.by_len.predecessor(pool, first)].len;
        if shorter >= len { self.by_len.at_least(pool, shorter) } else { Slot::NIL }
    }

    fn lowest_placed(&self, pool: &Pool<'_>, request: &Request) -> Option<(Slot, u64)> {
        let from = self.by_address.floor(pool, request.min);
        let from = if from.is_nil() { pool[Slot::NIL].after } else { from };
        let mut slot = self.by_address.heads.first_from(pool, from, request.len);
        while !slot.is_nil() && pool[slot].start < request.max {
            if let Some(start) = request.place_in(pool[slot].range()) {
                return Some((slot, start));
            }
            slot = self.by_address.heads.first_from(pool, pool[slot].after, request.len);
        }
        None
    }
}
