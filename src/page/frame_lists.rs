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
    Shape { order: 0, capacity: 96, refill: 64, spill: 32 },
    Shape { order: 1, capacity: 48, refill: 32, spill: 16 },
    Shape { order: 2, capacity: 24, refill: 16, spill: 8 },
    Shape { order: 3, capacity: 12, refill: 8, spill: 4 },
    Shape { order: 9, capacity: 2, refill: 1, spill: 1 },
];

const _: () = {
    let mut index = 0;
    while index < LISTS {
        let shape = &SHAPES[index];
        assert!(shape.refill + shape.spill <= shape.capacity && shape.spill <= shape.refill);
        assert!(shape.capacity as usize <= CAPACITY && shape.refill as usize <= MAX_BATCH);
        index += 1;
    }
};

/// The most blocks in any list.
const CAPACITY: usize = 96;

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

    /// How many blocks a full list gives back at once.
    #[inline]
    pub(super) const fn spill(self) -> usize {
        self.shape().spill as usize
    }

    #[inline(always)]
    const fn capacity(self) -> usize {
        self.shape().capacity as usize
    }
}

/// A stack of blocks of one order, as offsets into the span.
#[derive(Debug)]
struct List {
    len: u32,
    offsets: [u32; CAPACITY],
}

/// The frames that a CPU keeps.
#[derive(Debug)]
pub(super) struct FrameLists {
    /// The span's first frame, and its state bytes; none where the slot has no span.
    start: Frame,
    states: &'static [AtomicU8],
    lists: [List; LISTS],
}

impl FrameLists {
    /// Lists without a span.
    pub(super) const fn new() -> Self {
        const EMPTY: List = List { len: 0, offsets: [0; CAPACITY] };
        Self { start: Frame::ZERO, states: &[], lists: [EMPTY; LISTS] }
    }

    /// A block for `owner`; `None` if the list is empty, or the block's state is not what it must be.
    #[inline(always)]
    pub(super) fn take(&mut self, index: ListIndex, owner: BlockOwner) -> Option<Frame> {
        let order = index.order();
        let list = &mut self.lists[index.0 as usize % LISTS];
        let rest = list.len.checked_sub(1)?;
        let offset = *list.offsets.get(rest as usize)?;
        let state = self.states.get(offset as usize)?;
        if state.load(Ordering::Relaxed) != State::cached(order).byte() {
            return None;
        }
        state.store(State::head(owner, order).byte(), Ordering::Relaxed);
        list.len = rest;
        self.start.checked_add(offset as usize)
    }

    /// Takes `owner`'s block back. Unless it is taken, nothing has changed.
    #[inline(always)]
    pub(super) fn give(&mut self, frame: Frame, index: ListIndex, owner: BlockOwner) -> Given {
        let order = index.order();
        let offset = frame.number().wrapping_sub(self.start.number());
        let Some(state) = self.states.get(offset) else { return Given::Refused };
        if state.load(Ordering::Relaxed) != State::head(owner, order).byte() {
            return Given::Refused;
        }
        let list = &mut self.lists[index.0 as usize % LISTS];
        if list.len as usize >= index.capacity() {
            return Given::NoRoom;
        }
        let Some(place) = list.offsets.get_mut(list.len as usize) else { return Given::NoRoom };
        *place = offset as u32;
        list.len += 1;
        state.store(State::cached(order).byte(), Ordering::Relaxed);
        Given::Taken
    }

    /// The span's first frame, if there is a span.
    pub(super) fn span_start(&self) -> Option<Frame> {
        (!self.states.is_empty()).then_some(self.start)
    }

    /// Gives the lists, which are empty, another span; none if `states` is empty. Offsets have 32
    /// bits: of a larger span only the first 16 TiB are kept here.
    pub(super) fn set_span(&mut self, start: Frame, states: &'static [AtomicU8]) {
        debug_assert_eq!(self.frames(), 0, "blocks of the old span would be lost");
        let len = states.len().min(u32::MAX as usize);
        self.start = start;
        self.states = states.get(..len).unwrap_or_default();
    }

    /// Frames in all lists.
    pub(super) fn frames(&self) -> usize {
        let in_list = |index: ListIndex| {
            index.order().frames() * self.lists[index.0 as usize % LISTS].len as usize
        };
        ListIndex::all().map(in_list).sum()
    }

    /// Puts blocks of the span, which the zone has marked as cached, into the list; how many there
    /// was room for. Those come from the back, so that the front's are handed out first.
    pub(super) fn fill(&mut self, index: ListIndex, blocks: &[Frame]) -> usize {
        let list = &mut self.lists[index.0 as usize % LISTS];
        let room = index.capacity().saturating_sub(list.len as usize);
        let mut put = 0;
        for block in blocks.iter().rev().take(room) {
            let offset = block.number().wrapping_sub(self.start.number());
            if let Some(place) = list.offsets.get_mut(list.len as usize) {
                *place = offset as u32;
                list.len += 1;
                put += 1;
            }
        }
        put
    }

    /// Moves the blocks that were put in longest ago out into `out`, as many as it has room for; how many.
    pub(super) fn spill(&mut self, index: ListIndex, out: &mut [Frame]) -> usize {
        let list = &mut self.lists[index.0 as usize % LISTS];
        let moved = out.len().min(list.len as usize);
        for (place, &offset) in out.iter_mut().zip(&list.offsets) {
            *place = self.start.checked_add(offset as usize).unwrap_or(self.start);
        }
        list.offsets.copy_within(moved..list.len as usize, 0);
        list.len -= moved as u32;
        moved
    }
}

#[cfg(test)]
mod tests;
