//! Page-frame allocators.
//!
//! The adapters are there to vanish: they are always inlined, and a block is named by whatever the
//! allocator itself names it by, an address or a frame. Allocators that keep their metadata in the
//! memory they manage are given a [`Region`] of it; the others never touch memory at all.

use core::{
    alloc::Layout,
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use bitmap_allocator::{BitAlloc, BitAlloc1M, BitAlloc16M, BitAlloc256M};
use buddy_slab_allocator::BuddyAllocator;
use frame_alloc::{
    CpuId, DepotAllocator, PageSize, PhysicalAllocator, Provenance, RegionInit,
    SummaryBuddyAllocator,
};
use kmem::frame::FRAME_SIZE;

use super::cpu;
use crate::memory::Region;

/// A page-frame allocator that one thread uses.
pub trait Frames {
    /// What names a block.
    type Block: Copy + Ord + Send;

    /// Whether a block of any order costs what a frame costs, or at least much less than a search.
    const ORDERS: bool = true;

    /// Takes a block of 2^`order` frames; `None` where there is none.
    fn take(&mut self, order: u8) -> Option<Self::Block>;

    /// As [`take`](Self::take), for contents that can be moved or will soon be gone, where the
    /// allocator wants to know.
    fn take_movable(&mut self, order: u8) -> Option<Self::Block> {
        self.take(order)
    }

    /// Gives back a block that was taken for the same order.
    fn give(&mut self, block: Self::Block, order: u8);
}

/// A page-frame allocator that threads share.
pub trait SharedFrames: Sync {
    /// What names a block.
    type Block: Copy + Send;

    /// See [`Frames::take`].
    fn take(&self, order: u8) -> Option<Self::Block>;

    /// See [`Frames::give`].
    fn give(&self, block: Self::Block, order: u8);
}

impl<A: Frames + Send> SharedFrames for spin::Mutex<A> {
    type Block = A::Block;

    #[inline(always)]
    fn take(&self, order: u8) -> Option<A::Block> {
        self.lock().take(order)
    }

    #[inline(always)]
    fn give(&self, block: A::Block, order: u8) {
        self.lock().give(block, order);
    }
}

/// `buddy-slab-allocator`'s page allocator: lists through an array of records, 16 bytes a frame.
pub struct BuddySlab {
    buddy: BuddyAllocator<FRAME_SIZE>,
    _region: Region,
}

impl BuddySlab {
    /// Manages a fresh range of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let region = Region::new(bytes + BuddyAllocator::<FRAME_SIZE>::required_meta_size(bytes));
        let mut buddy = BuddyAllocator::new();
        // SAFETY: the region is fresh, zeroed, and lives as long as the allocator.
        unsafe {
            let memory = core::slice::from_raw_parts_mut(region.start(), region.len_bytes());
            buddy.init(memory).expect("a region to manage");
        }
        Self { buddy, _region: region }
    }
}

impl Frames for BuddySlab {
    type Block = usize;

    #[inline(always)]
    fn take(&mut self, order: u8) -> Option<usize> {
        self.buddy.alloc_pages(1 << order, FRAME_SIZE).ok()
    }

    #[inline(always)]
    fn give(&mut self, block: usize, order: u8) {
        self.buddy.dealloc_pages(block, 1 << order);
    }
}

struct Identity;

// SAFETY: the "physical" addresses are those of a region of this process.
unsafe impl Provenance for Identity {
    unsafe fn create(phys: usize) -> NonNull<u8> {
        NonNull::new(ptr::with_exposed_provenance_mut(phys)).expect("no region at null")
    }

    unsafe fn destroy<T>(pointer: NonNull<T>) -> usize {
        pointer.expose_provenance().get()
    }
}

struct Thread;

impl CpuId for Thread {
    #[inline(always)]
    fn current_cpu() -> usize {
        cpu::current_number()
    }
}

const PAGE: PageSize = PageSize::from_log2(12);

/// `frame-alloc`: bitmaps under compare-and-swap, a magazine for each CPU and a depot in front.
pub struct FrameAlloc {
    depot: Box<DepotAllocator<SummaryBuddyAllocator<11, Identity>, Thread, { cpu::CPUS }>>,
    _region: Region,
}

impl FrameAlloc {
    /// Manages a fresh range of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let region = Region::new(bytes);
        let depot = Box::new(DepotAllocator::new(PAGE, SummaryBuddyAllocator::new(PAGE)));
        // SAFETY: the region is fresh, this allocator's alone, and no thread has it yet.
        unsafe { depot.init_region(region.start().expose_provenance(), bytes) };
        Self { depot, _region: region }
    }
}

impl SharedFrames for FrameAlloc {
    type Block = usize;

    #[inline(always)]
    fn take(&self, order: u8) -> Option<usize> {
        self.depot.allocate_physical(PAGE, frames_of(order)).ok()
    }

    #[inline(always)]
    fn give(&self, block: usize, order: u8) {
        // SAFETY: the benchmarks give back what they took, once, with its order.
        unsafe { self.depot.deallocate_physical(PAGE, frames_of(order), block) };
    }
}

impl Frames for FrameAlloc {
    type Block = usize;

    #[inline(always)]
    fn take(&mut self, order: u8) -> Option<usize> {
        SharedFrames::take(self, order)
    }

    #[inline(always)]
    fn give(&mut self, block: usize, order: u8) {
        SharedFrames::give(self, block, order);
    }
}

#[inline(always)]
fn frames_of(order: u8) -> NonZeroUsize {
    NonZeroUsize::new(1 << order).unwrap_or(NonZeroUsize::MIN)
}

/// `buddy_system_allocator`'s frame allocator: a `BTreeSet` for each order, on the host's heap.
pub struct BuddySystemFrames(buddy_system_allocator::FrameAllocator<21>);

impl BuddySystemFrames {
    /// Manages the frames of `bytes` bytes, which it never touches.
    pub fn new(bytes: usize) -> Self {
        let mut frames = buddy_system_allocator::FrameAllocator::new();
        frames.add_frame(0, bytes / FRAME_SIZE);
        Self(frames)
    }
}

impl Frames for BuddySystemFrames {
    type Block = usize;

    #[inline(always)]
    fn take(&mut self, order: u8) -> Option<usize> {
        self.0.alloc(1 << order)
    }

    #[inline(always)]
    fn give(&mut self, block: usize, order: u8) {
        self.0.dealloc(block, 1 << order);
    }
}

/// `buddy_system_allocator`'s heap, asked for frames: lists through the free memory.
pub struct BuddySystemHeap {
    heap: buddy_system_allocator::Heap<40>,
    _region: Region,
}

impl BuddySystemHeap {
    /// Manages a fresh range of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let region = Region::new(bytes);
        let mut heap = buddy_system_allocator::Heap::new();
        // SAFETY: the region is fresh and lives as long as the heap.
        unsafe { heap.init(region.start().expose_provenance(), bytes) };
        Self { heap, _region: region }
    }
}

#[inline(always)]
fn block_layout(order: u8) -> Layout {
    let bytes = FRAME_SIZE << order;
    Layout::from_size_align(bytes, bytes).expect("orders of the benchmarks are small")
}

impl Frames for BuddySystemHeap {
    type Block = usize;

    #[inline(always)]
    fn take(&mut self, order: u8) -> Option<usize> {
        self.heap.alloc(block_layout(order)).ok().map(|block| block.expose_provenance().get())
    }

    #[inline(always)]
    fn give(&mut self, block: usize, order: u8) {
        if let Some(block) = NonNull::new(ptr::with_exposed_provenance_mut(block)) {
            // SAFETY: the benchmarks give back what they took, once, with its order.
            unsafe { self.heap.dealloc(block, block_layout(order)) };
        }
    }
}

/// `buddy-alloc`: lists through the free memory, two bits for each block of each order.
pub struct BuddyAlloc {
    buddy: buddy_alloc::buddy_alloc::BuddyAlloc,
    _region: Region,
}

// SAFETY: its pointers lead only into the region that it owns.
unsafe impl Send for BuddyAlloc {}

impl BuddyAlloc {
    /// Manages a fresh range that leaves `bytes` bytes beside its metadata.
    pub fn new(bytes: usize) -> Self {
        let region = Region::new(bytes + bytes / 64);
        let parameters = buddy_alloc::BuddyAllocParam::new_with_zero_filled(
            region.start(),
            region.len_bytes(),
            FRAME_SIZE,
        );
        // SAFETY: the region is fresh, zeroed, and lives as long as the allocator.
        let buddy = unsafe { buddy_alloc::buddy_alloc::BuddyAlloc::new(parameters) };
        Self { buddy, _region: region }
    }
}

impl Frames for BuddyAlloc {
    type Block = usize;

    #[inline(always)]
    fn take(&mut self, order: u8) -> Option<usize> {
        let block = self.buddy.malloc(FRAME_SIZE << order);
        if block.is_null() { None } else { Some(block.expose_provenance()) }
    }

    #[inline(always)]
    fn give(&mut self, block: usize, _order: u8) {
        self.buddy.free(ptr::with_exposed_provenance_mut(block));
    }
}

/// `bitmap-allocator`: a tree of bitmaps, of the smallest type that is large enough; blocks of
/// frames by search.
pub enum Bitmap {
    /// Up to 4 GiB.
    Small(Box<BitAlloc1M>),
    /// Up to 64 GiB.
    Medium(Box<BitAlloc16M>),
    /// Up to 1 TiB.
    Large(Box<BitAlloc256M>),
}

impl Bitmap {
    /// Manages the frames of `bytes` bytes, which it never touches.
    pub fn new(bytes: usize) -> Self {
        let frames = bytes / FRAME_SIZE;
        if frames <= BitAlloc1M::CAP {
            Self::Small(available(frames))
        } else if frames <= BitAlloc16M::CAP {
            Self::Medium(available(frames))
        } else {
            Self::Large(available(frames))
        }
    }
}

fn available<B: BitAlloc>(frames: usize) -> Box<B> {
    // SAFETY: each of the trees is made of plain integers, zero for "nothing available"; it is
    // made in place because its default value would not fit on the stack.
    let mut bits = unsafe { Box::<B>::new_zeroed().assume_init() };
    bits.insert(0..frames);
    bits
}

#[inline(always)]
fn take_bits(bits: &mut impl BitAlloc, order: u8) -> Option<usize> {
    match order {
        0 => bits.alloc(),
        _ => bits.alloc_contiguous(None, 1 << order, usize::from(order)),
    }
}

#[inline(always)]
fn give_bits(bits: &mut impl BitAlloc, block: usize, order: u8) {
    match order {
        0 => bits.dealloc(block),
        _ => bits.dealloc_contiguous(block, 1 << order),
    };
}

impl Frames for Bitmap {
    type Block = usize;

    const ORDERS: bool = false;

    #[inline(always)]
    fn take(&mut self, order: u8) -> Option<usize> {
        match self {
            Self::Small(bits) => take_bits(&mut **bits, order),
            Self::Medium(bits) => take_bits(&mut **bits, order),
            Self::Large(bits) => take_bits(&mut **bits, order),
        }
    }

    #[inline(always)]
    fn give(&mut self, block: usize, order: u8) {
        match self {
            Self::Small(bits) => give_bits(&mut **bits, block, order),
            Self::Medium(bits) => give_bits(&mut **bits, block, order),
            Self::Large(bits) => give_bits(&mut **bits, block, order),
        }
    }
}

/// Expands `$body` once for each page-frame allocator, with `$name` bound to its name and `$new`
/// to a function that makes one of so many bytes.
#[macro_export]
macro_rules! for_each_frame_allocator {
    (|$name:ident, $new:ident| $body:expr) => {{
        use $crate::peers::{frames::*, kmem::*};
        {
            let ($name, $new) = ("kmem", Pages::new);
            $body
        }
        {
            let ($name, $new) = ("kmem, buddy alone", BuddyAlone::new);
            $body
        }
        {
            let ($name, $new) = ("buddy-alloc", BuddyAlloc::new);
            $body
        }
        {
            let ($name, $new) = ("buddy-slab-allocator", BuddySlab::new);
            $body
        }
        {
            let ($name, $new) = ("bitmap-allocator", Bitmap::new);
            $body
        }
        {
            let ($name, $new) = ("frame-alloc", FrameAlloc::new);
            $body
        }
        {
            let ($name, $new) = ("buddy_system_allocator, frames", BuddySystemFrames::new);
            $body
        }
    }};
}
