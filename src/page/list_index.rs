//! Which orders have a list in front of the zones, how long the lists are, and how they are filled.

use crate::frame::Order;

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

/// The orders that have lists. A refill of frames is as many as a word of the zone's bits has, and
/// mostly such a word, so that CPUs that take at the same time do not share the cache lines of
/// state bytes.
const SHAPES: [Shape; LISTS] = [
    Shape { order: 0, first: 0, places: 128, least: 96, refill: 64 },
    Shape { order: 1, first: 128, places: 128, least: 48, refill: 32 },
    Shape { order: 2, first: 256, places: 128, least: 24, refill: 16 },
    Shape { order: 3, first: 384, places: 128, least: 12, refill: 8 },
    Shape { order: 4, first: 512, places: 128, least: 0, refill: 8 },
    Shape { order: 5, first: 640, places: 128, least: 0, refill: 8 },
    Shape { order: 6, first: 768, places: 128, least: 0, refill: 8 },
    Shape { order: 9, first: 896, places: 2, least: 2, refill: 1 },
];

/// A list has at most this part of a CPU's share of the memory, beyond what it has on the smallest
/// machine.
const SHARE_PART: usize = 48;

impl Shape {
    /// Blocks in a full list of a CPU whose share of the memory is so many frames: none if they
    /// would be too few.
    fn limit(&self, share: usize) -> usize {
        let fair = (share / SHARE_PART) >> self.order;
        let limit = fair.clamp(self.least.into(), self.places.into());
        if limit < usize::from(self.refill) + spill(limit) { 0 } else { limit }
    }
}

/// Blocks that a full list of `limit` gives back at once: so many more are left, and after a refill
/// so many find room, which is the bound on visits to the zone.
pub(super) const fn spill(limit: usize) -> usize {
    match limit / 3 {
        0 => 1,
        third if third > MAX_BATCH / 2 => MAX_BATCH / 2,
        third => third,
    }
}

const _: () = {
    let (mut index, mut first) = (0, 0);
    while index < LISTS {
        let shape = &SHAPES[index];
        let least = shape.least as usize;
        assert!(least == 0 || least >= shape.refill as usize + spill(least));
        assert!(shape.least <= shape.places);
        assert!(shape.refill as usize <= MAX_BATCH && shape.first as usize == first);
        first += shape.places as usize;
        index += 1;
    }
};

/// Places for blocks in all lists.
pub(super) const PLACES: usize = {
    let last = &SHAPES[LISTS - 1];
    last.first as usize + last.places as usize
};

/// The most blocks that move between a list and its zone at once.
pub(super) const MAX_BATCH: usize = 64;

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
        &SHAPES[self.number()]
    }

    /// The order of the list's blocks.
    #[inline(always)]
    pub(super) const fn order(self) -> Order {
        match Order::new(self.shape().order) {
            Some(order) => order,
            None => Order::MAX,
        }
    }

    /// The list's place among all lists.
    #[inline(always)]
    pub(super) const fn number(self) -> usize {
        self.0 as usize % LISTS
    }

    /// How many blocks a full list has, by list, on a CPU whose share of the memory is so many
    /// frames.
    pub(super) fn limits(share: usize) -> [usize; LISTS] {
        SHAPES.each_ref().map(|shape| shape.limit(share))
    }

    /// How many blocks an empty list takes from the zone at once.
    #[inline]
    pub(super) const fn refill(self) -> usize {
        self.shape().refill as usize
    }

    /// The place of the list's first block among those of all lists.
    #[inline(always)]
    pub(super) const fn first(self) -> usize {
        self.shape().first as usize
    }

    /// Places for blocks of the list.
    #[inline(always)]
    pub(super) const fn places(self) -> usize {
        self.shape().places as usize
    }

    /// Whether blocks move between the list and its zone one at a time: then a request that the
    /// list cannot serve is the zone's alone.
    #[inline(always)]
    pub(super) const fn moves_singly(self) -> bool {
        self.shape().refill == 1
    }
}
