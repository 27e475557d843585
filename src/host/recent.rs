//! Runs that came back lately, kept for whoever wants one next: behind those that threads
//! [keep](super::kept) for themselves.
//!
//! # Invariants
//!
//! 1. What is kept is taken from the page allocator, whole, and nobody's.
//! 2. No run here is longer than [`MAX_FRAMES`].

#![forbid(unsafe_code)]

use super::kept::MAX_FRAMES;
use crate::frame::FrameRange;

/// Sizes of runs that are kept, as powers of two.
const SIZES: usize = MAX_FRAMES.ilog2() as usize + 1;

/// The runs that came back lately.
pub(super) struct Recent {
    /// The last of them.
    last: Option<FrameRange>,
    /// Those before it, one for each power of two.
    older: [Option<FrameRange>; SIZES],
}

impl Recent {
    pub(super) const fn new() -> Self {
        Self { last: None, older: [None; SIZES] }
    }

    /// A run of `frames` frames.
    pub(super) fn take(&mut self, frames: usize) -> Option<FrameRange> {
        let fits = |run: &mut FrameRange| run.frames() == frames;
        self.last.take_if(fits).or_else(|| self.older(frames)?.take_if(fits))
    }

    /// Keeps a run that came back; the run that has to make way for it, or is not kept itself.
    pub(super) fn give(&mut self, run: FrameRange) -> Option<FrameRange> {
        if run.frames() > MAX_FRAMES {
            return Some(run);
        }
        let before = self.last.replace(run)?;
        match self.older(before.frames()) {
            Some(place) => place.replace(before),
            None => Some(before),
        }
    }

    /// Keeps nothing more: calls `give` with each run that was kept.
    pub(super) fn clear(&mut self, give: impl FnMut(FrameRange)) {
        let older = self.older.iter_mut().filter_map(Option::take);
        self.last.take().into_iter().chain(older).for_each(give);
    }

    fn older(&mut self, frames: usize) -> Option<&mut Option<FrameRange>> {
        self.older.get_mut(frames.checked_next_power_of_two()?.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use std::vec::Vec;

    fn run(start: usize, frames: usize) -> FrameRange {
        FrameRange::from_len(Frame::new(start).expect("a frame"), frames).expect("a range")
    }

    #[test]
    fn a_run_serves_its_own_length_once() {
        let mut recent = Recent::new();
        assert_eq!(recent.give(run(64, 3)), None);
        assert_eq!(recent.give(run(128, 8)), None);
        assert_eq!(recent.give(run(256, 200)), None);
        assert_eq!(recent.give(run(512, 2)), None);
        for frames in [1, 4, 100] {
            assert_eq!(recent.take(frames), None, "{frames} frames");
        }
        for kept in [run(64, 3), run(128, 8), run(256, 200), run(512, 2)] {
            assert_eq!(recent.take(kept.frames()), Some(kept));
            assert_eq!(recent.take(kept.frames()), None);
        }
    }

    #[test]
    fn of_two_runs_of_one_power_of_two_the_older_makes_way() {
        let mut recent = Recent::new();
        assert_eq!(recent.give(run(1024, 7)), None);
        assert_eq!(recent.give(run(2048, 6)), None);
        assert_eq!(recent.give(run(4096, 1)), Some(run(1024, 7)));
    }

    #[test]
    fn long_runs_are_not_kept() {
        let mut recent = Recent::new();
        let long = run(1024, MAX_FRAMES + 1);
        assert_eq!(recent.give(long), Some(long));
        assert_eq!(recent.give(run(4096, MAX_FRAMES)), None);
        assert_eq!(recent.take(MAX_FRAMES), Some(run(4096, MAX_FRAMES)));
    }

    #[test]
    fn clearing_gives_every_run_once() {
        let mut recent = Recent::new();
        for (start, frames) in [(64, 3), (128, 8), (256, 200), (512, 1)] {
            assert_eq!(recent.give(run(start, frames)), None);
        }
        let mut given = Vec::new();
        recent.clear(|run| given.push(run));
        given.sort_by_key(|run| run.start());
        assert_eq!(given, [run(64, 3), run(128, 8), run(256, 200), run(512, 1)]);
        recent.clear(|_| panic!("nothing is left"));
    }
}
