//! Owner records by address: what a free looks at first.
//!
//! The page allocator has several tables of owner records, and finds one by physical address.
//! Nearly every block of a process lies in the first span of addresses; for those the directory
//! answers by one subtraction, one comparison and one load.

use core::ptr;
use core::sync::atomic::{
    AtomicPtr, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::frame::{FRAME_SHIFT, Frame};
use crate::page::OwnerRecord;
use crate::slab::{self, Slab};

/// Where the owner records of the first span lie.
///
/// A processor that tells loads from recent stores by the lower bits of their addresses takes what
/// lies at the same place of another page for what was just written. A hit writes two of the first
/// four words of a cache line (`slab::slot`), and each free reads here first: so here these words
/// are unused.
#[repr(C, align(64))]
pub(super) struct Directory {
    _unused: [usize; 4],
    /// The address of the first frame.
    start: AtomicUsize,
    /// How many frames have records; 0 until they do.
    frames: AtomicUsize,
    records: AtomicPtr<OwnerRecord>,
    /// See [`slab::origin`].
    origin: AtomicPtr<u8>,
}

impl Directory {
    pub(super) const fn new() -> Self {
        Self {
            _unused: [0; 4],
            start: AtomicUsize::new(0),
            frames: AtomicUsize::new(0),
            records: AtomicPtr::new(ptr::null_mut()),
            origin: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Takes the records of the frames from `first` on, which lies at `start`. Once, before any of
    /// the frames is handed out.
    ///
    /// # Safety
    ///
    /// The records live as long as this, and all memory whose records they name is mapped at the
    /// same distance.
    pub(super) unsafe fn begin(&self, start: *mut u8, first: Frame, records: &[OwnerRecord]) {
        self.origin.store(slab::origin(start, first), Relaxed);
        self.start.store(start.addr(), Relaxed);
        self.records.store(records.as_ptr().cast_mut(), Relaxed);
        // Release, for the Acquire in `owner`: the other fields are written.
        self.frames.store(records.len(), Release);
    }

    /// What the owner record of the frame at an address holds; `None` says only that it is not in
    /// the first span.
    #[inline(always)]
    pub(super) fn owner(&self, address: usize) -> Option<u32> {
        // Acquire: see `slab::named`.
        self.with_record(address, |record| record.load(Acquire))
    }

    /// The slab that an address of the first span lies in.
    ///
    /// # Safety
    ///
    /// As [`slab::find`].
    #[inline(always)]
    pub(super) unsafe fn slab(&self, address: usize) -> Option<Slab<'_>> {
        let id = self.owner(address)?;
        // SAFETY: an owner record's, loaded with Acquire; that the slab lives on is the caller's
        // promise, and the rest was made to `begin`.
        unsafe { slab::named_from(self.origin.load(Relaxed), id) }
    }

    /// The owner record of the frame at an address; `None` says only that it is not in the first
    /// span.
    pub(super) fn record(&self, address: usize) -> Option<&OwnerRecord> {
        self.with_record(address, |record| record)
    }

    /// Lets `look` look at the owner record of the frame at an address. (An optional reference
    /// would be compared with null.)
    #[inline(always)]
    fn with_record<'d, R>(
        &'d self,
        address: usize,
        look: impl FnOnce(&'d OwnerRecord) -> R,
    ) -> Option<R> {
        let frames = self.frames.load(Acquire);
        // Below the span is beyond it.
        let index = address.wrapping_sub(self.start.load(Relaxed)) >> FRAME_SHIFT;
        // SAFETY: `begin` was given so many records, which live as long as this.
        (index < frames).then(|| look(unsafe { &*self.records.load(Relaxed).add(index) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_leads_to_its_frames_record_and_no_other() {
        let records = [const { OwnerRecord::new() }; 4];
        for (index, record) in records.iter().enumerate() {
            // SAFETY: they are this test's alone.
            unsafe { record.store(index as u32, Relaxed) };
        }
        let directory = Directory::new();
        for address in [0, 1, 0x7000_0000, usize::MAX] {
            assert!(directory.owner(address).is_none(), "{address:#x}");
        }
        let start = 0x7000_0000;
        // SAFETY: they do.
        unsafe { directory.begin(ptr::without_provenance_mut(start), Frame::ZERO, &records) };
        for (index, offsets) in [[0, 0xfff], [0x1000, 0x1fff], [0x2000, 0x2abc], [0x3000, 0x3fff]]
            .into_iter()
            .enumerate()
        {
            for offset in offsets {
                assert_eq!(directory.owner(start + offset), Some(index as u32), "{offset:#x}");
            }
        }
        for address in [0, 1, start - 1, start + 0x4000, usize::MAX] {
            assert!(directory.owner(address).is_none(), "{address:#x}");
        }
    }
}
