//! Blocks that become larger or smaller: where they lie if that goes, else elsewhere.

use core::alloc::Layout;
use core::ptr::NonNull;

use super::{Heap, ReallocError, SizeClass, mismatch, run};
use crate::frame::FRAME_SHIFT;
use crate::page::{AllocFlags, FrameSource};

impl<S: FrameSource> Heap<'_, S> {
    /// Makes a block that was allocated for `old` one for `new`, with the contents that both have
    /// room for. It stays where it is if its class stays the same or, as a run, if it shrinks
    /// or the frames behind it are available; otherwise it moves. With `ZERO` all bytes behind
    /// the old size are zero.
    ///
    /// # Errors
    ///
    /// As [`allocate`](Self::allocate) and [`deallocate`](Self::deallocate); the block is as before
    /// then.
    ///
    /// # Safety
    ///
    /// If the block is one of this heap's that is allocated, nobody uses it during the call nor, if
    /// that succeeds, by the old address afterwards.
    pub unsafe fn reallocate(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
        flags: AllocFlags,
    ) -> Result<NonNull<[u8]>, ReallocError> {
        // SAFETY: the caller's promise.
        let usable_bytes = unsafe { self.usable_bytes(block) }?;
        if !fits(old, usable_bytes) {
            return Err(mismatch(usable_bytes, old.size()).into());
        }
        // SAFETY: the block is allocated and the caller's alone, who gives it up.
        let result = match unsafe { self.resize_in_place(block, old, new) } {
            Some(resized) => resized,
            // SAFETY: as above.
            None => unsafe { self.move_block(block, old, new, flags)? },
        };
        if flags.contains(AllocFlags::ZERO) && old.size() < result.len() {
            // SAFETY: the bytes from the old size on belong to the block, which is the caller's
            // alone.
            unsafe {
                result.cast::<u8>().add(old.size()).write_bytes(0, result.len() - old.size())
            };
        }
        Ok(result)
    }

    /// [`reallocate`](Self::reallocate) for a caller that knows no layout of the block. A block
    /// that would leave half of itself unused moves.
    ///
    /// # Errors
    ///
    /// As there, apart from `SizeMismatch`.
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn reallocate_unsized(
        &self,
        block: NonNull<u8>,
        new: Layout,
    ) -> Result<NonNull<[u8]>, ReallocError> {
        // SAFETY: the caller's promise.
        let usable_bytes = unsafe { self.usable_bytes(block) }?;
        let is_aligned = block.addr().get().is_multiple_of(new.align());
        let run = self.runs.find(self.source, block).unwrap_or(None);
        if let Some(run) = run
            && SizeClass::for_layout(new).is_none()
        {
            // SAFETY: the caller's promise.
            if is_aligned && let Some(resized) = unsafe { self.runs.resize(self.source, run, new) }
            {
                return Ok(resized);
            }
        } else if is_aligned && new.size() <= usable_bytes && new.size() > usable_bytes / 2 {
            return Ok(in_place(block, usable_bytes));
        }
        let moved = self.allocate(new, AllocFlags::empty())?;
        // SAFETY: both blocks have so many bytes, are different ones, and nobody else uses them.
        unsafe { self.move_content(block, moved.cast(), usable_bytes.min(new.size())) };
        // SAFETY: the caller's promise.
        if let Err(error) = unsafe { self.deallocate_unsized(block) } {
            // SAFETY: just allocated, and told to nobody.
            let _ = unsafe { self.deallocate_unsized(moved.cast()) };
            return Err(error.into());
        }
        Ok(moved)
    }

    /// Copies bytes from one block to another, or moves the pages that they are in.
    ///
    /// # Safety
    ///
    /// Both are different allocated blocks of so many bytes at least that nobody else uses. What is
    /// in `from` afterwards is undefined.
    unsafe fn move_content(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
        if bytes > SizeClass::MAX_BYTES
            && let (Ok(Some(source)), Ok(Some(target))) =
                (self.runs.find(self.source, from), self.runs.find(self.source, to))
            // SAFETY: the caller's promise: both are runs of their own.
            && unsafe { self.source.move_content(source.range(), target.range()) }
        {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { to.copy_from_nonoverlapping(from, bytes) };
    }

    /// # Safety
    ///
    /// `block` is allocated for `old`, and nobody uses bytes of it that `new` has no room for.
    #[inline]
    unsafe fn resize_in_place(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Option<NonNull<[u8]>> {
        match (SizeClass::for_layout(old), SizeClass::for_layout(new)) {
            (Some(before), Some(after)) if before == after => Some(in_place(block, after.bytes())),
            (None, None) if block.addr().get().is_multiple_of(new.align()) => {
                let run = self.runs.find(self.source, block).ok()??;
                // SAFETY: the caller's promise.
                unsafe { self.runs.resize(self.source, run, new) }
            }
            _ => None,
        }
    }

    /// # Safety
    ///
    /// `block` is allocated for `old`, and nobody uses it any more.
    #[cold]
    unsafe fn move_block(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
        flags: AllocFlags,
    ) -> Result<NonNull<[u8]>, ReallocError> {
        let moved = self.allocate(new, flags.difference(AllocFlags::ZERO))?;
        let kept_bytes = old.size().min(new.size());
        // SAFETY: both blocks have so many bytes; they are different allocations, and nobody else
        // uses them.
        unsafe { self.move_content(block, moved.cast(), kept_bytes) };
        // SAFETY: the caller's promise.
        if let Err(error) = unsafe { self.deallocate(block, old) } {
            // SAFETY: just allocated, and told to nobody.
            let _ = unsafe { self.deallocate(moved.cast(), new) };
            return Err(error.into());
        }
        Ok(moved)
    }
}

/// Whether a block of so many usable bytes is what `layout` is served by.
fn fits(layout: Layout, usable_bytes: usize) -> bool {
    match SizeClass::for_layout(layout) {
        Some(class) => class.bytes() == usable_bytes,
        None => run::frames_for(layout.size()) << FRAME_SHIFT == usable_bytes,
    }
}

/// A block that stays where it is. The pointer that its user had may be one to a part of it, and
/// now he has all of it.
fn in_place(block: NonNull<u8>, bytes: usize) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(NonNull::with_exposed_provenance(block.addr()), bytes)
}
