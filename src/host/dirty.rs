//! Which available frames have memory behind them: one bit a frame.
//!
//! A frame that was handed out and came back is **dirty**: the system has given it memory, and it
//! may hold anything. One that was never handed out, or whose memory went back to the system, is
//! clean: it reads as zero. So the bits say what can be given back, and what need not be cleared.
//!
//! # Invariants
//!
//! 1. A frame that is available and not dirty reads as zero.
//! 2. Bits of frames that are not available mean nothing: taking a frame clears its bit, giving it
//!    sets it.

use core::ptr;
use core::sync::atomic::{
    AtomicIsize, AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use super::span;
use crate::frame::{Frame, FrameRange};

/// The bits of the frames for which metadata were laid out at the start. Others count as dirty and
/// are never given back.
pub(super) struct Dirty {
    words: AtomicPtr<AtomicU64>,
    first: AtomicUsize,
    frames: AtomicUsize,
    /// How many bits are set. Below 0 for a moment where one thread clears a bit, and counts that,
    /// before another has counted that it set it.
    count: AtomicIsize,
    /// No bit below was ever set,
    low: AtomicUsize,
    /// and none from here on.
    high: AtomicUsize,
}

impl Dirty {
    pub(super) const fn new() -> Self {
        Self {
            words: AtomicPtr::new(ptr::null_mut()),
            first: AtomicUsize::new(0),
            frames: AtomicUsize::new(0),
            count: AtomicIsize::new(0),
            low: AtomicUsize::new(usize::MAX),
            high: AtomicUsize::new(0),
        }
    }

    /// Begins with all frames of `cover` clean; without memory for the bits all frames stay dirty.
    pub(super) fn begin(&self, cover: FrameRange) {
        let Some(words) = span::map_zeroed(cover.frames().div_ceil(64) * 8) else { return };
        self.first.store(cover.start().number(), Relaxed);
        self.words.store(words.cast().as_ptr(), Relaxed);
        // Release, for the Acquires of those who look at it first: the other fields are written.
        self.frames.store(cover.frames(), Release);
    }

    /// The frames that have bits.
    pub(super) fn cover(&self) -> FrameRange {
        let frames = self.frames.load(Acquire);
        let start = Frame::new(self.first.load(Relaxed));
        start.and_then(|start| FrameRange::from_len(start, frames)).unwrap_or(FrameRange::EMPTY)
    }

    /// How many frames are dirty.
    pub(super) fn count(&self) -> usize {
        usize::try_from(self.count.load(Relaxed)).unwrap_or(0)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: callers pass indices below `frames` / 64, rounded up, after they have read
        // `frames` by Acquire; the words are mapped for good.
        unsafe { &*self.words.load(Relaxed).add(index) }
    }

    /// Bit numbers of the frames of `range` that have bits; the others in number.
    fn bits(&self, range: FrameRange) -> (core::ops::Range<usize>, usize) {
        let frames = self.frames.load(Acquire);
        let start = range.start().number().wrapping_sub(self.first.load(Relaxed));
        if start >= frames {
            return (0..0, range.frames());
        }
        let end = (start + range.frames()).min(frames);
        (start..end, range.frames() - (end - start))
    }

    /// Calls `work` with each word that has bits of `range`, and those bits.
    fn for_each(&self, bits: core::ops::Range<usize>, mut work: impl FnMut(&AtomicU64, u64)) {
        let mut at = bits.start;
        while at < bits.end {
            let end = (at / 64 * 64 + 64).min(bits.end);
            let mask = u64::MAX >> (64 - (end - at)) << (at % 64);
            work(self.word(at / 64), mask);
            at = end;
        }
    }

    /// Frames came back.
    pub(super) fn mark(&self, range: FrameRange) {
        let mut added = 0;
        let (bits, _) = self.bits(range);
        // Mostly these stay, and every free of frames comes here.
        if bits.start < self.low.load(Relaxed) && !bits.is_empty() {
            self.low.fetch_min(bits.start, Relaxed);
        }
        if bits.end > self.high.load(Relaxed) {
            self.high.fetch_max(bits.end, Relaxed);
        }
        self.for_each(bits, |word, mask| {
            added += (mask & !word.fetch_or(mask, Relaxed)).count_ones() as isize;
        });
        self.count.fetch_add(added, Relaxed);
    }

    /// Frames were taken, or their memory was: how many of them were dirty.
    pub(super) fn clear(&self, range: FrameRange) -> usize {
        let (bits, unknown) = self.bits(range);
        let mut cleared = 0;
        self.for_each(bits, |word, mask| {
            if word.load(Relaxed) & mask != 0 {
                cleared += (word.fetch_and(!mask, Relaxed) & mask).count_ones() as usize;
            }
        });
        self.count.fetch_sub(cleared as isize, Relaxed);
        cleared + unknown
    }

    /// How many of the first frames of `range` are clean.
    pub(super) fn clean_frames(&self, range: FrameRange) -> usize {
        let (bits, _) = self.bits(range);
        self.find(bits.start, bits.end, 0).unwrap_or(bits.end) - bits.start
    }

    /// The first dirty frames from number `from` on that are neighbours, at most `limit` of them.
    pub(super) fn next(&self, from: usize, limit: usize) -> Option<FrameRange> {
        let frames = self.frames.load(Acquire).min(self.high.load(Relaxed));
        let first = self.first.load(Relaxed);
        let from = from.saturating_sub(first).max(self.low.load(Relaxed));
        let start = self.find(from, frames, 0)?;
        let end = self.find(start, frames.min(start.saturating_add(limit)), u64::MAX);
        let end = end.unwrap_or(frames.min(start.saturating_add(limit)));
        FrameRange::from_len(Frame::new(first + start)?, end - start)
    }

    /// The first bit from `at` on and below `end` that differs from those of `pattern`.
    fn find(&self, mut at: usize, end: usize, pattern: u64) -> Option<usize> {
        while at < end {
            let word = (self.word(at / 64).load(Relaxed) ^ pattern) >> (at % 64);
            if word != 0 {
                let found = at + word.trailing_zeros() as usize;
                return (found < end).then_some(found);
            }
            at = at / 64 * 64 + 64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::sync::atomic::AtomicBool;
    use std::collections::BTreeSet;
    use std::thread;
    use std::time::{Duration, Instant};
    use std::vec::Vec;

    use super::*;

    const FIRST: usize = 1000;
    const FRAMES: usize = 500;

    fn range(start: usize, frames: usize) -> FrameRange {
        FrameRange::from_len(Frame::new(start).unwrap(), frames).unwrap()
    }

    fn all(dirty: &Dirty, limit: usize) -> Vec<FrameRange> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(next) = dirty.next(at, limit) {
            assert!(next.frames() > 0 && next.frames() <= limit && next.start().number() >= at);
            at = next.end().number();
            found.push(next);
        }
        found
    }

    #[test]
    fn the_bits_are_a_set_of_frames() {
        let dirty = Dirty::new();
        dirty.begin(range(FIRST, FRAMES));
        assert_eq!(dirty.cover(), range(FIRST, FRAMES));
        let mut model = BTreeSet::new();
        let mut random = 88172645463325252_u64;
        let mut below = |limit: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % limit as u64) as usize
        };
        for _ in 0..5000 {
            let start = below(FRAMES);
            let frames = 1 + below((FRAMES - start).min(if start % 4 == 0 { 300 } else { 9 }));
            let (frames, numbers) =
                (range(FIRST + start, frames), FIRST + start..FIRST + start + frames);
            if below(2) == 0 {
                dirty.mark(frames);
                model.extend(numbers);
            } else {
                let cleared = numbers.filter(|number| model.remove(number)).count();
                assert_eq!(dirty.clear(frames), cleared);
            }
            assert_eq!(dirty.count(), model.len());
            let from = below(FRAMES);
            let clean = (from..FRAMES).take_while(|at| !model.contains(&(FIRST + at))).count();
            assert_eq!(dirty.clean_frames(range(FIRST + from, FRAMES - from)), clean);
            let limit = 1 + below(200);
            let found = all(&dirty, limit);
            let numbers: Vec<usize> =
                found.iter().flat_map(|run| run.iter()).map(Frame::number).collect();
            assert_eq!(numbers, model.iter().copied().collect::<Vec<_>>());
            for pair in found.windows(2) {
                let is_apart = pair[0].end() < pair[1].start();
                assert!(is_apart || pair[0].frames() == limit, "neighbours come together");
            }
        }
    }

    #[test]
    fn what_is_marked_and_cleared_at_the_same_time_is_never_counted_as_less_than_nothing() {
        let dirty = Dirty::new();
        dirty.begin(range(FIRST, FRAMES));
        let is_over = AtomicBool::new(false);
        let one = range(FIRST, 1);
        // As where one thread gets memory ahead for frames that another takes meanwhile.
        let most = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    dirty.mark(one);
                }
            });
            let begin = Instant::now();
            let mut most = 0;
            while begin.elapsed() < Duration::from_millis(300) {
                dirty.clear(one);
                most = most.max(dirty.count());
            }
            is_over.store(true, Relaxed);
            most
        });
        assert!(most <= FRAMES, "{most}");
    }

    #[test]
    fn frames_without_bits_count_as_dirty_and_are_never_found() {
        let dirty = Dirty::new();
        dirty.mark(range(FIRST, 10));
        assert_eq!(dirty.clear(range(FIRST, 10)), 10);
        assert_eq!((dirty.count(), dirty.next(0, 100)), (0, None));
        dirty.begin(range(FIRST, FRAMES));
        let past = range(FIRST + FRAMES - 4, 10);
        dirty.mark(past);
        assert_eq!(dirty.count(), 4);
        assert_eq!(dirty.clear(past), 10, "4 that were marked, 6 that have no bits");
        assert_eq!(dirty.clear(range(FIRST - 100, 50)), 50);
        assert_eq!((dirty.count(), dirty.next(0, 100)), (0, None));
    }
}
