//! The owner records: one word a frame, which leads slabs and the heap from any address to what
//! lies there.
//!
//! Records never move, because references to them are handed out for good. Memory that is added
//! later therefore brings records of its own instead of a larger table.

use core::sync::atomic::AtomicU32;

use spin::Once;

use crate::frame::{Frame, FrameRange};

/// Most tables of records: one for each span at boot, and one for each later growth of the spans.
pub(super) const MAX_TABLES: usize = 64;

struct Table {
    frames: FrameRange,
    records: &'static [AtomicU32],
}

/// All tables, in the order they came. Only ever filled, and read without a lock.
pub(super) struct OwnerTables([Once<Table>; MAX_TABLES]);

impl OwnerTables {
    pub(super) const fn new() -> Self {
        Self([const { Once::new() }; MAX_TABLES])
    }

    /// Whether another table can come.
    pub(super) fn is_full(&self) -> bool {
        self.0[MAX_TABLES - 1].is_completed()
    }

    /// Takes the records of `frames`, one for each; `false` if there are too many tables.
    /// One caller at a time: initialisation, or who holds the lock of growth.
    pub(super) fn push(&self, frames: FrameRange, records: &'static [AtomicU32]) -> bool {
        for place in &self.0 {
            let mut taken = false;
            place.call_once(|| {
                taken = true;
                Table { frames, records }
            });
            if taken {
                return true;
            }
        }
        false
    }

    /// The record of `frame`.
    #[inline]
    pub(super) fn get(&self, frame: Frame) -> Option<&AtomicU32> {
        let table =
            self.0.iter().map_while(Once::get).find(|table| table.frames.contains(frame))?;
        table.records.get(frame.checked_offset_from(table.frames.start())?)
    }
}
