//! The granules of a frame of records: which are free, and where records end.
//!
//! Both are words with a bit for each granule. Runs of free ones are found by shifting a word over
//! itself: no search takes more than six steps.

#![forbid(unsafe_code)]

/// Granules in a frame.
pub(super) const GRANULES: u32 = u64::BITS;

/// The lengths of the longest gap that are told apart: powers of two.
pub(super) const GAPS: usize = GRANULES.ilog2() as usize;

/// What the granules of a frame are used for. The first is the header's, and neither free nor a
/// record's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Granules {
    /// Bits of those that are free.
    pub(super) free: u64,
    /// Bits of those that are the last of a record.
    pub(super) ends: u64,
}

impl Granules {
    /// Those of a frame without records.
    pub(super) const UNUSED: Self = Self { free: !1, ends: 0 };

    /// Whether there are no records.
    pub(super) fn are_unused(self) -> bool {
        self.ends == 0
    }

    /// Makes the first `len` free granules in a row a record; the number of its first.
    pub(super) fn take(&mut self, len: u32) -> Option<u32> {
        let starts = starts_of_runs(self.free, len);
        if starts == 0 {
            return None;
        }
        let first = starts.trailing_zeros();
        self.free &= !(ones(len) << first);
        self.ends |= 1 << (first + len - 1);
        Some(first)
    }

    /// Frees the record that begins with granule `first`; whether there is one.
    pub(super) fn give(&mut self, first: u32) -> bool {
        let ends = self.ends >> first;
        if first == 0 || ends == 0 {
            return false;
        }
        let record = ones(ends.trailing_zeros() + 1) << first;
        if self.free & record != 0 {
            return false;
        }
        self.free |= record;
        self.ends &= !record;
        true
    }

    /// The power of two, as its logarithm, that the longest gap is at least as long as; `None` if
    /// there is none.
    pub(super) fn longest_gap(self) -> Option<usize> {
        let mut starts = self.free;
        for gap in 0..GAPS {
            if starts == 0 {
                return gap.checked_sub(1);
            }
            // Of twice as many in a row.
            starts &= starts >> (1 << gap);
        }
        Some(GAPS - 1)
    }
}

/// So many ones from the lowest bit on, at least one.
const fn ones(len: u32) -> u64 {
    u64::MAX >> (GRANULES - len)
}

/// The bits of `word` that `len` set bits in a row begin with.
fn starts_of_runs(word: u64, len: u32) -> u64 {
    let (mut starts, mut known) = (word, 1);
    while known < len {
        let more = known.min(len - known);
        starts &= starts >> more;
        known += more;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_frame_holds_records_of_any_sizes_that_fit() {
        let mut granules = Granules::UNUSED;
        assert_eq!(granules.longest_gap(), Some(5));
        assert_eq!([15, 2, 31, 15].map(|len| granules.take(len)), [1, 16, 18, 49].map(Some));
        assert_eq!((granules.take(1), granules.longest_gap()), (None, None));
        assert!(granules.give(18) && !granules.give(18), "once");
        assert_eq!(granules.longest_gap(), Some(4));
        assert_eq!([30, 2, 1].map(|len| granules.take(len)), [Some(18), None, Some(48)]);
    }

    #[test]
    fn what_is_no_record_is_not_given() {
        let mut granules = Granules::UNUSED;
        assert!(!granules.give(1), "none yet");
        let whole = granules.take(63);
        assert_eq!((whole, granules.free), (Some(1), 0));
        assert!(!granules.give(0), "the header");
        assert!(granules.give(1) && granules == Granules::UNUSED);
    }

    proptest! {
        #[test]
        fn records_lie_beside_each_other(steps in prop::collection::vec((1_u32..64, any::<prop::sample::Index>()), 1..200)) {
            let mut granules = Granules::UNUSED;
            let mut records: BTreeMap<u32, u32> = BTreeMap::new();
            for (len, index) in steps {
                // Where a model would put it: in the first gap that is long enough.
                let mut place = 1;
                for (&first, &len_there) in &records {
                    if first - place >= len {
                        break;
                    }
                    place = first + len_there;
                }
                let fits = place + len <= GRANULES;
                prop_assert_eq!(granules.take(len), fits.then_some(place));
                if fits {
                    records.insert(place, len);
                } else if let Some(&first) = records.keys().nth(index.index(records.len().max(1))) {
                    prop_assert!(granules.give(first));
                    records.remove(&first);
                }
                let mut free = !1;
                for (&first, &len) in &records {
                    free &= !(ones(len) << first);
                }
                prop_assert_eq!(granules.free, free);
                prop_assert_eq!(granules.are_unused(), records.is_empty());
                let (mut longest, mut run) = (0_u32, 0);
                for granule in 0..GRANULES {
                    run = if free >> granule & 1 == 1 { run + 1 } else { 0 };
                    longest = longest.max(run);
                }
                prop_assert_eq!(granules.longest_gap(), longest.checked_ilog2().map(|log| log as usize));
            }
        }
    }
}
