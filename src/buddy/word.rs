//! A word: the bits of 64 frames, and what folding them says about the blocks in it.
//!
//! Folding a word with itself shifted by 1, 2, 4, ... leaves one bit for each aligned block of
//! order 1, 2, 3, ... that is wholly set.

use super::eight::{self, gather};

/// Order of a block that fills a word.
pub(super) const WORD_ORDER: u32 = 6;

/// Order of a block that fills a byte of a word.
const BYTE_ORDER: u32 = 3;

/// Frames in a word.
pub(super) const WORD_FRAMES: usize = 1 << WORD_ORDER;

/// Bits of aligned blocks of order 0 to 6 in a word; of larger ones there are none.
const ALIGNED: [u64; 8] = [
    u64::MAX,
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    0x0000_0000_0000_0001,
    0,
];

/// The lowest `2^order` bits, for an order of at most 6.
#[inline]
pub(super) const fn ones(order: u32) -> u64 {
    u64::MAX >> (WORD_FRAMES - (1 << order))
}

/// Where in a word maximal available blocks of exactly `order`, at most 5, begin. A wholly
/// available word is one block of order 6, which may be part of a larger one.
#[inline]
pub(super) fn exact_blocks(bits: u64, order: u32) -> u64 {
    let blocks = aligned_blocks(bits, order);
    let larger = blocks & blocks >> (1 << order) & aligned(order + 1);
    blocks & !(larger | larger << (1 << order))
}

/// Where in a word available blocks of `order`, at most 6, begin, be they part of a larger one or
/// not.
#[inline]
fn aligned_blocks(bits: u64, order: u32) -> u64 {
    // A bit stays where a row of 2, 4, 8, ... begins. Steps beyond the order shift by nothing: a
    // loop that ended with the order would end where no predictor expects it.
    let last = (1 << order) - 1;
    (0..WORD_ORDER).fold(bits, |rows, step| rows & rows >> (last & 1 << step)) & aligned(order)
}

/// The order, at most 6, of the largest aligned block around `bit`, which is clear, of a word that
/// has no bit set.
#[inline]
pub(super) fn widest_clear(bits: u64, bit: usize) -> u32 {
    // The nearest bits that are set. Where there is none, the distance comes to 64 above and to
    // more below.
    let above = bit.wrapping_add((bits >> bit).trailing_zeros() as usize);
    let below = bit.wrapping_sub((bits << (WORD_FRAMES - 1 - bit)).leading_zeros() as usize);
    // The highest bit in which two positions differ says in blocks of which order they part.
    ((above ^ bit).min(below ^ bit) | 1).ilog2()
}

/// All frames of the blocks of `order`, at most 5, that begin at the set bits `heads`.
#[inline]
pub(super) const fn spread(heads: u64, order: u32) -> u64 {
    (heads << (1 << order)).wrapping_sub(heads)
}

/// The bits of a word at which blocks of `order` can begin.
#[inline]
pub(super) fn aligned(order: u32) -> u64 {
    ALIGNED[order as usize % ALIGNED.len()]
}

/// Bit `k`, up to 5, says that the word has a maximal available block of order `k`; bit 6 says that
/// all its frames are available.
///
/// What comes back next to what is free cannot be foreseen, so nothing here is a branch: one that
/// is mispredicted costs more than all of it.
#[inline]
pub(super) fn mask_of(bits: u64) -> u64 {
    // What begins elsewhere than such blocks can is in these too, and looked at nowhere.
    let pairs = bits & bits >> 1;
    let quads = pairs & pairs >> 2;
    let bytes = quads & quads >> 4 & aligned(3);
    // Where one half of a larger block is available and the other is not.
    let singles = (bits ^ bits >> 1) & aligned(1);
    let single_pairs = (pairs ^ pairs >> 2) & aligned(2);
    let single_quads = (quads ^ quads >> 4) & aligned(3);
    // The bytes of a word make blocks as the words of a group do, three orders below.
    u64::from(eight::orders(gather(bytes))) << BYTE_ORDER
        | u64::from(single_quads != 0) << 2
        | u64::from(single_pairs != 0) << 1
        | u64::from(singles != 0)
}
