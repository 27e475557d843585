//! A red-black tree threaded through the records of a pool.
//!
//! Two trees use it: the heads of all [runs](super::runs) by address, and, under Best and Worst,
//! available segments by length and then address. A node's place by address is known from its
//! neighbour, so it is attached without a search; rebalancing after that is amortised constant (a
//! red-black tree is a (2,4)-tree) and never more than one path. Slot 0 is the black leaf below
//! every node; while a node is removed, its parent link says where the leaf hangs.
//!
//! Under First and Next every node also knows the longest available segment below it
//! ([`Segment::largest`]), which is what lets a search skip whole subtrees.
//!
//! Sources: Guibas and Sedgewick, *A dichromatic framework for balanced trees* (1978); Cormen,
//! Leiserson, Rivest and Stein, *Introduction to Algorithms*, chapters 13 and 14.

use super::segment::{BY_ADDRESS, BY_POLICY, Colour, Pool, Segment, Slot};

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// Whether nodes keep [`Segment::largest`] up to date.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Summary {
    None,
    Largest,
}

/// The tree whose links are `links[BY]` of each record.
#[derive(Debug)]
pub(super) struct Tree<const BY: usize> {
    root: Slot,
    summary: Summary,
}

impl<const BY: usize> Tree<BY> {
    pub(super) const fn new(summary: Summary) -> Self {
        Self { root: Slot::NIL, summary }
    }

    pub(super) const fn root(&self) -> Slot {
        self.root
    }

    /// Takes `node` out. At most three rotations.
    pub(super) fn remove(&mut self, pool: &mut Pool<'_>, node: Slot) {
        let [left, right] = pool[node].links[BY].children;
        let (hole, removed);
        if left.is_nil() || right.is_nil() {
            hole = if left.is_nil() { right } else { left };
            removed = pool[node].colour(BY);
            self.replace(pool, node, hole);
            self.refresh_from(pool, pool[hole].links[BY].parent);
        } else {
            let heir = Self::outermost(pool, right, LEFT);
            hole = pool[heir].links[BY].children[RIGHT];
            removed = pool[heir].colour(BY);
            let mut lowest = heir;
            if heir == right {
                pool[hole].links[BY].parent = heir;
            } else {
                lowest = pool[heir].links[BY].parent;
                self.replace(pool, heir, hole);
                Self::set_child(pool, heir, RIGHT, right);
            }
            self.replace(pool, node, heir);
            Self::set_child(pool, heir, LEFT, left);
            let colour = pool[node].colour(BY);
            pool[heir].paint(BY, colour);
            if self.summary == Summary::Largest {
                // What the ancestors last saw at this place was the removed node's summary.
                let seen = pool[node].largest();
                pool[heir].set_largest(seen);
                self.refresh_from(pool, lowest);
                self.refresh_from(pool, heir);
            }
        }
        if removed == Colour::Black {
            self.rebalance_removed(pool, hole);
        }
        pool[Slot::NIL].links[BY].parent = Slot::NIL;
    }

    /// Recomputes [`Segment::largest`] from `node` upwards, as far as it changes.
    #[inline]
    pub(super) fn refresh_from(&self, pool: &mut Pool<'_>, mut node: Slot) {
        if self.summary == Summary::None {
            return;
        }
        while !node.is_nil() && Self::refresh(pool, node) {
            node = pool[node].links[BY].parent;
        }
    }

    /// The node after `node` in order.
    pub(super) fn successor(&self, pool: &Pool<'_>, node: Slot) -> Slot {
        Self::neighbour(pool, node, RIGHT)
    }

    /// The node before `node` in order.
    pub(super) fn predecessor(&self, pool: &Pool<'_>, node: Slot) -> Slot {
        Self::neighbour(pool, node, LEFT)
    }

    /// The last node in order.
    pub(super) fn last(&self, pool: &Pool<'_>) -> Slot {
        Self::outermost(pool, self.root, RIGHT)
    }

    /// Hangs `new` below `parent` (NIL: as root) on `side`, where there is nothing.
    fn attach(&mut self, pool: &mut Pool<'_>, parent: Slot, side: usize, new: Slot) {
        pool[new].links[BY].parent = parent;
        pool[new].paint(BY, Colour::Red);
        if parent.is_nil() {
            self.root = new;
        } else {
            pool[parent].links[BY].children[side] = new;
        }
        self.refresh_from(pool, new);
        self.rebalance_inserted(pool, new);
    }

    fn neighbour(pool: &Pool<'_>, mut node: Slot, side: usize) -> Slot {
        let below = pool[node].links[BY].children[side];
        if !below.is_nil() {
            return Self::outermost(pool, below, 1 - side);
        }
        loop {
            let parent = pool[node].links[BY].parent;
            if parent.is_nil() || pool[parent].links[BY].children[side] != node {
                return parent;
            }
            node = parent;
        }
    }

    fn outermost(pool: &Pool<'_>, mut node: Slot, side: usize) -> Slot {
        loop {
            let child = pool[node].links[BY].children[side];
            if child.is_nil() {
                return node;
            }
            node = child;
        }
    }

    /// Recomputes one summary and says whether it changed.
    fn refresh(pool: &mut Pool<'_>, node: Slot) -> bool {
        let [left, right] = pool[node].links[BY].children;
        let below = pool[left].largest().max(pool[right].largest());
        let largest = below.max(pool[node].available_len());
        let changed = largest != pool[node].largest();
        pool[node].set_largest(largest);
        changed
    }

    fn set_child(pool: &mut Pool<'_>, parent: Slot, side: usize, child: Slot) {
        pool[parent].links[BY].children[side] = child;
        pool[child].links[BY].parent = parent;
    }

    /// Hangs `new` (even the leaf) where `old` hung.
    fn replace(&mut self, pool: &mut Pool<'_>, old: Slot, new: Slot) {
        let parent = pool[old].links[BY].parent;
        pool[new].links[BY].parent = parent;
        if parent.is_nil() {
            self.root = new;
        } else {
            let side = Self::side_of(pool, parent, old);
            pool[parent].links[BY].children[side] = new;
        }
    }

    fn side_of(pool: &Pool<'_>, parent: Slot, child: Slot) -> usize {
        if pool[parent].links[BY].children[LEFT] == child { LEFT } else { RIGHT }
    }

    /// Moves `node` down to `side`; its other child rises in its place.
    fn rotate(&mut self, pool: &mut Pool<'_>, node: Slot, side: usize) {
        let rising = pool[node].links[BY].children[1 - side];
        let inner = pool[rising].links[BY].children[side];
        pool[node].links[BY].children[1 - side] = inner;
        if !inner.is_nil() {
            pool[inner].links[BY].parent = node;
        }
        self.replace(pool, node, rising);
        Self::set_child(pool, rising, side, node);
        if self.summary == Summary::Largest {
            Self::refresh(pool, node);
            Self::refresh(pool, rising);
        }
    }

    fn rebalance_inserted(&mut self, pool: &mut Pool<'_>, mut node: Slot) {
        loop {
            let parent = pool[node].links[BY].parent;
            if !pool[parent].is_red(BY) {
                break;
            }
            let grandparent = pool[parent].links[BY].parent;
            let side = Self::side_of(pool, grandparent, parent);
            let uncle = pool[grandparent].links[BY].children[1 - side];
            pool[grandparent].paint(BY, Colour::Red);
            if pool[uncle].is_red(BY) {
                pool[parent].paint(BY, Colour::Black);
                pool[uncle].paint(BY, Colour::Black);
                node = grandparent;
                continue;
            }
            let mut rising = parent;
            if Self::side_of(pool, parent, node) != side {
                self.rotate(pool, parent, side);
                rising = node;
            }
            pool[rising].paint(BY, Colour::Black);
            self.rotate(pool, grandparent, 1 - side);
            break;
        }
        let root = self.root;
        pool[root].paint(BY, Colour::Black);
    }

    /// `node`, perhaps the leaf, lacks one black node above it.
    fn rebalance_removed(&mut self, pool: &mut Pool<'_>, mut node: Slot) {
        while node != self.root && !pool[node].is_red(BY) {
            let parent = pool[node].links[BY].parent;
            let side = Self::side_of(pool, parent, node);
            let mut sibling = pool[parent].links[BY].children[1 - side];
            if pool[sibling].is_red(BY) {
                pool[sibling].paint(BY, Colour::Black);
                pool[parent].paint(BY, Colour::Red);
                self.rotate(pool, parent, side);
                sibling = pool[parent].links[BY].children[1 - side];
            }
            let near = pool[sibling].links[BY].children[side];
            let far = pool[sibling].links[BY].children[1 - side];
            if !pool[near].is_red(BY) && !pool[far].is_red(BY) {
                pool[sibling].paint(BY, Colour::Red);
                node = parent;
                continue;
            }
            if !pool[far].is_red(BY) {
                pool[near].paint(BY, Colour::Black);
                pool[sibling].paint(BY, Colour::Red);
                self.rotate(pool, sibling, 1 - side);
                sibling = near;
            }
            let far = pool[sibling].links[BY].children[1 - side];
            let colour = pool[parent].colour(BY);
            pool[sibling].paint(BY, colour);
            pool[parent].paint(BY, Colour::Black);
            pool[far].paint(BY, Colour::Black);
            self.rotate(pool, parent, side);
            break;
        }
        if node == self.root || pool[node].is_red(BY) {
            pool[node].paint(BY, Colour::Black);
        }
    }
}

impl Tree<BY_ADDRESS> {
    /// Takes in `new`, which belongs between the neighbours `before` and `after` (NIL: none).
    /// Constant, and amortised constant to rebalance.
    pub(super) fn insert_between(
        &mut self,
        pool: &mut Pool<'_>,
        before: Slot,
        new: Slot,
        after: Slot,
    ) {
        // Of two neighbours one has no child towards the other.
        if !before.is_nil() && pool[before].links[BY_ADDRESS].children[RIGHT].is_nil() {
            self.attach(pool, before, RIGHT, new);
        } else {
            self.attach(pool, after, LEFT, new);
        }
    }

    /// Puts `new` in the place of `old`; what stands below them knows no summaries.
    pub(super) fn substitute(&mut self, pool: &mut Pool<'_>, old: Slot, new: Slot) {
        let colour = pool[old].colour(BY_ADDRESS);
        pool[new].paint(BY_ADDRESS, colour);
        let children = pool[old].links[BY_ADDRESS].children;
        pool[new].links[BY_ADDRESS].children = children;
        for child in children.into_iter().filter(|child| !child.is_nil()) {
            pool[child].links[BY_ADDRESS].parent = new;
        }
        self.replace(pool, old, new);
    }

    /// The last segment that starts at or below `address`, or NIL.
    pub(super) fn floor(&self, pool: &Pool<'_>, address: u64) -> Slot {
        let (mut node, mut found) = (self.root, Slot::NIL);
        while !node.is_nil() {
            let below = pool[node].start <= address;
            if below {
                found = node;
            }
            node = pool[node].links[BY_ADDRESS].children[usize::from(below)];
        }
        found
    }

    /// The first available segment of at least `len`, `node` itself being the first candidate;
    /// NIL if there is none. O(log n).
    pub(super) fn first_from(&self, pool: &Pool<'_>, mut node: Slot, len: u64) -> Slot {
        while !node.is_nil() {
            if pool[node].available_len() >= len {
                return node;
            }
            let right = pool[node].links[BY_ADDRESS].children[RIGHT];
            if pool[right].largest() >= len {
                return Self::first_below(pool, right, len);
            }
            loop {
                let child = node;
                node = pool[child].links[BY_ADDRESS].parent;
                if node.is_nil() || pool[node].links[BY_ADDRESS].children[LEFT] == child {
                    break;
                }
            }
        }
        Slot::NIL
    }

    /// The first available segment of at least `len` in the tree.
    pub(super) fn first(&self, pool: &Pool<'_>, len: u64) -> Slot {
        if pool[self.root].largest() >= len {
            Self::first_below(pool, self.root, len)
        } else {
            Slot::NIL
        }
    }

    /// The same in the subtree of `node`, which has one.
    fn first_below(pool: &Pool<'_>, mut node: Slot, len: u64) -> Slot {
        loop {
            let [left, right] = pool[node].links[BY_ADDRESS].children;
            if pool[left].largest() >= len {
                node = left;
            } else if pool[node].available_len() >= len || right.is_nil() {
                return node;
            } else {
                node = right;
            }
        }
    }
}

impl Tree<BY_POLICY> {
    /// What the tree is ordered by: length, then address.
    #[inline]
    fn key(segment: &Segment) -> (u64, u64) {
        (segment.len, segment.start)
    }

    /// Takes in an available segment.
    pub(super) fn insert(&mut self, pool: &mut Pool<'_>, new: Slot) {
        pool[new].links[BY_POLICY].children = [Slot::NIL; 2];
        let key = Self::key(&pool[new]);
        let (mut node, mut parent, mut side) = (self.root, Slot::NIL, LEFT);
        while !node.is_nil() {
            parent = node;
            side = if key < Self::key(&pool[node]) { LEFT } else { RIGHT };
            node = pool[node].links[BY_POLICY].children[side];
        }
        self.attach(pool, parent, side, new);
    }

    /// The shortest available segment of at least `len`, at the lowest address, or NIL.
    pub(super) fn at_least(&self, pool: &Pool<'_>, len: u64) -> Slot {
        let (mut node, mut found) = (self.root, Slot::NIL);
        while !node.is_nil() {
            let fits = pool[node].len >= len;
            if fits {
                found = node;
            }
            node = pool[node].links[BY_POLICY].children[usize::from(!fits)];
        }
        found
    }
}
