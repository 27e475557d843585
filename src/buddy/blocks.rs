//! The free blocks: finding, taking, splitting and merging them. Nothing here looks at states.

use super::group::{GROUP_FRAMES, GROUP_ORDER};
use super::{Buddy, Group, Placement};
use crate::frame::{FrameRange, Order};

/// A free block of `order` that starts at frame number `at`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FreeBlock {
    pub(super) at: usize,
    pub(super) order: u32,
}

impl Buddy<'_> {
    /// Number of the span's first frame.
    #[inline]
    pub(super) fn start(&self) -> usize {
        self.cover.start().number()
    }

    /// Number of the frame behind the span.
    #[inline]
    pub(super) fn end(&self) -> usize {
        self.cover.end().number()
    }

    /// What the first group would be called if groups were counted from frame 0.
    #[inline]
    pub(super) fn first_group(&self) -> usize {
        self.start() >> GROUP_ORDER
    }

    /// Index of the group that frame `at` lies in; out of bounds for a frame outside the span.
    #[inline]
    pub(super) fn group_of(&self, at: usize) -> usize {
        (at >> GROUP_ORDER).wrapping_sub(self.first_group())
    }

    /// Number of the first frame of group `group`, which may lie before the span.
    #[inline]
    pub(super) fn group_start(&self, group: usize) -> usize {
        (group + self.first_group()) << GROUP_ORDER
    }

    /// Index in the summary of `order` of what frame `at` lies in; out of bounds outside the span.
    #[inline]
    pub(super) fn block_index(&self, order: u32, at: usize) -> usize {
        let shift = order.max(GROUP_ORDER);
        (at >> shift).wrapping_sub(self.start() >> shift)
    }

    /// First frame of what has this index in the summary of `order`.
    #[inline]
    pub(super) fn block_at(&self, order: u32, index: usize) -> usize {
        let shift = order.max(GROUP_ORDER);
        (index + (self.start() >> shift)) << shift
    }

    /// Enters `index` in the summary of `order`.
    #[inline]
    pub(super) fn mark(&mut self, order: u32, index: usize) {
        if let Some(summary) = self.free.get_mut(order as usize) {
            summary.set(index);
            self.nonempty |= 1 << order;
        }
    }

    /// Strikes `index` from the summary of `order`.
    #[inline]
    pub(super) fn unmark(&mut self, order: u32, index: usize) {
        if let Some(summary) = self.free.get_mut(order as usize) {
            summary.clear(index);
            if summary.is_empty() {
                self.nonempty &= !(1 << order);
            }
        }
    }

    /// Whether there is a free block of `order`, at least 9, at `at`.
    #[inline]
    pub(super) fn is_free_block(&self, at: usize, order: u32) -> bool {
        self.free[order as usize].contains(self.block_index(order, at))
    }

    /// Brings the summaries up to date after the orders of a group's blocks changed.
    #[inline]
    fn publish(&mut self, group: usize, before: u32, after: u32) {
        let mut changed = before ^ after;
        while changed != 0 {
            let order = changed.trailing_zeros();
            if after >> order & 1 == 1 {
                self.mark(order, group);
            } else {
                self.unmark(order, group);
            }
            changed &= changed - 1;
        }
    }

    /// The lowest or highest of the smallest free blocks that have at least `order`.
    #[inline]
    pub(super) fn find(&self, order: u32, placement: Placement) -> Option<FreeBlock> {
        let sufficient = self.nonempty >> order;
        if sufficient == 0 {
            return None;
        }
        let order = order + sufficient.trailing_zeros();
        let summary = self.free.get(order as usize)?;
        let index = match placement {
            Placement::Low => summary.first()?,
            Placement::High => summary.last()?,
        };
        let at = self.block_at(order, index);
        if order >= GROUP_ORDER {
            return Some(FreeBlock { at, order });
        }
        let offset = self.groups.get(index)?.find(order, placement)?;
        Some(FreeBlock { at: at + offset, order })
    }

    /// The lowest free block of exactly `order` that starts at `from` or above.
    pub(super) fn next_free(&self, order: u32, from: usize) -> Option<FreeBlock> {
        let from = from.max(self.start());
        let summary = &self.free[order as usize];
        if order >= GROUP_ORDER {
            let first = from.checked_next_multiple_of(1 << order)?;
            let index = summary.first_at_or_after(self.block_index(order, first))?;
            return Some(FreeBlock { at: self.block_at(order, index), order });
        }
        let group = self.group_of(from);
        let here = self.groups.get(group)?;
        if summary.contains(group)
            && let Some(offset) = here.find_at_or_after(order, from % GROUP_FRAMES)
        {
            return Some(FreeBlock { at: self.group_start(group) + offset, order });
        }
        let next = summary.first_at_or_after(group + 1)?;
        let offset = self.groups.get(next)?.find(order, Placement::Low)?;
        Some(FreeBlock { at: self.group_start(next) + offset, order })
    }

    /// The free block that frame `at` lies in.
    pub(super) fn free_block_around(&self, at: usize) -> Option<FreeBlock> {
        let start = self.group_of(at);
        let group = self.groups.get(start)?;
        if !group.is_whole() {
            let offset = at % GROUP_FRAMES;
            if !group.contains(offset) {
                return None;
            }
            let order = group.order_at(offset);
            return Some(FreeBlock { at: at & !((1 << order) - 1), order });
        }
        (GROUP_ORDER..Order::COUNT as u32)
            .map(|order| FreeBlock { at: at & !((1 << order) - 1), order })
            .find(|block| self.is_free_block(block.at, block.order))
    }

    /// The first frame of `range`, which lies in the span, that is not available.
    pub(super) fn first_unavailable(&self, range: FrameRange) -> Option<usize> {
        let (mut at, end) = (range.start().number(), range.end().number());
        while at < end {
            let group = self.groups.get(self.group_of(at))?;
            if group.is_whole() {
                let Some(block) = self.free_block_around(at) else { return Some(at) };
                at = block.at + (1 << block.order);
            } else {
                let base = at & !(GROUP_FRAMES - 1);
                let to = (end - base).min(GROUP_FRAMES);
                if let Some(missing) = group.first_missing(at - base, to) {
                    return Some(base + missing);
                }
                at = base + GROUP_FRAMES;
            }
        }
        None
    }

    /// Takes the aligned block of `order` at `at` out of the free block `within`.
    #[inline]
    pub(super) fn take_block(&mut self, within: FreeBlock, at: usize, order: u32) {
        if within.order >= GROUP_ORDER {
            self.split(within, at, order.max(GROUP_ORDER));
        }
        if order < GROUP_ORDER {
            self.change_group(at, |group, offset| group.take(offset, order));
        }
        self.available -= 1 << order;
    }

    /// Takes the frames `bits` of the word that begins at `word`, which lie in `within` or, below
    /// order 6, in free blocks of that order.
    pub(super) fn take_bits(&mut self, within: FreeBlock, word: usize, bits: u64) {
        if within.order >= GROUP_ORDER {
            self.split(within, word, GROUP_ORDER);
        }
        self.change_group(word, |group, offset| group.take_bits(offset, bits));
        self.available -= bits.count_ones() as usize;
    }

    /// Gives the frames `bits`, none of them available, of the word that begins at `word`.
    pub(super) fn give_bits(&mut self, word: usize, bits: u64) {
        self.available += bits.count_ones() as usize;
        if self.change_group(word, |group, offset| group.give_bits(offset, bits)) {
            self.merge(word & !(GROUP_FRAMES - 1), GROUP_ORDER);
        }
    }

    /// Changes the group that frame `at` lies in, brings the summaries up to date, and says whether
    /// the group is whole now.
    #[inline]
    pub(super) fn change_group(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Group, usize),
    ) -> bool {
        let index = self.group_of(at);
        let Some(group) = self.groups.get_mut(index) else { return false };
        let before = group.orders();
        change(group, at % GROUP_FRAMES);
        let (after, whole) = (group.orders(), group.is_whole());
        self.publish(index, before, after);
        whole
    }

    /// Takes the aligned block of `order` at `at`, all of whose frames are available; says whether
    /// they were.
    pub(super) fn carve(&mut self, at: usize, order: u32) -> bool {
        match self.free_block_around(at) {
            Some(within) if within.order >= order => {
                self.take_block(within, at, order);
                true
            }
            _ => false,
        }
    }

    /// Gives the aligned block of `order` at `at`, none of whose frames is available, and merges it
    /// with its buddies. Its groups are whole if its order is 9 or more.
    #[inline]
    pub(super) fn give_block(&mut self, at: usize, order: u32) {
        self.available += 1 << order;
        if order >= GROUP_ORDER {
            return self.merge(at, order);
        }
        if self.change_group(at, |group, offset| group.give(offset, order)) {
            self.merge(at & !(GROUP_FRAMES - 1), GROUP_ORDER);
        }
    }

    /// Replaces the free block `block`, of order 9 or more, by the halves that remain when the
    /// block of `order`, at least 9, that `at` lies in is taken out.
    #[inline]
    fn split(&mut self, block: FreeBlock, at: usize, order: u32) {
        self.unmark(block.order, self.block_index(block.order, block.at));
        for half in order..block.order {
            self.mark(half, self.block_index(half, at ^ (1 << half)));
        }
    }

    /// Enters the block of `order`, at least 9, at `at` as free, merged with its buddies.
    #[inline]
    fn merge(&mut self, at: usize, order: u32) {
        let (mut at, mut order) = (at, order);
        while order < u32::from(Order::MAX.get()) && self.is_free_block(at ^ (1 << order), order) {
            self.unmark(order, self.block_index(order, at ^ (1 << order)));
            at &= !(1 << order);
            order += 1;
        }
        self.mark(order, self.block_index(order, at));
    }
}
