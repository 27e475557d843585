//! Every segment by address: a tree of short runs.
//!
//! Segments that stand side by side in the ring form a **run**. The tree by address holds the first
//! of each run, its **head**, which knows how many members the run has; the others know their head.
//! A segment that is split off joins the run it was split off from, and one that merges leaves it,
//! so most of the time a count changes and the tree does not. An address is found by way of the
//! tree to a head, and from there along the ring.
//!
//! A run that grows too long is divided, which pays for itself: the halves have to grow again.
//! A head that leaves hands its place over to the next member. Either rewrites the members of one
//! run, which are a few.
//!
//! First and Next search the tree itself by what lies below each node. Under them every segment is
//! a run of its own.

use super::segment::{BY_ADDRESS, Pool, Slot};
use super::tree::{Summary, Tree};

/// Most members of a run where the fit does not search the tree by address.
const MOST_MEMBERS: u8 = 8;

/// Every segment and border by address.
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) heads: Tree<BY_ADDRESS>,
    most_members: u8,
}

impl Runs {
    pub(super) const fn new(summary: Summary) -> Self {
        let most_members = match summary {
            Summary::None => MOST_MEMBERS,
            Summary::Largest => 1,
        };
        Self { heads: Tree::new(summary), most_members }
    }

    pub(super) const fn most_members(&self) -> u8 {
        self.most_members
    }

    /// The head of the run of `slot`.
    #[inline]
    pub(super) fn head_of(pool: &Pool<'_>, slot: Slot) -> Slot {
        if pool[slot].members > 0 { slot } else { pool[slot].links[BY_ADDRESS].parent }
    }

    /// Takes in `new`, a fresh record that stands right after `before` in the ring (NIL: first).
    /// Amortised constant, and O(log n) at worst.
    #[inline]
    pub(super) fn insert_after(&mut self, pool: &mut Pool<'_>, before: Slot, new: Slot) {
        if before.is_nil() {
            pool[new].members = 1;
            let after = pool[new].after;
            self.heads.insert_between(pool, Slot::NIL, new, after);
            return;
        }
        let head = Self::head_of(pool, before);
        pool[new].links[BY_ADDRESS].parent = head;
        pool[head].members += 1;
        if pool[head].members > self.most_members {
            self.divide(pool, head);
        }
    }

    /// Takes `slot` out, which is still in the ring. Constant, or O(log n) if it is alone in its
    /// run.
    #[inline]
    pub(super) fn remove(&mut self, pool: &mut Pool<'_>, slot: Slot) {
        match pool[slot].members {
            0 => {
                let head = pool[slot].links[BY_ADDRESS].parent;
                pool[head].members -= 1;
            }
            1 => self.heads.remove(pool, slot),
            members => self.hand_over(pool, slot, members),
        }
    }

    /// The last segment that starts at or below `address`, or NIL. O(log n).
    pub(super) fn floor(&self, pool: &Pool<'_>, address: u64) -> Slot {
        let mut slot = self.heads.floor(pool, address);
        for _ in 1..pool[slot].members {
            let next = pool[slot].after;
            if pool[next].start > address {
                break;
            }
            slot = next;
        }
        slot
    }

    /// Makes the upper half of the run of `head` a run of its own.
    fn divide(&mut self, pool: &mut Pool<'_>, head: Slot) {
        let members = pool[head].members;
        let lower = members / 2;
        let upper = (0..lower).fold(head, |slot, _| pool[slot].after);
        pool[head].members = lower;
        let after = Self::lead(pool, upper, members - lower);
        self.heads.insert_between(pool, head, upper, after);
    }

    /// Makes the member after `head` the head, which leaves a run of `members`.
    fn hand_over(&mut self, pool: &mut Pool<'_>, head: Slot, members: u8) {
        let heir = pool[head].after;
        Self::lead(pool, heir, members - 1);
        self.heads.substitute(pool, head, heir);
    }

    /// Makes `head` the head of the `members` from itself on, and returns the head of the run
    /// behind them.
    fn lead(pool: &mut Pool<'_>, head: Slot, members: u8) -> Slot {
        pool[head].members = members;
        let mut slot = pool[head].after;
        for _ in 1..members {
            let segment = &mut pool[slot];
            segment.links[BY_ADDRESS].parent = head;
            slot = segment.after;
        }
        slot
    }
}
