//! The state of a frame, as it is stored.
//!
//! One byte a frame says what the frame is, or from order 9 on one byte a group of 512 (see
//! `states`); together with the bits of its group it says everything. Only the byte of a block's
//! first frame or group changes when the block is allocated or given back.
//!
//! | byte | state |
//! | --- | --- |
//! | `0` | hole: no memory, or memory that is not managed (zeroed metadata are all holes); of a group: no block from order 9 on begins with it |
//! | `1` | reserved: memory that must never be allocated |
//! | `2` | plain: available, or inside a block but not its first frame |
//! | `8 + k` | first frame of a block of order `k` in a CPU's frame list |
//! | `32 (1 + owner) + k` | first frame of an allocated block of order `k` |
//! | `32 (4 + owner) + k` | first frame of the first piece, of order `k`, of an allocated run |
//! | `32 · 7 + k` | first frame of a further piece, of order `k`, of an allocated run |

use super::group::GROUP_ORDER;
use crate::frame::Order;

/// For whom a block was allocated. A block can only be freed on behalf of its owner, so that a
/// caller cannot take a slab from under its objects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum BlockOwner {
    /// Whoever asked the page layer for frames.
    Caller = 0,
    /// A slab of objects.
    Slab = 1,
    /// A page run of the heap.
    Heap = 2,
}

/// A frame's state as it is stored, for those who keep frames beside the buddy allocator (a CPU's
/// frame lists) and read and write single bytes of its [`States`](super::States).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct State(u8);

/// What a state byte means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// No memory, or memory that is not managed.
    Hole,
    /// Memory that must never be allocated.
    Reserved,
    /// Available, or inside a block.
    Plain,
    /// First frame of a block in a CPU's frame list.
    Cached(Order),
    /// First frame of an allocated block.
    Head(BlockOwner, Order),
    /// First frame of an allocated run of several pieces, whose first piece has this order.
    RunHead(BlockOwner, Order),
    /// First frame of a further piece, of this order, of an allocated run.
    RunTail(Order),
    /// No state is written like this.
    Invalid,
}

const CACHED: u8 = 8;
const KIND_SHIFT: u32 = 5;
const ORDER_MASK: u8 = (1 << KIND_SHIFT) - 1;
const HEAD: u8 = 1;
const RUN_HEAD: u8 = 4;
const RUN_TAIL: u8 = 7;

const _: () = assert!(CACHED + Order::MAX.get() <= ORDER_MASK);

impl State {
    /// No memory.
    pub const HOLE: Self = Self(0);
    /// Memory that must never be allocated.
    pub const RESERVED: Self = Self(1);
    /// Available, or inside a block.
    pub const PLAIN: Self = Self(2);
    /// Of a group: no block or piece of its size or more begins with it.
    pub const NO_HEAD: Self = Self(0);
    /// What means nothing.
    pub(super) const INVALID: Self = Self(CACHED - 1);

    /// First frame of a block of `order` in a CPU's frame list.
    #[inline]
    pub const fn cached(order: Order) -> Self {
        Self(CACHED + order.get())
    }

    /// First frame of an allocated block of `order`.
    #[inline]
    pub const fn head(owner: BlockOwner, order: Order) -> Self {
        Self((HEAD + owner as u8) << KIND_SHIFT | order.get())
    }

    /// First frame of an allocated run whose first piece has `order`.
    #[inline]
    pub const fn run_head(owner: BlockOwner, order: Order) -> Self {
        Self((RUN_HEAD + owner as u8) << KIND_SHIFT | order.get())
    }

    /// First frame of a further piece, of `order`, of an allocated run.
    #[inline]
    pub const fn run_tail(order: Order) -> Self {
        Self(RUN_TAIL << KIND_SHIFT | order.get())
    }

    /// What is written where no block of `order` begins, available or not.
    #[inline]
    pub(super) const fn vacant(order: u32) -> Self {
        if order < GROUP_ORDER { Self::PLAIN } else { Self::NO_HEAD }
    }

    /// The state that `byte` stands for; any byte is accepted, see [`Kind::Invalid`].
    #[inline]
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// This state as it is stored.
    #[inline]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// What this state means.
    pub const fn kind(self) -> Kind {
        let low = self.0 & ORDER_MASK;
        let kind = self.0 >> KIND_SHIFT;
        if kind == 0 {
            return match low {
                0 => Kind::Hole,
                1 => Kind::Reserved,
                2 => Kind::Plain,
                CACHED.. => match Order::new(low - CACHED) {
                    Some(order) => Kind::Cached(order),
                    None => Kind::Invalid,
                },
                _ => Kind::Invalid,
            };
        }
        let Some(order) = Order::new(low) else { return Kind::Invalid };
        match kind {
            1 => Kind::Head(BlockOwner::Caller, order),
            2 => Kind::Head(BlockOwner::Slab, order),
            3 => Kind::Head(BlockOwner::Heap, order),
            4 => Kind::RunHead(BlockOwner::Caller, order),
            5 => Kind::RunHead(BlockOwner::Slab, order),
            6 => Kind::RunHead(BlockOwner::Heap, order),
            _ => Kind::RunTail(order),
        }
    }

    /// The order of the block or piece that starts here, if one does.
    #[inline]
    pub const fn order(self) -> Option<Order> {
        let low = self.0 & ORDER_MASK;
        // Of what is no block less than nothing comes out, and that is beyond all orders.
        Order::new(if self.0 >> KIND_SHIFT == 0 { low.wrapping_sub(CACHED) } else { low })
    }
}
