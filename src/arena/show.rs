//! What an arena shows of itself.

use core::fmt;
use core::ops::Range;

use super::segment::{Kind, Origin, Segment};
use super::{Arena, Source};

/// How much an arena holds, in integers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// In nobody's hands.
    pub available: u64,
    /// In callers' hands.
    pub allocated: u64,
    /// Kept whole in quantum caches.
    pub cached: u64,
    /// Spans, added and imported.
    pub spans: usize,
}

impl Stats {
    /// All that was added and imported.
    pub const fn total(&self) -> u64 {
        self.available + self.allocated + self.cached
    }
}

/// What a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SegmentState {
    /// The lower border of an added span; the range is empty.
    AddedSpan,
    /// The lower border of an imported span; the range is empty.
    ImportedSpan,
    /// In nobody's hands.
    Available,
    /// In a caller's hands.
    Allocated,
    /// Kept whole in a quantum cache.
    Cached,
}

impl fmt::Display for SegmentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AddedSpan => "added span",
            Self::ImportedSpan => "imported span",
            Self::Available => "available",
            Self::Allocated => "allocated",
            Self::Cached => "cached",
        })
    }
}

/// One segment, or the lower border of a span.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SegmentInfo {
    /// Its integers.
    pub range: Range<u64>,
    /// What it is.
    pub state: SegmentState,
}

impl SegmentInfo {
    fn of(segment: &Segment) -> Self {
        let state = match (segment.kind, segment.origin) {
            (Kind::Available | Kind::Spare, _) => SegmentState::Available,
            (Kind::Allocated, _) => SegmentState::Allocated,
            (Kind::Cached, _) => SegmentState::Cached,
            (Kind::Border, Origin::Added) => SegmentState::AddedSpan,
            (Kind::Border, Origin::Imported) => SegmentState::ImportedSpan,
        };
        Self { range: segment.range(), state }
    }
}

impl fmt::Display for SegmentInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.range;
        match self.state {
            SegmentState::AddedSpan | SegmentState::ImportedSpan => {
                write!(f, "{start:#018x} {}", self.state)
            }
            _ => write!(f, "  {start:#018x}-{end:#018x} {:<9} {}", self.state, end - start),
        }
    }
}

impl<S: Source> Arena<'_, S> {
    /// How much the arena holds.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Records of the pool that stand for something, and all of them.
    pub fn segments_used(&self) -> (usize, usize) {
        (self.pool.len() - self.pool.spares(), self.pool.len())
    }

    /// Every segment in address order, each span's border before its segments.
    pub fn segments(&self) -> impl Iterator<Item = SegmentInfo> {
        self.pool.ring().map(|(_, segment)| SegmentInfo::of(segment))
    }

    /// The segment that `address` lies in. O(log n).
    pub fn lookup(&self, address: u64) -> Option<SegmentInfo> {
        let segment = &self.pool[self.index.by_address.floor(&self.pool, address)];
        segment.range().contains(&address).then(|| SegmentInfo::of(segment))
    }
}

/// A line on the whole, then one line a border and segment.
impl<S: Source> fmt::Display for Arena<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, records) = self.segments_used();
        let stats = self.stats();
        writeln!(
            f,
            "arena {}: {:?} fit, quantum {:#x}, {} allocated, {} cached, {} available, \
             {used} of {records} records",
            self.name(),
            self.fit(),
            self.quantum(),
            stats.allocated,
            stats.cached,
            stats.available,
        )?;
        self.segments().try_for_each(|segment| writeln!(f, "{segment}"))
    }
}
