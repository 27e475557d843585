//! What an allocation asks for beside its size.

bitflags::bitflags! {
    /// How an allocation is to be made. Empty is the ordinary request: any zone, may use everything
    /// above the reserves, contents undefined.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct AllocFlags: u32 {
        /// From the zone of the lowest addresses only: on a PC below 16 MiB. With `ZONE_DMA32` this
        /// one counts.
        const ZONE_DMA = 1 << 0;
        /// From the two lowest zones only: on a PC below 4 GiB.
        const ZONE_DMA32 = 1 << 1;
        /// The bytes are zero.
        const ZERO = 1 << 2;
        /// For callers that cannot wait for memory or fail lightly, such as interrupt handlers: may
        /// use the reserves, and runs no shrinkers. It waits for locks, which are held for long
        /// only where memory is added, removed or counted, and by bulk calls.
        const ATOMIC = 1 << 3;
        /// From the highest permitted zone or not at all.
        const NO_FALLBACK = 1 << 4;
        /// The contents can be moved or dropped later: placed at the high end, away from what
        /// stays.
        const MOVABLE = 1 << 5;
        /// Answers `WouldBlock` instead of waiting for another CPU that holds the lock of a zone,
        /// or of a cache. A cache that has to grow for the request may wait for the moment that
        /// another one adds a slab or takes a record, and one that fails gives back what it took.
        /// Runs no shrinkers.
        const NO_WAIT = 1 << 6;
    }
}
