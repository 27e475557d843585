//! Cutting allocations out of available segments, and merging them when they come back.

use super::error::FreeError;
use super::segment::{Kind, Origin, Segment, Slot};
use super::{Arena, Source};

impl<S: Source> Arena<'_, S> {
    /// Makes `len` integers at `start`, inside the available segment `slot`, an allocated segment.
    /// Two records are spare, or as many as pieces are left over.
    #[inline]
    pub(super) fn carve(&mut self, slot: Slot, start: u64, len: u64) -> u64 {
        let (pool, index) = (&mut self.pool, &mut self.index);
        let Segment { start: old_start, len: old_len, before, after, origin, .. } = pool[slot];
        let (end, old_end) = (start + len, old_start + old_len);
        let taken = match (start > old_start, old_end > end) {
            (false, false) => {
                index.withdraw(pool, slot, Kind::Allocated);
                slot
            }
            (false, true) => {
                index.reshape(pool, slot, end, old_end - end);
                let taken = pool.take(start, len, Kind::Allocated, origin);
                index.link_between(pool, before, taken, slot);
                taken
            }
            (true, tail) => {
                index.reshape(pool, slot, old_start, start - old_start);
                let taken = pool.take(start, len, Kind::Allocated, origin);
                index.link_between(pool, slot, taken, after);
                if tail {
                    let rest = pool.take(end, old_end - end, Kind::Available, origin);
                    index.link_between(pool, taken, rest, after);
                    index.admit(pool, rest);
                }
                taken
            }
        };
        self.starts.insert(pool, taken, start);
        index.advance(end);
        self.stats.available -= len;
        self.stats.allocated += len;
        start
    }

    /// The allocated segment that starts at `start`.
    #[inline]
    pub(super) fn allocated_at(&self, start: u64) -> Result<Slot, FreeError> {
        let slot = self.starts.find(&self.pool, &self.index.by_address, start);
        if !slot.is_nil() && self.pool[slot].kind == Kind::Allocated {
            Ok(slot)
        } else {
            Err(self.diagnose(start))
        }
    }

    /// What is at `start`, where no allocated segment starts.
    #[cold]
    fn diagnose(&self, start: u64) -> FreeError {
        let segment = &self.pool[self.index.by_address.floor(&self.pool, start)];
        if !segment.range().contains(&start) {
            return FreeError::OutOfRange { start };
        }
        match segment.kind {
            Kind::Allocated => FreeError::NotAStart { start, allocated: segment.range() },
            _ => FreeError::NotAllocated { start, available: segment.range() },
        }
    }

    /// An allocated segment goes to its quantum cache, or merges.
    #[inline]
    pub(super) fn give_back(&mut self, slot: Slot, start: u64, len: u64) {
        let quanta = len >> self.quantum.trailing_zeros();
        if self.caches.push(&mut self.pool, slot, quanta) {
            self.stats.allocated -= len;
            self.stats.cached += len;
        } else {
            self.release(slot, start, len);
        }
    }

    /// Makes an allocated segment available and merges it with its neighbours.
    #[inline]
    pub(super) fn release(&mut self, slot: Slot, start: u64, len: u64) {
        self.stats.allocated -= len;
        self.stats.available += len;
        self.starts.remove(&mut self.pool, slot, start);
        let merged = self.merge(slot, start, start + len);
        if self.pool[merged].origin == Origin::Imported {
            self.return_span(merged);
        }
    }

    /// Makes a segment available that is in no structure but ring and tree, and merges it with its
    /// neighbours in the span. Returns the record that stands for all of it.
    #[inline]
    pub(super) fn merge(&mut self, slot: Slot, start: u64, end: u64) -> Slot {
        let (pool, index) = (&mut self.pool, &mut self.index);
        let (before, after) = (pool[slot].before, pool[slot].after);
        match (pool[before].is_available(), pool[after].is_available()) {
            (false, false) => {
                index.admit(pool, slot);
                slot
            }
            (false, true) => {
                index.erase(pool, slot);
                let len = pool[after].end() - start;
                index.reshape(pool, after, start, len);
                after
            }
            (true, false) => {
                index.erase(pool, slot);
                let start = pool[before].start;
                index.reshape(pool, before, start, end - start);
                before
            }
            (true, true) => {
                index.erase(pool, slot);
                let (start, end) = (pool[before].start, pool[after].end());
                index.withdraw(pool, after, Kind::Spare);
                index.erase(pool, after);
                index.reshape(pool, before, start, end - start);
                before
            }
        }
    }
}
