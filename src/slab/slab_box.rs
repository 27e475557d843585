//! The pointers that own what typed caches hand out.

use core::convert::Infallible;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};

use super::RawCache;
use super::lifecycle::{Bytes, Constructed, Exactly, Lifecycle};
use crate::check::violation;
use crate::page::FrameSource;
use crate::platform::Platform;

/// A value in a cache, and its only owner. Dropping it gives the object back: the value of a
/// [`Cache`](super::Cache) is dropped first, the object of an [`ObjectCache`](super::ObjectCache)
/// stays as it is.
pub struct SlabBox<'c, T, S: FrameSource, L: Lifecycle = Bytes> {
    object: NonNull<T>,
    cache: &'c RawCache<'c, S, L>,
    /// What is written through the box stays in an object that stays constructed.
    value: Exactly<T>,
}

/// An object of an [`ObjectCache`](super::ObjectCache), and its only owner.
pub type ObjectBox<'c, T, S, E = Infallible, F = fn() -> Result<T, E>> =
    SlabBox<'c, T, S, Constructed<T, E, F>>;

// SAFETY: a box owns its value, as `Box` does; the cache that it refers to may be used by any
// CPU if it is `Sync`.
unsafe impl<T: Send, S: FrameSource, L: Lifecycle + Sync> Send for SlabBox<'_, T, S, L> {}
// SAFETY: as above; a shared box gives shared references only.
unsafe impl<T: Sync, S: FrameSource, L: Lifecycle + Sync> Sync for SlabBox<'_, T, S, L> {}

impl<'c, T, S: FrameSource> SlabBox<'c, T, S> {
    /// A box with `value` in an object of `cache`.
    ///
    /// # Safety
    ///
    /// The object is the caller's, and has `T`'s size and alignment.
    #[inline]
    pub(super) unsafe fn fill(object: NonNull<T>, value: T, cache: &'c RawCache<'c, S>) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            object.write(value);
            Self::own(object, cache)
        }
    }
}

impl<'c, T, S: FrameSource, L: Lifecycle> SlabBox<'c, T, S, L> {
    /// The owner of an object of `cache`.
    ///
    /// # Safety
    ///
    /// The object is the caller's, and holds a value.
    #[inline]
    pub(super) unsafe fn own(object: NonNull<T>, cache: &'c RawCache<'c, S, L>) -> Self {
        Self { object, cache, value: PhantomData }
    }

    /// The value without its owner; `from_raw` of the cache makes one again.
    #[must_use = "the object leaks unless its owner is made again"]
    pub fn into_raw(this: Self) -> NonNull<T> {
        ManuallyDrop::new(this).object
    }

    /// The value, never to be given back unless by way of `from_raw`. A cache keeps its slabs
    /// while objects in them live, also when it is dropped.
    pub fn leak(this: Self) -> &'c mut T {
        let mut object = Self::into_raw(this);
        // SAFETY: the box was the only owner, and without it the object is never freed.
        unsafe { object.as_mut() }
    }
}

impl<T, S: FrameSource> SlabBox<'_, T, S> {
    /// The value, taken out of the cache's memory.
    pub fn into_inner(this: Self) -> T {
        let this = ManuallyDrop::new(this);
        // SAFETY: the box was the only owner, and does not drop the value any more.
        let value = unsafe { this.object.read() };
        // SAFETY: as above.
        unsafe { give_back(this.object.cast(), this.cache) };
        value
    }
}

impl<T, S: FrameSource, L: Lifecycle> Deref for SlabBox<'_, T, S, L> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a box owns its object, which holds a value.
        unsafe { self.object.as_ref() }
    }
}

impl<T, S: FrameSource, L: Lifecycle> DerefMut for SlabBox<'_, T, S, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a box owns its object, which holds a value.
        unsafe { self.object.as_mut() }
    }
}

impl<T, S: FrameSource, L: Lifecycle> Drop for SlabBox<'_, T, S, L> {
    #[inline]
    fn drop(&mut self) {
        /// Gives the object back also where dropping the value unwinds.
        struct GiveBack<'a, 'c, S: FrameSource, L: Lifecycle>(NonNull<u8>, &'a RawCache<'c, S, L>);

        impl<S: FrameSource, L: Lifecycle> Drop for GiveBack<'_, '_, S, L> {
            fn drop(&mut self) {
                // SAFETY: the object of the box that goes.
                unsafe { give_back(self.0, self.1) };
            }
        }

        let _after = GiveBack(self.object.cast(), self.cache);
        if !L::CONSTRUCTS {
            // SAFETY: a box owns its object, which holds a value; it is not used any more.
            unsafe { ptr::drop_in_place(self.object.as_ptr()) };
        }
    }
}

/// Frees the object of a box that goes.
///
/// # Safety
///
/// The caller has owned it, and does not use it any more.
#[inline]
unsafe fn give_back<S: FrameSource, L: Lifecycle>(object: NonNull<u8>, cache: &RawCache<'_, S, L>) {
    // SAFETY: the caller's promise.
    if let Err(error) = unsafe { cache.free_object(object) } {
        violation(&error.violation(object, cache.name).on_cpu(cache.platform().cpu_id()));
    }
}

impl<T: fmt::Debug, S: FrameSource, L: Lifecycle> fmt::Debug for SlabBox<'_, T, S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display, S: FrameSource, L: Lifecycle> fmt::Display for SlabBox<'_, T, S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
