//! Caches of typed objects, and the pointers that own them.

use core::convert::Infallible;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};

use super::error::Busy;
use super::lifecycle::{Bytes, ConstructError, Lifecycle};
use super::stats::CacheStats;
use super::verify::CacheFault;
use super::{CacheFlags, RawCache};
use crate::buddy::AllocError;
use crate::check::violation;
use crate::page::{AllocFlags, FrameSource, Shrinker};
use crate::platform::{CpuId, Platform};

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
    /// The cache, unharmed, and which objects were leaked.
    #[expect(clippy::result_large_err, reason = "there may be no heap to box the cache in")]
    pub fn destroy(self) -> Result<(), (Self, Busy)> {
        let values = self.values;
        self.raw.destroy().map_err(|(raw, busy)| (Self { raw, values }, busy))
    }
}

/// How an [`ObjectCache`] makes its objects.
pub struct Constructed<T, E, F> {
    constructor: F,
    /// Whoever allocates may write a `T` that the next one reads, so the type must be exactly
    /// this one.
    values: Exactly<(T, E)>,
}

impl<T, E, F> fmt::Debug for Constructed<T, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constructed").finish_non_exhaustive()
    }
}

/// Says that a type may stand neither for a shorter- nor for a longer-lived one.
///
/// What a user leaves in an object that stays constructed is what the next one finds:
///
/// ```
/// # use kmem::page::FrameSource;
/// # use kmem::slab::ObjectCache;
/// fn rename<S: FrameSource>(names: &ObjectCache<'_, &'static str, S>) {
///     let mut name = names.alloc().unwrap();
///     *name = "a name for good";
/// }
/// ```
///
/// So it has to live as long as the cache says, not only as long as this user's box:
///
/// ```compile_fail,E0597
/// # use kmem::page::FrameSource;
/// # use kmem::slab::ObjectCache;
/// fn rename<S: FrameSource>(names: &ObjectCache<'_, &'static str, S>) {
///     let local = String::from("a name for now");
///     let mut name = names.alloc().unwrap();
///     *name = &local;
/// }
/// ```
pub(super) type Exactly<T> = PhantomData<fn(T) -> T>;

impl<T, E, F: Fn() -> Result<T, E>> Lifecycle for Constructed<T, E, F> {
    type Error = E;

    const CONSTRUCTS: bool = true;

    unsafe fn construct(&self, object: NonNull<u8>) -> Result<(), E> {
        let value = (self.constructor)()?;
        // SAFETY: `ObjectCache` makes caches with T's size and alignment only; the rest is the
        // caller's promise.
        unsafe { object.cast::<T>().write(value) };
        Ok(())
    }

    unsafe fn destruct(&self, object: NonNull<u8>) {
        // SAFETY: the caller's promise: `construct` wrote a `T`, and users get it as a `T` only.
        unsafe { object.cast::<T>().drop_in_place() };
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
        let lifecycle = Constructed { constructor, values: PhantomData };
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
    /// The cache, unharmed, and which objects were leaked.
    #[expect(clippy::result_large_err, reason = "there may be no heap to box the cache in")]
    pub fn destroy(self) -> Result<(), (Self, Busy)> {
        self.raw.destroy().map_err(|(raw, busy)| (Self { raw }, busy))
    }
}

/// A value in a cache, and its only owner. Dropping it gives the object back: a [`Cache`]'s
/// value is dropped first, an [`ObjectCache`]'s object stays as it is.
pub struct SlabBox<'c, T, S: FrameSource, L: Lifecycle = Bytes> {
    object: NonNull<T>,
    cache: &'c RawCache<'c, S, L>,
    /// What is written through the box stays in an object that stays constructed.
    value: Exactly<T>,
}

/// An object of an [`ObjectCache`], and its only owner.
pub type ObjectBox<'c, T, S, E = Infallible, F = fn() -> Result<T, E>> =
    SlabBox<'c, T, S, Constructed<T, E, F>>;

// SAFETY: a box owns its value, as `Box` does; the cache that it refers to may be used by any
// CPU if it is `Sync`.
unsafe impl<T: Send, S: FrameSource, L: Lifecycle + Sync> Send for SlabBox<'_, T, S, L> {}
// SAFETY: as above; a shared box gives shared references only.
unsafe impl<T: Sync, S: FrameSource, L: Lifecycle + Sync> Sync for SlabBox<'_, T, S, L> {}

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
