//! Runs that came back lately, kept for whoever wants one next.
//!
//! Programs take a large block for a moment, give it back, and take another. From here the next one gets the same memory at once: it has
//! pages, and they are still in the processor's caches. The run that came back last serves every request that fits into it, so that
//! buffers of different sizes use the same memory one after the other, not each its own.
//!
//! A run that is longer than what is wanted of it is **lent**: its user has its beginning, and to the page allocator all of it is
//! taken. One run at a time is lent; it is cut to its user's length when another would be lent, or memory is given back.
//!
//! # Invariants
//!
//! 1. What is kept or lent is taken from the page allocator, whole. A run that is kept is nobody's.
//! 2. A lent run's user has its first frames: fewer than there are, and at least one.
//! 3. No run here is longer than [`MAX_FRAMES`].

#![forbid(unsafe_code)]

use crate::frame::{Frame, FrameRange};

/// Sizes of runs that are kept, as powers of two.
const SIZES: usize = 9;

/// Longer runs are not kept.
pub(super) const MAX_FRAMES: usize = 1 << (SIZES - 1);

/// The runs that came back lately.
pub(super) struct Recent {
    /// The last of them.
    last: Option<FrameRange>,
    /// Those before it, one for each power of two.
    older: [Option<FrameRange>; SIZES],
    lent: Option<Lent>,
}

/// A run of which a user has the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lent {
    /// To the page allocator.
    pub(super) whole: FrameRange,
    /// Frames that the user has.
    pub(super) used: usize,
}

impl Lent {
    /// What its user has.
    pub(super) fn user(self) -> FrameRange {
        FrameRange::from_len(self.whole.start(), self.used).unwrap_or(self.whole)
    }
}

/// What is to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offer {
    /// This run, of the length that was wanted.
    Run(FrameRange),
    /// Nothing. The run, which was lent, is lent no more: it is to be cut to its user's length.
    Cut(Lent),
    /// Nothing.
    Nothing,
}

impl Recent {
    pub(super) const fn new() -> Self {
        Self { last: None, older: [None; SIZES], lent: None }
    }

    /// A run of `frames` frames.
    pub(super) fn take(&mut self, frames: usize) -> Offer {
        let mut would_lend = false;
        if let Some(last) = self.last {
            if last.frames() == frames {
                self.last = None;
                return Offer::Run(last);
            }
            would_lend = last.frames() > frames;
            if would_lend && self.lent.is_none() {
                let lent = Lent { whole: last, used: frames };
                (self.last, self.lent) = (None, Some(lent));
                return Offer::Run(lent.user());
            }
        }
        if let Some(place) = self.older(frames)
            && let Some(run) = *place
            && run.frames() == frames
        {
            *place = None;
            return Offer::Run(run);
        }
        match self.lent.take_if(|_| would_lend) {
            Some(lent) => Offer::Cut(lent),
            None => Offer::Nothing,
        }
    }

    /// Keeps a run that came back; the run that has to make way for it, or is not kept itself.
    pub(super) fn give(&mut self, run: FrameRange) -> Option<FrameRange> {
        let lent = self.lent.take_if(|lent| lent.whole.start() == run.start());
        let run = lent.map_or(run, |lent| lent.whole);
        if run.frames() > MAX_FRAMES {
            return Some(run);
        }
        let before = self.last.replace(run)?;
        match self.older(before.frames()) {
            Some(place) => place.replace(before),
            None => Some(before),
        }
    }

    /// The lent run that starts at `head`.
    pub(super) fn lent_at(&mut self, head: Frame) -> Option<&mut Lent> {
        self.lent.as_mut().filter(|lent| lent.whole.start() == head)
    }

    /// The lent run that starts at `head` is lent no more.
    pub(super) fn forget_lent(&mut self, head: Frame) {
        let _ = self.lent.take_if(|lent| lent.whole.start() == head);
    }

    /// Keeps nothing more: calls `give` with each run that was kept. The run that was lent, if any, is to be cut.
    pub(super) fn clear(&mut self, give: impl FnMut(FrameRange)) -> Option<Lent> {
        let older = self.older.iter_mut().filter_map(Option::take);
        self.last.take().into_iter().chain(older).for_each(give);
        self.lent.take()
    }

    fn older(&mut self, frames: usize) -> Option<&mut Option<FrameRange>> {
        self.older.get_mut(frames.checked_next_power_of_two()?.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn run(start: usize, frames: usize) -> FrameRange {
        FrameRange::from_len(Frame::new(start).expect("a frame"), frames).expect("a range")
    }

    #[test]
    fn the_last_run_serves_whatever_fits_into_it() {
        let mut recent = Recent::new();
        assert_eq!(recent.take(4), Offer::Nothing);
        assert_eq!(recent.give(run(64, 32)), None);
        for frames in [32, 5, 31, 1, 32] {
            assert_eq!(recent.take(frames), Offer::Run(run(64, frames)), "{frames} frames");
            assert_eq!(recent.give(run(64, frames)), None);
        }
        assert_eq!(recent.take(33), Offer::Nothing);
    }

    #[test]
    fn one_run_is_lent_at_a_time_and_cut_for_the_next() {
        let mut recent = Recent::new();
        assert_eq!(recent.give(run(64, 32)), None);
        assert_eq!(recent.take(5), Offer::Run(run(64, 5)));
        assert_eq!(recent.take(5), Offer::Nothing, "nothing else is kept");
        assert_eq!(recent.give(run(128, 16)), None);
        let lent = Lent { whole: run(64, 32), used: 5 };
        assert_eq!(recent.lent_at(lent.whole.start()), Some(&mut { lent }));
        assert_eq!(recent.take(6), Offer::Cut(lent));
        assert_eq!(recent.take(6), Offer::Run(run(128, 6)));
        // What was cut comes back as what it is now.
        assert_eq!(recent.give(run(64, 5)), None);
        assert_eq!(recent.take(5), Offer::Run(run(64, 5)));
    }

    #[test]
    fn those_before_the_last_serve_their_own_length() {
        let mut recent = Recent::new();
        assert_eq!(recent.give(run(64, 3)), None);
        assert_eq!(recent.give(run(128, 8)), None);
        assert_eq!(recent.give(run(256, 200)), None);
        assert_eq!(recent.give(run(512, 2)), None);
        assert_eq!(recent.take(4), Offer::Nothing);
        assert_eq!(recent.take(3), Offer::Run(run(64, 3)));
        assert_eq!(recent.take(8), Offer::Run(run(128, 8)));
        assert_eq!(recent.take(200), Offer::Run(run(256, 200)));
        // Two of one power of two: the older makes way.
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
        assert_eq!(recent.take(MAX_FRAMES), Offer::Run(run(4096, MAX_FRAMES)));
    }

    #[test]
    fn clearing_gives_every_run_once_and_says_what_is_lent() {
        let mut recent = Recent::new();
        for (start, frames) in [(64, 3), (128, 8), (256, 200)] {
            assert_eq!(recent.give(run(start, frames)), None);
        }
        assert_eq!(recent.take(100), Offer::Run(run(256, 100)));
        assert_eq!(recent.give(run(512, 1)), None);
        let mut given = Vec::new();
        let lent = recent.clear(|run| given.push(run));
        assert_eq!(lent, Some(Lent { whole: run(256, 200), used: 100 }));
        given.sort_by_key(|run| run.start());
        assert_eq!(given, [run(64, 3), run(128, 8), run(512, 1)]);
        assert_eq!(recent.clear(|_| panic!("nothing is left")), None);
    }
}
