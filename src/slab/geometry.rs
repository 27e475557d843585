//! How objects of one size lie in a slab: how large the slab, how far apart, where the first.
//!
//! # Invariants
//!
//! 1. At most one eighth of a slab is left over behind its objects.
//! 2. `lead + object_bytes <= stride`, and `stride`, `lead` and every colour are multiples of
//!    the alignment, which divides the block's size or the block is aligned to it.
//! 3. `index(offset) == offset / stride` for every offset inside a slab.

#![forbid(unsafe_code)]

use super::CacheFlags;
use crate::buddy::AllocError;
use crate::frame::Order;

/// Largest object, and largest alignment, that a cache has: beyond, whole frames serve better.
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

/// What a CPU fetches at once.
pub(super) const CACHE_LINE: usize = 64;

/// Fewest bytes of red zone on either side.
const RED_ZONE: usize = 8;

/// `reciprocal` is 2^40 / stride, rounded up. The error is below stride / 2^40 a unit of
/// offset, so with offsets below 2^19 and strides of at most 2^17 the quotient is exact.
const RECIPROCAL_SHIFT: u32 = 40;

const _: () = {
    let largest_offset = (4096usize << MAX_ORDER) - 1;
    let largest_stride = 2 * MAX_OBJECT_BYTES;
    assert!(largest_offset * largest_stride < 1 << RECIPROCAL_SHIFT);
    assert!(MAX_OBJECT_BYTES * 8 <= 4096 << MAX_ORDER);
};

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
    /// See [`RECIPROCAL_SHIFT`].
    pub(super) reciprocal: u64,
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
        if stride * 8 > 4096 << MAX_ORDER {
            return Err(AllocError::TooLarge);
        }
        let Some((order, objects)) = slab_size(stride) else { return Err(AllocError::TooLarge) };
        let rest = order.len_bytes() as usize - objects * stride;
        let colour_step = max(align, CACHE_LINE);
        let colours =
            if flags.contains(CacheFlags::NO_COLOUR) { 1 } else { rest / colour_step + 1 };
        let reciprocal = (1u64 << RECIPROCAL_SHIFT).div_ceil(stride as u64);
        Ok(Self {
            object_bytes: bytes,
            align,
            stride,
            lead,
            order,
            objects,
            colours,
            colour_step,
            reciprocal,
        })
    }

    /// Bytes before the first object of the slab that is the `nth` of its cache.
    pub(super) const fn colour(&self, nth: usize) -> usize {
        nth % self.colours * self.colour_step
    }
}

/// Which object the byte `offset` bytes into a slab's objects belongs to.
#[inline]
pub(super) const fn index_of(offset: usize, reciprocal: u64) -> usize {
    ((offset as u64).wrapping_mul(reciprocal) >> RECIPROCAL_SHIFT) as usize
}

/// The smallest slab with enough objects and at most an eighth left over.
const fn slab_size(stride: usize) -> Option<(Order, usize)> {
    let mut order = 0;
    while order <= MAX_ORDER {
        let Some(order_of_slab) = Order::new(order) else { return None };
        let block = order_of_slab.len_bytes() as usize;
        let fitting = block / stride;
        let objects = if fitting > MAX_OBJECTS { MAX_OBJECTS } else { fitting };
        if objects >= MIN_OBJECTS && (block - objects * stride) * 8 <= block {
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
