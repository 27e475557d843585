//! A machine for kmem in this process: one CPU, no interrupts, and memory that is one allocation.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

use kmem::page::{Contents, InitOptions};
use kmem::{Heap, IrqState, Mapping, PageAllocator, PhysAddr, Platform, Region, RegionKind};

/// Where its memory begins: above what a PC keeps for devices.
const BASE: u64 = 4 << 30;
/// The memory is aligned for the largest blocks that the example cares for.
const ALIGN: usize = 4 << 20;

pub(crate) struct Machine {
    memory: *mut u8,
    len_bytes: usize,
}

// SAFETY: kmem offsets the pointer and reads and writes through it under its own rules; nothing
// here does.
unsafe impl Sync for Machine {}

// SAFETY: both translations are linear and inverse to each other within the memory, which is the
// machine's for good; its one thread is its one CPU, which nothing interrupts.
unsafe impl Platform for Machine {
    const MAPPING: Mapping = Mapping::Linear;

    fn phys_to_virt(&self, phys: PhysAddr) -> *mut u8 {
        self.memory.wrapping_add(phys.as_u64().wrapping_sub(BASE) as usize)
    }

    fn virt_to_phys(&self, virt: *const u8) -> Option<PhysAddr> {
        let offset = virt.addr().checked_sub(self.memory.addr())?;
        (offset < self.len_bytes).then(|| PhysAddr::new(BASE + offset as u64))
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    unsafe fn irq_restore(&self, _state: IrqState) {}
}

/// The frames of `len_bytes` of memory.
pub(crate) type Pages = PageAllocator<Machine>;

/// A machine with kmem on it, which lives as long as the process.
pub(crate) fn boot(len_bytes: usize) -> (&'static Pages, &'static Heap<'static, Pages>) {
    let layout = Layout::from_size_align(len_bytes, ALIGN).expect("a length of memory");
    // SAFETY: the layout has a length.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    let pages: &Pages = Box::leak(Box::new(PageAllocator::new(Machine { memory, len_bytes })));
    let map = [Region::from_len(PhysAddr::new(BASE), len_bytes as u64, RegionKind::Usable)];
    let options = InitOptions { contents: Contents::Zeroed, ..InitOptions::DEFAULT };
    // SAFETY: the memory was allocated zeroed just now, is never given back, and nobody else has
    // it.
    unsafe { pages.init_with(map, options) }.expect("memory to manage");
    (pages, Box::leak(Box::new(Heap::new(pages))))
}
