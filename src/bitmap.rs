//! Hierarchical bitmaps, several side by side: the first set bit of any of them at or after any
//! position, in a bounded number of steps.
//!
//! The bits lie in words of 64. A second level has one bit for each word of the first, set where
//! that word is not zero; a third level summarises the second, and so on up to a root of one word.
//! Whatever the history, a search looks at no more than two words a level, and a level is 64 times
//! smaller than the one below it: 4096 bits need two levels, 2^36 bits need six.
//!
//! [`Bitmaps`] are sets over the same integers. Their words for the same 64 integers lie together,
//! in a *row*, because whoever keeps several sets mostly moves one integer between them: a change
//! of many sets touches one row a level, as a change of a single one does.
//!
//! # Invariants
//!
//! 1. A bit of level `n + 1` is set exactly if its word of level `n`, of the same set, is not zero.
//! 2. Bits at and beyond the length are clear.
//!
//! # Storage
//!
//! The words belong to the caller, so that a kernel can carve them out of the memory that it is
//! about to manage. Words that are all zero are empty sets. Level 0 comes first and the root
//! last.
//!
//! The structure is the "van Emde Boas tree of constant height" of the folklore; Linux's scheduler
//! and TLSF (Masmano et al., 2004) use it with two levels.

#![forbid(unsafe_code)]

/// Levels of the largest bitmap.
const LEVELS: usize = 6;

/// Bits in a word, and words that one bit of the next level stands for.
const WORD_BITS: usize = u64::BITS as usize;

/// `SETS` sets, at most 32, of integers below one fixed length, with ordered searches in
/// O(log64 length). The default has no room for any.
#[derive(Debug, Default)]
pub struct Bitmaps<'m, const SETS: usize> {
    rows: &'m mut [[u64; SETS]],
    len_bits: usize,
    /// Index of the root's level.
    root: usize,
    /// Where each level begins in `rows`.
    starts: [usize; LEVELS],
}

impl<'m, const SETS: usize> Bitmaps<'m, SETS> {
    /// The most bits that a set can have.
    pub const MAX_BITS: usize = 1 << (6 * LEVELS);

    /// How many words sets of `len_bits` bits need, all levels of all sets together.
    pub const fn words_needed(len_bits: usize) -> usize {
        let mut rows = len_bits.div_ceil(WORD_BITS);
        let mut total = rows;
        while rows > 1 {
            rows = rows.div_ceil(WORD_BITS);
            total += rows;
        }
        total.saturating_mul(SETS)
    }

    /// Empty sets of `len_bits` bits over `words`, which are all zero and exactly
    /// [`words_needed`](Self::words_needed) many; `None` if they are not that many or if a
    /// set would exceed [`MAX_BITS`](Self::MAX_BITS).
    pub fn new(len_bits: usize, words: &'m mut [u64]) -> Option<Self> {
        const { assert!(SETS > 0 && SETS <= u32::BITS as usize) };
        if len_bits > Self::MAX_BITS || words.len() != Self::words_needed(len_bits) {
            return None;
        }
        let mut starts = [0; LEVELS];
        let mut level_rows = len_bits.div_ceil(WORD_BITS);
        let mut root = 0;
        while level_rows > 1 {
            starts[root + 1] = starts[root] + level_rows;
            level_rows = level_rows.div_ceil(WORD_BITS);
            root += 1;
        }
        Some(Self { rows: words.as_chunks_mut().0, len_bits, root, starts })
    }

    /// How many bits each set has, set or not.
    #[inline]
    pub const fn len_bits(&self) -> usize {
        self.len_bits
    }

    /// How many bits of `set` are set, counted word by word.
    pub fn count(&self, set: usize) -> usize {
        self.level(0).iter().map(|row| word_of(row, set).count_ones() as usize).sum()
    }

    /// Whether no bit of `set` is set.
    #[inline]
    pub fn is_empty(&self, set: usize) -> bool {
        self.rows.last().is_none_or(|root| word_of(root, set) == 0)
    }

    /// Whether bit `index` of `set` is set; no bit beyond the length is.
    #[inline]
    pub fn contains(&self, set: usize, index: usize) -> bool {
        index < self.len_bits
            && self
                .rows
                .get(index / WORD_BITS)
                .is_some_and(|row| word_of(row, set) >> (index % WORD_BITS) & 1 == 1)
    }

    /// Flips bit `index` of each of the sets that `sets` has a bit for. Says which of these became
    /// empty or ceased to be. A bit beyond the length stays clear.
    #[inline]
    pub fn flip(&mut self, index: usize, sets: u32) -> u32 {
        if index >= self.len_bits {
            return 0;
        }
        let mut at = index / WORD_BITS;
        let mut sets = self.flip_in_row(at, index % WORD_BITS, sets);
        let mut level = 1;
        while sets != 0
            && level <= self.root
            && let Some(&start) = self.starts.get(level)
        {
            sets = self.flip_in_row(start + at / WORD_BITS, at % WORD_BITS, sets);
            at /= WORD_BITS;
            level += 1;
        }
        sets
    }

    /// Flips one bit of the words of `sets` in one row, and says which of these became zero or
    /// ceased to be.
    #[inline]
    fn flip_in_row(&mut self, row: usize, bit: usize, sets: u32) -> u32 {
        let Some(row) = self.rows.get_mut(row) else { return 0 };
        let bit = 1 << bit;
        let (mut rest, mut above) = (sets, 0);
        while rest != 0 {
            let set = rest.trailing_zeros();
            if let Some(word) = row.get_mut(set as usize) {
                let before = *word;
                *word = before ^ bit;
                above |= u32::from(before & !bit == 0) << set;
            }
            rest &= rest - 1;
        }
        above
    }

    /// The lowest set bit of `set`.
    #[inline]
    pub fn first(&self, set: usize) -> Option<usize> {
        self.descend_first(set, self.root + 1, 0)
    }

    /// The highest set bit of `set`.
    #[inline]
    pub fn last(&self, set: usize) -> Option<usize> {
        self.descend(set, self.root + 1, 0, u64::ilog2)
    }

    /// The lowest set bit of `set` that is `index` or above it.
    #[inline]
    pub fn first_at_or_after(&self, set: usize, index: usize) -> Option<usize> {
        let mut index = index;
        for level in 0..=self.root {
            let at = index / WORD_BITS;
            let word = word_of(self.level(level).get(at)?, set);
            let rest = word & (u64::MAX << (index % WORD_BITS));
            if rest != 0 {
                let found = at * WORD_BITS + rest.trailing_zeros() as usize;
                return self.descend_first(set, level, found);
            }
            index = at + 1;
        }
        None
    }

    /// All set bits of `set`, in ascending order.
    pub fn iter(&self, set: usize) -> impl Iterator<Item = usize> + '_ {
        let next = move |&bit: &usize| self.first_at_or_after(set, bit + 1);
        core::iter::successors(self.first(set), next)
    }

    /// Whether the invariants hold for `set`, recounted from level 0 upwards.
    pub fn is_consistent(&self, set: usize) -> bool {
        let leaves = self.level(0);
        let spare = leaves.len() * WORD_BITS - self.len_bits;
        let within = leaves
            .last()
            .is_none_or(|last| spare == 0 || word_of(last, set).leading_zeros() as usize >= spare);
        within && (0..self.root).all(|level| self.is_summarised(set, level))
    }

    /// Whether the level above `level` has exactly the bits that `level` demands for `set`.
    fn is_summarised(&self, set: usize, level: usize) -> bool {
        let above = self.level(level + 1);
        let words = above.len() * WORD_BITS;
        (0..words).all(|at| {
            let expected = self.level(level).get(at).is_some_and(|row| word_of(row, set) != 0);
            (word_of(&above[at / WORD_BITS], set) >> (at % WORD_BITS) & 1 == 1) == expected
        })
    }

    /// The rows of `level`.
    #[inline]
    fn level(&self, level: usize) -> &[[u64; SETS]] {
        let end = if level == self.root { self.rows.len() } else { self.starts[level + 1] };
        &self.rows[self.starts[level]..end]
    }

    /// The lowest set bit of `set` at level 0 below bit `index` of `level`.
    #[inline]
    fn descend_first(&self, set: usize, level: usize, index: usize) -> Option<usize> {
        self.descend(set, level, index, u64::trailing_zeros)
    }

    /// The set bit of `set` at level 0 below bit `index` of `level` that `pick` leads to, by which
    /// bit it chooses of a word that is not zero.
    #[inline]
    fn descend(
        &self,
        set: usize,
        level: usize,
        index: usize,
        pick: impl Fn(u64) -> u32,
    ) -> Option<usize> {
        let (mut level, mut index) = (level, index);
        while level != 0 {
            level -= 1;
            let row = self.rows.get(self.starts.get(level)? + index)?;
            let word = word_of(row, set);
            if word == 0 {
                return None;
            }
            index = index * WORD_BITS + pick(word) as usize;
        }
        Some(index)
    }
}

/// The word of `set` in `row`; a set that does not exist is empty.
#[inline]
fn word_of<const SETS: usize>(row: &[u64; SETS], set: usize) -> u64 {
    row.get(set).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
