//! Looking at the allocator without changing it.

use super::options::ZoneKind;
use super::zone::ZoneStats;
use super::{Corruption, FrameState, PageAllocator};
use crate::frame::{Frame, Order};
use crate::platform::Platform;

impl<P: Platform> PageAllocator<P> {
    /// What `frame` is. Bounded by the number of orders.
    pub fn lookup(&self, frame: Frame) -> FrameState {
        let Some(setup) = self.setup.get() else { return FrameState::OutOfRange };
        let mut zone = self.zone(setup, frame);
        zone.buddy_of(frame).map_or(FrameState::OutOfRange, |buddy| buddy.lookup(frame))
    }

    /// The zones that have a span, lowest first, each as it stands when it is asked for.
    ///
    /// Counting small blocks looks at every group of 512 frames that has some: for reports, not for
    /// decisions.
    pub fn zones(&self) -> impl Iterator<Item = ZoneStats> {
        let kinds = ZoneKind::ALL.into_iter();
        kinds.filter_map(|kind| Some(self.stats(kind)).filter(|stats| stats.spans > 0))
    }

    /// One zone as it stands. Takes as long as [`zones`](Self::zones) does for it, with the zone's
    /// lock held and the CPU's interrupts masked.
    pub fn stats(&self, kind: ZoneKind) -> ZoneStats {
        let stats = self.zones[kind.index()].lock(&self.platform).stats(kind);
        ZoneStats { kept_frames: self.cpus.frames_within(stats.cover), ..stats }
    }

    /// How many frames can be allocated, or are.
    pub fn frames_managed(&self) -> usize {
        self.zones.iter().map(|zone| zone.lock(&self.platform).managed()).sum()
    }

    /// How many frames are available; not those that CPUs keep ready: see
    /// [`frames_kept`](Self::frames_kept) and [`drain`](Self::drain).
    pub fn frames_available(&self) -> usize {
        self.zones.iter().map(|zone| zone.lock(&self.platform).available()).sum()
    }

    /// The largest block that is available.
    pub fn largest(&self) -> Option<Order> {
        self.zones.iter().filter_map(|zone| zone.lock(&self.platform).largest()).max()
    }

    /// Recounts everything: linear in the memory, with each zone's lock held in turn and the CPU's
    /// interrupts masked. For tests.
    ///
    /// # Errors
    ///
    /// The first contradiction that was found.
    pub fn verify(&self) -> Result<(), Corruption> {
        let Some(setup) = self.setup.get() else { return Ok(()) };
        self.zones
            .iter()
            .zip(setup.zones)
            .try_for_each(|(zone, limits)| zone.lock(&self.platform).verify(limits))
    }
}
