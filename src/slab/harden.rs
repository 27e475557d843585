//! What hardened caches do to an object's bytes on the way out and on the way in.

use core::ptr::NonNull;

use super::RawCache;
use super::descriptor::Slab;
use super::error::ObjectError;
use super::flags::CacheFlags;
use super::lifecycle::Lifecycle;
use crate::page::{AllocFlags, FrameSource};

impl<S: FrameSource, L: Lifecycle> RawCache<'_, S, L> {
    /// Readies the bytes of a new slab's objects.
    pub(super) fn prepare(&self, _slab: Slab<'_>) {}

    /// Readies an object for its user.
    #[inline]
    pub(super) fn hand_out(&self, object: NonNull<u8>, flags: AllocFlags) {
        if !L::CONSTRUCTS && flags.contains(AllocFlags::ZERO) {
            // SAFETY: the object was just allocated and is so long; nobody else knows it.
            unsafe { object.write_bytes(0, self.object_bytes()) };
        }
    }

    /// Checks and readies an object on its way back.
    ///
    /// # Safety
    ///
    /// The object is allocated, and nobody uses it any more.
    #[inline]
    pub(super) unsafe fn take_back(&self, object: NonNull<u8>) -> Result<(), ObjectError> {
        if self.flags.contains(CacheFlags::ZERO_ON_FREE) && !L::CONSTRUCTS {
            // SAFETY: the caller's promise.
            unsafe { object.write_bytes(0, self.object_bytes()) };
        }
        Ok(())
    }
}
