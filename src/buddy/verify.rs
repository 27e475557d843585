//! The recount: every invariant of the module, checked from scratch.

use core::sync::atomic::Ordering::Relaxed;

use super::group::{CLUSTER_ORDER, GROUP_FRAMES, GROUP_ORDER};
use super::lookup::order_of;
use super::{Buddy, Corruption, Group, Kind, State, frame_at};
use crate::frame::{FrameRange, Order};

impl Buddy<'_> {
    /// Checks every invariant of the module against a recount. Linear in the size of the span.
    ///
    /// # Errors
    ///
    /// The first [`Corruption`] found.
    pub fn verify(&self) -> Result<(), Corruption> {
        self.verify_groups()?;
        self.verify_clusters()?;
        self.verify_summaries()?;
        self.verify_group_states()?;
        self.verify_frames()
    }

    /// Invariant 6: each group in itself, and no bit outside the span.
    fn verify_groups(&self) -> Result<(), Corruption> {
        for (index, group) in self.groups.iter().enumerate() {
            let start = self.group_start(index);
            if !group.is_consistent() {
                return Err(Corruption::Group { frame: frame_at(start) });
            }
            let end = start + GROUP_FRAMES;
            let before = self.start().clamp(start, end) - start;
            let behind = self.end().clamp(start, end) - start;
            let outside = group
                .first_available(0, before)
                .or_else(|| group.first_available(behind, GROUP_FRAMES));
            if let Some(offset) = outside {
                return Err(Corruption::Bit { frame: frame_at(start + offset) });
            }
        }
        Ok(())
    }

    /// Invariants 5 to 7: each cluster in itself, and the free blocks from order 18 on.
    fn verify_clusters(&self) -> Result<(), Corruption> {
        for (index, cluster) in self.clusters.iter().enumerate() {
            let start = self.cluster_start(index);
            if !cluster.is_consistent() {
                return Err(Corruption::Group { frame: frame_at(start) });
            }
            for group in cluster.iter() {
                let at = start + (group << GROUP_ORDER);
                if !self.groups.get(self.group_of(at)).is_some_and(Group::is_whole) {
                    return Err(Corruption::Bit { frame: frame_at(at) });
                }
            }
            let around = (CLUSTER_ORDER..Order::COUNT as u32)
                .filter(|&order| self.is_free_block(start & !((1 << order) - 1), order))
                .count();
            if around != usize::from(cluster.is_whole()) {
                let order = order_of(CLUSTER_ORDER);
                return Err(Corruption::Block { frame: frame_at(start), order });
            }
        }
        for order in CLUSTER_ORDER..Order::COUNT as u32 {
            for index in self.large.iter((order - GROUP_ORDER) as usize) {
                let at = self.cluster_start(index);
                let frames = 1 << order;
                let outside = at < self.start() || at > self.end() || self.end() - at < frames;
                let unmerged =
                    order < u32::from(Order::MAX.get()) && self.is_free_block(at ^ frames, order);
                if outside || !at.is_multiple_of(frames) || unmerged {
                    let order = order_of(order);
                    return Err(Corruption::Block { frame: frame_at(at), order });
                }
            }
        }
        Ok(())
    }

    /// Invariant 6 and the last part of 8: the summaries against the groups and clusters.
    fn verify_summaries(&self) -> Result<(), Corruption> {
        for order in 0..Order::COUNT as u32 {
            let (consistent, empty) = if order < GROUP_ORDER {
                let set = order as usize;
                let agrees = |(index, group): (usize, &Group)| {
                    self.small.contains(set, index) == (group.orders() >> set & 1 == 1)
                };
                let agree = self.groups.iter().enumerate().all(agrees);
                (agree && self.small.is_consistent(set), self.small.is_empty(set))
            } else {
                let set = (order - GROUP_ORDER) as usize;
                let agrees = |(index, cluster): (usize, &Group)| {
                    self.large.contains(set, index) == (cluster.orders() >> set & 1 == 1)
                };
                let agree = order >= CLUSTER_ORDER || self.clusters.iter().enumerate().all(agrees);
                (agree && self.large.is_consistent(set), self.large.is_empty(set))
            };
            if !consistent || (self.nonempty >> order & 1 == 0) != empty {
                return Err(Corruption::Summary { order: order_of(order) });
            }
        }
        Ok(())
    }

    /// Invariant 1: what groups' bytes say is what their first frames are.
    fn verify_group_states(&self) -> Result<(), Corruption> {
        for (group, byte) in self.states.of_groups().iter().enumerate() {
            let (at, found) = (self.group_start(group), byte.load(Relaxed));
            if found != State::NO_HEAD.byte() && self.state(at).byte() != found {
                return Err(Corruption::State { frame: frame_at(at), found });
            }
        }
        Ok(())
    }

    /// Invariants 1 to 4 and 8: every frame in turn.
    fn verify_frames(&self) -> Result<(), Corruption> {
        let (mut available, mut managed) = (0, 0);
        let mut at = self.start();
        while at < self.end() {
            let state = self.state(at);
            let wrong = Corruption::State { frame: frame_at(at), found: state.byte() };
            let frames = match state.kind() {
                Kind::Hole | Kind::Reserved => {
                    if self.groups[self.group_of(at)].contains(at % GROUP_FRAMES) {
                        return Err(Corruption::Bit { frame: frame_at(at) });
                    }
                    at += 1;
                    continue;
                }
                Kind::Plain => {
                    let frames = self.verify_available(at)?;
                    available += frames;
                    frames
                }
                Kind::Head(_, order) | Kind::Cached(order) => self.verify_taken(at, order)?,
                Kind::RunHead(_, order) => self.verify_run(at, order)?,
                Kind::RunTail(_) | Kind::Invalid => return Err(wrong),
            };
            managed += frames;
            at += frames;
        }
        let counters = [(available, self.available), (managed, self.managed)];
        match counters.into_iter().find(|(expected, found)| expected != found) {
            Some((expected, found)) => Err(Corruption::Counter { expected, found }),
            None => Ok(()),
        }
    }

    /// A plain frame outside of all blocks: how many frames the free block from it on has.
    fn verify_available(&self, at: usize) -> Result<usize, Corruption> {
        let frame = frame_at(at);
        match self.free_block_around(at) {
            Some(block) if block.at == at => {
                let frames = 1 << block.order;
                self.verify_interior(at, frames)?;
                Ok(frames)
            }
            Some(_) => Err(Corruption::State { frame, found: State::PLAIN.byte() }),
            None => Err(Corruption::Bit { frame }),
        }
    }

    /// The first frame of an allocated or cached block or piece: how many frames it has.
    fn verify_taken(&self, at: usize, order: Order) -> Result<usize, Corruption> {
        let frames = order.frames();
        if !at.is_multiple_of(frames) || self.end() - at < frames {
            return Err(Corruption::State { frame: frame_at(at), found: self.state(at).byte() });
        }
        let first = self.group_of(at);
        let bits_agree = if order.index() < GROUP_ORDER as usize {
            self.groups[first].has_none(at % GROUP_FRAMES, u32::from(order.get()))
        } else {
            let groups = &self.groups[first..first + frames / GROUP_FRAMES];
            groups.iter().all(Group::is_whole)
                && (at..at + frames)
                    .step_by(GROUP_FRAMES)
                    .all(|at| self.free_block_around(at).is_none())
        };
        if !bits_agree {
            return Err(Corruption::Bit { frame: frame_at(at) });
        }
        self.verify_interior(at, frames)?;
        Ok(frames)
    }

    /// All frames of a block but the first are plain.
    fn verify_interior(&self, at: usize, frames: usize) -> Result<(), Corruption> {
        match (at + 1..at + frames).find(|&inside| self.state(inside) != State::PLAIN) {
            Some(inside) => {
                Err(Corruption::State { frame: frame_at(inside), found: self.state(inside).byte() })
            }
            None => Ok(()),
        }
    }

    /// The first frame of a run: how many frames the run has.
    fn verify_run(&self, at: usize, first: Order) -> Result<usize, Corruption> {
        let wrong = Corruption::State { frame: frame_at(at), found: self.state(at).byte() };
        let mut end = at + self.verify_taken(at, first)?;
        while end < self.end()
            && let Kind::RunTail(order) = self.state(end).kind()
        {
            end += self.verify_taken(end, order)?;
        }
        let Some(run) = FrameRange::new(frame_at(at), frame_at(end)) else { return Err(wrong) };
        let mut pieces = 0;
        for (frame, order) in run.blocks() {
            pieces += 1;
            if self.state(frame.number()).order() != Some(order) {
                return Err(wrong);
            }
        }
        if pieces < 2 { Err(wrong) } else { Ok(end - at) }
    }
}
