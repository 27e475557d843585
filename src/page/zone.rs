//! One zone: its spans, its watermarks and what it counts. Everything here happens under the zone's
//! lock.

use core::ops::ControlFlow;

use super::MAX_SPANS;
use super::options::ZoneKind;
use super::owners::OwnerRecord;
use super::plan::{List, SpanNeed};
use super::raw::Carving;
use crate::buddy::{
    AllocError, BlockOwner, Buddy, Corruption, FreeError, Group, Metadata, Placement, ResizeError,
};
use crate::frame::{Frame, FrameRange, Order, PhysAddr};

/// A span and where its metadata lie.
pub(super) struct Span {
    pub(super) buddy: Buddy<'static>,
    /// The bytes of the buddy allocator's metadata.
    pub(super) metadata: (PhysAddr, PhysAddr),
}

impl Span {
    /// Lays the metadata that `need` says out in `carving`, for a span of holes: the metadata,
    /// where they lie, and the owner records. `None` if there is no room.
    pub(super) fn lay_out(need: &SpanNeed, carving: &mut Carving) -> Option<Layout> {
        let groups = carving.take(need.buddy.groups)?;
        // Groups are aligned like nothing else, so their first byte is where the metadata begin.
        let start = carving.next().as_u64() - size_of_val::<[Group]>(groups) as u64;
        let words = carving.take(need.buddy.words)?;
        let states = carving.take(need.buddy.states)?;
        let place = (PhysAddr::new(start), carving.next());
        let records = carving.take(need.owners)?;
        Some(Layout { metadata: Metadata { states, groups, words }, place, records })
    }
}

/// A span's metadata, laid out.
pub(super) struct Layout {
    pub(super) metadata: Metadata<'static>,
    /// The bytes of `metadata`.
    pub(super) place: (PhysAddr, PhysAddr),
    /// Owner records.
    pub(super) records: &'static mut [OwnerRecord],
}

/// How far a zone may be emptied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Depth {
    /// Only while there is plenty: down to `low`, or down to `high` on behalf of a higher zone.
    Plenty,
    /// Down to `min`, or down to `high` on behalf of a higher zone.
    Reserve,
    /// Down to the last frame.
    Empty,
}

/// Whether a zone is the highest one that a request allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    First,
    Fallback,
}

/// How many frames stay available in a zone, for whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watermarks {
    /// Ordinary requests leave so many frames: the reserve of
    /// [`AllocFlags::ATOMIC`](super::AllocFlags::ATOMIC).
    pub min: usize,
    /// Below this, ordinary requests go to a lower zone first.
    pub low: usize,
    /// Requests that would rather have had a higher zone leave so many frames.
    pub high: usize,
}

impl Watermarks {
    /// The watermarks of a zone of `frames` frames: its reserve grows with the square root of its
    /// size, since what cannot wait does not grow with memory, and is at most 1/32 of it, so that
    /// small machines stay usable.
    pub(super) fn of(frames: usize) -> Self {
        let min = frames.isqrt().min(frames / 32);
        Self { min, low: min + min / 4, high: min + min / 2 }
    }

    fn mark(&self, depth: Depth, choice: Choice) -> usize {
        match (depth, choice) {
            (Depth::Empty, _) => 0,
            (_, Choice::Fallback) => self.high,
            (Depth::Plenty, Choice::First) => self.low,
            (Depth::Reserve, Choice::First) => self.min,
        }
    }
}

/// What has happened in a zone so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ZoneCounts {
    /// Allocations that the zone served.
    pub allocs: u64,
    /// Allocations given back to it.
    pub frees: u64,
    /// Allocations that it served on behalf of a higher zone, and blocks that CPUs' lists took so.
    pub fallbacks: u64,
    /// Requests for which it was the highest zone allowed, and that failed.
    pub failures: u64,
    /// Batches that CPUs took for their lists.
    pub refills: u64,
    /// Batches that CPUs gave back from their lists.
    pub spills: u64,
}

/// A zone as it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ZoneStats {
    /// Which zone.
    pub kind: ZoneKind,
    /// From the first frame of the lowest span to behind the last one of the highest.
    pub cover: FrameRange,
    /// How many spans it has.
    pub spans: usize,
    /// Frames of all spans, holes included.
    pub spanned_frames: usize,
    /// Frames that can be allocated, or are.
    pub managed_frames: usize,
    /// Frames that are available; not those that CPUs keep ready.
    pub available_frames: usize,
    /// Frames that CPUs keep ready, as their lists say while they go on: see
    /// [`PageAllocator::drain`](super::PageAllocator::drain).
    pub kept_frames: usize,
    /// Maximal available blocks of each order.
    pub available_blocks: [usize; Order::COUNT],
    /// What stays available, for whom.
    pub watermarks: Watermarks,
    /// What has happened so far.
    pub counts: ZoneCounts,
}

/// See the module's documentation.
pub(super) struct Zone {
    /// Ascending, and `None` behind the last.
    spans: [Option<Span>; MAX_SPANS],
    watermarks: Watermarks,
    pub(super) counts: ZoneCounts,
}

impl Zone {
    pub(super) const fn new() -> Self {
        Self {
            spans: [const { None }; MAX_SPANS],
            watermarks: Watermarks { min: 0, low: 0, high: 0 },
            counts: ZoneCounts {
                allocs: 0,
                frees: 0,
                fallbacks: 0,
                failures: 0,
                refills: 0,
                spills: 0,
            },
        }
    }

    /// Puts a span in its place; `false` if there is no room for it, or it overlaps another.
    #[must_use]
    pub(super) fn insert(&mut self, span: Span) -> bool {
        let cover = span.buddy.cover();
        let count = self.covers().count();
        if count == MAX_SPANS || self.covers().any(|other| other.overlaps(cover)) {
            return false;
        }
        let at = self.covers().take_while(|other| other.start() < cover.start()).count();
        if let Some(moved) = self.spans.get_mut(at..=count) {
            moved.rotate_right(1);
            moved[0] = Some(span);
        }
        self.set_watermarks();
        true
    }

    /// Takes all spans away again.
    pub(super) fn clear(&mut self) {
        self.spans.iter_mut().for_each(|slot| *slot = None);
        self.set_watermarks();
    }

    /// To be called when frames have been added or removed.
    pub(super) fn set_watermarks(&mut self) {
        self.watermarks = Watermarks::of(self.managed());
    }

    /// The spans' ranges, ascending.
    pub(super) fn covers(&self) -> impl Iterator<Item = FrameRange> {
        self.spans().map(|span| span.buddy.cover())
    }

    /// The same, copied.
    pub(super) fn cover_list(&self) -> List<MAX_SPANS> {
        let mut list = List::new();
        for cover in self.covers() {
            // There are no more spans than places.
            let _fits = list.push(cover);
        }
        list
    }

    #[inline]
    fn spans(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().map_while(Option::as_ref)
    }

    #[inline]
    fn buddies(&mut self) -> impl Iterator<Item = &mut Buddy<'static>> {
        self.spans.iter_mut().map_while(Option::as_mut).map(|span| &mut span.buddy)
    }

    /// The same, descending.
    #[inline]
    fn buddies_down(&mut self) -> impl Iterator<Item = &mut Buddy<'static>> {
        self.spans.iter_mut().rev().flatten().map(|span| &mut span.buddy)
    }

    /// The span that covers `frame`.
    #[inline]
    pub(super) fn buddy_of(&mut self, frame: Frame) -> Option<&mut Buddy<'static>> {
        self.buddies().find(|buddy| buddy.cover().contains(frame))
    }

    /// Takes the span that has this cover out.
    pub(super) fn extract(&mut self, cover: FrameRange) -> Option<Span> {
        let at = self.covers().position(|other| other == cover)?;
        let behind = self.spans.get_mut(at..)?;
        let span = behind.first_mut()?.take();
        behind.rotate_left(1);
        span
    }

    pub(super) fn managed(&self) -> usize {
        self.spans().map(|span| span.buddy.frames_managed()).sum()
    }

    #[inline]
    pub(super) fn available(&self) -> usize {
        self.spans().map(|span| span.buddy.frames_available()).sum()
    }

    /// How many frames such a request may take.
    #[inline]
    pub(super) fn spare(&self, depth: Depth, choice: Choice) -> usize {
        self.available().saturating_sub(self.watermarks.mark(depth, choice))
    }

    /// The largest block that is available.
    pub(super) fn largest(&self) -> Option<Order> {
        self.spans().filter_map(|span| span.buddy.largest()).max()
    }

    /// Asks one span after the other: ascending for [`Placement::Low`], else descending. `Ok(None)`
    /// if none of them has what is asked for.
    #[inline(always)]
    pub(super) fn ask<T>(
        &mut self,
        placement: Placement,
        mut request: impl FnMut(&mut Buddy<'static>) -> Result<T, AllocError>,
    ) -> Result<Option<T>, AllocError> {
        let mut answer = |buddy: &mut Buddy<'static>| match request(buddy) {
            Ok(taken) => ControlFlow::Break(Ok(Some(taken))),
            Err(AllocError::OutOfMemory | AllocError::Fragmented { .. }) => {
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Err(error)),
        };
        let asked = match placement {
            Placement::Low => self.buddies().try_for_each(&mut answer),
            Placement::High => self.buddies_down().try_for_each(&mut answer),
        };
        match asked {
            ControlFlow::Break(answer) => answer,
            ControlFlow::Continue(()) => Ok(None),
        }
    }

    /// What a request whose first choice this zone is mostly comes to: a block of the first span
    /// that it asks, and the span, while there is plenty. `None`, and nothing has changed, if
    /// that fails, for whatever reason.
    #[inline]
    pub(super) fn take_at_once(
        &mut self,
        order: Order,
        owner: BlockOwner,
        placement: Placement,
    ) -> Option<(Frame, &Buddy<'static>)> {
        if self.spare(Depth::Plenty, Choice::First) < order.frames() {
            return None;
        }
        let mut spans = self.spans.iter_mut();
        let span = match placement {
            Placement::Low => spans.next()?.as_mut()?,
            Placement::High => spans.rev().flatten().next()?,
        };
        let frame = span.buddy.alloc(order, owner, placement).ok()?;
        self.counts.allocs += 1;
        Some((frame, &span.buddy))
    }

    /// Counts `blocks` allocations.
    #[inline]
    pub(super) fn count_allocs(&mut self, blocks: u64, choice: Choice) {
        self.counts.allocs += blocks;
        if choice == Choice::Fallback {
            self.counts.fallbacks += blocks;
        }
    }

    /// Takes frames for metadata out of what is available: they are reserved from now on.
    pub(super) fn take_reserved(&mut self, frames: usize) -> Option<FrameRange> {
        if self.spare(Depth::Reserve, Choice::First) < frames {
            return None;
        }
        let owner = BlockOwner::Caller;
        let taken = self.buddies_down().find_map(|buddy| {
            let range = buddy.alloc_exact(frames, owner, Placement::High).ok()?;
            buddy.free_exact(range, owner).ok()?;
            buddy.remove(range).ok()?;
            buddy.reserve(range).ok()?;
            Some(range)
        });
        self.set_watermarks();
        taken
    }

    /// Makes an allocation `frames` frames long where it lies, as far as the reserve allows.
    pub(super) fn resize(
        &mut self,
        range: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        let spare = self.spare(Depth::Reserve, Choice::First);
        let outside = ResizeError::NotAllocated(FreeError::OutOfRange);
        let buddy = self.buddy_of(range.start()).ok_or(outside)?;
        if frames.saturating_sub(range.frames()) > spare {
            // To the same length: says what is wrong with the range, and changes nothing.
            buddy.resize(range, range.frames(), owner)?;
            return Err(ResizeError::OutOfMemory);
        }
        buddy.resize(range, frames, owner)
    }

    /// The zone as it stands, but for what CPUs keep of it.
    pub(super) fn stats(&self, kind: ZoneKind) -> ZoneStats {
        let cover = match (self.covers().next(), self.covers().last()) {
            (Some(first), Some(last)) => FrameRange::new(first.start(), last.end()),
            _ => None,
        };
        let mut available_blocks = [0; Order::COUNT];
        for span in self.spans() {
            for order in Order::all() {
                available_blocks[order.index()] += span.buddy.available_blocks(order);
            }
        }
        ZoneStats {
            kind,
            cover: cover.unwrap_or(FrameRange::EMPTY),
            spans: self.covers().count(),
            spanned_frames: self.covers().map(FrameRange::frames).sum(),
            managed_frames: self.managed(),
            available_frames: self.available(),
            kept_frames: 0,
            available_blocks,
            watermarks: self.watermarks,
            counts: self.counts,
        }
    }

    /// Checks every span, and that they are disjoint, ascending and within `limits`.
    pub(super) fn verify(&self, limits: FrameRange) -> Result<(), Corruption> {
        let mut behind = limits.start();
        for span in self.spans() {
            let cover = span.buddy.cover();
            if cover.start() < behind || !limits.contains_range(cover) {
                return Err(Corruption::Counter {
                    expected: behind.number(),
                    found: cover.start().number(),
                });
            }
            behind = cover.end();
            span.buddy.verify()?;
        }
        let expected = Watermarks::of(self.managed());
        if self.watermarks != expected {
            return Err(Corruption::Counter { expected: expected.min, found: self.watermarks.min });
        }
        Ok(())
    }

    /// `range`, cut where spans begin and end: each piece lies in one span or in none.
    pub(super) fn pieces(&self, range: FrameRange) -> List<{ 2 * MAX_SPANS + 1 }> {
        let mut pieces = List::new();
        let mut rest = range;
        for cover in self.covers() {
            let (gap, from) = rest.split_at(cover.start());
            let (inside, above) = from.split_at(cover.end());
            for piece in [gap, inside] {
                // One gap before each span, one piece in it and one gap behind all: they fit.
                let _fits = piece.is_empty() || pieces.push(piece);
            }
            rest = above;
        }
        let _fits = rest.is_empty() || pieces.push(rest);
        pieces
    }
}

#[cfg(test)]
mod tests;
