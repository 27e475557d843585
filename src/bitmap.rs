//! A hierarchical bitmap: the first set bit at or after any position, in a bounded number of steps.
//!
//! The bits lie in words of 64. A second level has one bit for each word of the first, set where
//! that word is not zero; a third level summarises the second, and so on up to a root of one word.
//! Whatever the history, a search looks at no more than two words a level, and a level is 64 times
//! smaller than the one below it: 4096 bits need two levels, 2^36 bits need six.
//!
//! # Invariants
//!
//! 1. A bit of level `n + 1` is set exactly if its word of level `n` is not zero.
//! 2. Bits at and beyond the length are clear.
//!
//! # Storage
//!
//! The words belong to the caller, so that a kernel can carve them out of the memory that it is
//! about to manage. Words that are all zero are an empty bitmap. Level 0 comes first and the root
//! last.
//!
//! The structure is the "van Emde Boas tree of constant height" of the folklore; Linux's scheduler and
//! TLSF (Masmano et al., 2004) use it with two levels.

#![forbid(unsafe_code)]

/// Levels of the largest bitmap.
const LEVELS: usize = 6;

/// Bits in a word, and words that one bit of the next level stands for.
const WORD_BITS: usize = u64::BITS as usize;

/// A set of integers below a fixed length, with ordered searches in O(log64 length). The default is
/// the set that has no room for any.
#[derive(Debug, Default)]
pub struct Bitmap<'m> {
    words: &'m mut [u64],
    len_bits: usize,
    /// Index of the root's level.
    root: usize,
    /// Where each level begins in `words`.
    starts: [usize; LEVELS],
}

impl<'m> Bitmap<'m> {
    /// The most bits that a bitmap can have.
    pub const MAX_BITS: usize = 1 << (6 * LEVELS);

    /// How many words a bitmap of `len_bits` bits needs, all levels together.
    pub const fn words_needed(len_bits: usize) -> usize {
        let mut words = len_bits.div_ceil(WORD_BITS);
        let mut total = words;
        while words > 1 {
            words = words.div_ceil(WORD_BITS);
            total += words;
        }
        total
    }

    /// An empty bitmap of `len_bits` bits over `words`, which are all zero and exactly
    /// [`words_needed`](Self::words_needed) many; `None` if they are not that many or if the
    /// bitmap would exceed [`MAX_BITS`](Self::MAX_BITS).
    pub fn new(len_bits: usize, words: &'m mut [u64]) -> Option<Self> {
        if len_bits > Self::MAX_BITS || words.len() != Self::words_needed(len_bits) {
            return None;
        }
        let mut starts = [0; LEVELS];
        let mut level_words = len_bits.div_ceil(WORD_BITS);
        let mut root = 0;
        while level_words > 1 {
            starts[root + 1] = starts[root] + level_words;
            level_words = level_words.div_ceil(WORD_BITS);
            root += 1;
        }
        Some(Self { words, len_bits, root, starts })
    }

    /// How many bits there are, set or not.
    #[inline]
    pub const fn len_bits(&self) -> usize {
        self.len_bits
    }

    /// How many bits are set, counted word by word.
    pub fn count(&self) -> usize {
        self.level(0).iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no bit is set.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words.last().is_none_or(|&root| root == 0)
    }

    /// Whether bit `index` is set; no bit beyond the length is.
    #[inline]
    pub fn contains(&self, index: usize) -> bool {
        index < self.len_bits && self.words[index / WORD_BITS] >> (index % WORD_BITS) & 1 == 1
    }

    /// Sets bit `index`, and says whether that changed it. A bit beyond the length stays clear.
    #[inline]
    pub fn set(&mut self, index: usize) -> bool {
        if index >= self.len_bits {
            return false;
        }
        let (mut at, mut changed) = (index, false);
        for (level, &start) in self.starts.iter().enumerate().take(self.root + 1) {
            let word = &mut self.words[start + at / WORD_BITS];
            let before = *word;
            *word = before | 1 << (at % WORD_BITS);
            changed |= level == 0 && before != *word;
            if before != 0 {
                break;
            }
            at /= WORD_BITS;
        }
        changed
    }

    /// Clears bit `index`, and says whether that changed it.
    #[inline]
    pub fn clear(&mut self, index: usize) -> bool {
        if !self.contains(index) {
            return false;
        }
        let mut at = index;
        for &start in self.starts.iter().take(self.root + 1) {
            let word = &mut self.words[start + at / WORD_BITS];
            *word &= !(1 << (at % WORD_BITS));
            if *word != 0 {
                break;
            }
            at /= WORD_BITS;
        }
        true
    }

    /// The lowest set bit.
    #[inline]
    pub fn first(&self) -> Option<usize> {
        self.descend_first(self.root + 1, 0)
    }

    /// The highest set bit.
    #[inline]
    pub fn last(&self) -> Option<usize> {
        self.descend_last(self.root + 1, 0)
    }

    /// The lowest set bit that is `index` or above it.
    #[inline]
    pub fn first_at_or_after(&self, index: usize) -> Option<usize> {
        let mut index = index;
        for level in 0..=self.root {
            let at = index / WORD_BITS;
            let word = *self.level(level).get(at)?;
            let rest = word & (u64::MAX << (index % WORD_BITS));
            if rest != 0 {
                return self.descend_first(level, at * WORD_BITS + rest.trailing_zeros() as usize);
            }
            index = at + 1;
        }
        None
    }

    /// The highest set bit that is `index` or below it.
    #[inline]
    pub fn last_at_or_before(&self, index: usize) -> Option<usize> {
        let mut index = index.min(self.len_bits.checked_sub(1)?);
        for level in 0..=self.root {
            let at = index / WORD_BITS;
            let word = *self.level(level).get(at)?;
            let rest = word & (u64::MAX >> (WORD_BITS - 1 - index % WORD_BITS));
            if rest != 0 {
                return self.descend_last(level, at * WORD_BITS + rest.ilog2() as usize);
            }
            index = at.checked_sub(1)?;
        }
        None
    }

    /// All set bits, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        core::iter::successors(self.first(), |&bit| self.first_at_or_after(bit + 1))
    }

    /// Whether the invariants hold, recounted from level 0 upwards.
    pub fn is_consistent(&self) -> bool {
        let leaves = self.level(0);
        let spare = leaves.len() * WORD_BITS - self.len_bits;
        let within =
            leaves.last().is_none_or(|last| spare == 0 || last.leading_zeros() as usize >= spare);
        within && (0..self.root).all(|level| self.is_summarised(level))
    }

    /// Whether the level above `level` has exactly the bits that `level` demands.
    fn is_summarised(&self, level: usize) -> bool {
        let above = self.level(level + 1);
        let words = above.len() * WORD_BITS;
        (0..words).all(|at| {
            let expected = self.level(level).get(at).is_some_and(|&word| word != 0);
            (above[at / WORD_BITS] >> (at % WORD_BITS) & 1 == 1) == expected
        })
    }

    /// The words of `level`.
    #[inline]
    fn level(&self, level: usize) -> &[u64] {
        let end = if level == self.root { self.words.len() } else { self.starts[level + 1] };
        &self.words[self.starts[level]..end]
    }

    /// The lowest set bit of level 0 below bit `index` of `level`.
    #[inline]
    fn descend_first(&self, level: usize, index: usize) -> Option<usize> {
        let mut index = index;
        for level in (0..level).rev() {
            let word = *self.words.get(self.starts[level] + index)?;
            if word == 0 {
                return None;
            }
            index = index * WORD_BITS + word.trailing_zeros() as usize;
        }
        Some(index)
    }

    /// The highest set bit of level 0 below bit `index` of `level`.
    #[inline]
    fn descend_last(&self, level: usize, index: usize) -> Option<usize> {
        let mut index = index;
        for level in (0..level).rev() {
            let word = *self.words.get(self.starts[level] + index)?;
            index = index * WORD_BITS + word.checked_ilog2()? as usize;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests;
