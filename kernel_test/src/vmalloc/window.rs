//! A range of addresses whose page tables are all laid beforehand: to map a page is one store.
//!
//! The last level's entries say what a page is:
//!
//! | entry | the page |
//! | --- | --- |
//! | 0 | is not mapped |
//! | a frame, present | is mapped to it |
//! | a frame, not present | is not mapped any more, but a CPU may remember the frame |
//!
//! So no list is needed of the frames that wait until every CPU has forgotten them.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use kmem::frame::FRAME_SIZE;
use kmem::page::AllocError;
use kmem::{AllocFlags, Frame, Order, PhysAddr, Platform};
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PageTableFlags;

use crate::memory::PAGES;
use crate::platform::Pc;

const PRESENT: u64 = PageTableFlags::PRESENT.bits();
const TABLE: u64 = PRESENT | PageTableFlags::WRITABLE.bits();
const MAPPED: u64 = TABLE | PageTableFlags::NO_EXECUTE.bits();
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Which bits of an address are the index into the tables of each level, from the root to the last.
const LEVELS: [u32; 4] = [39, 30, 21, 12];

/// A range of pages that only its owner maps and unmaps.
pub(crate) struct Window {
    pages: Range<u64>,
}

impl Window {
    /// Lays the tables of `pages`, whose ends are multiples of a page. They stay for ever.
    ///
    /// # Errors
    ///
    /// No frame for a table is available. Those laid before it stay.
    ///
    /// # Safety
    ///
    /// Nobody else maps anything there or lays tables at the same time, and nothing is mapped
    /// there.
    pub(crate) unsafe fn new(pages: Range<u64>) -> Result<Self, AllocError> {
        let covered_by_a_table = FRAME_SIZE * 512;
        let first = pages.start - pages.start % covered_by_a_table as u64;
        for address in (first..pages.end).step_by(covered_by_a_table) {
            let mut table = root();
            for shift in &LEVELS[..3] {
                let entry = entry_of(table, address, *shift);
                if entry.load(Ordering::Relaxed) & PRESENT == 0 {
                    let frame = PAGES.alloc(Order::ZERO, AllocFlags::ZERO)?;
                    // Release: a CPU that finds the table finds it empty.
                    entry.store(frame.start().as_u64() | TABLE, Ordering::Release);
                }
                table = PhysAddr::new(entry.load(Ordering::Relaxed) & ADDRESS);
            }
        }
        Ok(Self { pages })
    }

    /// Maps the page at `address`, which is not mapped, to `frame`.
    pub(super) fn map(&self, address: u64, frame: Frame) {
        // Release: whoever finds the frame mapped finds what it was filled with.
        let before = self.entry(address).swap(frame.start().as_u64() | MAPPED, Ordering::Release);
        assert_eq!(before, 0, "{address:#x} is mapped twice");
    }

    /// Unmaps the page at `address`, which is mapped, for all who do not remember it.
    pub(super) fn hide(&self, address: u64) {
        let before = self.entry(address).fetch_and(!PRESENT, Ordering::AcqRel);
        assert_ne!(before & PRESENT, 0, "{address:#x} is unmapped twice");
    }

    /// The frame of the hidden page at `address`, which nobody remembers any more.
    pub(super) fn take(&self, address: u64) -> Frame {
        let before = self.entry(address).swap(0, Ordering::AcqRel);
        assert!(before != 0 && before & PRESENT == 0, "{address:#x} is not hidden");
        Frame::containing(PhysAddr::new(before & ADDRESS)).expect("it was a frame's address")
    }

    /// What the page at `address` is mapped to.
    pub(crate) fn frame_at(&self, address: u64) -> Option<Frame> {
        let entry = self.entry(address).load(Ordering::Acquire);
        Frame::containing(PhysAddr::new(entry & ADDRESS)).filter(|_| entry & PRESENT != 0)
    }

    /// The entry of the last level for `address`.
    fn entry(&self, address: u64) -> &AtomicU64 {
        assert!(self.pages.contains(&address), "{address:#x} is outside of the window");
        let [upper @ .., last] = LEVELS;
        let follow = |table, shift| {
            PhysAddr::new(entry_of(table, address, shift).load(Ordering::Acquire) & ADDRESS)
        };
        entry_of(upper.into_iter().fold(root(), follow), address, last)
    }
}

/// The table at which every CPU's walk begins.
fn root() -> PhysAddr {
    PhysAddr::new(Cr3::read().0.start_address().as_u64())
}

/// The entry that leads from `table` towards `address`.
fn entry_of(table: PhysAddr, address: u64, shift: u32) -> &'static AtomicU64 {
    let index = (address >> shift) as usize % 512;
    let entry = Pc.phys_to_virt(table).cast::<AtomicU64>().wrapping_add(index);
    // SAFETY: a table is a frame in the direct map, with 512 entries, and stays for ever: those of
    // a window do, and so does what is above them. CPUs change entries too, which is why they
    // are atomic.
    unsafe { &*entry }
}
