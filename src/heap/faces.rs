//! The heap as Rust's allocator traits see it.

use core::alloc::{GlobalAlloc, Layout};
use core::mem;
use core::num::NonZero;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};

use super::{Heap, HeapFreeError, ReallocError};
use crate::check::violation;
use crate::page::{AllocFlags, FrameSource, Shrinker};
use crate::platform::Platform;

/// What the heap keeps for its next requests is there for others who run short.
impl<S: FrameSource> Shrinker for Heap<'_, S>
where
    Self: Sync,
{
    /// Gives back all that can be: see [`Heap::reclaim`].
    fn shrink(&self, _frames: usize) -> usize {
        self.reclaim()
    }
}

impl<S: FrameSource> Heap<'_, S> {
    /// What no magazine has at hand.
    #[cold]
    #[inline(never)]
    fn alloc_missed(&self, layout: Layout) -> *mut u8 {
        or_null(self.allocate_missed(layout, AllocFlags::empty()).ok())
    }

    /// What no magazine has room for, or what is a wrong free.
    ///
    /// # Safety
    ///
    /// As [`deallocate`](Heap::deallocate).
    #[cold]
    #[inline(never)]
    unsafe fn dealloc_missed(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        if let Err(error) = unsafe { self.deallocate_missed(block, layout) } {
            self.report(block.as_ptr(), error);
        }
    }

    /// Reports a wrong free to the kernel's hook. Where that panics, as the default does, the
    /// program stops: an allocator must not unwind.
    #[cold]
    #[inline(never)]
    fn report(&self, block: *mut u8, error: HeapFreeError) {
        let stop = StopOnUnwind;
        violation(&error.violation(block.addr()).on_cpu(self.source().platform().cpu_id()));
        mem::forget(stop);
    }
}

/// Panics when dropped by a panic, which stops the program.
struct StopOnUnwind;

impl Drop for StopOnUnwind {
    fn drop(&mut self) {
        panic!("kmem: an allocator cannot go on after a violation");
    }
}

// SAFETY: by the trait's list: nothing here unwinds (`report` stops the program instead); `layout`
// is what `allocate` is asked for, and it returns memory of at least that size and alignment which
// stays the caller's until it is freed; no call is counted on to happen.
unsafe impl<S: FrameSource> GlobalAlloc for Heap<'_, S> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.at_hand(layout).and_then(|(_, cache)| cache.alloc_hit()) {
            Some(object) => object.as_ptr(),
            None => self.alloc_missed(layout),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else { return };
        // SAFETY: the caller gives the block up.
        if !unsafe { self.deallocate_hit(block, layout) } {
            // SAFETY: as above.
            unsafe { self.dealloc_missed(block, layout) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        or_null(self.allocate(layout, AllocFlags::ZERO).ok())
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(new_size, layout.align()) else {
            return ptr::null_mut();
        };
        let Some(block) = NonNull::new(block) else { return ptr::null_mut() };
        // SAFETY: the caller gives the block up if this succeeds.
        match unsafe { self.reallocate(block, layout, new, AllocFlags::empty()) } {
            Ok(block) => block.cast().as_ptr(),
            Err(ReallocError::Alloc(_)) => ptr::null_mut(),
            Err(ReallocError::Free(error)) => {
                self.report(block.as_ptr(), error);
                ptr::null_mut()
            }
        }
    }
}

#[inline]
fn or_null(block: Option<NonNull<[u8]>>) -> *mut u8 {
    block.map_or(ptr::null_mut(), |block| block.cast().as_ptr())
}

// SAFETY: a block stays where it is, and valid, until it is freed through this heap, which a shared
// reference names for as long as it lives and however it is copied; what fits a block frees it
// (heap, invariant 1).
unsafe impl<S: FrameSource> Allocator for &Heap<'_, S> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(nothing(layout));
        }
        Heap::allocate(self, layout, AllocFlags::empty()).map_err(|_| AllocError)
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(nothing(layout));
        }
        Heap::allocate(self, layout, AllocFlags::ZERO).map_err(|_| AllocError)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller gives the block up.
            if let Err(error) = unsafe { Heap::deallocate(self, block, layout) } {
                self.report(block.as_ptr(), error);
            }
        }
    }

    #[inline]
    unsafe fn grow(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.resize(block, old, new, AllocFlags::empty()) }
    }

    #[inline]
    unsafe fn grow_zeroed(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.resize(block, old, new, AllocFlags::ZERO) }
    }

    #[inline]
    unsafe fn shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.resize(block, old, new, AllocFlags::empty()) }
    }
}

impl<S: FrameSource> Heap<'_, S> {
    /// [`reallocate`](Self::reallocate) for layouts that may have no bytes.
    ///
    /// # Safety
    ///
    /// As [`reallocate`](Self::reallocate).
    unsafe fn resize(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
        flags: AllocFlags,
    ) -> Result<NonNull<[u8]>, AllocError> {
        match (old.size(), new.size()) {
            (0, 0) => Ok(nothing(new)),
            (0, _) => self.allocate(new, flags).map_err(|_| AllocError),
            (_, 0) => {
                // SAFETY: the caller gives the block up.
                if let Err(error) = unsafe { self.deallocate(block, old) } {
                    self.report(block.as_ptr(), error);
                }
                Ok(nothing(new))
            }
            // SAFETY: the caller's promise.
            _ => unsafe { self.reallocate(block, old, new, flags) }.map_err(|error| {
                if let ReallocError::Free(error) = error {
                    self.report(block.as_ptr(), error);
                }
                AllocError
            }),
        }
    }
}

/// What a layout without bytes gets: aligned, and nothing to free.
#[inline]
fn nothing(layout: Layout) -> NonNull<[u8]> {
    let align = NonZero::new(layout.align()).unwrap_or(NonZero::<usize>::MIN);
    NonNull::slice_from_raw_parts(NonNull::without_provenance(align), 0)
}
