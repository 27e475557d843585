//! Where spans and their metadata go: the arithmetic of initialisation, before anything is touched.

use core::sync::atomic::AtomicU8;

use super::options::Owners;
use super::owners::OwnerRecord;
use super::{MAX_SPANS, ZONES};
use crate::buddy::{Group, Need};
use crate::frame::{FRAME_SIZE, Frame, FrameRange};

/// A list in place, of at most `N`.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<const N: usize> {
    ranges: [FrameRange; N],
    len: usize,
}

impl<const N: usize> List<N> {
    pub(super) const fn new() -> Self {
        Self { ranges: [FrameRange::EMPTY; N], len: 0 }
    }

    /// Appends `range`; `false` if there is no room.
    #[must_use]
    pub(super) fn push(&mut self, range: FrameRange) -> bool {
        let Some(place) = self.ranges.get_mut(self.len) else { return false };
        *place = range;
        self.len += 1;
        true
    }

    /// How many ranges more there is room for.
    pub(super) fn room(&self) -> usize {
        N - self.len
    }

    pub(super) fn as_slice(&self) -> &[FrameRange] {
        self.ranges.get(..self.len).unwrap_or(&[])
    }

    /// The first frame that is in `range` and in one of the list's.
    pub(super) fn first_in(&self, range: FrameRange) -> Option<Frame> {
        let shared = self.as_slice().iter().map(|listed| listed.intersect(range));
        shared.filter(|shared| !shared.is_empty()).map(FrameRange::start).min()
    }

    /// The listed range that ends where `range` begins, and the one that begins where it ends.
    pub(super) fn touching(&self, range: FrameRange) -> [Option<FrameRange>; 2] {
        let find = |touches: fn(&FrameRange, FrameRange) -> bool| {
            self.as_slice().iter().copied().find(|listed| touches(listed, range))
        };
        [find(|a, b| a.end() == b.start()), find(|a, b| a.start() == b.end())]
    }

    /// Takes the frames of `range` out; `false`, and nothing is taken out, if the pieces would not
    /// find room.
    #[must_use]
    pub(super) fn subtract(&mut self, range: FrameRange) -> bool {
        let mut rest = Self::new();
        for listed in self.as_slice() {
            let (below, from) = listed.split_at(range.start());
            let (_, above) = from.split_at(range.end());
            for piece in [below, above] {
                if !piece.is_empty() && !rest.push(piece) {
                    return false;
                }
            }
        }
        *self = rest;
        true
    }
}

/// Below this, a hole is never worth a span of its own: 1 MiB, whose metadata are 1.3 KiB.
const SMALLEST_CUT: usize = 256;

/// A span is cut at holes that have more than one such part of the zone's memory, so that the
/// metadata of a hole stay within 1/64 of those of memory.
const CUT_SHARE: usize = 64;

/// Gathers `memory`, ascending ranges, into at most [`MAX_SPANS`] spans, cut at the largest holes:
/// all that exceed 1/64 of the memory, or fewer if that were too many spans.
pub(super) fn spans(memory: impl Iterator<Item = FrameRange> + Clone) -> List<MAX_SPANS> {
    let frames: usize = memory.clone().map(FrameRange::frames).sum();
    let mut cut = SMALLEST_CUT.max(frames / CUT_SHARE);
    loop {
        if let Some(spans) = cut_at(memory.clone(), cut) {
            return spans;
        }
        // At usize::MAX nothing is cut, so the loop ends, after at most as many rounds as a
        // frame number has bits.
        cut = cut.saturating_mul(2);
    }
}

/// `memory` cut at holes of more than `cut` frames; `None` if those are too many spans.
fn cut_at(memory: impl Iterator<Item = FrameRange>, cut: usize) -> Option<List<MAX_SPANS>> {
    let mut spans = List::new();
    let mut open = FrameRange::EMPTY;
    for range in memory {
        let hole = range.start().checked_offset_from(open.end()).unwrap_or(0);
        if open.is_empty() {
            open = range;
        } else if hole <= cut {
            open = FrameRange::new(open.start(), range.end())?;
        } else {
            spans.push(open).then_some(())?;
            open = range;
        }
    }
    if !open.is_empty() {
        spans.push(open).then_some(())?;
    }
    Some(spans)
}

/// What a span's metadata need.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanNeed {
    pub(super) buddy: Need,
    /// Owner records.
    pub(super) owners: usize,
}

impl SpanNeed {
    /// For a span of `cover`, of which the frames of `owned` get owner records here.
    pub(super) fn new(cover: FrameRange, owned: FrameRange, owners: Owners) -> Self {
        let owners = match owners {
            Owners::Keep => owned.frames(),
            Owners::Omit => 0,
        };
        Self { buddy: Need::for_span(cover), owners }
    }

    /// Bytes of the buddy allocator's metadata.
    pub(super) const fn buddy_bytes(&self) -> usize {
        let need = &self.buddy;
        (need.groups.saturating_mul(size_of::<Group>()))
            .saturating_add(need.words.saturating_mul(size_of::<u64>()))
            .saturating_add(need.states.saturating_mul(size_of::<AtomicU8>()))
    }

    /// Bytes of the owner records.
    pub(super) const fn owner_bytes(&self) -> usize {
        self.owners.saturating_mul(size_of::<OwnerRecord>())
    }

    /// Bytes of all, with what aligning the parts may cost.
    pub(super) const fn bytes(&self) -> usize {
        self.buddy_bytes().saturating_add(self.owner_bytes()).saturating_add(PADDING)
    }

    /// Frames that hold all of it.
    pub(super) const fn frames(&self) -> usize {
        self.bytes().div_ceil(FRAME_SIZE)
    }
}

/// Most bytes lost between a span's parts and behind them: groups come first, at their
/// alignment, and what follows is aligned to 8 bytes at the most.
const PADDING: usize = align_of::<Group>() + align_of::<u64>() + align_of::<OwnerRecord>();

/// Most carve-outs at boot: one for each span.
pub(super) const MAX_CARVES: usize = ZONES * MAX_SPANS;

/// The top `frames` frames of the highest range of `memory` that has so many beside what is
/// `taken`, all of which was placed by this function. `Err` is the most frames that a range has
/// left.
pub(super) fn place<const N: usize>(
    memory: impl Iterator<Item = FrameRange>,
    taken: &List<N>,
    frames: usize,
) -> Result<FrameRange, usize> {
    let mut best = None;
    let mut most = 0;
    for range in memory {
        let end = taken.first_in(range).unwrap_or(range.end());
        let left = end.checked_offset_from(range.start()).unwrap_or(0);
        most = most.max(left);
        if left >= frames {
            best = end.checked_sub(frames).and_then(|start| FrameRange::new(start, end)).or(best);
        }
    }
    best.ok_or(most)
}

#[cfg(test)]
mod tests;
