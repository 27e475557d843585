//! The page tables: the boot loader's, to which stacks with a guard page are added.
//!
//! Only the CPU that boots changes the tables, and only before any other uses what it maps.

use kmem::{AllocFlags, Frame, Order, Platform};
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::memory::PAGES;
use crate::platform::Pc;

const WRITABLE: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

/// Where stacks are mapped: far from everything that the boot loader maps.
const STACKS: VirtAddr = VirtAddr::new_truncate(0xffff_f000_0000_0000);
/// Frames of a stack: 128 KiB.
const STACK_FRAMES: usize = 32;

/// Frames for page tables.
struct TableFrames;

// SAFETY: kmem hands out frames that nobody else uses.
unsafe impl FrameAllocator<Size4KiB> for TableFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        PAGES.alloc(Order::ZERO, AllocFlags::empty()).ok().map(hardware_frame)
    }
}

fn hardware_frame(frame: Frame) -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(frame.start().as_u64()))
}

/// Lets `work` change the tables that the CPU walks. All CPUs walk the same.
///
/// # Safety
///
/// Nobody else changes them at the same time, and `work` leaves what is mapped as it is.
unsafe fn with_tables<R>(work: impl FnOnce(&mut OffsetPageTable<'_>) -> R) -> R {
    let table = Cr3::read().0.start_address().as_u64();
    let table = Pc.phys_to_virt(kmem::PhysAddr::new(table)).cast::<PageTable>();
    let base = VirtAddr::from_ptr(Pc.phys_to_virt(kmem::PhysAddr::ZERO));
    // SAFETY: the tables lie in the direct map, at this offset; nobody else changes them.
    work(&mut unsafe { OffsetPageTable::new(&mut *table, base) })
}

/// A new stack for the CPU `number`, which it has for ever: the address behind it. Below it lies a
/// page that is not mapped. Called on the CPU that boots, once for each other.
pub(crate) fn map_stack(number: usize) -> Result<VirtAddr, MapToError<Size4KiB>> {
    let guard = Page::containing_address(STACKS) + (number * (STACK_FRAMES + 1)) as u64;
    // SAFETY: only this CPU changes tables; these pages are not mapped yet, or there is an error.
    unsafe {
        with_tables(|tables| {
            for page in (1..=STACK_FRAMES as u64).map(|nth| guard + nth) {
                let frame =
                    TableFrames.allocate_frame().ok_or(MapToError::FrameAllocationFailed)?;
                let flags = WRITABLE | PageTableFlags::NO_EXECUTE;
                tables.map_to(page, frame, flags, &mut TableFrames)?.flush();
            }
            Ok((guard + 1 + STACK_FRAMES as u64).start_address())
        })
    }
}

/// Whether `frame` is mapped at its own address.
pub(crate) fn is_identity_mapped(frame: Frame) -> bool {
    let frame = hardware_frame(frame);
    let page = Page::containing_address(VirtAddr::new(frame.start_address().as_u64()));
    // SAFETY: nothing is changed.
    unsafe { with_tables(|tables| tables.translate_page(page).is_ok_and(|at| at == frame)) }
}
