//! How full the heap is.

use super::{Heap, SizeClass};
use crate::frame::FRAME_SIZE;
use crate::page::FrameSource;
use crate::slab::{CacheStats, RawCache};

/// How full a heap is. What other CPUs do meanwhile may be counted in part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct HeapStats {
    /// Objects in users' hands.
    pub objects: usize,
    /// Bytes in those objects.
    pub object_bytes: usize,
    /// Frames of the caches' slabs.
    pub slab_frames: usize,
    /// Frames that tell of the slabs: of all caches on the source, where it keeps their records
    /// together.
    pub record_frames: usize,
    /// Runs in users' hands.
    pub runs: usize,
    /// Frames of those runs.
    pub run_frames: usize,
    /// Most frames of runs that there were at a time.
    pub run_frames_peak: usize,
}

impl HeapStats {
    /// Bytes in users' hands.
    pub const fn live_bytes(&self) -> usize {
        self.object_bytes + self.run_frames * FRAME_SIZE
    }

    /// Bytes that the heap has taken from its source.
    pub const fn held_bytes(&self) -> usize {
        (self.slab_frames + self.record_frames + self.run_frames) * FRAME_SIZE
    }
}

impl<S: FrameSource> Heap<'_, S> {
    /// How full the heap is.
    pub fn stats(&self) -> HeapStats {
        let count = self.runs.count(self.source);
        let mut stats = HeapStats {
            runs: count.runs,
            run_frames: count.frames,
            run_frames_peak: count.frames_peak,
            ..HeapStats::default()
        };
        for cache in self.cache_stats() {
            stats.objects += cache.objects_active;
            stats.object_bytes += cache.objects_active * cache.object_bytes;
            stats.slab_frames += cache.slabs_total * cache.frames_per_slab;
            stats.record_frames += cache.record_frames;
        }
        if let Some(together) = self.source.records() {
            stats.record_frames = together.frames(self.source);
        }
        stats
    }

    /// How full each size class's cache is, the smallest first: what `slabinfo` shows.
    pub fn cache_stats(&self) -> impl ExactSizeIterator<Item = CacheStats> + Clone + '_ {
        self.caches.iter().map(RawCache::stats)
    }

    /// How full the cache of `class` is.
    pub fn class_stats(&self, class: SizeClass) -> CacheStats {
        self.caches[class.index()].stats()
    }
}
