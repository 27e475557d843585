//! How objects of one size lie in a slab: how large the slab, how far apart, where the first.
//!
//! # Invariants
//!
//! 1. At most a 32nd of a slab of up to eight frames is left over behind its objects, unless no
//!    such slab can do that; at most an eighth in any case.
//! 2. `lead + object_bytes <= stride`, and `stride`, `lead` and every colour are multiples of the
//!    alignment, which divides the block's size: so a block, aligned to its size, is aligned to it.
//! 3. [`Stride::divide_exactly`] is the quotient of every multiple of the stride, and larger than
//!    every object's index for every other offset.

#![forbid(unsafe_code)]

use super::CacheFlags;
use crate::buddy::AllocError;
use crate::frame::{FRAME_SIZE, Order};

/// Largest object with its red zones, and largest alignment, that a cache has: beyond, whole frames
/// serve better.
pub const MAX_OBJECT_BYTES: usize = 64 << 10;

/// Most objects in one slab: it bounds the record and every search in it.
pub const MAX_OBJECTS: usize = 512;

/// Fewest objects in a slab: below, blocks are taken and given back too often.
const MIN_OBJECTS: usize = 4;

/// Objects lie at least this far apart: a frame of smaller ones would hold more than
/// [`MAX_OBJECTS`].
const MIN_STRIDE: usize = 8;

/// Largest order of a slab: eight objects of any size fit, so invariant 1 can always be kept.
const MAX_ORDER: u8 = 7;

/// Blocks up to this order are easy to get, also when memory is in pieces: to leave less over,
/// slabs grow so far.
const EASY_ORDER: u8 = 3;

/// What a CPU fetches at once.
pub(super) const CACHE_LINE: usize = 64;

/// Fewest bytes of red zone on either side.
const RED_ZONE: usize = 8;

/// Eight objects fit the largest slab.
const MAX_STRIDE: usize = (FRAME_SIZE << MAX_ORDER) / 8;

const _: () = assert!(MAX_OBJECT_BYTES <= MAX_STRIDE && MAX_STRIDE <= 1 << 16);

/// How objects of one size lie in a slab.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    /// Bytes that the caller asked for.
    pub(super) object_bytes: usize,
    /// Alignment of objects.
    pub(super) align: usize,
    /// Bytes from one object to the next.
    pub(super) stride: usize,
    /// Bytes of red zone before an object; 0 without.
    pub(super) lead: usize,
    /// The slab's block.
    pub(super) order: Order,
    /// Objects in a slab.
    pub(super) objects: usize,
    /// Different places for a slab's first object.
    pub(super) colours: usize,
    /// Bytes from one colour to the next.
    pub(super) colour_step: usize,
}

impl Geometry {
    /// The geometry of objects of `bytes` bytes aligned to `align`.
    ///
    /// # Errors
    ///
    /// `ZeroSize`, `TooLarge` above [`MAX_OBJECT_BYTES`], `BadAlignment` if `align` is no power
    /// of two.
    pub(super) const fn new(
        bytes: usize,
        align: usize,
        flags: CacheFlags,
    ) -> Result<Self, AllocError> {
        if bytes == 0 {
            return Err(AllocError::ZeroSize);
        }
        if !align.is_power_of_two() {
            return Err(AllocError::BadAlignment);
        }
        if bytes > MAX_OBJECT_BYTES || align > MAX_OBJECT_BYTES {
            return Err(AllocError::TooLarge);
        }
        let mut align = align;
        if flags.contains(CacheFlags::HARDWARE_ALIGN) {
            align = max(align, line_share(bytes));
        }
        let (lead, trail) = if flags.contains(CacheFlags::RED_ZONE) {
            (max(align, RED_ZONE), RED_ZONE)
        } else {
            (0, 0)
        };
        let stride = max((lead + bytes + trail).next_multiple_of(align), MIN_STRIDE);
        if stride > MAX_STRIDE {
            return Err(AllocError::TooLarge);
        }
        let Some((order, objects)) = slab_size(stride) else { return Err(AllocError::TooLarge) };
        let rest = order.len_bytes() as usize - objects * stride;
        let colour_step = max(align, CACHE_LINE);
        let colours =
            if flags.contains(CacheFlags::NO_COLOUR) { 1 } else { rest / colour_step + 1 };
        Ok(Self { object_bytes: bytes, align, stride, lead, order, objects, colours, colour_step })
    }

    /// Bytes before the first object of the slab that is the `nth` of its cache.
    pub(super) const fn colour(&self, nth: usize) -> usize {
        nth % self.colours * self.colour_step
    }
}

/// How far apart objects lie, ready to divide by.
///
/// A stride is an odd number times a power of two. Modulo 2^64 an odd number has an inverse, and
/// to multiply by it and rotate the power of two away maps all numbers one to one, the multiples
/// of the stride to their quotients. So what is no multiple becomes a number beyond all of
/// those: one multiplication answers both which object begins at an offset and whether one does
/// (Granlund and Montgomery, *Division by Invariant Integers using Multiplication*, 1994, section
/// 9).
#[derive(Clone, Copy)]
pub(super) struct Stride {
    /// Of the odd part.
    pub(super) inverse: u64,
    pub(super) odd: u16,
    /// Exponent of the power of two.
    pub(super) shift: u8,
}

impl Stride {
    /// A stride of `bytes` bytes: more than none, and at most [`MAX_STRIDE`].
    pub(super) const fn new(bytes: usize) -> Self {
        let shift = bytes.trailing_zeros();
        let odd = (bytes >> shift) as u64;
        // An odd number is its own inverse modulo 8; each step of Newton's doubles the bits.
        let mut inverse = odd;
        let mut bits = 3;
        while bits < u64::BITS {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
            bits *= 2;
        }
        Self { inverse, odd: odd as u16, shift: shift as u8 }
    }

    #[inline]
    pub(super) const fn bytes(self) -> usize {
        (self.odd as usize) << self.shift
    }

    /// `offset` divided by the stride if that goes without remainder, else a number larger than
    /// every such quotient.
    #[inline]
    pub(super) const fn divide_exactly(self, offset: usize) -> usize {
        (offset as u64).wrapping_mul(self.inverse).rotate_right(self.shift as u32) as usize
    }
}

/// The smallest slab with enough objects and little left over: at most a 32nd, if there is such a
/// slab of up to [`EASY_ORDER`], else an eighth.
const fn slab_size(stride: usize) -> Option<(Order, usize)> {
    match slab_size_within(stride, EASY_ORDER, 32) {
        Some(found) => Some(found),
        None => slab_size_within(stride, MAX_ORDER, 8),
    }
}

/// The smallest slab of up to `max_order` with enough objects and at most a `part`th left over.
const fn slab_size_within(stride: usize, max_order: u8, part: usize) -> Option<(Order, usize)> {
    let mut order = 0;
    while order <= max_order {
        let Some(order_of_slab) = Order::new(order) else { return None };
        let block = order_of_slab.len_bytes() as usize;
        let fitting = block / stride;
        let objects = if fitting > MAX_OBJECTS { MAX_OBJECTS } else { fitting };
        if objects >= MIN_OBJECTS && (block - objects * stride) * part <= block {
            return Some((order_of_slab, objects));
        }
        order += 1;
    }
    None
}

/// The smallest share of a cache line, by halving, that holds `bytes`.
const fn line_share(bytes: usize) -> usize {
    let mut share = CACHE_LINE;
    while bytes <= share / 2 {
        share /= 2;
    }
    share
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}
