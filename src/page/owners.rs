//! The owner records: one word a frame, which leads slabs and the heap from any address to what
//! lies there.
//!
//! Records never move, because references to them are handed out for good. Memory that is added
//! later therefore brings records of its own instead of a larger table. The longest table of those
//! at boot comes first: it is the one that nearly every look-up ends in, without a loop.

use core::sync::atomic::{AtomicU32, Ordering};

use spin::Once;

use crate::frame::{Frame, FrameRange};

/// Most tables of records: one for each span at boot, and one for each later growth of the spans.
pub(super) const MAX_TABLES: usize = 64;

/// The owner record of a frame: 0, or what leads from the frame to the slab or run that it is part
/// of. Anybody may read it.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct OwnerRecord(AtomicU32);

impl OwnerRecord {
    /// That of a frame of which nothing is to be said: 0.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// What it holds.
    #[inline(always)]
    pub fn load(&self, ordering: Ordering) -> u32 {
        self.0.load(ordering)
    }

    /// Writes it.
    ///
    /// # Safety
    ///
    /// The caller has taken the frame and not given it back; frees by address follow what is
    /// written here.
    #[inline]
    pub unsafe fn store(&self, value: u32, ordering: Ordering) {
        self.0.store(value, ordering);
    }

    /// Writes `new` if it holds `current`; what it holds otherwise.
    ///
    /// # Errors
    ///
    /// What it holds, if that is not `current`.
    ///
    /// # Safety
    ///
    /// As [`store`](Self::store).
    #[inline]
    pub unsafe fn compare_exchange(
        &self,
        current: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32> {
        self.0.compare_exchange(current, new, success, failure)
    }
}

struct Table {
    /// The number of the first frame.
    start: usize,
    records: &'static [OwnerRecord],
}

impl Table {
    #[inline]
    fn get(&self, frame: Frame) -> Option<&'static OwnerRecord> {
        // A frame below the table becomes an index beyond every table.
        self.records.get(frame.number().wrapping_sub(self.start))
    }
}

/// All tables, in the order they came. Only ever filled, and read without a lock.
pub(super) struct OwnerTables {
    first: Once<Table>,
    further: [Once<Table>; MAX_TABLES - 1],
}

impl OwnerTables {
    pub(super) const fn new() -> Self {
        Self { first: Once::new(), further: [const { Once::new() }; MAX_TABLES - 1] }
    }

    /// How many tables more there is room for.
    pub(super) fn room(&self) -> usize {
        self.places().filter(|place| !place.is_completed()).count()
    }

    fn places(&self) -> impl Iterator<Item = &Once<Table>> {
        core::iter::once(&self.first).chain(&self.further)
    }

    /// Takes the records of `frames`, one for each; `false` if there are too many tables, or the
    /// lengths differ. One caller at a time: initialisation, or who holds the lock of growth.
    pub(super) fn push(&self, frames: FrameRange, records: &'static [OwnerRecord]) -> bool {
        if records.len() != frames.frames() {
            return false;
        }
        for place in self.places() {
            let mut taken = false;
            place.call_once(|| {
                taken = true;
                Table { start: frames.start().number(), records }
            });
            if taken {
                return true;
            }
        }
        false
    }

    /// The record of `frame`.
    #[inline(always)]
    pub(super) fn get(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.get_first(frame)
            .or_else(|| self.further.iter().map_while(Once::get).find_map(|table| table.get(frame)))
    }

    /// The first table: the frame of its first record, and the records.
    pub(super) fn first(&self) -> Option<(Frame, &'static [OwnerRecord])> {
        self.first.get().and_then(|table| Some((Frame::new(table.start)?, table.records)))
    }

    /// The record of `frame` if it is in the first table.
    #[inline]
    pub(super) fn get_first(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.first.get()?.get(frame)
    }
}
