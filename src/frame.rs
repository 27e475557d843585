//! Frames, and the numbers that name them: newtypes with checked arithmetic.
//!
//! A **frame** is one naturally aligned physical page of [`FRAME_SIZE`] bytes; its **frame
//! number** is its physical address divided by that size. Everything above this module speaks of
//! memory in these types, so a byte count, an address, a frame number and an order can never be
//! taken for one another.
//!
//! # Invariants
//!
//! 1. A [`Frame`]'s first and last byte have a physical address that fits in 64 bits.
//! 2. A [`FrameRange`]'s start is at most its end.
//! 3. An [`Order`] is at most [`Order::MAX`], so `1 << order` frames never overflow.

#![forbid(unsafe_code)]

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Base-two logarithm of [`FRAME_SIZE`].
pub const FRAME_SHIFT: u32 = 12;

/// Bytes in a frame.
pub const FRAME_SIZE: usize = 1 << FRAME_SHIFT;

/// A physical address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PhysAddr(u64);

impl PhysAddr {
    /// Address zero.
    pub const ZERO: Self = Self(0);
    /// The last address that can be written down.
    pub const MAX: Self = Self(u64::MAX);

    /// The address `bytes` bytes above zero.
    #[inline]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This address as a number of bytes.
    #[inline]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The address `bytes` further up, or `None` if there is no such address.
    #[inline]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// How many bytes this address lies above `base`, or `None` if it lies below.
    #[inline]
    pub const fn checked_offset_from(self, base: Self) -> Option<u64> {
        self.0.checked_sub(base.0)
    }

    /// Whether this is the first byte of a frame.
    #[inline]
    pub const fn is_frame_aligned(self) -> bool {
        self.0.is_multiple_of(FRAME_SIZE as u64)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhysAddr({:#x})", self.0)
    }
}

impl fmt::Display for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A frame number: the physical address of a frame's first byte, divided by [`FRAME_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Frame(usize);

impl Frame {
    /// Frame number 0.
    pub const ZERO: Self = Self(0);

    /// The highest frame number whose bytes all have a 64-bit physical address.
    pub const MAX: Self = {
        let last = u64::MAX >> FRAME_SHIFT;
        if last > usize::MAX as u64 { Self(usize::MAX) } else { Self(last as usize) }
    };

    /// The frame with this number, or `None` above [`Frame::MAX`].
    #[inline]
    pub const fn new(number: usize) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The frame that contains `address`, or `None` if its number is above [`Frame::MAX`].
    #[inline]
    pub const fn containing(address: PhysAddr) -> Option<Self> {
        let number = address.0 >> FRAME_SHIFT;
        if number <= Self::MAX.0 as u64 { Some(Self(number as usize)) } else { None }
    }

    /// This frame's number.
    #[inline]
    pub const fn number(self) -> usize {
        self.0
    }

    /// The physical address of this frame's first byte.
    #[inline]
    pub const fn start(self) -> PhysAddr {
        PhysAddr((self.0 as u64) << FRAME_SHIFT)
    }

    /// The frame `frames` further up, or `None` above [`Frame::MAX`].
    #[inline]
    pub const fn checked_add(self, frames: usize) -> Option<Self> {
        match self.0.checked_add(frames) {
            Some(number) => Self::new(number),
            None => None,
        }
    }

    /// The frame `frames` further down, or `None` below frame 0.
    #[inline]
    pub const fn checked_sub(self, frames: usize) -> Option<Self> {
        match self.0.checked_sub(frames) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// How many frames this one lies above `base`, or `None` if it lies below.
    #[inline]
    pub const fn checked_offset_from(self, base: Self) -> Option<usize> {
        self.0.checked_sub(base.0)
    }

    /// Whether a block of `order` may start here.
    #[inline]
    pub const fn is_aligned_to(self, order: Order) -> bool {
        self.0.is_multiple_of(order.frames())
    }

    /// The first frame of the aligned block of `order` that this frame lies in.
    #[inline]
    pub const fn align_down(self, order: Order) -> Self {
        Self(self.0 & !(order.frames() - 1))
    }

    /// Frame `offset`, counted from the first, of the aligned block of `order` that this frame lies
    /// in; an offset beyond the block begins again.
    #[inline]
    pub(crate) const fn in_block(self, order: Order, offset: usize) -> Self {
        let last = order.frames() - 1;
        Self(self.0 & !last | offset & last)
    }

    /// The first frame at or after this one at which a block of `order` may start.
    #[inline]
    pub const fn align_up(self, order: Order) -> Option<Self> {
        match self.0.checked_next_multiple_of(order.frames()) {
            Some(number) => Self::new(number),
            None => None,
        }
    }

    /// The buddy of the block of `order` that starts here: the other half of the block of the
    /// next order.
    #[inline]
    pub const fn buddy(self, order: Order) -> Self {
        Self(self.0 ^ order.frames())
    }
}

/// A frame that several CPUs may read and write. It orders nothing else.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct AtomicFrame(AtomicUsize);

impl AtomicFrame {
    pub(crate) const fn new(frame: Frame) -> Self {
        Self(AtomicUsize::new(frame.0))
    }

    #[inline(always)]
    pub(crate) fn load(&self) -> Frame {
        // Nothing but frames' numbers is stored.
        Frame(self.0.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(crate) fn store(&self, frame: Frame) {
        self.0.store(frame.0, Ordering::Relaxed);
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:#x})", self.0)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {:#x}", self.0)
    }
}

/// A half-open range of frames: `start` is in it, `end` is not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FrameRange {
    start: Frame,
    end: Frame,
}

impl FrameRange {
    /// A range without frames.
    pub const EMPTY: Self = Self { start: Frame(0), end: Frame(0) };

    /// The frames from `start` up to, not including, `end`; `None` if `end` lies below `start`.
    #[inline]
    pub const fn new(start: Frame, end: Frame) -> Option<Self> {
        if start.0 <= end.0 { Some(Self { start, end }) } else { None }
    }

    /// The `frames` frames from `start` on; `None` if they do not all exist.
    #[inline]
    pub const fn from_len(start: Frame, frames: usize) -> Option<Self> {
        match start.checked_add(frames) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// The first frame.
    #[inline]
    pub const fn start(self) -> Frame {
        self.start
    }

    /// The frame behind the last one.
    #[inline]
    pub const fn end(self) -> Frame {
        self.end
    }

    /// How many frames are in the range.
    #[inline]
    pub const fn frames(self) -> usize {
        self.end.0 - self.start.0
    }

    /// How many bytes are in the range.
    #[inline]
    pub const fn len_bytes(self) -> u64 {
        (self.frames() as u64) << FRAME_SHIFT
    }

    /// Whether there is no frame in the range.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Whether `frame` is in the range.
    #[inline]
    pub const fn contains(self, frame: Frame) -> bool {
        self.start.0 <= frame.0 && frame.0 < self.end.0
    }

    /// Whether every frame of `other` is in the range.
    #[inline]
    pub const fn contains_range(self, other: Self) -> bool {
        other.is_empty() || (self.start.0 <= other.start.0 && other.end.0 <= self.end.0)
    }

    /// The frames that are in both ranges; empty where they are disjoint.
    #[inline]
    pub const fn intersect(self, other: Self) -> Self {
        let start = if self.start.0 > other.start.0 { self.start } else { other.start };
        let end = if self.end.0 < other.end.0 { self.end } else { other.end };
        if start.0 < end.0 { Self { start, end } } else { Self { start, end: start } }
    }

    /// Whether the ranges share a frame.
    #[inline]
    pub const fn overlaps(self, other: Self) -> bool {
        !self.intersect(other).is_empty()
    }

    /// The range cut in two at `frame`, which goes with the second part; a frame outside the range
    /// leaves one part empty.
    #[inline]
    pub const fn split_at(self, frame: Frame) -> (Self, Self) {
        let cut = if frame.0 < self.start.0 {
            self.start
        } else if frame.0 > self.end.0 {
            self.end
        } else {
            frame
        };
        (Self { start: self.start, end: cut }, Self { start: cut, end: self.end })
    }

    /// The frames of the range, in ascending order.
    #[inline]
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Frame> + Clone {
        (self.start.0..self.end.0).map(Frame)
    }

    /// The largest aligned blocks that tile the range, in ascending order: at most two of each
    /// order below [`Order::MAX`].
    #[inline]
    pub const fn blocks(self) -> Blocks {
        Blocks { rest: self }
    }
}

impl fmt::Debug for FrameRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameRange({:#x}..{:#x})", self.start.0, self.end.0)
    }
}

impl fmt::Display for FrameRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frames {:#x}..{:#x}", self.start.0, self.end.0)
    }
}

/// The aligned blocks that tile a range: see [`FrameRange::blocks`].
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy"]
pub struct Blocks {
    rest: FrameRange,
}

impl Iterator for Blocks {
    type Item = (Frame, Order);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let start = self.rest.start;
        let order = Order::largest_at(start, self.rest.frames())?;
        self.rest.start = Frame(start.0 + order.frames());
        Some((start, order))
    }
}

/// The size class of a block: a block of order `k` has 2^k frames and starts at a multiple of 2^k.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Order(u8);

impl Order {
    /// One frame.
    pub const ZERO: Self = Self(0);
    /// The largest order: 2^20 frames, 4 GiB.
    pub const MAX: Self = Self(20);
    /// How many orders there are.
    pub const COUNT: usize = Self::MAX.0 as usize + 1;

    /// The order `order`, or `None` above [`Order::MAX`].
    #[inline]
    pub const fn new(order: u8) -> Option<Self> {
        if order <= Self::MAX.0 { Some(Self(order)) } else { None }
    }

    /// The smallest order whose blocks hold `frames` frames; `None` for no frames and for more
    /// than the largest block has.
    #[inline]
    pub const fn for_frames(frames: usize) -> Option<Self> {
        if frames == 0 || frames > Self::MAX.frames() {
            return None;
        }
        Some(Self((usize::BITS - (frames - 1).leading_zeros()) as u8))
    }

    /// The smallest order whose blocks hold `bytes` bytes; `None` for no bytes and for more than
    /// the largest block has.
    #[inline]
    pub const fn for_bytes(bytes: usize) -> Option<Self> {
        Self::for_frames(bytes.div_ceil(FRAME_SIZE))
    }

    /// The largest order of a block that can start at `start` and has at most `frames` frames;
    /// `None` if `frames` is 0.
    #[inline]
    pub const fn largest_at(start: Frame, frames: usize) -> Option<Self> {
        if frames == 0 {
            return None;
        }
        let mut order = frames.ilog2();
        if start.0 != 0 && start.0.trailing_zeros() < order {
            order = start.0.trailing_zeros();
        }
        if order > Self::MAX.0 as u32 {
            order = Self::MAX.0 as u32;
        }
        Some(Self(order as u8))
    }

    /// This order as a number.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// This order as an index into a table of [`Order::COUNT`] entries.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Frames in a block of this order.
    #[inline]
    pub const fn frames(self) -> usize {
        1 << self.0
    }

    /// Bytes in a block of this order, 4 GiB at the most.
    #[inline]
    pub const fn len_bytes(self) -> u64 {
        (FRAME_SIZE as u64) << self.0
    }

    /// The next larger order, or `None` at [`Order::MAX`].
    #[inline]
    pub const fn above(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// The next smaller order, or `None` at order 0.
    #[inline]
    pub const fn below(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(order) => Some(Self(order)),
            None => None,
        }
    }

    /// All orders from 0 to [`Order::MAX`].
    #[inline]
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + Clone {
        (0..=Self::MAX.0).map(Self)
    }

    /// All orders from this one to [`Order::MAX`].
    #[inline]
    pub fn and_above(self) -> impl DoubleEndedIterator<Item = Self> + Clone {
        (self.0..=Self::MAX.0).map(Self)
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order({})", self.0)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {}", self.0)
    }
}

#[cfg(test)]
mod tests;
