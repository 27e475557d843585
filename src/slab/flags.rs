//! How a cache is to behave.

bitflags::bitflags! {
    /// How a cache lays out and watches over its objects. Empty is the ordinary cache.
    ///
    /// The free objects of an [`ObjectCache`](super::ObjectCache) hold values, so `POISON` and
    /// `ZERO_ON_FREE` leave them as they are.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct CacheFlags: u32 {
        /// Objects start at cache lines (small ones at a power of two that divides the line),
        /// so that two of them never share a line by halves.
        const HARDWARE_ALIGN = 1 << 0;
        /// Every slab's first object lies at the block's first byte.
        const NO_COLOUR = 1 << 1;
        /// No CPU-local magazines: every call takes the cache's lock. For rarely used caches.
        const NO_MAGAZINES = 1 << 2;
        /// Of two CPUs that free the same object at the same time exactly one succeeds, for one
        /// atomic exchange a free.
        const STRICT = 1 << 3;
        /// Free objects are filled with a pattern that is verified on allocation, so a write after
        /// a free is found.
        const POISON = 1 << 4;
        /// Patterns lie before and behind every object, verified when it is freed, so a write past
        /// its ends is found.
        const RED_ZONE = 1 << 5;
        /// Objects are cleared when freed, so the next owner never sees the last one's data.
        const ZERO_ON_FREE = 1 << 6;
    }
}
