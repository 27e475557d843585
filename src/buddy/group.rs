//! A group: the bits of 512 frames, and what they say about free blocks below 2 MiB.
//!
//! A block of order `k` is available when its `2^k` aligned bits are all set, so splitting and
//! coalescing need no step of their own: taking frames clears bits, giving them back sets bits.
//! What a search needs is which *maximal* blocks there are, and that follows from the bits of each
//! 64-frame word alone: folding a word with itself shifted by 1, 2, 4, ... leaves one bit for each
//! aligned block of order 1, 2, 3, ... that is wholly set. Where a block is cut out of a maximal
//! one nothing is folded: of that one there remains a block of each order from the smaller to the
//! larger.
//!
//! A *cluster* is the same thing one storey up, and the same type: its bits are groups that are
//! free as a whole, and what is said here of frames and orders holds for them with 9 added to the
//! order.

use super::Placement;
use super::eight::{self, LANES, gather, scatter, some};
use super::word::{WORD_FRAMES, WORD_ORDER, exact_blocks, mask_of, ones, widest_clear};

/// Order of a block that fills a group.
pub(super) const GROUP_ORDER: u32 = 9;

/// Frames in a group.
pub(super) const GROUP_FRAMES: usize = 1 << GROUP_ORDER;

/// Order of a block that fills a cluster.
pub(super) const CLUSTER_ORDER: u32 = 2 * GROUP_ORDER;

/// Words in a group.
const WORDS: usize = GROUP_FRAMES / WORD_FRAMES;

/// The masks of a group that is wholly available.
const ALL_FULL: u64 = 0xff << (8 * WORD_ORDER);

/// The masks' bytes for orders below that of a word.
const BELOW_WORD: u64 = (1 << (8 * WORD_ORDER)) - 1;

/// Metadata of 512 frames from a multiple of 512 on, or of 512 such groups. Zeroed, none of them is
/// available.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Group {
    /// One bit a frame, set while the frame is available.
    bits: [u64; WORDS],
    /// The words' [masks](mask_of), a byte for each of their bits: bit `w` of byte `k` says that
    /// word `w` has a maximal available block of order `k`, for `k` up to 5; of byte 6, that all
    /// its frames are available.
    masks: u64,
}

const _: () = assert!(size_of::<Group>() == 72);

/// In what [`Group::orders`] says: that the whole group is available. There are no smaller maximal
/// blocks then.
pub(super) const WHOLE: u32 = 1 << GROUP_ORDER;

impl Group {
    /// A group without available frames.
    pub const EMPTY: Self = Self { bits: [0; WORDS], masks: 0 };

    /// A group whose frames are all available.
    const ALL: Self = Self { bits: [u64::MAX; WORDS], masks: ALL_FULL };

    /// The orders of which there are maximal available blocks: bit `k` for order `k` up to 8, or
    /// [`WHOLE`].
    #[inline]
    pub(super) fn orders(&self) -> u32 {
        orders_of(self.masks)
    }

    /// Whether all frames are available.
    #[inline]
    pub(super) fn is_whole(&self) -> bool {
        self.masks == ALL_FULL
    }

    /// Makes all frames available.
    pub(super) fn fill(&mut self) {
        *self = Self::ALL;
    }

    /// Makes no frame available.
    pub(super) fn clear(&mut self) {
        *self = Self::EMPTY;
    }

    /// The lowest or highest maximal available block of exactly `order`, at most 8, and where in
    /// its word others begin, below order 6.
    #[inline]
    pub(super) fn find(&self, order: u32, placement: Placement) -> Option<(usize, u64)> {
        if order >= WORD_ORDER {
            let blocks = eight::exact(full_words(self.masks), order - WORD_ORDER);
            return Some((placement.pick(blocks.into())? * WORD_FRAMES, 0));
        }
        let word = placement.pick(self.words_with(order))?;
        let blocks = exact_blocks(*self.bits.get(word)?, order);
        let bit = placement.pick(blocks)?;
        Some((word * WORD_FRAMES + bit, blocks & !(1 << bit)))
    }

    /// Bit `w` says whether word `w` has a maximal available block of `order`, at most 5.
    #[inline]
    pub(super) fn words_with(&self, order: u32) -> u64 {
        self.masks >> (8 * order) & 0xff
    }

    /// Where in the word that `offset` lies in maximal available blocks of `order`, at most 5,
    /// begin.
    #[inline]
    pub(super) fn blocks_in_word(&self, offset: usize, order: u32) -> u64 {
        exact_blocks(self.word_at(offset), order)
    }

    /// Where in the word of the maximal available block of `order` at `offset` others of that order
    /// begin, below order 6.
    pub(super) fn others(&self, offset: usize, order: u32) -> u64 {
        if order >= WORD_ORDER {
            return 0;
        }
        exact_blocks(self.word_at(offset), order) & !(1 << (offset % WORD_FRAMES))
    }

    /// The lowest maximal available block of exactly `order`, at most 8, that starts at `offset` or
    /// above.
    pub(super) fn find_at_or_after(&self, order: u32, offset: usize) -> Option<usize> {
        if offset >= GROUP_FRAMES {
            return None;
        }
        if order >= WORD_ORDER {
            let blocks = eight::exact(full_words(self.masks), order - WORD_ORDER);
            let rest = blocks & (!0 << offset.div_ceil(WORD_FRAMES));
            return (rest != 0).then(|| rest.trailing_zeros() as usize * WORD_FRAMES);
        }
        let (word, bit) = (offset / WORD_FRAMES, offset % WORD_FRAMES);
        let here = exact_blocks(self.bits[word], order) & (u64::MAX << bit);
        if here != 0 {
            return Some(word * WORD_FRAMES + here.trailing_zeros() as usize);
        }
        let next = Placement::Low.pick(self.words_with(order) & u64::MAX << (word + 1))?;
        let blocks = exact_blocks(*self.bits.get(next)?, order);
        Some(next * WORD_FRAMES + Placement::Low.pick(blocks)?)
    }

    /// Whether the frame at `offset` is available.
    #[inline]
    pub(super) fn contains(&self, offset: usize) -> bool {
        self.bits[offset / WORD_FRAMES % WORDS] >> (offset % WORD_FRAMES) & 1 == 1
    }

    /// The bits of the word that `offset` lies in.
    #[inline]
    pub(super) fn word_at(&self, offset: usize) -> u64 {
        self.bits[offset / WORD_FRAMES % WORDS]
    }

    /// Whether no frame of the aligned block of `order`, at most 9, at `offset` is available.
    #[inline]
    pub(super) fn has_none(&self, offset: usize, order: u32) -> bool {
        let word = offset / WORD_FRAMES % WORDS;
        if order <= WORD_ORDER {
            return self.bits[word] & ones(order) << (offset % WORD_FRAMES) == 0;
        }
        let words = 1 << (order - WORD_ORDER);
        self.bits[word..].iter().take(words).fold(0, |any, bits| any | bits) == 0
    }

    /// The largest order, at most 9, of an aligned block around the one of `order`, at most 8, at
    /// `offset` of which no frame is available; `None` if there is one in the block itself.
    #[inline]
    pub(super) fn widest_taken(&self, offset: usize, order: u32) -> Option<u32> {
        if !self.has_none(offset, order) {
            return None;
        }
        let mut widest = order;
        if order < WORD_ORDER {
            widest = widest_clear(self.word_at(offset), offset % WORD_FRAMES);
            if widest < WORD_ORDER {
                return Some(widest);
            }
        }
        while widest < GROUP_ORDER && self.has_none(offset & !((2 << widest) - 1), widest + 1) {
            widest += 1;
        }
        Some(widest)
    }

    /// The first frame in `from..to` that is not available.
    pub(super) fn first_missing(&self, from: usize, to: usize) -> Option<usize> {
        self.first_of(from, to, |bits| !bits)
    }

    /// The first frame in `from..to` that is available.
    pub(super) fn first_available(&self, from: usize, to: usize) -> Option<usize> {
        self.first_of(from, to, |bits| bits)
    }

    /// The first bit in `from..to` that is set in what `pick` makes of its word.
    fn first_of(&self, from: usize, to: usize, pick: impl Fn(u64) -> u64) -> Option<usize> {
        let mut at = from;
        while at < to {
            let rest = pick(*self.bits.get(at / WORD_FRAMES)?) & u64::MAX << (at % WORD_FRAMES);
            let word = at - at % WORD_FRAMES;
            if rest != 0 {
                let found = word + rest.trailing_zeros() as usize;
                return (found < to).then_some(found);
            }
            at = word + WORD_FRAMES;
        }
        None
    }

    /// The order of the maximal available block that contains the frame at `offset`; meaningful
    /// only if the frame is available.
    pub(super) fn order_at(&self, offset: usize) -> u32 {
        (1..=GROUP_ORDER)
            .take_while(|&order| {
                let start = offset & !((1 << order) - 1);
                self.first_missing(start, start + (1 << order)).is_none()
            })
            .count() as u32
    }

    /// How many maximal available blocks of exactly `order`, at most 8, there are.
    pub(super) fn count(&self, order: u32) -> usize {
        if order >= WORD_ORDER {
            eight::exact(full_words(self.masks), order - WORD_ORDER).count_ones() as usize
        } else {
            self.bits.iter().map(|&bits| exact_blocks(bits, order).count_ones() as usize).sum()
        }
    }

    /// Takes the aligned block of `order`, at most 8, at `offset` out of the maximal available
    /// block of order `from`, at most 9, that it lies in; `others` is not zero if the word has
    /// more blocks of that order. Like all changes, says which of the [`orders`](Self::orders)
    /// differ then.
    #[inline]
    pub(super) fn take(&mut self, offset: usize, order: u32, from: u32, others: u64) -> u32 {
        if order > WORD_ORDER {
            return self.set_words(offset / WORD_FRAMES, order, 0);
        }
        let word = offset / WORD_FRAMES % WORDS;
        let bits = self.bits[word] & !(ones(order) << (offset % WORD_FRAMES));
        self.bits[word] = bits;
        // The halves that remain of the block, one of each order, ...
        let halves = (1 << from.min(WORD_ORDER)) - (1 << order);
        let mask = if from < WORD_ORDER {
            // ... and whatever there was before, the block itself apart.
            let others = u64::from(others != 0) << from;
            self.mask(word) & !(1 << from) | others | halves
        } else {
            halves
        };
        self.set_mask(word, mask)
    }

    /// Takes maximal available blocks of `order`, at most 5, whose frames are `bits`, out of the
    /// word that `offset` lies in; `others` is not zero if it has more of them.
    #[inline]
    pub(super) fn take_alike(&mut self, offset: usize, bits: u64, order: u32, others: u64) -> u32 {
        self.take_row(offset, bits, order, order, 0, others)
    }

    /// Takes the frames `bits` from one end of a maximal available block of order `from`, at most
    /// 6, so that as many frames as `left` blocks of `order` have are left of it; `others` is
    /// not zero if the word has more blocks of order `from`.
    #[inline]
    pub(super) fn take_row(
        &mut self,
        offset: usize,
        bits: u64,
        order: u32,
        from: u32,
        left: u64,
        others: u64,
    ) -> u32 {
        let word = offset / WORD_FRAMES % WORDS;
        self.bits[word] &= !bits;
        let rest = self.mask(word) & !(1 << from) | u64::from(others != 0) << from;
        // What is left ends where a block does, or begins there: one block for each bit of its
        // length.
        self.set_mask(word, rest | left << order)
    }

    /// Gives the aligned block of `order`, at most 8, at `offset`; `None`, and no change, if a
    /// frame of it is available.
    #[inline]
    pub(super) fn give(&mut self, offset: usize, order: u32) -> Option<u32> {
        if order > WORD_ORDER {
            return self
                .has_none(offset, order)
                .then(|| self.set_words(offset / WORD_FRAMES, order, u64::MAX));
        }
        let block = ones(order) << (offset % WORD_FRAMES);
        (self.word_at(offset) & block == 0).then(|| self.give_apart(offset, order))
    }

    /// Gives the aligned block of `order`, at most 6, at `offset`, no frame of which is available.
    #[inline]
    pub(super) fn give_apart(&mut self, offset: usize, order: u32) -> u32 {
        self.give_bits(offset, ones(order) << (offset % WORD_FRAMES))
    }

    /// Gives the frames `bits`, none available, of the word that `offset` lies in.
    #[inline]
    pub(super) fn give_bits(&mut self, offset: usize, bits: u64) -> u32 {
        let word = offset / WORD_FRAMES % WORDS;
        self.set_word(word, self.bits[word] | bits)
    }

    /// Makes the frames that are available in `other` available here too. None of them is yet.
    pub(super) fn merge(&mut self, other: &Self) -> u32 {
        let before = self.orders();
        for (word, bits) in other.bits.into_iter().enumerate() {
            self.give_bits(word * WORD_FRAMES, bits);
        }
        before ^ self.orders()
    }

    /// The available frames, in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..GROUP_FRAMES).filter(|&offset| self.contains(offset))
    }

    /// Whether the masks are what the bits demand.
    pub(super) fn is_consistent(&self) -> bool {
        let mut recount = Self { bits: self.bits, ..Self::EMPTY };
        for (word, &bits) in self.bits.iter().enumerate() {
            recount.set_word(word, bits);
        }
        recount == *self
    }

    /// Replaces one word and its mask.
    #[inline]
    fn set_word(&mut self, word: usize, bits: u64) -> u32 {
        self.bits[word] = bits;
        self.set_mask(word, mask_of(bits))
    }

    /// The mask of one word.
    #[inline]
    fn mask(&self, word: usize) -> u64 {
        // There is no eighth byte, whatever stands there.
        gather(self.masks >> word & (LANES >> 8)).into()
    }

    /// Replaces the mask of one word.
    #[inline]
    fn set_mask(&mut self, word: usize, mask: u64) -> u32 {
        let before = self.masks;
        let others = before & !(LANES << word);
        let after = others | scatter(mask) << word;
        self.masks = after;
        // What another word has too, the group has in either case. Of full words it matters which
        // they are.
        let changed = (before ^ after) >> word & !some(others & BELOW_WORD);
        if changed == 0 {
            return 0;
        }
        gather(changed & BELOW_WORD) | word_orders(before) ^ word_orders(after)
    }

    /// Replaces the words of a block of `order`, more than 6, by `bits`: none or all set.
    fn set_words(&mut self, word: usize, order: u32, bits: u64) -> u32 {
        let before = self.orders();
        let words = 1 << (order - WORD_ORDER);
        self.bits[word..].iter_mut().take(words).for_each(|old| *old = bits);
        let columns = LANES * (((1 << words) - 1) << word);
        self.masks = self.masks & !columns | ALL_FULL & columns & bits;
        before ^ self.orders()
    }

    /// Flips one bit of the stored books, counted from the first frame's bit on.
    #[cfg(test)]
    pub(super) fn flip(&mut self, bit: usize) {
        match bit {
            0..GROUP_FRAMES => self.bits[bit / WORD_FRAMES] ^= 1 << (bit % WORD_FRAMES),
            _ => self.masks ^= 1 << (bit - GROUP_FRAMES),
        }
    }
}

/// One bit a word: whether these masks say that it is full.
#[inline]
fn full_words(masks: u64) -> u32 {
    (masks >> (8 * WORD_ORDER)) as u32 & 0xff
}

/// The orders of a group with these masks: see [`Group::orders`].
#[inline]
fn orders_of(masks: u64) -> u32 {
    gather(some(masks & BELOW_WORD)) | word_orders(masks)
}

/// The orders from that of a word on of a group with these masks.
#[inline]
fn word_orders(masks: u64) -> u32 {
    u32::from(eight::orders(full_words(masks))) << WORD_ORDER
}
