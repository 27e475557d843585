//! kmem itself, layer by layer.

use core::{
    alloc::{GlobalAlloc, Layout},
    mem::MaybeUninit,
    ptr::{self, NonNull},
    sync::atomic::AtomicU8,
};

use kmem::{
    AllocFlags, Buddy, CpuId, Frame, FrameRange, IrqState, Mapping, Order, PageAllocator, PhysAddr,
    Platform, Region as MapEntry, RegionKind,
    buddy::{BlockOwner, Group, Metadata, Need, Placement},
    frame::FRAME_SIZE,
    page::{Contents, InitOptions},
    slab::{CacheFlags, RawCache},
};

use super::{
    cpu,
    frames::{Frames, SharedFrames},
    heaps::{Heap, SharedHeap},
};
use crate::memory::Region;

/// The machine that kmem is told about: one region of this process as physical memory, from a
/// fixed address on, and threads that stand for CPUs.
///
/// There are no interrupts, so masking them costs nothing here; that happens only in front of
/// kmem's locks, and none of the peers does it either.
pub struct Machine {
    region: Region,
    /// Where physical address 0 would be mapped.
    direct_map: *mut u8,
}

impl Machine {
    fn new(bytes: usize) -> Self {
        let region = Region::new(bytes);
        let direct_map = region.start().wrapping_sub(BASE as usize);
        Self { region, direct_map }
    }
}

// SAFETY: the pointer is never read through here, only offset.
unsafe impl Sync for Machine {}

/// Where physical memory begins: above what a PC keeps for devices.
const BASE: u64 = 4 << 30;

// SAFETY: the two translations are inverse to each other, and linear, within the region, which the
// platform owns; the threads of a benchmark have different CPU numbers, each runs alone on its own,
// nothing interrupts them in kmem's sense, and `synchronize` promises nothing.
unsafe impl Platform for Machine {
    const MAPPING: Mapping = Mapping::Linear;

    #[inline]
    fn phys_to_virt(&self, phys: PhysAddr) -> *mut u8 {
        self.direct_map.wrapping_add(phys.as_u64() as usize)
    }

    #[inline]
    fn virt_to_phys(&self, virt: *const u8) -> Option<PhysAddr> {
        let phys = virt.addr().wrapping_sub(self.direct_map.addr()) as u64;
        let is_inside = phys.wrapping_sub(BASE) < self.region.len_bytes() as u64;
        is_inside.then_some(PhysAddr::new(phys))
    }

    #[inline]
    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    #[inline]
    unsafe fn irq_restore(&self, _state: IrqState) {}

    #[inline]
    fn cpu_id(&self) -> CpuId {
        cpu::current()
    }

    fn cpu_count(&self) -> usize {
        cpu::CPUS
    }
}

/// The page layer of a machine with `bytes` bytes of memory; never given back.
fn pages(bytes: usize) -> &'static PageAllocator<Machine> {
    let map = [MapEntry::from_len(PhysAddr::new(BASE), bytes as u64, RegionKind::Usable)];
    let pages = Box::leak(Box::new(PageAllocator::new(Machine::new(bytes))));
    let options = InitOptions { contents: Contents::Zeroed, ..InitOptions::DEFAULT };
    // SAFETY: the region is fresh, zeroed, mapped at these addresses for good, and used by nobody.
    unsafe { pages.init_with(map, options) }.expect("memory to manage");
    pages
}

/// The page layer, as a kernel calls it.
#[derive(Clone, Copy)]
pub struct Pages(&'static PageAllocator<Machine>);

impl Pages {
    /// Manages a fresh range of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        Self(pages(bytes))
    }

    #[inline(always)]
    fn take_with(self, order: u8, flags: AllocFlags) -> Option<Frame> {
        self.0.alloc(Order::new(order)?, flags).ok()
    }
}

impl SharedFrames for Pages {
    type Block = Frame;

    #[inline(always)]
    fn take(&self, order: u8) -> Option<Frame> {
        self.take_with(order, AllocFlags::empty())
    }

    #[inline(always)]
    fn give(&self, block: Frame, order: u8) {
        let Some(order) = Order::new(order) else { return };
        let given = self.0.free(block, order);
        debug_assert_eq!(given, Ok(()));
    }
}

impl Frames for Pages {
    type Block = Frame;

    #[inline(always)]
    fn take(&mut self, order: u8) -> Option<Frame> {
        SharedFrames::take(self, order)
    }

    #[inline(always)]
    fn take_movable(&mut self, order: u8) -> Option<Frame> {
        self.take_with(order, AllocFlags::MOVABLE)
    }

    #[inline(always)]
    fn give(&mut self, block: Frame, order: u8) {
        SharedFrames::give(self, block, order);
    }
}

/// A cache of objects of one size.
pub struct Objects(RawCache<'static, PageAllocator<Machine>>);

impl Objects {
    /// A cache over `bytes` bytes of memory.
    pub fn new(bytes: usize, layout: Layout) -> Self {
        let flags = CacheFlags::empty();
        Self(RawCache::new(pages(bytes), "objects", layout.size(), layout.align(), flags))
    }

    /// Fills `objects` under one lock; whether there was memory for all.
    #[inline(always)]
    pub fn take_many(&self, objects: &mut [MaybeUninit<NonNull<u8>>]) -> bool {
        self.0.alloc_many(objects, AllocFlags::empty()) == objects.len()
    }

    /// Takes objects back under one lock.
    ///
    /// # Safety
    ///
    /// They are this cache's, allocated, and nobody uses them any more.
    #[inline(always)]
    pub unsafe fn give_many(&self, objects: &[NonNull<u8>]) {
        // SAFETY: the caller's promise.
        let given = unsafe { self.0.free_many(objects) };
        debug_assert!(given.is_ok());
    }
}

impl Heap for Objects {
    #[inline(always)]
    fn take(&mut self, _layout: Layout) -> *mut u8 {
        self.0.alloc(AllocFlags::empty()).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline(always)]
    unsafe fn give(&mut self, block: *mut u8, _layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's promise.
            let given = unsafe { self.0.free(block) };
            debug_assert!(given.is_ok());
        }
    }
}

/// The heap, by `Layout`.
#[derive(Clone, Copy)]
pub struct ByLayout(&'static kmem::Heap<'static, PageAllocator<Machine>>);

impl ByLayout {
    /// A heap over `bytes` bytes of memory.
    pub fn new(bytes: usize) -> Self {
        Self(Box::leak(Box::new(kmem::Heap::new(pages(bytes)))))
    }
}

impl SharedHeap for ByLayout {
    #[inline(always)]
    fn take(&self, layout: Layout) -> *mut u8 {
        // SAFETY: no benchmark asks for no bytes.
        unsafe { self.0.alloc(layout) }
    }

    #[inline(always)]
    unsafe fn give(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(block, layout) }
    }
}

impl Heap for ByLayout {
    #[inline(always)]
    fn take(&mut self, layout: Layout) -> *mut u8 {
        SharedHeap::take(self, layout)
    }

    #[inline(always)]
    unsafe fn give(&mut self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { SharedHeap::give(self, block, layout) }
    }
}

/// The buddy alone, over one span: no zones, no lists for CPUs, no lock.
pub struct BuddyAlone(Buddy<'static>);

impl BuddyAlone {
    /// Manages the frames of `bytes` bytes, which it never touches.
    ///
    /// Its metadata, 0.03 % of that, are never given back.
    pub fn new(bytes: usize) -> Self {
        let cover = FrameRange::from_len(Frame::default(), bytes / FRAME_SIZE)
            .expect("less memory than there are addresses");
        let need = Need::for_span(cover);
        // SAFETY: numbers, for all of which zero is a value.
        let (states, groups, words) = unsafe {
            (
                Box::<[AtomicU8]>::new_zeroed_slice(need.states).assume_init(),
                Box::<[Group]>::new_zeroed_slice(need.groups).assume_init(),
                Box::<[u64]>::new_zeroed_slice(need.words).assume_init(),
            )
        };
        let metadata = Metadata {
            states: Box::leak(states),
            groups: Box::leak(groups),
            words: Box::leak(words),
        };
        let mut buddy = Buddy::new(cover, metadata).expect("metadata as long as they should be");
        buddy.add(cover).expect("a span of holes");
        Self(buddy)
    }
}

impl Frames for BuddyAlone {
    type Block = Frame;

    #[inline(always)]
    fn take(&mut self, order: u8) -> Option<Frame> {
        let order = Order::new(order)?;
        self.0.alloc(order, BlockOwner::Caller, Placement::Low).ok()
    }

    #[inline(always)]
    fn take_movable(&mut self, order: u8) -> Option<Frame> {
        let order = Order::new(order)?;
        self.0.alloc(order, BlockOwner::Caller, Placement::High).ok()
    }

    #[inline(always)]
    fn give(&mut self, block: Frame, order: u8) {
        let Some(order) = Order::new(order) else { return };
        let given = self.0.free(block, order, BlockOwner::Caller);
        debug_assert_eq!(given, Ok(()));
    }
}
