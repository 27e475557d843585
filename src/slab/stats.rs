//! How full a cache is.

use core::sync::atomic::Ordering::Relaxed;

use super::RawCache;
use super::lifecycle::Lifecycle;
use super::lists::Fill;
use super::slot::Slot;
use crate::page::FrameSource;

/// How full a cache is: what a line of `/proc/slabinfo` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// The cache's name.
    pub name: &'static str,
    /// Objects in users' hands.
    pub objects_active: usize,
    /// Objects, in use or not.
    pub objects_total: usize,
    /// Free objects in magazines, the depot and stocks.
    pub objects_cached: usize,
    /// Bytes in an object, as the cache was asked for.
    pub object_bytes: usize,
    /// Bytes from one object to the next.
    pub stride_bytes: usize,
    /// Objects in a slab.
    pub objects_per_slab: usize,
    /// Frames in a slab.
    pub frames_per_slab: usize,
    /// Slabs with objects outside of them.
    pub slabs_active: usize,
    /// Slabs.
    pub slabs_total: usize,
    /// How often a CPU went to its shelf, and perhaps on from there to the depot or the slabs,
    /// since the magazines that it has in use did not do: at most once in as many calls on a CPU as
    /// a magazine has rounds, plus one, whatever the calls, once the cache has as many objects as
    /// are needed.
    pub depot_visits: usize,
    /// Frames of records about the slabs: of all caches on the source, where it keeps their records
    /// together.
    pub record_frames: usize,
}

impl<S: FrameSource, L: Lifecycle> RawCache<'_, S, L> {
    /// How full the cache is.
    pub fn stats(&self) -> CacheStats {
        let Ok(geometry) = self.geometry else {
            return CacheStats { name: self.name, ..CacheStats::default() };
        };
        let lists = self.lists.lock(self.platform());
        let (slabs, available) = (lists.slabs(), lists.available);
        let empty = lists.chain(Fill::Empty).len();
        drop(lists);
        let objects_total = slabs * geometry.objects;
        let objects_cached = self.cached();
        CacheStats {
            name: self.name,
            objects_active: objects_total.saturating_sub(available + objects_cached),
            objects_total,
            objects_cached,
            object_bytes: geometry.object_bytes,
            stride_bytes: geometry.stride,
            objects_per_slab: geometry.objects,
            frames_per_slab: geometry.order.frames(),
            slabs_active: slabs - empty,
            slabs_total: slabs,
            depot_visits: self
                .shelves()
                .map(|shelf| shelf.lock(self.platform()).visits as usize)
                .sum(),
            record_frames: self.records().frames(self.source),
        }
    }

    /// Free objects outside their slabs; exact while no other CPU uses the cache.
    pub(super) fn cached(&self) -> usize {
        let platform = self.platform();
        let slots: usize = self.cpus.slots(platform).map(Slot::total_rounds).sum();
        let shelves: usize =
            self.shelves().map(|shelf| shelf.lock(platform).full.total_rounds(platform)).sum();
        slots + shelves + self.stocked.load(Relaxed)
    }
}
