//! Growth of what an arena has: a larger pool for its records, and longer or shorter segments.

use super::hash::Starts;
use super::segment::{Kind, Segment, Slot};
use super::{Arena, ConfigError, ResizeError, Source};

impl<'m, S: Source> Arena<'m, S> {
    /// Moves every record to a larger pool, and returns the one used so far. Segments, and what
    /// serves a request next, stay as they are. Takes time linear in the new pool: an owner
    /// that doubles it pays O(1) for each segment.
    ///
    /// # Errors
    ///
    /// [`ConfigError::PoolTooSmall`] if `larger` has not more records than the pool so far;
    /// `larger` is lost to the caller.
    pub fn grow_pool(
        &mut self,
        larger: &'m mut [Segment],
    ) -> Result<&'m mut [Segment], ConfigError> {
        let (given, need) = (larger.len(), self.pool.len() + 1);
        if given < need {
            return Err(ConfigError::PoolTooSmall { given, need });
        }
        let smaller = self.pool.move_to(larger);
        // The buckets are as many as the records, so every start may have another one.
        self.starts = Starts::new(&self.pool);
        let mut slot = self.pool.first();
        while !slot.is_nil() {
            let Segment { start, kind, after, .. } = self.pool[slot];
            if matches!(kind, Kind::Allocated | Kind::Cached) {
                self.starts.insert(&mut self.pool, slot, start);
            }
            slot = after;
        }
        Ok(smaller)
    }

    /// Makes the segment that starts at `start` `len` integers long, rounded up to the quantum,
    /// where it lies, and returns the rounded length. O(log n), O(1) under Instant.
    ///
    /// # Errors
    ///
    /// [`ResizeError`]; the arena is unchanged, except that cached segments may have merged.
    pub fn resize(&mut self, start: u64, len: u64) -> Result<u64, ResizeError> {
        let slot = self.allocated_at(start).map_err(ResizeError::Free)?;
        let len = self.round_up(len).map_err(ResizeError::Alloc)?;
        let refused = match self.resize_in_place(slot, len) {
            Ok(()) => return Ok(len),
            Err(refused) => refused,
        };
        if self.stats.cached == 0 {
            return Err(refused);
        }
        // What lies behind may be a cached segment, and each of them holds a record.
        self.drain_caches();
        self.resize_in_place(slot, len).map(|()| len)
    }

    /// Gives `slot`, an allocated segment, `len` integers, a multiple of the quantum.
    fn resize_in_place(&mut self, slot: Slot, len: u64) -> Result<(), ResizeError> {
        let Segment { start, len: old, after, origin, .. } = self.pool[slot];
        let (pool, index) = (&mut self.pool, &mut self.index);
        let behind = if pool[after].is_available() { pool[after].len } else { 0 };
        if len > old && len - old > behind {
            return Err(ResizeError::Blocked { room: old + behind });
        }
        if len < old && behind == 0 && pool.spares() == 0 {
            return Err(ResizeError::NoSegments { pool: pool.len() });
        }
        if len == old {
            return Ok(());
        }
        let rest = old + behind - len;
        pool[slot].len = len;
        if behind == 0 {
            let tail = pool.take(start + len, rest, Kind::Available, origin);
            index.link_after(pool, slot, tail);
            index.admit(pool, tail);
        } else if rest == 0 {
            index.withdraw(pool, after, Kind::Spare);
            index.erase(pool, after);
        } else {
            index.reshape(pool, after, start + len, rest);
        }
        self.stats.allocated = self.stats.allocated - old + len;
        self.stats.available = self.stats.available + old - len;
        Ok(())
    }
}
