//! The free blocks: finding, taking, splitting and merging them. Nothing here looks at states.

use super::group::{CLUSTER_ORDER, GROUP_FRAMES, GROUP_ORDER, WHOLE};
use super::{Buddy, Group, Placement};
use crate::frame::{FrameRange, Order};

/// A free block of `order` that starts at frame number `at`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FreeBlock {
    pub(super) at: usize,
    pub(super) order: u32,
    /// Not zero if the word of the group, or of the cluster, has more blocks of that order.
    pub(super) others: u64,
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

    /// Index of the cluster that frame `at` lies in; out of bounds for a frame outside the span.
    #[inline]
    pub(super) fn cluster_of(&self, at: usize) -> usize {
        (at >> CLUSTER_ORDER).wrapping_sub(self.start() >> CLUSTER_ORDER)
    }

    /// Number of the first frame of cluster `cluster`, which may lie before the span.
    #[inline]
    pub(super) fn cluster_start(&self, cluster: usize) -> usize {
        (cluster + (self.start() >> CLUSTER_ORDER)) << CLUSTER_ORDER
    }

    /// Whether there is a free block of `order`, at least 18, at `at`.
    #[inline]
    pub(super) fn is_free_block(&self, at: usize, order: u32) -> bool {
        self.large.contains((order - GROUP_ORDER) as usize, self.cluster_of(at))
    }

    /// Enters the block of `order`, at least 18, at `at` as free, or strikes it.
    #[inline]
    pub(super) fn flip_block(&mut self, at: usize, order: u32) {
        let flipped = self.large.flip(self.cluster_of(at), 1 << (order - GROUP_ORDER));
        self.nonempty ^= flipped << GROUP_ORDER;
    }

    /// Brings the summaries up to date after some orders of a group's blocks `changed`.
    #[inline]
    pub(super) fn publish_small(&mut self, group: usize, changed: u32) {
        let changed = changed & !WHOLE;
        if changed != 0 {
            self.nonempty ^= self.small.flip(group, changed);
        }
    }

    /// Brings the summaries up to date after some orders of a cluster's blocks, less 9, `changed`.
    #[inline]
    fn publish_large(&mut self, cluster: usize, changed: u32) {
        let changed = changed & !WHOLE;
        if changed != 0 {
            self.nonempty ^= self.large.flip(cluster, changed) << GROUP_ORDER;
        }
    }

    /// The smallest order, at least `order`, of which there is a free block.
    #[inline]
    pub(super) fn smallest(&self, order: u32) -> Option<u32> {
        let sufficient = self.nonempty >> order;
        (sufficient != 0).then(|| order + sufficient.trailing_zeros())
    }

    /// The lowest or highest of the smallest free blocks that have at least `order`.
    #[inline]
    pub(super) fn find(&self, order: u32, placement: Placement) -> Option<FreeBlock> {
        let order = self.smallest(order)?;
        if order >= GROUP_ORDER {
            return self.find_large(order, placement);
        }
        let group = match placement {
            Placement::Low => self.small.first(order as usize)?,
            Placement::High => self.small.last(order as usize)?,
        };
        let (offset, others) = self.groups.get(group)?.find(order, placement)?;
        Some(FreeBlock { at: self.group_start(group) + offset, order, others })
    }

    /// The lowest or highest free block of exactly `order`, at least 9.
    fn find_large(&self, order: u32, placement: Placement) -> Option<FreeBlock> {
        let above = order - GROUP_ORDER;
        let cluster = match placement {
            Placement::Low => self.large.first(above as usize)?,
            Placement::High => self.large.last(above as usize)?,
        };
        let at = self.cluster_start(cluster);
        if order >= CLUSTER_ORDER {
            return Some(FreeBlock { at, order, others: 0 });
        }
        let (group, others) = self.clusters.get(cluster)?.find(above, placement)?;
        Some(FreeBlock { at: at + (group << GROUP_ORDER), order, others })
    }

    /// The lowest free block of exactly `order` that starts at `from` or above.
    pub(super) fn next_free(&self, order: u32, from: usize) -> Option<usize> {
        let from = from.max(self.start());
        if order >= GROUP_ORDER {
            return self.next_large(order, from.checked_next_multiple_of(GROUP_FRAMES)?);
        }
        let group = self.group_of(from);
        let here = self.groups.get(group)?;
        if self.small.contains(order as usize, group)
            && let Some(offset) = here.find_at_or_after(order, from % GROUP_FRAMES)
        {
            return Some(self.group_start(group) + offset);
        }
        let next = self.small.first_at_or_after(order as usize, group + 1)?;
        let (offset, _) = self.groups.get(next)?.find(order, Placement::Low)?;
        Some(self.group_start(next) + offset)
    }

    /// The lowest free block of exactly `order`, at least 9, that starts at `from`, the first frame
    /// of a group, or above.
    fn next_large(&self, order: u32, from: usize) -> Option<usize> {
        let above = order - GROUP_ORDER;
        if order >= CLUSTER_ORDER {
            let first = from.checked_next_multiple_of(1 << order)?;
            let cluster = self.large.first_at_or_after(above as usize, self.cluster_of(first))?;
            return Some(self.cluster_start(cluster));
        }
        let cluster = self.cluster_of(from);
        let here = self.clusters.get(cluster)?;
        if self.large.contains(above as usize, cluster)
            && let Some(group) = here.find_at_or_after(above, group_in_cluster(from))
        {
            return Some(self.cluster_start(cluster) + (group << GROUP_ORDER));
        }
        let next = self.large.first_at_or_after(above as usize, cluster + 1)?;
        let (group, _) = self.clusters.get(next)?.find(above, Placement::Low)?;
        Some(self.cluster_start(next) + (group << GROUP_ORDER))
    }

    /// The free block that frame `at` lies in.
    pub(super) fn free_block_around(&self, at: usize) -> Option<FreeBlock> {
        let group = self.groups.get(self.group_of(at))?;
        if group.is_whole() {
            return self.large_block_around(at);
        }
        if !group.contains(at % GROUP_FRAMES) {
            return None;
        }
        let order = group.order_at(at % GROUP_FRAMES);
        let at = at & !((1 << order) - 1);
        Some(FreeBlock { at, order, others: group.others(at % GROUP_FRAMES, order) })
    }

    /// The free block that the whole group of frame `at` lies in.
    fn large_block_around(&self, at: usize) -> Option<FreeBlock> {
        let cluster = self.clusters.get(self.cluster_of(at))?;
        if cluster.is_whole() {
            return (CLUSTER_ORDER..Order::COUNT as u32)
                .map(|order| FreeBlock { at: at & !((1 << order) - 1), order, others: 0 })
                .find(|block| self.is_free_block(block.at, block.order));
        }
        if !cluster.contains(group_in_cluster(at)) {
            return None;
        }
        let above = cluster.order_at(group_in_cluster(at));
        let order = above + GROUP_ORDER;
        let at = at & !((1 << order) - 1);
        Some(FreeBlock { at, order, others: cluster.others(group_in_cluster(at), above) })
    }

    /// Whether no group of the block of `order`, at least 18, at `at` is free; none outside the
    /// span is.
    pub(super) fn has_no_free_group(&self, at: usize, order: u32) -> bool {
        let (first, clusters) = (at >> CLUSTER_ORDER, 1 << (order - CLUSTER_ORDER));
        (first..first + clusters).all(|cluster| {
            let index = cluster.wrapping_sub(self.start() >> CLUSTER_ORDER);
            self.clusters.get(index).is_none_or(|cluster| cluster.has_none(0, GROUP_ORDER))
        })
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
        self.available -= 1 << order;
        if within.order >= GROUP_ORDER {
            self.take_large(within, at, order.max(GROUP_ORDER));
        }
        if order < GROUP_ORDER {
            let (from, others) = (within.order.min(GROUP_ORDER), within.others);
            self.change_group(at, |group, offset| group.take(offset, order, from, others));
        }
    }

    /// Changes the group that frame `at` lies in, brings the summaries up to date, and says whether
    /// the group has become whole or ceased to be.
    #[inline]
    pub(super) fn change_group(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Group, usize) -> u32,
    ) -> bool {
        let index = self.group_of(at);
        let Some(group) = self.groups.get_mut(index) else { return false };
        let changed = change(group, at % GROUP_FRAMES);
        self.publish_small(index, changed);
        changed & WHOLE != 0
    }

    /// Changes the cluster that frame `at` lies in, brings the summaries up to date, and says
    /// whether the cluster has become whole or ceased to be.
    #[inline]
    pub(super) fn change_cluster(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Group, usize) -> u32,
    ) -> bool {
        let index = self.cluster_of(at);
        let Some(cluster) = self.clusters.get_mut(index) else { return false };
        let changed = change(cluster, group_in_cluster(at));
        self.publish_large(index, changed);
        changed & WHOLE != 0
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
        if order < GROUP_ORDER {
            self.give_small(at, order);
        } else {
            self.available += 1 << order;
            self.give_large(at, order);
        }
    }

    /// Gives the aligned block of `order`, at most 8, at `at`, and merges it with its buddies; says
    /// whether that could be: no frame of it may be available.
    #[inline]
    pub(super) fn give_small(&mut self, at: usize, order: u32) -> bool {
        let index = self.group_of(at);
        let Some(group) = self.groups.get_mut(index) else { return false };
        let Some(changed) = group.give(at % GROUP_FRAMES, order) else { return false };
        self.available += 1 << order;
        self.publish_small(index, changed);
        if changed & WHOLE != 0 {
            self.give_large(at, GROUP_ORDER);
        }
        true
    }

    /// Takes the block of `order`, at least 9, that `at` lies in out of the free block `within`.
    pub(super) fn take_large(&mut self, within: FreeBlock, at: usize, order: u32) {
        if within.order >= CLUSTER_ORDER {
            self.split(within, at, order.max(CLUSTER_ORDER));
        }
        if order < CLUSTER_ORDER {
            let (above, from) =
                (order - GROUP_ORDER, within.order.min(CLUSTER_ORDER) - GROUP_ORDER);
            self.change_cluster(at, |cluster, group| {
                cluster.take(group, above, from, within.others)
            });
        } else {
            self.clusters_of(at, order).for_each(Group::clear);
        }
    }

    /// Enters the block of `order`, at least 9, that `at` lies in as free, merged with its buddies.
    pub(super) fn give_large(&mut self, at: usize, order: u32) {
        if order >= CLUSTER_ORDER {
            self.clusters_of(at, order).for_each(Group::fill);
            return self.merge(at, order);
        }
        let above = order - GROUP_ORDER;
        let give = |cluster: &mut Group, group| cluster.give(group, above).unwrap_or(0);
        if self.change_cluster(at, give) {
            self.merge(at & !((1 << CLUSTER_ORDER) - 1), CLUSTER_ORDER);
        }
    }

    /// The clusters of the block of `order`, at least 18, at `at`.
    fn clusters_of(&mut self, at: usize, order: u32) -> impl Iterator<Item = &mut Group> {
        let first = self.cluster_of(at);
        self.clusters.iter_mut().skip(first).take(1 << (order - CLUSTER_ORDER))
    }

    /// Replaces the free block `block`, of order 18 or more, by the halves that remain when the
    /// block of `order`, at least 18, that `at` lies in is taken out.
    fn split(&mut self, block: FreeBlock, at: usize, order: u32) {
        self.flip_block(block.at, block.order);
        for half in order..block.order {
            self.flip_block((at ^ (1 << half)) & !((1 << half) - 1), half);
        }
    }

    /// Enters the block of `order`, at least 18, at `at` as free, merged with its buddies.
    fn merge(&mut self, at: usize, order: u32) {
        let (mut at, mut order) = (at, order);
        while order < u32::from(Order::MAX.get()) && self.is_free_block(at ^ (1 << order), order) {
            self.flip_block(at ^ (1 << order), order);
            at &= !(1 << order);
            order += 1;
        }
        self.flip_block(at, order);
    }
}

/// Which group of its cluster frame `at` lies in.
#[inline]
pub(super) fn group_in_cluster(at: usize) -> usize {
    (at >> GROUP_ORDER) % GROUP_FRAMES
}
