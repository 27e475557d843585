//! The allocator of a process.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;

use super::frames::HostFrames;
use crate::buddy::Corruption;
use crate::heap::{Heap, HeapFault, HeapStats};
use crate::slab::CacheStats;

/// The frames of the process, and the heap on them. There is one of each, whatever the number of
/// [`MmapAllocator`]s: threads are its CPUs, and a process has one set of threads.
static FRAMES: HostFrames = HostFrames::new();
static HEAP: Heap<'static, HostFrames> = Heap::new(&FRAMES);

/// kmem's heap over `mmap`, as a program's allocator:
///
/// ```
/// use kmem::host::MmapAllocator;
///
/// #[global_allocator]
/// static KMEM: MmapAllocator = MmapAllocator::new();
///
/// fn main() {
///     let words: Vec<String> = "every allocation is kmem's".split(' ').map(String::from).collect();
///     assert_eq!(words.len(), 4);
///     KMEM.verify().unwrap();
/// }
/// ```
///
/// It needs no set-up: the first request maps the first memory. All values of this type are the same allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct MmapAllocator(());

impl MmapAllocator {
    /// The allocator of this process.
    pub const fn new() -> Self {
        Self(())
    }

    /// The heap: for checked calls, and for collections that are given an allocator.
    pub const fn heap(&self) -> &'static Heap<'static, HostFrames> {
        &HEAP
    }

    /// The frames that the heap is made of.
    pub const fn frames(&self) -> &'static HostFrames {
        &FRAMES
    }

    /// How full the heap is.
    pub fn stats(&self) -> HeapStats {
        HEAP.stats()
    }

    /// How full each size class's cache is.
    pub fn cache_stats(&self) -> impl ExactSizeIterator<Item = CacheStats> + Clone {
        HEAP.cache_stats()
    }

    /// Gives what is not used back to the system: empty slabs first to the frames, then the memory of all available
    /// frames. Says how many bytes that were.
    pub fn trim(&self) -> usize {
        HEAP.reclaim();
        FRAMES.trim()
    }

    /// Recounts everything. Other threads may go on, one cache or zone at a time waits.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn verify(&self) -> Result<(), HostFault> {
        HEAP.verify().map_err(HostFault::Heap)?;
        FRAMES.verify().map_err(HostFault::Frames)
    }

    /// What there is to see: a few lines on heap and frames, then the caches that have slabs. Allocates
    /// nothing.
    pub fn report(&self) -> HostReport {
        HostReport(())
    }
}

// SAFETY: the heap's own implementation does all of it.
unsafe impl GlobalAlloc for MmapAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { HEAP.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { HEAP.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { HEAP.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { HEAP.realloc(block, layout, new_size) }
    }
}

/// What a recount of everything found wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HostFault {
    /// In the heap.
    Heap(HeapFault),
    /// In the frames below it.
    Frames(Corruption),
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heap(fault) => fault.fmt(f),
            Self::Frames(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for HostFault {}

/// The allocator of the process, to be displayed.
#[derive(Clone, Copy, Debug)]
pub struct HostReport(());

impl fmt::Display for HostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heap = HEAP.stats();
        let kib = |bytes: usize| bytes / 1024;
        writeln!(
            f,
            "heap    {:>10} KiB live in {} objects and {} runs, {} KiB taken from the frames",
            kib(heap.live_bytes()),
            heap.objects,
            heap.runs,
            kib(heap.held_bytes()),
        )?;
        if let Some(zone) = FRAMES.stats() {
            writeln!(
                f,
                "frames  {:>10} KiB open, {} KiB of them available; served {}, taken back {}",
                4 * zone.managed_frames,
                4 * zone.available_frames,
                zone.counts.allocs,
                zone.counts.frees,
            )?;
            write!(f, "blocks available of order 0 and up:")?;
            for blocks in zone.available_blocks {
                write!(f, " {blocks}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "cache         active    objects  slabs  frames/slab")?;
        for cache in HEAP.cache_stats().filter(|cache| cache.slabs_total > 0) {
            writeln!(
                f,
                "{:<10} {:>9} {:>10} {:>6} {:>12}",
                cache.name,
                cache.objects_active,
                cache.objects_total,
                cache.slabs_total,
                cache.frames_per_slab,
            )?;
        }
        Ok(())
    }
}
