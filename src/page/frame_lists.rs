//! A CPU's own frames: small blocks and blocks of 2 MiB, taken and given back without a lock.
//!
//! Each CPU has a stack of blocks for each of a few orders, in front of the zone that it took from last.
//! A hit touches the CPU's slot, one state byte and nothing else. An empty stack takes several blocks, a full one is emptied to two
//! thirds, under one hold of the zone's lock, so of any sequence of n calls at most n / (the lesser of both) + 1 reach the zone. How
//! long stacks grow depends on the memory that there is for each CPU.
//!
//! # Invariants
//!
//! 1. A block in a stack of order k lies in the stack's span and has the state `Cached(k)`: it is
//!    neither available to the zone nor in anybody's hands.
//! 2. A slot's lists are touched as [`CpuSlot`](crate::cpu_local::CpuSlot) says: by its CPU, or by
//!    a remote that has revoked it.
//! 3. The states of a slot's span are those of a living span: before a span's metadata move, every slot is
//!    emptied and forgets its span, and none is given one until they have moved.
//!
//! # Sources
//!
//! Bonwick and Adams, *Magazines and Vmem*, 2001; Linux's per-CPU page lists.

use core::sync::atomic::{AtomicU8, Ordering};

use crate::buddy::{BlockOwner, State};
use crate::frame::{Frame, Order};

/// How many orders have a list.
pub(super) const LISTS: usize = 8;

/// What a list holds, and how it is filled.
struct Shape {
    order: u8,
    /// The place of the list's first block among those of all lists.
    first: u16,
    /// The most blocks that a full list ever has.
    places: u8,
    /// Blocks in a full list on the smallest machine.
    least: u8,
    /// Blocks that an empty list takes from the zone at once.
    refill: u8,
}

/// The orders that have lists. A refill of frames is a whole word of the zone's bits, so that CPUs that take at the same time do
/// not share the cache lines of state bytes.
const SHAPES: [Shape; LISTS] = [
    Shape { order: 0, first: 0, places: 96, least: 96, refill: 64 },
    Shape { order: 1, first: 96, places: 96, least: 48, refill: 32 },
    Shape { order: 2, first: 192, places: 96, least: 24, refill: 16 },
    Shape { order: 3, first: 288, places: 96, least: 12, refill: 8 },
    Shape { order: 4, first: 384, places: 96, least: 0, refill: 8 },
    Shape { order: 5, first: 480, places: 96, least: 0, refill: 8 },
    Shape { order: 6, first: 576, places: 96, least: 0, refill: 8 },
    Shape { order: 9, first: 672, places: 2, least: 2, refill: 1 },
];

/// A list has at most this part of a CPU's share of the memory, beyond what it has on the smallest machine.
const SHARE_PART: usize = 48;

impl Shape {
    /// Blocks in a full list of a CPU whose share of the memory is so many frames: none if they would be too few.
    fn limit(&self, share: usize) -> u32 {
        let fair = (share / SHARE_PART) >> self.order;
        let limit = fair.clamp(self.least.into(), self.places.into()) as u32;
        if (limit as usize) < usize::from(self.refill) + spill(limit) { 0 } else { limit }
    }
}

/// Blocks that a full list of `limit` gives back at once: so many more are left, and after a refill so many find room,
/// which is the bound on visits to the zone.
const fn spill(limit: u32) -> usize {
    let third = limit as usize / 3;
    if third == 0 { 1 } else { third }
}

const _: () = {
    let (mut index, mut first) = (0, 0);
    while index < LISTS {
        let shape = &SHAPES[index];
        let least = shape.least as usize;
        assert!(least == 0 || least >= shape.refill as usize + spill(least as u32));
        assert!(shape.least <= shape.places);
        assert!(shape.refill as usize <= MAX_BATCH && shape.first as usize == first);
        first += shape.places as usize;
        index += 1;
    }
    assert!(first == PLACES);
};

/// Places for blocks in all lists.
const PLACES: usize = 674;

/// The most blocks that move between a list and its zone at once.
pub(super) const MAX_BATCH: usize = 64;

/// What became of a block that was given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Given {
    /// It is in the list.
    Taken,
    /// It could be, but the list is full.
    NoRoom,
    /// It is no such block of the list's span.
    Refused,
}

/// Which list serves an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ListIndex(u8);

impl ListIndex {
    /// The list of blocks of `order`, if there is one.
    #[inline(always)]
    pub(super) const fn of(order: Order) -> Option<Self> {
        match order.get() {
            small @ 0..=6 => Some(Self(small)),
            9 => Some(Self(7)),
            _ => None,
        }
    }

    /// All lists.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..LISTS as u8).map(Self)
    }

    #[inline(always)]
    const fn shape(self) -> &'static Shape {
        &SHAPES[self.0 as usize % LISTS]
    }

    /// The order of the list's blocks.
    #[inline(always)]
    pub(super) const fn order(self) -> Order {
        match Order::new(self.shape().order) {
            Some(order) => order,
            None => Order::MAX,
        }
    }

    /// How many blocks an empty list takes from the zone at once.
    #[inline]
    pub(super) const fn refill(self) -> usize {
        self.shape().refill as usize
    }

    /// Places for blocks of the list.
    #[inline]
    const fn places(self) -> usize {
        self.shape().places as usize
    }

    /// Whether blocks move between the list and its zone one at a time: then a request that the list cannot serve is the
    /// zone's alone.
    #[inline(always)]
    pub(super) const fn moves_singly(self) -> bool {
        self.shape().refill == 1
    }
}

/// The frames that a CPU keeps.
#[derive(Debug)]
pub(super) struct FrameLists {
    /// The span's first frame, and its state bytes; none where the slot has no span.
    start: Frame,
    states: &'static [AtomicU8],
    /// How many blocks each list has,
    lens: [u32; LISTS],
    /// and may have. None in a list that is not used.
    limits: [u32; LISTS],
    /// The lists, one behind the other.
    blocks: [Frame; PLACES],
}

impl FrameLists {
    /// Lists without a span, of a CPU whose share of the memory is so many frames.
    pub(super) fn new(share: usize) -> Self {
        Self {
            start: Frame::ZERO,
            states: &[],
            lens: [0; LISTS],
            limits: SHAPES.each_ref().map(|shape| shape.limit(share)),
            blocks: [Frame::ZERO; PLACES],
        }
    }

    /// How many blocks a full list gives back at once; `None` if the list is not used.
    pub(super) fn spill(&self, index: ListIndex) -> Option<usize> {
        let limit = *self.limits.get(index.0 as usize)?;
        (limit > 0).then(|| spill(limit))
    }

    /// A block for `owner`; `None` if the list is empty, or the block's state is not what it must be.
    #[inline(always)]
    pub(super) fn take(&mut self, index: ListIndex, owner: BlockOwner) -> Option<Frame> {
        let (order, shape) = (index.order(), index.shape());
        let len = self.lens.get_mut(index.0 as usize)?;
        // One comparison: less than nothing is more than any list holds.
        let top = len.wrapping_sub(1);
        if top >= u32::from(shape.places) {
            return None;
        }
        let frame = *self.blocks.get(shape.first as usize + top as usize)?;
        let state = self.states.get(frame.number().wrapping_sub(self.start.number()))?;
        if state.load(Ordering::Relaxed) != State::cached(order).byte() {
            return None;
        }
        state.store(State::head(owner, order).byte(), Ordering::Relaxed);
        *len = top;
        Some(frame)
    }

    /// Takes `owner`'s block back. Unless it is taken, nothing has changed.
    #[inline(always)]
    pub(super) fn give(&mut self, frame: Frame, index: ListIndex, owner: BlockOwner) -> Given {
        let (order, shape) = (index.order(), index.shape());
        let offset = frame.number().wrapping_sub(self.start.number());
        let number = index.0 as usize;
        let (Some(state), Some(len), Some(&limit)) =
            (self.states.get(offset), self.lens.get_mut(number), self.limits.get(number))
        else {
            return Given::Refused;
        };
        if state.load(Ordering::Relaxed) != State::head(owner, order).byte() {
            return Given::Refused;
        }
        if *len >= limit {
            return Given::NoRoom;
        }
        let Some(place) = self.blocks.get_mut(shape.first as usize + *len as usize) else {
            return Given::NoRoom;
        };
        *place = frame;
        *len += 1;
        state.store(State::cached(order).byte(), Ordering::Relaxed);
        Given::Taken
    }

    /// The span's first frame, if there is a span.
    pub(super) fn span_start(&self) -> Option<Frame> {
        (!self.states.is_empty()).then_some(self.start)
    }

    /// Gives the lists, which are empty, another span; none if `states` is empty.
    pub(super) fn set_span(&mut self, start: Frame, states: &'static [AtomicU8]) {
        debug_assert_eq!(self.frames(), 0, "blocks of the old span would be lost");
        self.start = start;
        self.states = states;
    }

    /// Frames in all lists.
    pub(super) fn frames(&self) -> usize {
        ListIndex::all().map(|index| index.order().frames() * self.len(index)).sum()
    }

    /// Puts blocks of the span, which the zone has marked as cached, into the list; how many there
    /// was room for. Those come from the back, so that the front's are handed out first.
    pub(super) fn fill(&mut self, index: ListIndex, blocks: &[Frame]) -> usize {
        let len = self.len(index);
        let room = self.limit(index).saturating_sub(len);
        let places = self.places(index).iter_mut().skip(len).take(room);
        let put = places.zip(blocks.iter().rev()).map(|(place, &block)| *place = block).count();
        self.set_len(index, len + put);
        put
    }

    /// The blocks that were put in longest ago, at most `most`.
    pub(super) fn oldest(&self, index: ListIndex, most: usize) -> &[Frame] {
        let first = index.shape().first as usize;
        self.blocks.get(first..first + self.len(index).min(most)).unwrap_or_default()
    }

    /// Forgets as many of the blocks that were put in longest ago.
    pub(super) fn forget_oldest(&mut self, index: ListIndex, blocks: usize) {
        let len = self.len(index);
        let gone = blocks.min(len);
        self.places(index).copy_within(gone..len, 0);
        self.set_len(index, len - gone);
    }

    /// How many blocks the list has.
    #[inline]
    pub(super) fn len(&self, index: ListIndex) -> usize {
        let len = self.lens.get(index.0 as usize).copied().unwrap_or(0);
        (len as usize).min(index.places())
    }

    /// How many blocks the list may have.
    fn limit(&self, index: ListIndex) -> usize {
        self.limits.get(index.0 as usize).copied().unwrap_or(0) as usize
    }

    fn set_len(&mut self, index: ListIndex, len: usize) {
        if let Some(old) = self.lens.get_mut(index.0 as usize) {
            *old = len as u32;
        }
    }

    /// The list's places.
    fn places(&mut self, index: ListIndex) -> &mut [Frame] {
        let first = index.shape().first as usize;
        self.blocks.get_mut(first..first + index.places()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
