//! The boot loader's memory map against what the machine was given.

use kmem::frame::FRAME_SIZE;
use kmem::page::InitError;
use kmem::{Frame, FrameRange, PhysAddr, Platform};
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PageTable;
use x86_64::structures::paging::page_table::PageTableFlags;

use crate::memory::PAGES;
use crate::platform::Pc;
use crate::{fw_cfg, memory};

const GIB: u64 = 1 << 30;

/// Bytes of usable memory between two addresses.
fn usable_bytes(from: u64, to: u64) -> u64 {
    let frame = |address| Frame::containing(PhysAddr::new(address)).expect("below 2^64");
    let window = FrameRange::new(frame(from), frame(to)).expect("in order");
    memory::regions()
        .filter(memory::Region::is_usable)
        .map(|region| region.frames.intersect(window).len_bytes())
        .sum()
}

pub(super) fn regions_are_sorted_and_disjoint() {
    assert!(memory::regions().count() >= 8);
    for (lower, upper) in memory::regions().zip(memory::regions().skip(1)) {
        assert!(lower.frames.end() <= upper.frames.start(), "{lower:?} overlaps {upper:?}");
    }
}

pub(super) fn usable_memory_is_what_the_machine_has() {
    let has = fw_cfg::memory_len_bytes();
    let usable = usable_bytes(0, u64::MAX);
    assert!(usable < has, "{usable} of {has} bytes");
    // The tables of the direct map, which spans a tebibyte for the sake of a reserved region at its
    // end, take 4 MiB; the kernel, its stack and the BIOS the rest.
    assert!(has - usable < 8 << 20, "{usable} of {has} bytes");
}

pub(super) fn kernel_is_not_usable_memory() {
    let here = kernel_is_not_usable_memory as fn() as usize as u64;
    let on_stack = 0_u8;
    for address in [here, (&raw const on_stack).addr() as u64] {
        let frame = Frame::containing(translate(address)).expect("below 2^64");
        let region = memory::regions()
            .find(|region| region.frames.contains(frame))
            .expect("the kernel lies in memory");
        assert!(!region.is_usable(), "{address:#x} lies in {region:?}");
    }
}

/// The physical address that the CPU translates `address` to.
fn translate(address: u64) -> PhysAddr {
    let mut table_phys = Cr3::read().0.start_address().as_u64();
    for shift in [39, 30, 21, 12] {
        let table = Pc.phys_to_virt(PhysAddr::new(table_phys)).cast::<PageTable>();
        // SAFETY: the tables that the CPU walks are valid, lie in the direct map, and do not
        // change.
        let entry = unsafe { &(&*table)[(address >> shift) as usize % 512] };
        assert!(entry.flags().contains(PageTableFlags::PRESENT), "{address:#x} is not mapped");
        let offset_mask = (1 << shift) - 1;
        table_phys = entry.addr().as_u64();
        if shift == 12 || entry.flags().contains(PageTableFlags::HUGE_PAGE) {
            return PhysAddr::new((table_phys & !offset_mask) | (address & offset_mask));
        }
    }
    unreachable!("the last level returns")
}

pub(super) fn hole_below_4_gib_and_memory_above() {
    assert_eq!(usable_bytes(3 * GIB + GIB / 2, 4 * GIB), 0);
    assert!(usable_bytes(4 * GIB, 16 * GIB) >= GIB);
}

pub(super) fn kmem_manages_what_is_usable() {
    let report = memory::report();
    assert_eq!(report.usable_frames as u64 * FRAME_SIZE as u64, usable_bytes(0, u64::MAX));
    assert_eq!(report.managed_frames + report.metadata_frames, report.usable_frames);
    assert_eq!(PAGES.frames_managed(), report.managed_frames);
    PAGES.verify().expect("a fresh allocator is sound");
}

pub(super) fn metadata_take_little() {
    let report = memory::report();
    let share = report.buddy_milli_percent();
    assert!(share <= 30, "{share} thousandths of a percent for the buddy allocators");
    let share = report.metadata_milli_percent();
    assert!(share <= 130, "{share} thousandths of a percent in all");
}

pub(super) fn memory_cannot_be_given_twice() {
    let again = memory::regions().map(kmem::Region::from);
    // SAFETY: it is refused, so nothing is taken over.
    let refused = unsafe { PAGES.init(again) };
    assert_eq!(refused, Err(InitError::AlreadyInitialized));
}
