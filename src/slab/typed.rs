//! Caches of typed objects.

use core::convert::Infallible;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use super::error::Busy;
use super::lifecycle::{ConstructError, Constructed, Exactly};
use super::slab_box::{ObjectBox, SlabBox};
use super::stats::CacheStats;
use super::verify::CacheFault;
use super::{CacheFlags, RawCache};
use crate::buddy::AllocError;
use crate::page::{AllocFlags, FrameSource, Shrinker};
use crate::platform::CpuId;

/// A cache of values of one type, each made when it is allocated and dropped when it is freed.
///
/// ```
/// use kmem::page::FrameSource;
/// use kmem::slab::{Cache, CacheFlags};
///
/// struct Inode(u64);
///
/// fn sum<S: FrameSource>(frames: &S) -> Option<u64> {
///     let inodes = Cache::new(frames, "inode", CacheFlags::empty());
///     let (first, second) = (inodes.alloc(Inode(1)).ok()?, inodes.alloc(Inode(2)).ok()?);
///     Some(first.0 + second.0) // Both go back to the cache here.
/// }
/// ```
pub struct Cache<'s, T, S: FrameSource> {
    raw: RawCache<'s, S>,
    values: Exactly<T>,
}

impl<T, S: FrameSource> fmt::Debug for Cache<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.raw.name)
            .field("object_bytes", &self.raw.object_bytes())
            .finish_non_exhaustive()
    }
}

/// Bytes that a value takes in a cache: a value without size takes one, to have an address of
/// its own.
const fn bytes_of<T>() -> usize {
    if size_of::<T>() == 0 { 1 } else { size_of::<T>() }
}

impl<'s, T, S: FrameSource> Cache<'s, T, S> {
    /// A cache that takes no memory before its first allocation.
    pub const fn new(source: &'s S, name: &'static str, flags: CacheFlags) -> Self {
        let raw = RawCache::new(source, name, bytes_of::<T>(), align_of::<T>(), flags);
        Self { raw, values: PhantomData }
    }

    /// Puts `value` into the cache's memory.
    ///
    /// # Errors
    ///
    /// As [`RawCache::alloc`]; the value comes back.
    #[inline]
    pub fn alloc(&self, value: T) -> Result<SlabBox<'_, T, S>, (T, AllocError)> {
        self.alloc_with(value, AllocFlags::empty())
    }

    /// The same by a caller that may not wait, or may use the reserve: see [`AllocFlags`]. `ZERO`
    /// means nothing here.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc).
    #[inline]
    pub fn alloc_with(
        &self,
        value: T,
        flags: AllocFlags,
    ) -> Result<SlabBox<'_, T, S>, (T, AllocError)> {
        match self.raw.alloc(flags) {
            // SAFETY: the cache's objects have T's size and alignment, and this one is ours.
            Ok(object) => Ok(unsafe { SlabBox::fill(object.cast(), value, &self.raw) }),
            Err(error) => Err((value, error)),
        }
    }

    /// The owner of a value again, after [`SlabBox::into_raw`] or [`SlabBox::leak`].
    ///
    /// # Safety
    ///
    /// `object` comes from a box of this cache, and nobody else owns or uses it.
    pub unsafe fn from_raw(&self, object: NonNull<T>) -> SlabBox<'_, T, S> {
        // SAFETY: the caller's promise.
        unsafe { SlabBox::own(object, &self.raw) }
    }

    /// The cache of bytes below.
    pub const fn as_raw(&self) -> &RawCache<'s, S> {
        &self.raw
    }

    /// Gives every empty slab back; how many frames.
    pub fn shrink(&self) -> usize {
        self.raw.shrink()
    }

    /// Gives back what has not been needed since the last call: see [`RawCache::reap`].
    pub fn reap(&self) -> usize {
        self.raw.reap()
    }

    /// How full the cache is.
    pub fn stats(&self) -> CacheStats {
        self.raw.stats()
    }

    /// Recounts everything: see [`RawCache::verify`].
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn verify(&self) -> Result<(), CacheFault> {
        self.raw.verify()
    }

    /// Puts the objects of a CPU that has stopped back into their slabs: see
    /// [`RawCache::drain_cpu`].
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn drain_cpu(&self, cpu: CpuId) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.drain_cpu(cpu) };
    }

    /// Gives the cache's memory back and ends it.
    ///
    /// # Errors
    ///
    /// The cache, unharmed, and which objects were leaked, or lost: see [`Busy`].
    #[expect(clippy::result_large_err, reason = "there may be no heap to box the cache in")]
    pub fn destroy(self) -> Result<(), (Self, Busy)> {
        let values = self.values;
        self.raw.destroy().map_err(|(raw, busy)| (Self { raw, values }, busy))
    }
}

/// A cache of objects that stay constructed while they are free.
///
/// The constructor runs once for each object of a new slab, and the objects are dropped when
/// the slab goes; in between they pass from user to user as they are. An object whose making
/// costs more than its memory (locks, lists, buffers) is made once, not once per allocation.
/// Users give objects back in the state that the next one expects.
///
/// ```
/// use core::sync::atomic::{AtomicU32, Ordering};
///
/// use kmem::page::FrameSource;
/// use kmem::slab::{CacheFlags, ObjectCache};
///
/// fn uses<S: FrameSource>(frames: &S) -> u32 {
///     let counters: ObjectCache<'_, AtomicU32, S> =
///         ObjectCache::new(frames, "counter", CacheFlags::empty(), || Ok(AtomicU32::new(0)));
///     let counter = counters.alloc().expect("memory for a slab");
///     counter.fetch_add(1, Ordering::Relaxed)
/// }
/// ```
pub struct ObjectCache<'s, T, S: FrameSource, E = Infallible, F = fn() -> Result<T, E>>
where
    F: Fn() -> Result<T, E>,
{
    raw: RawCache<'s, S, Constructed<T, E, F>>,
}

impl<T, S: FrameSource, E, F: Fn() -> Result<T, E>> fmt::Debug for ObjectCache<'_, T, S, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectCache")
            .field("name", &self.raw.name)
            .field("object_bytes", &self.raw.object_bytes())
            .finish_non_exhaustive()
    }
}

impl<'s, T: Send, S: FrameSource, E, F: Fn() -> Result<T, E>> ObjectCache<'s, T, S, E, F> {
    /// A cache that takes no memory and constructs nothing before its first allocation.
    pub const fn new(source: &'s S, name: &'static str, flags: CacheFlags, constructor: F) -> Self {
        let lifecycle = Constructed::new(constructor);
        let raw = RawCache::with_lifecycle(
            source,
            name,
            bytes_of::<T>(),
            align_of::<T>(),
            flags,
            lifecycle,
        );
        Self { raw }
    }

    /// An object, as its last user or the constructor left it.
    ///
    /// # Errors
    ///
    /// `Constructor` if a slab had to be made and the constructor failed: what it had made is
    /// dropped, and the slab's frames are given back. Otherwise as [`RawCache::alloc`].
    #[inline]
    pub fn alloc(&self) -> Result<ObjectBox<'_, T, S, E, F>, ConstructError<E>> {
        self.alloc_with(AllocFlags::empty())
    }

    /// The same by a caller that may not wait, or may use the reserve: see [`AllocFlags`]. `ZERO`
    /// means nothing here.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc).
    #[inline]
    pub fn alloc_with(
        &self,
        flags: AllocFlags,
    ) -> Result<ObjectBox<'_, T, S, E, F>, ConstructError<E>> {
        let object = self.raw.alloc_object(flags)?;
        // SAFETY: the object is ours, of T's size and alignment, and constructed.
        Ok(unsafe { SlabBox::own(object.cast(), &self.raw) })
    }

    /// The cache of bytes below.
    pub(super) const fn as_raw(&self) -> &RawCache<'s, S, Constructed<T, E, F>> {
        &self.raw
    }

    /// The owner of an object again, after [`SlabBox::into_raw`] or [`SlabBox::leak`].
    ///
    /// # Safety
    ///
    /// `object` comes from a box of this cache, and nobody else owns or uses it.
    pub unsafe fn from_raw(&self, object: NonNull<T>) -> ObjectBox<'_, T, S, E, F> {
        // SAFETY: the caller's promise.
        unsafe { SlabBox::own(object, &self.raw) }
    }

    /// Gives every empty slab back after dropping its objects; how many frames.
    pub fn shrink(&self) -> usize {
        self.raw.shrink()
    }

    /// Gives back what has not been needed since the last call, after dropping its objects: see
    /// [`RawCache::reap`].
    pub fn reap(&self) -> usize {
        self.raw.reap()
    }

    /// How full the cache is.
    pub fn stats(&self) -> CacheStats {
        self.raw.stats()
    }

    /// Recounts everything: see [`RawCache::verify`].
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn verify(&self) -> Result<(), CacheFault> {
        self.raw.verify()
    }

    /// Puts the objects of a CPU that has stopped back into their slabs: see
    /// [`RawCache::drain_cpu`].
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn drain_cpu(&self, cpu: CpuId) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.drain_cpu(cpu) };
    }

    /// Drops the objects, gives the cache's memory back and ends it.
    ///
    /// # Errors
    ///
    /// The cache, unharmed, and which objects were leaked, or lost: see [`Busy`].
    #[expect(clippy::result_large_err, reason = "there may be no heap to box the cache in")]
    pub fn destroy(self) -> Result<(), (Self, Busy)> {
        self.raw.destroy().map_err(|(raw, busy)| (Self { raw }, busy))
    }
}

impl<T, S: FrameSource> Shrinker for Cache<'_, T, S>
where
    Self: Sync,
{
    fn shrink(&self, _frames: usize) -> usize {
        Self::shrink(self)
    }
}

/// Objects are dropped by whoever runs short.
impl<T: Send, S: FrameSource, E, F: Fn() -> Result<T, E>> Shrinker for ObjectCache<'_, T, S, E, F>
where
    Self: Sync,
{
    fn shrink(&self, _frames: usize) -> usize {
        Self::shrink(self)
    }
}
