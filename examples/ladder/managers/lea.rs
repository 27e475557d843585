//! Chunks and bins as dlmalloc has them: what managers 10 and 11 share.
//!
//! ```text
//! size of the chunk below, only while that is free; its last payload word otherwise
//! size of this chunk; lowest bit: the chunk below is in use
//! next in the bin     | payload ...
//! previous in the bin |
//! ```
//!
//! A size in front of each chunk leads to the one above, and a second one, in the last word of a
//! free chunk, to a free one below. That word is payload while the chunk is in use, so the tags
//! take 8 bytes of a chunk.
//!
//! Bins are rings through a head that looks like a chunk, as far as its links go, so a chunk
//! is taken out of its bin without asking which that is. The heads lie at the start of the heap.
//!
//! | bin | holds free chunks |
//! | --- | --- |
//! | [`UNSORTED`] | that no bin was chosen for yet |
//! | 4 to 63 | of that many times 8 bytes |
//! | 64 to 127 | of 512 bytes and more, four bins a doubling; the last, of everything longer |
//!
//! Each bin lies in the order of sizes, and chunks of one size in the order in which they came: the
//! first one that is long enough is the best fit, and of several the one that has waited longest.

use super::System;
use super::system::WORD;

/// Bins; a bin's number follows from the size by shifts alone.
pub(crate) const BINS: usize = 128;
/// No chunk is so short that its bin would have this number.
pub(crate) const UNSORTED: usize = 0;
/// From here on a bin holds several sizes.
pub(crate) const LONG: usize = 512;
/// Two tags and two links.
pub(crate) const LEAST: usize = 4 * WORD;
/// The heap grows by at least this many bytes.
pub(crate) const MIN_BYTES: usize = 8192;
/// From a chunk's start to its payload.
pub(crate) const PAYLOAD: usize = 2 * WORD;

const SIZE: usize = WORD;
const NEXT: usize = 2 * WORD;
const PREVIOUS: usize = 3 * WORD;
/// The two links of a bin's head.
const HEAD: usize = 2 * WORD;

/// A heap cut into such chunks.
pub(crate) struct Lea {
    pub system: System,
    /// Where the heads of the bins lie.
    bins: usize,
    /// The header that ends the heap; the chunk that it begins has no length.
    fence: usize,
    /// Chunks and bins looked at.
    pub steps: usize,
}

/// Bytes of a chunk for `len` bytes: all but the first word of the chunk above count.
pub(crate) fn size_for(len: usize) -> usize {
    (len + WORD).next_multiple_of(WORD).max(LEAST)
}

fn bin_of(size: usize) -> usize {
    if size < LONG {
        return size / WORD;
    }
    let log = size.ilog2();
    let quarter = size >> (log - 2) & 3;
    let doubling = (log - LONG.ilog2()) as usize;
    (LONG / WORD + 4 * doubling + quarter).min(BINS - 1)
}

impl Lea {
    /// A heap that has empty bins and no chunk.
    pub(crate) fn new() -> Self {
        let mut system = System::new();
        let bins = system.current_break();
        let fence = bins + BINS * HEAD;
        let mut lea = Self { system, bins, fence, steps: 0 };
        if lea.system.set_break(fence + PAYLOAD) {
            for bin in 0..BINS {
                let head = lea.head(bin);
                lea.link(head, head);
            }
            lea.system.set_word(fence + SIZE, 1);
        }
        lea
    }

    /// Where a chunk would begin whose links are the head's.
    fn head(&self, bin: usize) -> usize {
        self.bins + bin * HEAD - NEXT
    }

    pub(crate) fn size(&self, chunk: usize) -> usize {
        self.system.word(chunk + SIZE) & !1
    }

    fn below_in_use(&self, chunk: usize) -> bool {
        self.system.word(chunk + SIZE) & 1 == 1
    }

    fn set_size(&mut self, chunk: usize, size: usize) {
        let below_in_use = usize::from(self.below_in_use(chunk));
        self.system.set_word(chunk + SIZE, size | below_in_use);
    }

    /// Tells the chunk above whether `chunk` is in use, and how long it is if it is not.
    pub(crate) fn mark(&mut self, chunk: usize, in_use: bool) {
        let above = chunk + self.size(chunk);
        if !in_use {
            self.system.set_word(above, self.size(chunk));
        }
        self.system.set_word(above + SIZE, self.size(above) | usize::from(in_use));
    }

    fn is_free(&self, chunk: usize) -> bool {
        chunk != self.fence && !self.below_in_use(chunk + self.size(chunk))
    }

    fn next(&self, chunk: usize) -> usize {
        self.system.word(chunk + NEXT)
    }

    /// Makes `second` follow `first`.
    fn link(&mut self, first: usize, second: usize) {
        self.system.set_word(first + NEXT, second);
        self.system.set_word(second + PREVIOUS, first);
    }

    /// Takes `chunk` out of whichever bin it is in.
    pub(crate) fn unlink(&mut self, chunk: usize) {
        self.link(self.system.word(chunk + PREVIOUS), self.next(chunk));
    }

    /// The first chunk of `bin`, if it has any.
    pub(crate) fn first(&self, bin: usize) -> Option<usize> {
        let head = self.head(bin);
        Some(self.next(head)).filter(|&first| first != head)
    }

    /// Puts a free chunk into its bin, behind all that are as long: where a bin has one size, at
    /// once.
    pub(crate) fn place(&mut self, chunk: usize) {
        let head = self.head(bin_of(self.size(chunk)));
        let mut before = self.system.word(head + PREVIOUS);
        while before != head && self.size(before) > self.size(chunk) {
            self.steps += 1;
            before = self.system.word(before + PREVIOUS);
        }
        self.insert(before, chunk);
    }

    /// Puts a free chunk behind those that wait for a bin.
    pub(crate) fn put_off(&mut self, chunk: usize) {
        let last = self.system.word(self.head(UNSORTED) + PREVIOUS);
        self.insert(last, chunk);
    }

    fn insert(&mut self, before: usize, chunk: usize) {
        let next = self.next(before);
        self.link(before, chunk);
        self.link(chunk, next);
    }

    /// Takes the best fit out of the bins.
    pub(crate) fn take(&mut self, size: usize) -> Option<usize> {
        for bin in bin_of(size)..BINS {
            self.steps += 1;
            let (head, mut chunk) = (self.head(bin), self.next(self.head(bin)));
            // Only the first of these bins has chunks that are too short.
            while chunk != head && self.size(chunk) < size {
                self.steps += 1;
                chunk = self.next(chunk);
            }
            if chunk != head {
                self.unlink(chunk);
                return Some(chunk);
            }
        }
        None
    }

    /// Makes `chunk`, which is in no bin, free, and one with its free neighbours; that is in no bin
    /// either.
    pub(crate) fn coalesce(&mut self, mut chunk: usize) -> usize {
        let mut size = self.size(chunk);
        let above = chunk + size;
        if self.is_free(above) {
            self.unlink(above);
            size += self.size(above);
        }
        if !self.below_in_use(chunk) {
            let below = chunk - self.system.word(chunk);
            self.unlink(below);
            size += self.size(below);
            chunk = below;
        }
        self.set_size(chunk, size);
        self.mark(chunk, false);
        chunk
    }

    /// Makes `chunk`, which is in no bin, one of `size` bytes in use; what is left is free and in
    /// no bin.
    pub(crate) fn cut(&mut self, chunk: usize, size: usize) -> Option<usize> {
        let rest = self.size(chunk) - size;
        if rest < LEAST {
            self.mark(chunk, true);
            return None;
        }
        let tail = chunk + size;
        self.set_size(chunk, size);
        self.system.set_word(tail + SIZE, rest | 1);
        self.mark(tail, false);
        Some(tail)
    }

    /// Extends the heap; the free chunk at its end, in no bin, has at least `size` bytes then.
    pub(crate) fn grow(&mut self, size: usize) -> Option<usize> {
        let (chunk, size) = (self.fence, size.max(MIN_BYTES));
        self.system.set_break(chunk + size + PAYLOAD).then_some(())?;
        self.fence = chunk + size;
        self.set_size(chunk, size);
        self.system.set_word(self.fence + SIZE, 0);
        Some(self.coalesce(chunk))
    }
}
