//! A CPU's own frames: small blocks and blocks of 2 MiB, taken and given back without a lock.
//!
//! Each CPU has a stack of blocks for each of a few orders, in front of the zone that it took from last.
//! A hit touches the CPU's slot, one state byte and nothing else. An empty stack is refilled to two
//! thirds, a full one emptied to two thirds, under one hold of the zone's lock, so of any sequence of
//! n calls at most n / (a third of a stack) + 1 reach the zone.
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
pub(super) const LISTS: usize = 5;

/// What a list holds, and how it is filled and emptied.
struct Shape {
    order: u8,
    /// The place of the list's first block among those of all lists.
    first: u8,
    /// Blocks in a full list.
    capacity: u8,
    /// Blocks that an empty list takes from the zone at once.
    refill: u8,
    /// Blocks that a full list gives back at once.
    spill: u8,
}

/// The orders that have lists. A list that was refilled takes `spill` blocks before it is full, one that
/// has spilled has at least `spill` blocks to give: that is the bound on visits to the zone. A refill of frames is a
/// whole word of the zone's bits, so that CPUs that take at the same time do not share the cache lines of state bytes.
const SHAPES: [Shape; LISTS] = [
    Shape { order: 0, first: 0, capacity: 96, refill: 64, spill: 32 },
    Shape { order: 1, first: 96, capacity: 48, refill: 32, spill: 16 },
    Shape { order: 2, first: 144, capacity: 24, refill: 16, spill: 8 },
    Shape { order: 3, first: 168, capacity: 12, refill: 8, spill: 4 },
    Shape { order: 9, first: 180, capacity: 2, refill: 1, spill: 1 },
];

const _: () = {
    let (mut index, mut first) = (0, 0);
    while index < LISTS {
        let shape = &SHAPES[index];
        assert!(shape.refill + shape.spill <= shape.capacity && shape.spill <= shape.refill);
        assert!(shape.refill as usize <= MAX_BATCH && shape.first as usize == first);
        assert!(shape.refill != 1 || shape.spill == 1);
        first += shape.capacity as usize;
        index += 1;
    }
    assert!(first == PLACES);
};

/// Blocks in all lists when they are full.
const PLACES: usize = 182;

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
            small @ 0..=3 => Some(Self(small)),
            9 => Some(Self(4)),
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

    /// Whether blocks move between the list and its zone one at a time: then a request that the list cannot serve is the
    /// zone's alone.
    #[inline(always)]
    pub(super) const fn moves_singly(self) -> bool {
        self.shape().refill == 1
    }

    /// How many blocks a full list gives back at once.
    #[inline]
    pub(super) const fn spill(self) -> usize {
        self.shape().spill as usize
    }

    #[inline]
    const fn capacity(self) -> usize {
        self.shape().capacity as usize
    }
}

/// The frames that a CPU keeps.
#[derive(Debug)]
pub(super) struct FrameLists {
    /// The span's first frame, and its state bytes; none where the slot has no span.
    start: Frame,
    states: &'static [AtomicU8],
    /// How many blocks each list has.
    lens: [u32; LISTS],
    /// The lists, one behind the other.
    blocks: [Frame; PLACES],
}

impl FrameLists {
    /// Lists without a span.
    pub(super) const fn new() -> Self {
        Self { start: Frame::ZERO, states: &[], lens: [0; LISTS], blocks: [Frame::ZERO; PLACES] }
    }

    /// A block for `owner`; `None` if the list is empty, or the block's state is not what it must be.
    #[inline(always)]
    pub(super) fn take(&mut self, index: ListIndex, owner: BlockOwner) -> Option<Frame> {
        let (order, shape) = (index.order(), index.shape());
        let len = self.lens.get_mut(index.0 as usize)?;
        // One comparison: less than nothing is more than any list holds.
        let top = len.wrapping_sub(1);
        if top >= u32::from(shape.capacity) {
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
        let (Some(state), Some(len)) =
            (self.states.get(offset), self.lens.get_mut(index.0 as usize))
        else {
            return Given::Refused;
        };
        if state.load(Ordering::Relaxed) != State::head(owner, order).byte() {
            return Given::Refused;
        }
        if *len >= u32::from(shape.capacity) {
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
        let places = self.places(index).iter_mut().skip(len);
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
    fn len(&self, index: ListIndex) -> usize {
        let len = self.lens.get(index.0 as usize).copied().unwrap_or(0);
        (len as usize).min(index.capacity())
    }

    fn set_len(&mut self, index: ListIndex, len: usize) {
        if let Some(old) = self.lens.get_mut(index.0 as usize) {
            *old = len as u32;
        }
    }

    /// The list's places.
    fn places(&mut self, index: ListIndex) -> &mut [Frame] {
        let first = index.shape().first as usize;
        self.blocks.get_mut(first..first + index.capacity()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
