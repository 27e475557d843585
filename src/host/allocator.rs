//! The allocator of a process.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr::{self, NonNull};
use core::time::Duration;

use super::frames::HostFrames;
use super::{fork, local, locks, slot, thread};
use crate::buddy::{AllocError, Corruption};
use crate::frame::FRAME_SIZE;
use crate::heap::{Heap, HeapFault, HeapFreeError, HeapStats, ReallocError, SizeClass};
use crate::page::AllocFlags;
use crate::slab::CacheStats;

/// The frames of the process, and the heap on them. There is one of each, whatever the number of
/// [`MmapAllocator`]s: threads are its CPUs, and a process has one set of threads.
pub(super) static FRAMES: HostFrames = HostFrames::new();
pub(super) static HEAP: Heap<'static, HostFrames> = Heap::new(&FRAMES);

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
/// It needs no set-up: the first request maps the first memory. All values of this type are the
/// same allocator.
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

    /// A block of at least `bytes` bytes, aligned to 16 if there are more than 8, from what this
    /// thread has at hand, without a lock; `None` says to use [`allocate`](Self::allocate).
    #[inline(always)]
    pub fn allocate_hit(&self, bytes: usize) -> Option<NonNull<u8>> {
        local::allocate_bytes(bytes)
    }

    /// As [`allocate_hit`](Self::allocate_hit), for up to 1024 bytes alone, in the fewest
    /// instructions: `None` says to use that.
    #[inline(always)]
    pub fn allocate_small_hit(&self, bytes: usize) -> Option<NonNull<u8>> {
        local::allocate_few_bytes(bytes)
    }

    /// Gives a block back, by its address alone, to what this thread has at hand, without a lock;
    /// `false`, and nothing has changed, says to use [`deallocate`](Self::deallocate), which
    /// also says what was wrong. The null pointer is no block.
    ///
    /// # Safety
    ///
    /// If the block is allocated, nobody uses it any more.
    #[inline(always)]
    pub unsafe fn deallocate_hit(&self, block: *mut u8) -> bool {
        // SAFETY: the caller's promise.
        unsafe { local::deallocate(block) }
    }

    /// As [`allocate_hit`](Self::allocate_hit), with a look at what else this thread has at hand,
    /// large blocks among it: to be tried when that has failed. May wait, for a lock of this
    /// thread's own, which others hold while they give memory back or count it, and for another
    /// thread's `fork` to be over.
    pub fn allocate_second_hit(&self, bytes: usize) -> Option<NonNull<u8>> {
        local::allocate_second(bytes)
    }

    /// As [`deallocate_hit`](Self::deallocate_hit), also for large blocks, and for those that
    /// another thread allocated: to be tried when that has failed. May wait as
    /// [`allocate_second_hit`](Self::allocate_second_hit) does.
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn deallocate_second_hit(&self, block: *mut u8) -> bool {
        // SAFETY: the caller's promise.
        NonNull::new(block).is_some_and(|block| unsafe { local::deallocate_second(block) })
    }

    /// From now on [`allocate_hit`](Self::allocate_hit) and
    /// [`deallocate_hit`](Self::deallocate_hit) serve nobody, until
    /// [`allow_hits`](Self::allow_hits): for whoever has to see every call. Hits under way in other
    /// threads may still end.
    pub fn hold_hits_back(&self) {
        local::hold_hits_back();
    }

    /// Ends what [`hold_hits_back`](Self::hold_hits_back) began.
    pub fn allow_hits(&self) {
        local::allow_hits();
    }

    /// As the heap's [`allocate`](Heap::allocate).
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn allocate(&self, layout: Layout, flags: AllocFlags) -> Result<NonNull<[u8]>, AllocError> {
        let Some(class) = SizeClass::for_layout(layout) else {
            return self.allocate_run(layout, flags);
        };
        let block = HEAP.allocate(layout, flags);
        local::note(class);
        block
    }

    #[cold]
    fn allocate_run(&self, layout: Layout, flags: AllocFlags) -> Result<NonNull<[u8]>, AllocError> {
        let bytes = layout.size().next_multiple_of(FRAME_SIZE);
        if layout.align() <= FRAME_SIZE
            && let Some(block) = FRAMES.take_run_at_hand(layout.size())
        {
            if flags.contains(AllocFlags::ZERO) {
                // SAFETY: the block is new and has so many bytes: whole frames.
                unsafe { block.write_bytes(0, bytes) };
            }
            return Ok(NonNull::slice_from_raw_parts(block, bytes));
        }
        HEAP.allocate(layout, flags)
    }

    /// As the heap's [`deallocate_unsized`](Heap::deallocate_unsized).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline]
    pub unsafe fn deallocate(&self, block: NonNull<u8>) -> Result<(), HeapFreeError> {
        // SAFETY: the caller's promise.
        let class = unsafe { local::class_of(block) };
        // SAFETY: the caller's promise.
        unsafe { HEAP.deallocate_unsized(block) }?;
        if let Some(class) = class {
            local::note(class);
        }
        reclaim_if_due();
        Ok(())
    }

    /// As the heap's [`reallocate_unsized`](Heap::reallocate_unsized).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn reallocate(
        &self,
        block: NonNull<u8>,
        new: Layout,
    ) -> Result<NonNull<[u8]>, ReallocError> {
        // SAFETY: the caller's promise.
        let moved = unsafe { HEAP.reallocate_unsized(block, new) };
        if let Some(class) = SizeClass::for_layout(new) {
            local::note(class);
        }
        moved
    }

    /// Bytes of an allocated block that its owner may use, if that can be said at once; `None` says
    /// to ask the heap.
    ///
    /// # Safety
    ///
    /// As [`Heap::usable_bytes`].
    #[inline(always)]
    pub unsafe fn usable_hit(&self, block: NonNull<u8>) -> Option<usize> {
        // SAFETY: the caller's promise.
        unsafe { local::usable_bytes(block) }
    }

    /// Calls `visit` with the address and usable bytes of every block that is allocated, in no
    /// order. Locks are held: `visit` must neither allocate nor free.
    pub fn for_each_live(&self, visit: &mut dyn FnMut(NonNull<u8>, usize)) {
        HEAP.for_each_live(visit);
        FRAMES.for_each_run(visit);
    }

    /// How full the heap is.
    pub fn stats(&self) -> HeapStats {
        HEAP.stats()
    }

    /// How full each size class's cache is.
    pub fn cache_stats(&self) -> impl ExactSizeIterator<Item = CacheStats> + Clone {
        HEAP.cache_stats()
    }

    /// Gives what is not used back to the system: what all threads have at hand first to the slabs,
    /// empty slabs to the frames, then the memory of all available frames. Says how many bytes that
    /// were.
    pub fn trim(&self) -> usize {
        HEAP.reclaim();
        FRAMES.trim()
    }

    /// Whether this call comes from a signal handler on top of one that holds a lock: the heap must
    /// not be used then, since it would wait for what it interrupted.
    #[inline(always)]
    pub fn is_interrupted(&self) -> bool {
        thread::is_locking()
    }

    /// Leaves it to the caller to make the three calls below at each `fork`. Otherwise kmem has the
    /// C library make them, from the first request on. To be called before that.
    pub fn leave_forks_to_caller(&self) {
        fork::leave_to_caller();
    }

    /// To be called before the process is copied by `fork`: from its return on no other thread is
    /// where the copy could not go on. One of the two calls below must follow. Nests.
    pub fn before_fork(&self) {
        locks::quiesce();
    }

    /// To be called in the process that was copied, by the thread that forked.
    pub fn after_fork_in_parent(&self) {
        locks::resume();
    }

    /// As [`before_fork`](Self::before_fork), for a caller whom no signal reaches: a thread that is
    /// stopped by one, inside a lock, may go on only when the caller has got it, too. `false`,
    /// and nothing has changed, says to let signals in and to try again.
    #[must_use]
    pub fn try_before_fork(&self) -> bool {
        locks::try_quiesce()
    }

    /// To be called in the copy. What lay in the magazines of the other threads is lost to it.
    ///
    /// # Safety
    ///
    /// The process was just copied, and has only the thread that called
    /// [`before_fork`](Self::before_fork).
    pub unsafe fn after_fork_in_child(&self) {
        if thread::is_locking() {
            // On top of a call that goes on behind this one, if at all: its locks are closed until
            // then. So slots stay as they are; what another thread was inside stays shut.
            return locks::resume_alone(|_| ());
        }
        locks::resume_alone(|cpu| {
            // SAFETY: the thread of that slot is not there any more.
            unsafe { HEAP.abandon_cpu(cpu) };
            FRAMES.kept.abandon(cpu);
        });
        // A thread that was emptying magazines holds no lock between two of them.
        slot::ever_held().for_each(|cpu| HEAP.readmit_cpu(cpu));
    }

    /// How long memory is kept that nobody uses: see [`HostFrames::set_trim_delay`].
    pub fn set_trim_delay(&self, delay: Duration) {
        FRAMES.set_trim_delay(delay);
    }

    /// Has the system back memory by huge pages: see [`HostFrames::use_huge_pages`].
    pub fn use_huge_pages(&self) -> bool {
        FRAMES.use_huge_pages()
    }

    /// Recounts everything. Other threads may go on, one cache or zone at a time waits; but what
    /// they do meanwhile can make the books disagree.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn verify(&self) -> Result<(), HostFault> {
        HEAP.verify().map_err(HostFault::Heap)?;
        FRAMES.verify().map_err(HostFault::Frames)
    }

    /// What there is to see: a few lines on heap and frames, then the caches that have slabs.
    /// Allocates nothing.
    pub const fn report(&self) -> HostReport {
        HostReport(())
    }
}

// SAFETY: the heap's own implementation does all of it.
unsafe impl GlobalAlloc for MmapAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match SizeClass::for_layout(layout).and_then(local::allocate) {
            Some(block) => block.as_ptr(),
            None => alloc_missed(layout),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives the block up.
        if !unsafe { local::deallocate(block) } {
            // SAFETY: passed on.
            unsafe { dealloc_missed(block, layout) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout, AllocFlags::ZERO).map_or(ptr::null_mut(), first_byte)
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { HEAP.realloc(block, layout, new_size) }
    }
}

fn first_byte(block: NonNull<[u8]>) -> *mut u8 {
    block.cast().as_ptr()
}

/// Allocates what is no hit.
#[cold]
#[inline(never)]
fn alloc_missed(layout: Layout) -> *mut u8 {
    match SizeClass::for_layout(layout).and_then(local::allocate_second_of) {
        Some(block) => block.as_ptr(),
        None => {
            let block = MmapAllocator::new().allocate(layout, AllocFlags::empty());
            block.map_or(ptr::null_mut(), first_byte)
        }
    }
}

/// Frees what is no hit.
///
/// # Safety
///
/// As [`GlobalAlloc::dealloc`].
#[cold]
#[inline(never)]
unsafe fn dealloc_missed(block: *mut u8, layout: Layout) {
    // What is wrong with the length of a run is the heap's to say.
    let fits = local::may_be_for(block, layout);
    // SAFETY: the caller gives the block up.
    let second = |block| unsafe { fits && local::deallocate_second(block) };
    if !NonNull::new(block).is_some_and(second) {
        // SAFETY: passed on.
        unsafe { HEAP.dealloc(block, layout) };
        reclaim_if_due();
    }
}

/// Objects that threads have at hand may be the last of their slabs, each of which keeps frames
/// around it apart. So they go back to the slabs when much memory could not be given back for that
/// reason.
#[inline]
fn reclaim_if_due() {
    if FRAMES.is_reclaim_due() {
        FRAMES.trim_after(|| _ = HEAP.reclaim());
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
