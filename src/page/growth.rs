//! Memory that comes and goes later: hot plug, balloons, what the boot loader leaves.

use core::sync::atomic::Ordering;

use super::error::AddMemoryError;
use super::options::{Contents, Owners};
use super::owners::MAX_TABLES;
use super::plan::{List, SpanNeed};
use super::raw::Carving;
use super::zone::{Layout, Span, Zone};
use super::{MAX_CARVED, MAX_SPANS, PageAllocator, RemoveError, Setup, ZONES};
use crate::buddy::{Buddy, Kind, Metadata, SpanError, State};
use crate::frame::{Frame, FrameRange, PhysAddr};
use crate::platform::Platform;

/// Most gaps that one range to be added can fill.
const MAX_STEPS: usize = 8;

/// One gap that is to be filled, prepared so far that filling it cannot fail.
struct Step {
    /// The frames, outside all spans.
    gap: FrameRange,
    /// The spans that it touches, below and above, which grow into one; without any, it is a new
    /// one.
    old: [Option<FrameRange>; 2],
    /// The span with the gap.
    cover: FrameRange,
    need: SpanNeed,
    /// Where the new metadata go.
    carve: FrameRange,
    source: CarveSource,
    carving: Carving,
}

/// What memory new metadata are carved out of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CarveSource {
    /// The gap itself.
    Gap,
    /// What was available.
    Available,
}

impl<P: Platform> PageAllocator<P> {
    /// Adds memory: frames in holes of spans, reserved ones (such as the boot loader's, once it is
    /// done with), and frames outside all spans. Memory that touches a span joins it, and blocks
    /// coalesce across the seam; what fills the gap between two spans makes them one.
    ///
    /// Linear in the range, and where a span has to grow in the span, with interrupts masked:
    /// see [`InitOptions::provision`](super::InitOptions::provision) for memory that is expected.
    ///
    /// The metadata of new spans and of those that grow are carved out of the top of the new
    /// memory, or out of what is available if that is too small.
    ///
    /// # Errors
    ///
    /// [`Overlap`](AddMemoryError::Overlap) if one of the frames is managed or holds metadata;
    /// [`MetadataTooSmall`](AddMemoryError::MetadataTooSmall),
    /// [`TooManySpans`](AddMemoryError::TooManySpans),
    /// [`TooManyGrowths`](AddMemoryError::TooManyGrowths),
    /// [`TooManyGaps`](AddMemoryError::TooManyGaps), [`Unmapped`](AddMemoryError::Unmapped),
    /// [`ListsInUse`](AddMemoryError::ListsInUse),
    /// [`NotInitialized`](AddMemoryError::NotInitialized). Nothing has changed.
    ///
    /// # Safety
    ///
    /// The platform maps the frames, and they belong to nobody from now on, until they are
    /// [removed](Self::remove).
    pub unsafe fn add(&self, range: FrameRange) -> Result<(), AddMemoryError> {
        let setup = self.setup.get().ok_or(AddMemoryError::NotInitialized)?;
        let lists = self.keep_lists_empty();
        let mut carved = self.growth.lock(&self.platform);
        let mut in_use = carved.first_in(range);
        for (index, part) in setup.parts(range) {
            let mut zone = self.zones[index].lock(&self.platform);
            for &piece in zone.pieces(part).as_slice() {
                in_use = in_use.into_iter().chain(zone.first_managed(piece)).min();
            }
        }
        if let Some(frame) = in_use {
            return Err(AddMemoryError::Overlap { frame });
        }
        let mut steps = [const { None }; MAX_STEPS];
        // SAFETY: passed on to the caller.
        let mut prepared = unsafe { self.prepare(setup, range, &carved, &mut steps) };
        // A CPU's lists know where the states of their span lie.
        if !lists.are_all_empty()
            && steps.iter().flatten().any(|step| step.old.iter().any(Option::is_some))
        {
            prepared = prepared.and(Err(AddMemoryError::ListsInUse));
        }
        if let Err(error) = prepared {
            for step in steps.into_iter().flatten() {
                if step.source == CarveSource::Available {
                    self.give_reserved(setup, step.carve);
                }
            }
            return Err(error);
        }
        for (index, part) in setup.parts(range) {
            let mut zone = self.zones[index].lock(&self.platform);
            for &piece in zone.pieces(part).as_slice() {
                if let Some(buddy) = zone.buddy_of(piece.start()) {
                    // Checked above; only this function, under the lock of growth, manages frames.
                    let added = buddy.add(piece);
                    debug_assert!(added.is_ok(), "{piece}: {added:?}");
                }
            }
            zone.set_watermarks();
        }
        // All of them before any is filled: that may cut what is listed into more pieces.
        for step in steps.iter().flatten() {
            let is_listed = carved.push(step.carve);
            debug_assert!(is_listed, "{} was counted", step.carve);
        }
        for step in steps.into_iter().flatten() {
            self.fill(setup, step, &mut carved);
        }
        drop(carved);
        self.note_populated();
        Ok(())
    }

    /// Takes memory away: its frames are holes from now on. They belong to the caller again. Linear
    /// in the range, with interrupts masked. Called with no lock held: what CPUs keep ready is
    /// [drained](Self::drain) first.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`](RemoveError::OutOfRange), [`Hole`](RemoveError::Hole) or
    /// [`InUse`](RemoveError::InUse) for the first frame that cannot be taken, metadata among them,
    /// and what another CPU keeps ready that could not be drained;
    /// [`Corrupted`](RemoveError::Corrupted), [`NotInitialized`](RemoveError::NotInitialized).
    /// Nothing has changed.
    pub fn remove(&self, range: FrameRange) -> Result<(), RemoveError> {
        let setup = self.setup.get().ok_or(RemoveError::NotInitialized)?;
        let _lists = self.keep_lists_empty();
        let _growth = self.growth.lock(&self.platform);
        let mut taken = range.start();
        let removed = setup.parts(range).try_for_each(|(index, part)| {
            let mut zone = self.zones[index].lock(&self.platform);
            for &piece in zone.pieces(part).as_slice() {
                let outside = RemoveError::OutOfRange { range, cover: FrameRange::EMPTY };
                zone.buddy_of(piece.start()).ok_or(outside)?.remove(piece)?;
                taken = piece.end();
            }
            zone.set_watermarks();
            Ok(())
        });
        if removed.is_err() {
            self.give_reserved(setup, range.split_at(taken).0);
        }
        self.note_populated();
        removed
    }

    /// Finds a span and room for metadata for each gap of `range`.
    ///
    /// # Safety
    ///
    /// As [`add`](Self::add).
    unsafe fn prepare(
        &self,
        setup: &Setup,
        range: FrameRange,
        carved: &List<MAX_CARVED>,
        steps: &mut [Option<Step>; MAX_STEPS],
    ) -> Result<(), AddMemoryError> {
        let mut growths = carved.room();
        if setup.options.owners == Owners::Keep {
            growths = growths.min(self.owners.room());
        }
        let mut places = steps.iter_mut();
        for (index, part) in setup.parts(range) {
            let (mut covers, pieces) = {
                let zone = self.zones[index].lock(&self.platform);
                (zone.cover_list(), zone.pieces(part))
            };
            for &gap in pieces.as_slice() {
                if covers.first_in(gap).is_some() {
                    continue;
                }
                let old = covers.touching(gap);
                let cover = old.iter().flatten().fold(gap, |cover, &old| hull(cover, old));
                // At most one range less and one more: taking out whole ranges needs no room.
                let _fits = covers.subtract(cover);
                if !covers.push(cover) {
                    return Err(AddMemoryError::TooManySpans { limit: MAX_SPANS });
                }
                let place = places.next();
                let place = place.ok_or(AddMemoryError::TooManyGaps { limit: MAX_STEPS })?;
                growths = growths
                    .checked_sub(1)
                    .ok_or(AddMemoryError::TooManyGrowths { limit: MAX_TABLES })?;
                let need = SpanNeed::new(cover, gap, setup.options.owners);
                let (carve, source) = self
                    .room_for(gap, need.frames())
                    .ok_or(AddMemoryError::MetadataTooSmall { need: need.frames() })?;
                // SAFETY: the frames are either of the gap, of which the caller says that they
                // belong to nobody, or have just been reserved for this.
                let carving = unsafe { Carving::new(&self.platform, carve, Contents::Unknown) };
                let Some(carving) = carving else {
                    if source == CarveSource::Available {
                        self.give_reserved(setup, carve);
                    }
                    return Err(AddMemoryError::Unmapped { frame: carve.start() });
                };
                *place = Some(Step { gap, old, cover, need, carve, source, carving });
            }
        }
        Ok(())
    }

    /// Room for `frames` frames of metadata: the top of `gap` if something of it remains, or
    /// available frames.
    fn room_for(&self, gap: FrameRange, frames: usize) -> Option<(FrameRange, CarveSource)> {
        let in_gap = gap.end().checked_sub(frames).filter(|&start| start > gap.start());
        if let Some(start) = in_gap {
            return FrameRange::new(start, gap.end()).map(|carve| (carve, CarveSource::Gap));
        }
        let mut zones = self.zones.iter().rev();
        let carve = zones.find_map(|zone| zone.lock(&self.platform).take_reserved(frames))?;
        Some((carve, CarveSource::Available))
    }

    /// Lets a span grow over a gap, or begins one there, and adds the frames.
    fn fill(&self, setup: &Setup, mut step: Step, carved: &mut List<MAX_CARVED>) {
        let Some(layout) = Span::lay_out(&step.need, &mut step.carving) else { return };
        let Layout { metadata, place, records } = layout;
        // Before the frames can be allocated, since their owners may be asked for at once.
        if setup.options.owners == Owners::Keep {
            let is_known = self.owners.push(step.gap, records);
            debug_assert!(is_known, "{} was counted", step.gap);
        }
        let mut zone = self.zone(setup, step.gap.start());
        let [lower, upper] = step.old.map(|old| old.and_then(|old| zone.extract(old)));
        let outgrown = [&lower, &upper].map(|span| span.as_ref().map(|span| span.metadata));
        match Span::grown(lower, upper, step.cover, metadata, place) {
            Ok(span) => {
                let inserted = zone.insert(span);
                debug_assert!(inserted, "{} was checked", step.cover);
            }
            Err((spans, error)) => {
                debug_assert!(false, "{error}");
                for span in spans.into_iter().flatten() {
                    let _back = zone.insert(span);
                }
                return;
            }
        }
        if let Some(buddy) = zone.buddy_of(step.gap.start()) {
            let (frames, _) = step.gap.split_at(match step.source {
                CarveSource::Gap => step.carve.start(),
                CarveSource::Available => step.gap.end(),
            });
            let added = buddy.add(frames).is_ok()
                && (step.source != CarveSource::Gap || buddy.reserve(step.carve).is_ok());
            debug_assert!(added, "{} was outside all spans", step.gap);
        }
        zone.set_watermarks();
        drop(zone);
        for (start, end) in outgrown.into_iter().flatten() {
            self.give_outgrown(setup, start, end, carved);
        }
    }

    /// Makes the frames of outgrown metadata available: those that hold nothing else.
    fn give_outgrown(
        &self,
        setup: &Setup,
        start: PhysAddr,
        end: PhysAddr,
        carved: &mut List<MAX_CARVED>,
    ) {
        let first = Frame::containing(start);
        let first = first.and_then(|frame| {
            if start.is_frame_aligned() { Some(frame) } else { frame.checked_add(1) }
        });
        let whole = first.zip(Frame::containing(end)).and_then(|(a, b)| FrameRange::new(a, b));
        if let Some(whole) = whole
            && !whole.is_empty()
            && carved.subtract(whole)
        {
            self.give_reserved(setup, whole);
        }
    }

    /// Makes reserved frames, or holes, of spans available.
    fn give_reserved(&self, setup: &Setup, range: FrameRange) {
        for (index, part) in setup.parts(range) {
            let mut zone = self.zones[index].lock(&self.platform);
            for &piece in zone.pieces(part).as_slice() {
                let added = zone.buddy_of(piece.start()).map(|buddy| buddy.add(piece));
                debug_assert!(matches!(added, Some(Ok(()))), "{piece}: {added:?}");
            }
            zone.set_watermarks();
        }
    }
}

/// The two ranges, which touch, as one.
fn hull(a: FrameRange, b: FrameRange) -> FrameRange {
    FrameRange::new(a.start().min(b.start()), a.end().max(b.end())).unwrap_or(a)
}

impl Span {
    /// The content of up to two spans under a new cover, with new metadata.
    #[expect(clippy::result_large_err, reason = "the error gives the spans back")]
    fn grown(
        lower: Option<Self>,
        upper: Option<Self>,
        cover: FrameRange,
        metadata: Metadata<'static>,
        place: (PhysAddr, PhysAddr),
    ) -> Result<Self, ([Option<Self>; 2], SpanError)> {
        let as_before = |buddy, metadata| Some(Self { buddy, metadata });
        let buddy = match (lower, upper) {
            (None, None) => Buddy::new(cover, metadata).map_err(|error| ([None, None], error)),
            (Some(old), None) | (None, Some(old)) => {
                let old_place = old.metadata;
                old.buddy
                    .migrate(cover, metadata)
                    .map_err(|(buddy, error)| ([as_before(buddy, old_place), None], error))
            }
            (Some(lower), Some(upper)) => {
                let (low_place, high_place) = (lower.metadata, upper.metadata);
                lower.buddy.join(upper.buddy, cover, metadata).map_err(|(low, high, error)| {
                    ([as_before(low, low_place), as_before(high, high_place)], error)
                })
            }
        }?;
        Ok(Self { buddy, metadata: place })
    }
}

impl Setup {
    /// `range`, cut at the limits of zones.
    fn parts(&self, range: FrameRange) -> impl Iterator<Item = (usize, FrameRange)> {
        let parts: [FrameRange; ZONES] = self.zones.map(|zone| zone.intersect(range));
        parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty())
    }
}

impl Zone {
    /// The first managed frame of a piece, which is in one span or in none.
    fn first_managed(&mut self, piece: FrameRange) -> Option<Frame> {
        let buddy = self.buddy_of(piece.start())?;
        let first = piece.start().checked_offset_from(buddy.cover().start()).unwrap_or(0);
        let states = buddy.states().of_frames().iter().skip(first).take(piece.frames());
        let kinds = states.map(|byte| State::from_byte(byte.load(Ordering::Relaxed)).kind());
        let mut frames = kinds.zip(piece.iter());
        frames
            .find(|(kind, _)| !matches!(kind, Kind::Hole | Kind::Reserved))
            .map(|(_, frame)| frame)
    }
}
