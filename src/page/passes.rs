//! Which zone serves a request, and how deep into its reserve: one pass over the zones after the
//! other, until one can.

use core::sync::atomic::Ordering;

use super::flags::AllocFlags;
use super::zone::{Choice, Depth, Zone};
use super::{AllocError, PageAllocator, ZONES};
use crate::frame::Order;
use crate::lock::Guard;
use crate::platform::Platform;

/// What a zone can do for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offer {
    /// Frames that the request may take.
    pub(super) spare: usize,
    /// Whether the zone is the one that the request prefers.
    pub(super) choice: Choice,
}

impl<P: Platform> PageAllocator<P> {
    /// Serves a request for `frames` frames. `request` answers `None` where a zone lacks what it
    /// wants.
    #[inline]
    pub(super) fn serve<T>(
        &self,
        frames: usize,
        flags: AllocFlags,
        mut request: impl FnMut(&mut Zone) -> Result<Option<T>, AllocError>,
    ) -> Result<T, AllocError> {
        if self.setup.get().is_none() {
            return Err(AllocError::NotInitialized);
        }
        if frames == 0 {
            return Err(AllocError::ZeroSize);
        }
        if frames > Order::MAX.frames() {
            return Err(AllocError::TooLarge);
        }
        let mut request = |zone: &mut Zone, offer: Offer| {
            let taken = request(zone)?;
            zone.count_allocs(u64::from(taken.is_some()), offer.choice);
            Ok(taken)
        };
        match self.passes(frames, flags, &mut request)? {
            Some(taken) => Ok(taken),
            None => self.after_shrinking(frames, flags, &mut request),
        }
    }

    /// Asks the zones in their order, first while they have plenty, then down to what the request
    /// may take.
    #[inline]
    pub(super) fn passes<T>(
        &self,
        frames: usize,
        flags: AllocFlags,
        request: &mut impl FnMut(&mut Zone, Offer) -> Result<Option<T>, AllocError>,
    ) -> Result<Option<T>, AllocError> {
        match self.pass(frames, flags, Depth::Plenty, request)? {
            Some(taken) => Ok(Some(taken)),
            None => self.pass_deeper(frames, flags, request),
        }
    }

    /// Asks the zones down to what the request may take.
    #[cold]
    #[inline(never)]
    pub(super) fn pass_deeper<T>(
        &self,
        frames: usize,
        flags: AllocFlags,
        request: &mut impl FnMut(&mut Zone, Offer) -> Result<Option<T>, AllocError>,
    ) -> Result<Option<T>, AllocError> {
        self.pass(frames, flags, deepest(flags), request)
    }

    /// Drains CPUs, and has shrinkers make room, for a request that would fail, and asks the zones
    /// once more after each.
    #[cold]
    pub(super) fn after_shrinking<T>(
        &self,
        frames: usize,
        flags: AllocFlags,
        request: &mut impl FnMut(&mut Zone, Offer) -> Result<Option<T>, AllocError>,
    ) -> Result<T, AllocError> {
        if self.drain_for(flags)
            && let Some(taken) = self.pass_deeper(frames, flags, request)?
        {
            return Ok(taken);
        }
        self.after_draining(frames, flags, request)
    }

    /// As [`after_shrinking`](Self::after_shrinking), once CPUs are drained.
    #[cold]
    pub(super) fn after_draining<T>(
        &self,
        frames: usize,
        flags: AllocFlags,
        request: &mut impl FnMut(&mut Zone, Offer) -> Result<Option<T>, AllocError>,
    ) -> Result<T, AllocError> {
        if self.shrink(frames, flags) > 0
            && let Some(taken) = self.pass_deeper(frames, flags, request)?
        {
            return Ok(taken);
        }
        Err(self.shortage(frames, flags))
    }

    /// Asks each zone that can spare `frames` frames once.
    #[inline(always)]
    pub(super) fn pass<T>(
        &self,
        frames: usize,
        flags: AllocFlags,
        depth: Depth,
        request: &mut impl FnMut(&mut Zone, Offer) -> Result<Option<T>, AllocError>,
    ) -> Result<Option<T>, AllocError> {
        for (index, choice) in self.candidates(flags) {
            let mut zone = self.lock(index, flags)?;
            let spare = zone.spare(depth, choice);
            if spare >= frames
                && let Some(taken) = request(&mut zone, Offer { spare, choice })?
            {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// The zones that have memory and that a request with `flags` may take from, the best first.
    #[inline]
    pub(super) fn candidates(&self, flags: AllocFlags) -> impl Iterator<Item = (usize, Choice)> {
        let zones = if flags.contains(AllocFlags::ZONE_DMA) {
            1
        } else if flags.contains(AllocFlags::ZONE_DMA32) {
            2
        } else {
            ZONES
        };
        // Relaxed: a hint, see `note_populated`.
        let populated = u32::from(self.populated.load(Ordering::Relaxed)) & ((1 << zones) - 1);
        let mut rest = populated;
        let goes_on = !flags.contains(AllocFlags::NO_FALLBACK);
        core::iter::from_fn(move || {
            let index = rest.checked_ilog2()?;
            let choice = if rest == populated { Choice::First } else { Choice::Fallback };
            rest = if goes_on { rest & !(1 << index) } else { 0 };
            Some((index as usize, choice))
        })
    }

    #[inline]
    pub(super) fn lock(
        &self,
        index: usize,
        flags: AllocFlags,
    ) -> Result<Guard<'_, Zone, P>, AllocError> {
        if flags.contains(AllocFlags::NO_WAIT) {
            return self.zones[index].try_lock(&self.platform).ok_or(AllocError::WouldBlock);
        }
        Ok(self.zones[index].lock(&self.platform))
    }

    /// Takes back what CPUs keep ready: all of it if the caller can wait, else what is on this CPU,
    /// as far as it may. Whether it may keep any.
    #[cold]
    pub(super) fn drain_for(&self, flags: AllocFlags) -> bool {
        if self.cpus.are_absent() {
            return false;
        }
        if flags.intersects(AllocFlags::ATOMIC | AllocFlags::NO_WAIT) {
            self.drain_local_for(flags);
        } else {
            self.drain();
        }
        true
    }

    /// Asks shrinkers for `frames` frames, if the caller can wait for them.
    fn shrink(&self, frames: usize, flags: AllocFlags) -> usize {
        if flags.intersects(AllocFlags::ATOMIC | AllocFlags::NO_WAIT) {
            return 0;
        }
        self.shrinkers.run(&self.platform, frames)
    }

    /// Says why a request has failed, and counts it.
    #[cold]
    fn shortage(&self, frames: usize, flags: AllocFlags) -> AllocError {
        let mut available = 0;
        let mut largest = Order::ZERO;
        for (index, choice) in self.candidates(flags) {
            let Ok(mut zone) = self.lock(index, flags) else { return AllocError::WouldBlock };
            zone.counts.failures += u64::from(choice == Choice::First);
            let spare = zone.spare(deepest(flags), choice);
            available += spare;
            // A block that would use up the reserve cannot be had.
            if let Some(order) = zone.largest() {
                let allowed = match spare.checked_ilog2() {
                    // More than the largest block allows any.
                    Some(order) => Order::new(order as u8).unwrap_or(Order::MAX),
                    None => Order::ZERO,
                };
                largest = largest.max(order.min(allowed));
            }
        }
        if available < frames {
            AllocError::OutOfMemory
        } else {
            AllocError::Fragmented { available, largest }
        }
    }
}

fn deepest(flags: AllocFlags) -> Depth {
    if flags.contains(AllocFlags::ATOMIC) { Depth::Empty } else { Depth::Reserve }
}
