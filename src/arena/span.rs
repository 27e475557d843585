//! Spans: how they are added, imported from the source and given back to it.

use core::ops::Range;

use super::constraint::Request;
use super::error::{AddError, AllocError};
use super::segment::{Kind, Origin, Slot};
use super::{Arena, Source};

impl<S: Source> Arena<'_, S> {
    /// Takes in a span, and returns the available segment that it has become part of.
    pub(super) fn add_span(&mut self, range: Range<u64>, origin: Origin) -> Result<Slot, AddError> {
        let quantum = self.quantum;
        if range.is_empty() {
            return Err(AddError::Empty { range });
        }
        if !range.start.is_multiple_of(quantum) || !range.end.is_multiple_of(quantum) {
            return Err(AddError::Misaligned { range, quantum });
        }
        let (pool, index) = (&mut self.pool, &mut self.index);
        let before = index.by_address.floor(pool, range.start);
        let border = pool[before].after;
        // The ring's own record, which stands for "none" on both sides, ends at 0.
        let lower = pool[before].range();
        if lower.end > range.start {
            return Err(AddError::Overlap { range, with: lower });
        }
        let first_above = pool[border].after;
        if !border.is_nil() && pool[border].start < range.end {
            return Err(AddError::Overlap { range, with: pool[first_above].range() });
        }
        if pool.spares() < 2 {
            return Err(AddError::NoSegments { pool: pool.len() });
        }
        let added = |slot: Slot| !slot.is_nil() && pool[slot].origin == Origin::Added;
        let added_here = origin == Origin::Added;
        let joins_lower = added_here && added(before) && lower.end == range.start;
        let joins_upper = added_here && added(border) && pool[border].start == range.end;

        let mut at = before;
        if !joins_lower {
            let lower_border = pool.take(range.start, 0, Kind::Border, origin);
            index.link_after(pool, at, lower_border);
            self.stats.spans += 1;
            at = lower_border;
        }
        let len = range.end - range.start;
        let slot = pool.take(range.start, len, Kind::Spare, origin);
        index.link_after(pool, at, slot);
        if joins_upper {
            index.erase(pool, border);
            self.stats.spans -= 1;
        }
        self.stats.available += len;
        Ok(self.merge(slot, range.start, range.end))
    }

    /// Asks the source for a span in which `request` has room, and finds that room. A request with
    /// a window is not imported for: no source knows the window.
    pub(super) fn import(&mut self, request: &Request) -> Result<Option<(Slot, u64)>, AllocError> {
        let wanted = request.len.checked_add(request.slack).filter(|_| !request.windowed);
        let Some(span) = wanted.and_then(|len| self.source.import(len)) else {
            return Ok(None);
        };
        match self.add_span(span.clone(), Origin::Imported) {
            Ok(slot) => match request.place_in(span) {
                Some(start) => Ok(Some((slot, start))),
                None => {
                    self.return_span(slot);
                    Ok(None)
                }
            },
            Err(refused) => {
                // If the source keeps out of it, the span stays with neither: the safe side.
                let _ = self.source.release(span);
                match refused {
                    AddError::NoSegments { pool } => Err(AllocError::NoSegments { pool }),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Gives the span of `slot`, an available segment, back to the source if it was imported, is
    /// wholly available, and the source takes it.
    #[cold]
    pub(super) fn return_span(&mut self, slot: Slot) {
        let segment = self.pool[slot];
        let whole = self.pool[segment.before].kind == Kind::Border
            && self.pool[segment.after].kind == Kind::Border;
        if segment.origin != Origin::Imported || !whole {
            return;
        }
        if self.source.release(segment.range()).is_ok() {
            self.stats.available -= segment.len;
            self.stats.spans -= 1;
            self.index.withdraw(&mut self.pool, slot, Kind::Spare);
            self.index.erase(&mut self.pool, slot);
            self.index.erase(&mut self.pool, segment.before);
        }
    }
}
