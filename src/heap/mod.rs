//! The heap: memory by [`Layout`], for programs that do not know of frames.
//!
//! A request of up to [`SizeClass::MAX_BYTES`] is served by the slab cache of its [`SizeClass`], a
//! larger one, or one aligned to more than a frame, by a **run**: just as many contiguous frames as
//! it needs. Nothing is written before, behind or into a block to keep track of it. What an
//! address belongs to stands in the owner record of its frame, out of band: the number of its
//! slab's record, or, in a run's first frame, how long the run is.
//!
//! # Invariants
//!
//! 1. Two layouts of the same class are served by the same cache, so a layout that a block *fits*
//!    (as `Allocator` defines it) frees it, whichever of them allocated it.
//! 2. The owner record of a run's first frame is its length as `run` encodes it, those of its other
//!    frames are 0. It is set after the run was taken and cleared, by one compare-and-exchange,
//!    before the run is given back: of two frees of a run one finds it.
//! 3. Everything that an address is checked for lies out of band: no content of memory, freed or
//!    not, can make an address pass.
//! 4. Nothing is taken from the source while a lock is held, and nothing here takes one.
//!
//! # Faces
//!
//! - **Checked**: [`allocate`](Heap::allocate), [`deallocate`](Heap::deallocate),
//!   [`reallocate`](Heap::reallocate) and, for those that know no layout,
//!   [`deallocate_unsized`](Heap::deallocate_unsized) say exactly what was wrong.
//! - **[`GlobalAlloc`](core::alloc::GlobalAlloc)**: null where a request cannot be met. A wrong
//!   free is a [`Violation`](crate::check::Violation).
//! - **`allocator_api2`'s `Allocator`**, for `&Heap`: collections in a heap of their own.
//!
//! # No bytes
//!
//! A checked request without bytes is an error, as is freeing with such a layout. `Allocator`
//! demands that they work, and answers them with a dangling pointer, as the standard library does.
//! `GlobalAlloc` forbids them; they get null.
//!
//! # When memory is short
//!
//! Before a request fails, the caches give back all that nobody uses ([`Heap::reclaim`]) and it is
//! tried once more, unless it is `ATOMIC` or `NO_WAIT`.
//!
//! # Rejected
//!
//! - *Powers of two*, as Linux's `kmalloc`: half of a block can be unused instead of a fifth.
//! - *A header before each block*: an overflow reaches it, every block grows by it, and powers of
//!   two no longer fit powers of two.
//! - *The class of runs in every frame of the run*: makes an address inside a large block cheap to
//!   look up, which only errors need, and taking a run linear in its length.
//!
//! # Sources
//!
//! The classes are those of illumos' `kmem_alloc` and of jemalloc. The map from page to size that
//! makes headers unnecessary is Kingsley's and Hanson's; the caches are Bonwick's (1994).

mod class;
mod error;
mod faces;
mod resize;
mod run;
mod stats;

pub use class::SizeClass;
pub use error::{HeapFault, HeapFreeError, ReallocError};
pub use stats::HeapStats;

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use crate::buddy::AllocError;
use crate::page::{AllocFlags, FrameSource};
use crate::platform::CpuId;
use crate::slab::{self, CacheFlags, ObjectError, RawCache};
use run::Runs;
#[cfg(feature = "mmap")]
pub(crate) use run::{
    SOURCES_MARK, frames_for, frames_of as run_frames_of, record_of as run_record_of,
};

/// A heap on frames from `source`.
///
/// ```
/// # use kmem::{IrqState, PhysAddr, Platform, heap::Heap, page::PageAllocator};
/// # struct Pc;
/// # // SAFETY: no memory is ever given to it.
/// # unsafe impl Platform for Pc {
/// #     fn phys_to_virt(&self, _: PhysAddr) -> *mut u8 { core::ptr::null_mut() }
/// #     fn virt_to_phys(&self, _: *const u8) -> Option<PhysAddr> { None }
/// #     fn irq_save(&self) -> IrqState { IrqState(0) }
/// #     unsafe fn irq_restore(&self, _: IrqState) {}
/// # }
/// static PAGES: PageAllocator<Pc> = PageAllocator::new(Pc);
/// // In a kernel, under `#[global_allocator]`:
/// static HEAP: Heap<'static, PageAllocator<Pc>> = Heap::new(&PAGES);
/// ```
///
/// Every call that allocates, frees or resizes takes constant time, apart from the bytes it clears
/// or copies, and from a [`reclaim`](Self::reclaim) before it fails.
pub struct Heap<'s, S: FrameSource> {
    source: &'s S,
    caches: [RawCache<'s, S>; SizeClass::COUNT],
    runs: Runs,
}

impl<S: FrameSource> fmt::Debug for Heap<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

/// The array of caches, whose indices a `const fn` has to spell out.
macro_rules! caches {
    ($source:expr, $flags:expr; $($index:literal)*) => { [$(cache($source, $index, $flags)),*] };
}

/// The cache of the class `index`. Its tag is one more than the index: 0 is what other caches have.
const fn cache<S: FrameSource>(source: &S, index: usize, flags: CacheFlags) -> RawCache<'_, S> {
    let Some(class) = SizeClass::new(index) else { panic!("one cache for each class") };
    RawCache::new(source, class.name(), class.bytes(), class.align(), flags)
        .with_tag(index as u32 + 1)
}

impl<'s, S: FrameSource> Heap<'s, S> {
    /// A heap that takes its frames from `source`; none before the first request.
    pub const fn new(source: &'s S) -> Self {
        Self::with_flags(source, CacheFlags::empty())
    }

    /// A heap whose caches have `flags`: poison, red zones and whatever else hardens them.
    pub const fn with_flags(source: &'s S, flags: CacheFlags) -> Self {
        Self {
            source,
            caches: caches!(source, flags;
                0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29
                30 31 32 33 34 35 36 37 38 39 40 41 42 43 44),
            runs: Runs::new(),
        }
    }

    /// Where the frames come from.
    pub const fn source(&self) -> &'s S {
        self.source
    }

    /// Memory for `layout`: at least its size, all of the returned slice usable, undefined unless
    /// `flags` has `ZERO`. Flags that name zones hold for runs alone: blocks of a size class lie
    /// where its cache has objects (see [`RawCache::alloc`]). Memory that a device reaches is
    /// [`PageAllocator::alloc_within`](crate::page::PageAllocator::alloc_within)'s to give.
    ///
    /// # Errors
    ///
    /// `ZeroSize`; `TooLarge` beyond the largest run or alignment; `BadAlignment` if the direct map
    /// is less aligned than the layout; what the source says if it has no frames, also after a
    /// [`reclaim`](Self::reclaim). Nothing has changed then.
    #[inline]
    pub fn allocate(&self, layout: Layout, flags: AllocFlags) -> Result<NonNull<[u8]>, AllocError> {
        if let Some((class, cache)) = self.at_hand(layout)
            && let Some(object) = cache.alloc_hit()
        {
            if flags.contains(AllocFlags::ZERO) {
                // SAFETY: just allocated, from this cache.
                unsafe { cache.clear(object) };
            }
            return Ok(NonNull::slice_from_raw_parts(object, class.bytes()));
        }
        self.allocate_missed(layout, flags)
    }

    /// What no magazine has at hand.
    #[cold]
    #[inline(never)]
    fn allocate_missed(
        &self,
        layout: Layout,
        flags: AllocFlags,
    ) -> Result<NonNull<[u8]>, AllocError> {
        match self.try_allocate(layout, flags) {
            Ok(block) => Ok(block),
            Err(error) => self.allocate_after_reclaim(layout, flags, error),
        }
    }

    /// The class and the cache that serve `layout`, if they are found at once.
    #[inline(always)]
    fn at_hand(&self, layout: Layout) -> Option<(SizeClass, &RawCache<'s, S>)> {
        let class = SizeClass::tabled(layout)?;
        // SAFETY: there is a cache for each class, and a class's index is below their number.
        Some((class, unsafe { self.caches.get_unchecked(class.index()) }))
    }

    fn try_allocate(&self, layout: Layout, flags: AllocFlags) -> Result<NonNull<[u8]>, AllocError> {
        match SizeClass::for_layout(layout) {
            Some(class) => {
                let object = self.caches[class.index()].alloc(flags)?;
                Ok(NonNull::slice_from_raw_parts(object, class.bytes()))
            }
            None => self.runs.take(self.source, layout, flags),
        }
    }

    #[cold]
    fn allocate_after_reclaim(
        &self,
        layout: Layout,
        flags: AllocFlags,
        error: AllocError,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let is_short = matches!(
            error,
            AllocError::OutOfMemory | AllocError::Fragmented { .. } | AllocError::OutOfReach { .. }
        );
        let may_wait = !flags.intersects(AllocFlags::ATOMIC | AllocFlags::NO_WAIT);
        if is_short && may_wait && self.reclaim() > 0 {
            self.try_allocate(layout, flags)
        } else {
            Err(error)
        }
    }

    /// Gives back what [`allocate`](Self::allocate) returned for this layout, or one that it fits.
    ///
    /// # Errors
    ///
    /// See [`HeapFreeError`]; nothing has changed then.
    ///
    /// # Safety
    ///
    /// If the block is one of this heap's that is allocated, nobody uses it any more. If it lies in
    /// a slab and is not allocated, that slab is not given back meanwhile: see
    /// [`slab::lookup`].
    #[inline]
    pub unsafe fn deallocate(
        &self,
        block: NonNull<u8>,
        layout: Layout,
    ) -> Result<(), HeapFreeError> {
        // SAFETY: the caller's promise.
        if unsafe { self.deallocate_hit(block, layout) } {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { self.deallocate_missed(block, layout) }
    }

    /// Gives a block back to a magazine that has room for it; `false`, and nothing has changed, if
    /// that needs more.
    ///
    /// # Safety
    ///
    /// As [`deallocate`](Self::deallocate).
    #[inline(always)]
    unsafe fn deallocate_hit(&self, block: NonNull<u8>, layout: Layout) -> bool {
        match self.at_hand(layout) {
            // SAFETY: the caller's promise.
            Some((_, cache)) => unsafe { cache.free_hit(block) },
            None => false,
        }
    }

    /// What no magazine has room for, or what is a wrong free.
    ///
    /// # Safety
    ///
    /// As [`deallocate`](Self::deallocate).
    #[cold]
    #[inline(never)]
    unsafe fn deallocate_missed(
        &self,
        block: NonNull<u8>,
        layout: Layout,
    ) -> Result<(), HeapFreeError> {
        match SizeClass::for_layout(layout) {
            Some(class) => {
                // SAFETY: the caller's promise.
                let freed = unsafe { self.caches[class.index()].free(block) };
                freed.map_err(|error| self.diagnose(block, layout.size(), error))
            }
            // SAFETY: the caller's promise.
            None => unsafe { self.deallocate_run(block, layout) },
        }
    }

    /// # Safety
    ///
    /// As [`deallocate`](Self::deallocate).
    #[cold]
    unsafe fn deallocate_run(
        &self,
        block: NonNull<u8>,
        layout: Layout,
    ) -> Result<(), HeapFreeError> {
        match self.runs.find(self.source, block)? {
            Some(run) if run.fits(layout) => {
                // SAFETY: the caller's promise; `run` is the run that starts at the block.
                unsafe { self.runs.give(self.source, run) }
            }
            Some(run) => Err(mismatch(run.len_bytes(), layout.size())),
            None => Err(self.diagnose_object(block, layout.size())),
        }
    }

    /// The cache of `class`.
    #[cfg(feature = "mmap")]
    pub(crate) fn cache_of(&self, class: SizeClass) -> &RawCache<'s, S> {
        &self.caches[class.index()]
    }

    /// The class that a slab's tag means.
    #[cfg(feature = "mmap")]
    #[inline(always)]
    pub(crate) fn class_of_tag(tag: u32) -> Option<SizeClass> {
        SizeClass::new((tag as usize).wrapping_sub(1))
    }

    /// Gives back a block by its address alone.
    ///
    /// # Errors
    ///
    /// See [`HeapFreeError`]; nothing has changed then. `SizeMismatch` is not among them.
    ///
    /// # Safety
    ///
    /// As [`deallocate`](Self::deallocate).
    pub unsafe fn deallocate_unsized(&self, block: NonNull<u8>) -> Result<(), HeapFreeError> {
        // SAFETY: the caller's promise.
        if let Ok(found) = unsafe { slab::lookup(self.source, block) } {
            let Some(cache) = self.cache_of_tag(found.tag) else {
                return Err(HeapFreeError::WrongCache { owner: found.cache });
            };
            // SAFETY: the caller's promise.
            return unsafe { cache.free(block) }.map_err(HeapFreeError::from);
        }
        let run = self.runs.find(self.source, block)?.ok_or(HeapFreeError::OutOfRange)?;
        // SAFETY: the caller's promise; `run` is the run that starts at the block.
        unsafe { self.runs.give(self.source, run) }
    }

    /// How many bytes of an allocated block its owner may use: at least as many as were asked for.
    ///
    /// # Errors
    ///
    /// As [`deallocate_unsized`](Self::deallocate_unsized) would.
    ///
    /// # Safety
    ///
    /// As [`slab::lookup`].
    pub unsafe fn usable_bytes(&self, block: NonNull<u8>) -> Result<usize, HeapFreeError> {
        // SAFETY: the caller's promise.
        if let Ok(found) = unsafe { slab::lookup(self.source, block) } {
            return match self.cache_of_tag(found.tag) {
                // SAFETY: as above.
                Some(cache) if unsafe { cache.owns(block) } => {
                    if found.base != block {
                        Err(HeapFreeError::NotAnObject { base: found.base.addr().get() })
                    } else if !found.is_allocated {
                        Err(HeapFreeError::NotAllocated)
                    } else {
                        Ok(found.object_bytes)
                    }
                }
                _ => Err(HeapFreeError::WrongCache { owner: found.cache }),
            };
        }
        let run = self.runs.find(self.source, block)?.ok_or(HeapFreeError::OutOfRange)?;
        Ok(run.len_bytes())
    }

    /// Calls `visit` with the address and usable bytes of every block of a size class that is
    /// allocated, in no order. Blocks that others allocate or free meanwhile are visited or
    /// not. Runs are left out: of them the heap keeps no list, only each one's length with its
    /// first frame. A cache's lock is held: `visit` must not call the heap.
    pub fn for_each_live(&self, visit: &mut dyn FnMut(NonNull<u8>, usize)) {
        for cache in &self.caches {
            cache.for_each_live(&mut |object| visit(object, cache.object_bytes()));
        }
    }

    /// Gives the source back every slab that can be emptied, with what lies idle in magazines: see
    /// [`RawCache::shrink`]. How many frames that were.
    pub fn reclaim(&self) -> usize {
        self.caches.iter().map(RawCache::shrink).sum()
    }

    /// Gives the source back what no cache has needed since the last call: see
    /// [`RawCache::reap`]. How many frames that were.
    pub fn reap(&self) -> usize {
        self.caches.iter().map(RawCache::reap).sum()
    }

    /// Puts what a CPU that has stopped keeps ready back into the slabs of all caches: see
    /// [`RawCache::drain_cpu`].
    ///
    /// # Safety
    ///
    /// As there, of all caches of the heap.
    pub unsafe fn drain_cpu(&self, cpu: CpuId) {
        for cache in &self.caches {
            // SAFETY: the caller's promise.
            unsafe { cache.drain_cpu(cpu) };
        }
    }

    /// Forgets what a CPU holds that will never run again and may have stopped in the middle of a
    /// call, as in the copy that `fork` makes of a process: the objects in its magazines are
    /// lost.
    ///
    /// # Safety
    ///
    /// Nothing runs on the CPU in kmem, and what was interrupted there never goes on.
    pub unsafe fn abandon_cpu(&self, cpu: CpuId) {
        for cache in &self.caches {
            // SAFETY: the caller's promise.
            unsafe { cache.abandon_cpu(cpu) };
        }
    }

    /// Lets a CPU use its magazines again, from which another kept it that is not there any more.
    #[cfg(feature = "mmap")]
    pub(crate) fn readmit_cpu(&self, cpu: CpuId) {
        for cache in &self.caches {
            cache.readmit_cpu(cpu);
        }
    }

    /// Recounts everything: the caches one after the other, each with its lock held. Takes time in
    /// proportion to the objects there are. Exact while no other CPU uses the heap.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn verify(&self) -> Result<(), HeapFault> {
        for cache in &self.caches {
            cache.verify().map_err(|fault| HeapFault { cache: cache.name(), fault })?;
        }
        Ok(())
    }

    /// The cache whose slabs have a tag.
    #[inline(always)]
    pub(crate) fn cache_of_tag(&self, tag: u32) -> Option<&RawCache<'s, S>> {
        self.caches.get((tag as usize).wrapping_sub(1))
    }

    /// Why a cache refused a block that it was given back with a size.
    #[cold]
    fn diagnose(
        &self,
        block: NonNull<u8>,
        given_bytes: usize,
        error: ObjectError,
    ) -> HeapFreeError {
        match error {
            ObjectError::WrongCache { .. } => self.diagnose_object(block, given_bytes),
            ObjectError::OutOfRange => match self.runs.find(self.source, block) {
                Ok(Some(run)) => mismatch(run.len_bytes(), given_bytes),
                Ok(None) => HeapFreeError::OutOfRange,
                Err(error) => error,
            },
            other => other.into(),
        }
    }

    /// Why an object was given back with a size that is not its class's.
    #[cold]
    fn diagnose_object(&self, block: NonNull<u8>, given_bytes: usize) -> HeapFreeError {
        // SAFETY: whoever frees promises it.
        match unsafe { self.usable_bytes(block) } {
            Ok(allocated_bytes) => mismatch(allocated_bytes, given_bytes),
            Err(error) => error,
        }
    }
}

fn mismatch(allocated_bytes: usize, given_bytes: usize) -> HeapFreeError {
    HeapFreeError::SizeMismatch { allocated_bytes, given_bytes }
}
