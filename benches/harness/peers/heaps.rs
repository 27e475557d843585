//! Heaps: allocators of bytes by `Layout`.

use core::{
    alloc::{GlobalAlloc, Layout},
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};
use std::{alloc::System as Malloc, sync::OnceLock};

use crate::memory::Region;

/// A heap that one thread uses.
pub trait Heap {
    /// Memory for `layout`, or null.
    fn take(&mut self, layout: Layout) -> *mut u8;

    /// Takes memory back.
    ///
    /// # Safety
    ///
    /// `block` came from [`take`](Self::take) with this `layout`, and nobody uses it any more.
    unsafe fn give(&mut self, block: *mut u8, layout: Layout);
}

/// A heap that threads share.
pub trait SharedHeap: Sync {
    /// See [`Heap::take`].
    fn take(&self, layout: Layout) -> *mut u8;

    /// See [`Heap::give`].
    ///
    /// # Safety
    ///
    /// As for [`Heap::give`].
    unsafe fn give(&self, block: *mut u8, layout: Layout);
}

impl<H: Heap + Send> SharedHeap for spin::Mutex<H> {
    #[inline(always)]
    fn take(&self, layout: Layout) -> *mut u8 {
        self.lock().take(layout)
    }

    #[inline(always)]
    unsafe fn give(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.lock().give(block, layout) }
    }
}

/// The system's malloc.
#[derive(Debug, Default)]
pub struct System;

impl SharedHeap for System {
    #[inline(always)]
    fn take(&self, layout: Layout) -> *mut u8 {
        // SAFETY: no benchmark asks for no bytes.
        unsafe { Malloc.alloc(layout) }
    }

    #[inline(always)]
    unsafe fn give(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { Malloc.dealloc(block, layout) }
    }
}

impl Heap for System {
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

/// `slab_allocator_rs`: seven free lists, each with an eighth of the memory from the start.
pub struct SlabAllocatorRs {
    heap: slab_allocator_rs::Heap,
    _region: Region,
}

impl SlabAllocatorRs {
    /// A heap of `bytes` bytes, a multiple of 32 KiB.
    pub fn new(bytes: usize) -> Self {
        let region = Region::new(bytes);
        // SAFETY: the region is fresh and lives as long as the heap.
        let heap =
            unsafe { slab_allocator_rs::Heap::new(region.start().expose_provenance(), bytes) };
        Self { heap, _region: region }
    }
}

impl Heap for SlabAllocatorRs {
    #[inline(always)]
    fn take(&mut self, layout: Layout) -> *mut u8 {
        self.heap.allocate(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline(always)]
    unsafe fn give(&mut self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's promise.
            unsafe { self.heap.deallocate(block, layout) }
        }
    }
}

/// `ax_slab_allocator`: the same lists, filled from a buddy heap on demand.
pub struct AxSlabAllocator {
    heap: ax_slab_allocator::Heap,
    _region: Region,
}

impl AxSlabAllocator {
    /// A heap of `bytes` bytes, a multiple of 32 KiB.
    pub fn new(bytes: usize) -> Self {
        let region = Region::new(bytes);
        // SAFETY: the region is fresh and lives as long as the heap.
        let heap =
            unsafe { ax_slab_allocator::Heap::new(region.start().expose_provenance(), bytes) };
        Self { heap, _region: region }
    }
}

impl Heap for AxSlabAllocator {
    #[inline(always)]
    fn take(&mut self, layout: Layout) -> *mut u8 {
        self.heap.allocate(layout).map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
    }

    #[inline(always)]
    unsafe fn give(&mut self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.heap.deallocate(block.expose_provenance(), layout) }
    }
}

/// `buddy-slab-allocator`: slabs for each CPU under a lock of their own, over one buddy.
///
/// It is a singleton, so all cases of a process share one.
#[derive(Clone, Copy)]
pub struct BuddySlab(&'static buddy_slab_allocator::GlobalAllocator);

impl BuddySlab {
    /// The heap, of `bytes` bytes at its first use.
    pub fn new(bytes: usize) -> Self {
        static HEAP: buddy_slab_allocator::GlobalAllocator =
            buddy_slab_allocator::GlobalAllocator::new();
        static REGION: OnceLock<Region> = OnceLock::new();
        REGION.get_or_init(|| {
            let region = Region::new(bytes);
            // SAFETY: the region is fresh and, in a static, lives for ever.
            unsafe {
                let memory = core::slice::from_raw_parts_mut(region.start(), region.len_bytes());
                HEAP.init(memory).expect("a region to manage");
            }
            region
        });
        Self(&HEAP)
    }
}

impl SharedHeap for BuddySlab {
    #[inline(always)]
    fn take(&self, layout: Layout) -> *mut u8 {
        self.0.alloc(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline(always)]
    unsafe fn give(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's promise.
            unsafe { self.0.dealloc(block, layout) }
        }
    }
}

impl Heap for BuddySlab {
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

/// `rlsf`: two-level segregated fit, with the geometry that its documentation suggests.
pub struct Rlsf {
    heap: rlsf::Tlsf<'static, u32, u32, 28, 32>,
    _region: Region,
}

impl Rlsf {
    /// A heap of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let region = Region::new(bytes);
        let mut heap = rlsf::Tlsf::new();
        let block = NonNull::slice_from_raw_parts(
            NonNull::new(region.start()).expect("no region at null"),
            bytes,
        );
        // SAFETY: the region is fresh and lives as long as the heap.
        unsafe { heap.insert_free_block_ptr(block) };
        Self { heap, _region: region }
    }
}

impl Heap for Rlsf {
    #[inline(always)]
    fn take(&mut self, layout: Layout) -> *mut u8 {
        self.heap.allocate(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline(always)]
    unsafe fn give(&mut self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's promise.
            unsafe { self.heap.deallocate(block, layout.align()) }
        }
    }
}

/// `talc`: segregated fit with boundary tags.
pub struct Talc {
    heap: talc::base::Talc<talc::source::Manual, talc::DefaultBinning>,
    _region: Region,
}

// SAFETY: its pointers lead only into the region that it owns.
unsafe impl Send for Talc {}

impl Talc {
    /// A heap of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let region = Region::new(bytes);
        let mut heap = talc::base::Talc::new(talc::source::Manual);
        // SAFETY: the region is fresh and lives as long as the heap.
        unsafe { heap.claim(region.start(), bytes).expect("a region to manage") };
        Self { heap, _region: region }
    }
}

impl Heap for Talc {
    #[inline(always)]
    fn take(&mut self, layout: Layout) -> *mut u8 {
        // SAFETY: no benchmark asks for no bytes.
        unsafe { self.heap.allocate(layout) }.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline(always)]
    unsafe fn give(&mut self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.heap.deallocate(block, layout) }
    }
}

/// `linked_list_allocator`: first fit in one sorted list.
pub struct LinkedList {
    heap: linked_list_allocator::Heap,
    _region: Region,
}

impl LinkedList {
    /// A heap of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let region = Region::new(bytes);
        // SAFETY: the region is fresh and lives as long as the heap.
        let heap = unsafe { linked_list_allocator::Heap::new(region.start(), bytes) };
        Self { heap, _region: region }
    }
}

impl Heap for LinkedList {
    #[inline(always)]
    fn take(&mut self, layout: Layout) -> *mut u8 {
        self.heap.allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline(always)]
    unsafe fn give(&mut self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's promise.
            unsafe { self.heap.deallocate(block, layout) }
        }
    }
}

/// `dlmalloc`, over a region that it grows into.
pub struct Dlmalloc(dlmalloc::Dlmalloc<Growing>);

struct Growing {
    region: Region,
    used_bytes: AtomicUsize,
}

// SAFETY: `alloc` hands out every byte of the region at most once, and takes none back.
unsafe impl dlmalloc::Allocator for Growing {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let used = self.used_bytes.load(Ordering::Relaxed);
        if size > self.region.len_bytes() - used {
            return (ptr::null_mut(), 0, 0);
        }
        self.used_bytes.store(used + size, Ordering::Relaxed);
        // SAFETY: the sum was just compared with the region's length.
        (unsafe { self.region.start().add(used) }, size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        kmem::frame::FRAME_SIZE
    }
}

impl Dlmalloc {
    /// A heap of at most `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let growing = Growing { region: Region::new(bytes), used_bytes: AtomicUsize::new(0) };
        Self(dlmalloc::Dlmalloc::new_with_allocator(growing))
    }
}

impl Heap for Dlmalloc {
    #[inline(always)]
    fn take(&mut self, layout: Layout) -> *mut u8 {
        // SAFETY: a layout's alignment is a power of two.
        unsafe { self.0.malloc(layout.size(), layout.align()) }
    }

    #[inline(always)]
    unsafe fn give(&mut self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.free(block, layout.size(), layout.align()) }
    }
}

/// Expands `$body` once for each heap, with `$name` bound to its name and `$new` to a function
/// that makes one of so many bytes.
#[macro_export]
macro_rules! for_each_heap {
    (|$name:ident, $new:ident| $body:expr) => {{
        use $crate::peers::{heaps::*, kmem::ByLayout};
        {
            let ($name, $new) = ("kmem", ByLayout::new);
            $body
        }
        {
            let ($name, $new) = ("slab_allocator_rs", SlabAllocatorRs::new);
            $body
        }
        {
            let ($name, $new) = ("ax_slab_allocator", AxSlabAllocator::new);
            $body
        }
        {
            let ($name, $new) = ("buddy-slab-allocator", BuddySlab::new);
            $body
        }
        {
            let ($name, $new) = ("rlsf", Rlsf::new);
            $body
        }
        {
            let ($name, $new) = ("talc", Talc::new);
            $body
        }
        {
            let ($name, $new) = ("linked_list_allocator", LinkedList::new);
            $body
        }
        {
            let ($name, $new) = ("dlmalloc", Dlmalloc::new);
            $body
        }
        {
            let ($name, $new) = ("system malloc", |_: usize| System);
            $body
        }
    }};
}

/// As [`for_each_heap!`], for threads: heaps without a lock of their own stand behind one.
#[macro_export]
macro_rules! for_each_shared_heap {
    (|$name:ident, $new:ident| $body:expr) => {{
        use spin::Mutex;
        use $crate::peers::{heaps::*, kmem::ByLayout};
        {
            let ($name, $new) = ("kmem", ByLayout::new);
            $body
        }
        {
            let ($name, $new) =
                ("slab_allocator_rs", |bytes| Mutex::new(SlabAllocatorRs::new(bytes)));
            $body
        }
        {
            let ($name, $new) =
                ("ax_slab_allocator", |bytes| Mutex::new(AxSlabAllocator::new(bytes)));
            $body
        }
        {
            let ($name, $new) = ("buddy-slab-allocator", BuddySlab::new);
            $body
        }
        {
            let ($name, $new) = ("rlsf", |bytes| Mutex::new(Rlsf::new(bytes)));
            $body
        }
        {
            let ($name, $new) = ("talc", |bytes| Mutex::new(Talc::new(bytes)));
            $body
        }
        {
            let ($name, $new) = ("dlmalloc", |bytes| Mutex::new(Dlmalloc::new(bytes)));
            $body
        }
        {
            let ($name, $new) = ("system malloc", |_: usize| System);
            $body
        }
    }};
}
