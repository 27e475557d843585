//! Taking frames and giving them back.

use core::cell::Cell;

use super::flags::AllocFlags;
use super::passes::Offer;
use super::raw;
use super::zone::Zone;
use super::{
    AllocError, BlockOwner, ClaimError, FrameState, FreeError, PageAllocator, ResizeError, Setup,
};
use crate::buddy::{Buddy, Constraint, Placement};
use crate::frame::{FRAME_SHIFT, FRAME_SIZE, Frame, FrameRange, Order, PhysAddr};
use crate::lock::Guard;
use crate::platform::Platform;

/// Where a device can reach: what [`alloc_within`](PageAllocator::alloc_within) keeps to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// The first address.
    pub start: PhysAddr,
    /// The address behind the last one.
    pub end: PhysAddr,
    /// The first byte lies at a multiple of this power of two.
    pub align_bytes: u64,
    /// No multiple of this power of two lies within; 0 for no such limit. A limit above the size
    /// of the largest block counts as that size.
    pub boundary_bytes: u64,
}

impl Reach {
    /// Anywhere.
    pub const ANYWHERE: Self = Self {
        start: PhysAddr::ZERO,
        end: PhysAddr::MAX,
        align_bytes: FRAME_SIZE as u64,
        boundary_bytes: 0,
    };

    /// Anywhere below `end`.
    pub const fn below(end: PhysAddr) -> Self {
        Self { end, ..Self::ANYWHERE }
    }

    /// The same in frames.
    fn constraint(&self, frames: usize) -> Result<Constraint, AllocError> {
        let limited = self.boundary_bytes != 0;
        if !self.align_bytes.is_power_of_two()
            || (limited && !self.boundary_bytes.is_power_of_two())
        {
            return Err(AllocError::BadAlignment);
        }
        let order = |bytes: u64| bytes.trailing_zeros().saturating_sub(FRAME_SHIFT) as u8;
        let align = Order::new(order(self.align_bytes)).ok_or(AllocError::TooLarge)?;
        // No frame fits between boundaries that are closer than a frame is long.
        if limited && (frames as u64) > self.boundary_bytes >> FRAME_SHIFT {
            return Err(AllocError::TooLarge);
        }
        let boundary =
            limited.then(|| Order::new(order(self.boundary_bytes)).unwrap_or(Order::MAX));
        let start = Frame::containing(self.start).unwrap_or(Frame::MAX);
        let start = if self.start.is_frame_aligned() { Some(start) } else { start.checked_add(1) };
        let end = Frame::containing(self.end).unwrap_or(Frame::MAX);
        let window = start.and_then(|start| FrameRange::new(start, end));
        let window = window.unwrap_or(FrameRange::EMPTY);
        if window.frames() < frames {
            return Err(AllocError::TooLarge);
        }
        Ok(Constraint { window, align, boundary })
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Allocates a block of 2^`order` frames. Bounded by the number of zones, spans and orders.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`](AllocError::OutOfMemory) if there are too few frames that this request may
    /// take, [`Fragmented`](AllocError::Fragmented) if there are enough, but in pieces,
    /// [`WouldBlock`](AllocError::WouldBlock) if it may not wait,
    /// [`NotInitialized`](AllocError::NotInitialized), or [`Corrupted`](AllocError::Corrupted) for
    /// metadata that are damaged.
    #[inline(always)]
    pub fn alloc(&self, order: Order, flags: AllocFlags) -> Result<Frame, AllocError> {
        self.take_block(order, BlockOwner::Caller, flags)
    }

    /// Frees a block that [`alloc`](Self::alloc) returned.
    ///
    /// # Errors
    ///
    /// What is wrong with `frame` or `order`; nothing has changed.
    #[inline(always)]
    pub fn free(&self, frame: Frame, order: Order) -> Result<(), FreeError> {
        self.give_block(frame, order, BlockOwner::Caller)
    }

    /// Allocates `frames` contiguous frames; not rounded up to a power of two.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc), and [`ZeroSize`](AllocError::ZeroSize),
    /// [`TooLarge`](AllocError::TooLarge).
    pub fn alloc_exact(&self, frames: usize, flags: AllocFlags) -> Result<FrameRange, AllocError> {
        self.take_exact(frames, BlockOwner::Caller, flags)
    }

    /// Frees what [`alloc_exact`](Self::alloc_exact), [`alloc_within`](Self::alloc_within),
    /// [`claim`](Self::claim) or [`resize`](Self::resize) returned.
    ///
    /// # Errors
    ///
    /// What is wrong with `range`; nothing has changed.
    pub fn free_exact(&self, range: FrameRange) -> Result<(), FreeError> {
        self.give_exact(range, BlockOwner::Caller)
    }

    /// Allocates `frames` contiguous frames where a device can reach them. Zones that the flags do
    /// not allow are left out, as always.
    ///
    /// # Errors
    ///
    /// As [`alloc_exact`](Self::alloc_exact), where [`TooLarge`](AllocError::TooLarge) is also what
    /// is longer than the device reaches, and [`BadAlignment`](AllocError::BadAlignment) for an
    /// alignment or boundary that is not a power of two.
    pub fn alloc_within(
        &self,
        frames: usize,
        reach: &Reach,
        flags: AllocFlags,
    ) -> Result<FrameRange, AllocError> {
        self.take_within(frames, &reach.constraint(frames)?, BlockOwner::Caller, flags)
    }

    /// Allocates these very frames, whatever the watermarks say. They must lie in one span. Called
    /// with no lock held: what CPUs keep ready is [drained](Self::drain) first.
    ///
    /// # Errors
    ///
    /// Where one of them is not available, also if another CPU keeps it ready that could not be
    /// drained; nothing has changed.
    pub fn claim(&self, range: FrameRange) -> Result<(), ClaimError> {
        let Some(setup) = self.setup.get() else { return Err(ClaimError::NotInitialized) };
        let _lists = self.keep_lists_empty();
        let mut zone = self.zone(setup, range.start());
        let outside = ClaimError::OutOfRange { range, cover: FrameRange::EMPTY };
        zone.buddy_of(range.start()).ok_or(outside)?.claim(range, BlockOwner::Caller)?;
        zone.counts.allocs += 1;
        Ok(())
    }

    /// Makes an allocation `frames` frames long where it lies: gives back its tail, or takes the
    /// frames behind it.
    ///
    /// # Errors
    ///
    /// Where the frames behind are not available, also if another CPU keeps them ready, or would
    /// have to come out of the reserve, or `range` is no allocation; nothing has changed.
    pub fn resize(&self, range: FrameRange, frames: usize) -> Result<FrameRange, ResizeError> {
        self.resize_as(range, frames, BlockOwner::Caller)
    }

    /// Allocates as many blocks of `order` as there are and `out` has places for, and says how
    /// many: they fill the beginning of `out`. What a zone has comes under one hold of its lock, so
    /// the CPU's interrupts are masked for a time in proportion to `out`. Where the blocks are too
    /// few, what CPUs keep ready is taken back; shrinkers run only if there would be none.
    #[must_use = "only so many places of `out` are filled"]
    pub fn alloc_many(&self, order: Order, out: &mut [Frame], flags: AllocFlags) -> usize {
        let filled = Cell::new(0);
        let wants_some = !out.is_empty();
        let mut request = |zone: &mut Zone, offer: Offer| {
            let before = filled.get();
            let taken = zone.ask(placement(flags), |buddy| {
                let most = offer.spare / order.frames() - (filled.get() - before);
                let rest = out.get_mut(filled.get()..).unwrap_or_default();
                let len = rest.len().min(most);
                let rest = rest.get_mut(..len).unwrap_or_default();
                let taken = buddy.alloc_many(order, rest, BlockOwner::Caller, placement(flags));
                filled.set(filled.get() + taken);
                if filled.get() == out.len() { Ok(()) } else { Err(SHORTAGE) }
            });
            zone.count_allocs((filled.get() - before) as u64, offer.choice);
            taken
        };
        if wants_some && self.setup.get().is_some() {
            // The count says all that an error could.
            let mut full = self.passes(order.frames(), flags, &mut request);
            if full == Ok(None) && self.drain_for(flags) {
                full = self.pass_deeper(order.frames(), flags, &mut request);
            }
            if full == Ok(None) && filled.get() == 0 {
                let _ = self.after_draining(order.frames(), flags, &mut request);
            }
        }
        let filled = filled.get();
        let taken = out.get(..filled).unwrap_or_default();
        if flags.contains(AllocFlags::ZERO) {
            taken.iter().for_each(|&frame| self.zero(frame, order.frames()));
        }
        filled
    }

    /// Frees blocks of `order`: under one hold of a zone's lock those that follow each other in
    /// `blocks` and lie in one span, so the CPU's interrupts are masked for a time in proportion to
    /// them.
    ///
    /// # Errors
    ///
    /// What is wrong with one of the blocks, and its place in `blocks`. Those before it have been
    /// freed.
    pub fn free_many(&self, blocks: &[Frame], order: Order) -> Result<(), (usize, FreeError)> {
        let mut done = 0;
        while let Some(&first) = blocks.get(done) {
            let Some(setup) = self.setup.get() else {
                return Err((done, FreeError::NotInitialized));
            };
            let mut zone = self.zone(setup, first);
            let Some(buddy) = zone.buddy_of(first) else {
                return Err((done, FreeError::OutOfRange));
            };
            let cover = buddy.cover();
            let rest = blocks.get(done..).unwrap_or_default();
            let here = rest.iter().take_while(|&&frame| cover.contains(frame)).count();
            let batch = rest.get(..here).unwrap_or_default();
            let freed = buddy.free_many(batch, order, BlockOwner::Caller);
            let count = freed.map_or_else(|(count, _)| count, |()| here);
            zone.counts.frees += count as u64;
            freed.map_err(|(count, error)| (done + count, error))?;
            done += here;
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn take_block(
        &self,
        order: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        let frame = match self.take_local(order, owner, flags) {
            Some(frame) => frame,
            None => self.take_shared(order, owner, flags)?,
        };
        if flags.contains(AllocFlags::ZERO) {
            self.zero(frame, order.frames());
        }
        Ok(frame)
    }

    /// A block from the zones.
    #[cold]
    #[inline(never)]
    fn take_shared(
        &self,
        order: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        let placement = placement(flags);
        if let Some((first, _)) = self.candidates(flags).next()
            && let Some((frame, _)) = self.lock(first, flags)?.take_at_once(order, owner, placement)
        {
            return Ok(frame);
        }
        self.serve(order.frames(), flags, |zone| {
            zone.ask(placement, |buddy| buddy.alloc(order, owner, placement))
        })
    }

    #[inline(always)]
    pub(super) fn give_block(
        &self,
        frame: Frame,
        order: Order,
        owner: BlockOwner,
    ) -> Result<(), FreeError> {
        if self.give_local(frame, order, owner) {
            return Ok(());
        }
        self.give_shared(frame, order, owner)
    }

    /// Gives a block back to its zone.
    #[cold]
    #[inline(never)]
    fn give_shared(&self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError> {
        self.give_to(frame, |buddy| buddy.free(frame, order, owner))
    }

    pub(super) fn take_exact(
        &self,
        frames: usize,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<FrameRange, AllocError> {
        let placement = placement(flags);
        let range = self.serve(frames, flags, |zone| {
            zone.ask(placement, |buddy| buddy.alloc_exact(frames, owner, placement))
        })?;
        if flags.contains(AllocFlags::ZERO) {
            self.zero(range.start(), range.frames());
        }
        Ok(range)
    }

    pub(super) fn take_within(
        &self,
        frames: usize,
        constraint: &Constraint,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<FrameRange, AllocError> {
        let range = self.serve(frames, flags, |zone| {
            zone.ask(placement(flags), |buddy| {
                let window = constraint.window.intersect(buddy.cover());
                if window.frames() < frames {
                    return Err(SHORTAGE);
                }
                buddy.alloc_within(frames, &Constraint { window, ..*constraint }, owner)
            })
        })?;
        if flags.contains(AllocFlags::ZERO) {
            self.zero(range.start(), range.frames());
        }
        Ok(range)
    }

    pub(super) fn give_exact(&self, range: FrameRange, owner: BlockOwner) -> Result<(), FreeError> {
        self.give_to(range.start(), |buddy| buddy.free_exact(range, owner))
    }

    pub(super) fn resize_as(
        &self,
        range: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        let Some(setup) = self.setup.get() else {
            return Err(ResizeError::NotAllocated(FreeError::NotInitialized));
        };
        let resized = self.zone(setup, range.start()).resize(range, frames, owner);
        // What is missing may lie in the lists of this CPU.
        let may_be_kept = match resized {
            Err(ResizeError::InUse { frame }) => {
                matches!(self.lookup(frame), FrameState::Cached { .. })
            }
            Err(ResizeError::OutOfMemory) => self.frames_kept() > 0,
            _ => false,
        };
        if !may_be_kept {
            return resized;
        }
        self.drain_local();
        self.zone(setup, range.start()).resize(range, frames, owner)
    }

    /// Gives something back to the span that covers `frame`.
    #[inline]
    fn give_to(
        &self,
        frame: Frame,
        free: impl FnOnce(&mut Buddy<'static>) -> Result<(), FreeError>,
    ) -> Result<(), FreeError> {
        let Some(setup) = self.setup.get() else { return Err(FreeError::NotInitialized) };
        let mut zone = self.zone(setup, frame);
        free(zone.buddy_of(frame).ok_or(FreeError::OutOfRange)?)?;
        zone.counts.frees += 1;
        Ok(())
    }

    /// The zone of `frame`, locked.
    #[inline]
    pub(super) fn zone(&self, setup: &Setup, frame: Frame) -> Guard<'_, Zone, P> {
        self.zones[setup.zone_of(frame)].lock(&self.platform)
    }

    /// Zeroes frames that have just been allocated.
    fn zero(&self, start: Frame, frames: usize) {
        if let Some(range) = FrameRange::from_len(start, frames) {
            // SAFETY: the caller has just taken these frames out of a span and told nobody of them
            // yet; all memory of spans is mapped, as whoever handed it over has promised.
            unsafe { raw::zero(&self.platform, range) };
        }
    }
}

/// Says that a zone lacks what was asked for; what the answer is depends on all zones together.
const SHORTAGE: AllocError = AllocError::OutOfMemory;

fn placement(flags: AllocFlags) -> Placement {
    if flags.contains(AllocFlags::MOVABLE) { Placement::High } else { Placement::Low }
}
