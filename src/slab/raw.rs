//! The cache of objects by size and alignment, which everything else is built on.

use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::cpus::Cpus;
use super::descriptor::{RUINED, Slab, USER};
use super::drain::Others;
use super::error::{Busy, LEAKS_NAMED, ObjectError};
use super::find::find;
use super::flags::CacheFlags;
use super::geometry::Geometry;
use super::identity::{self, IdentityCell};
use super::lifecycle::{Bytes, ConstructError, Lifecycle};
use super::lists::{Fill, Lists, OwnSlab};
use super::shelf::Shelf;
use crate::buddy::AllocError;
use crate::frame::FRAME_SIZE;
use crate::lock::{Guard, IrqLock};
use crate::page::records::Records;
use crate::page::{AllocFlags, FrameSource, Shrinker};

/// Memory in empty slabs that a cache keeps whatever is in use.
const KEPT_BYTES: usize = 64 << 10;

/// A cache of objects of one size and alignment.
///
/// `L` says what objects hold while they are free; plain bytes unless it is given.
///
/// ```
/// use kmem::page::{AllocFlags, FrameSource};
/// use kmem::slab::{CacheFlags, ObjectError, RawCache};
///
/// fn once<S: FrameSource>(frames: &S) {
///     let packets = RawCache::new(frames, "packet", 1536, 64, CacheFlags::empty());
///     let packet = packets.alloc(AllocFlags::ZERO).expect("memory for a slab");
///     // SAFETY: nobody uses the packet any more.
///     let (first, second) = unsafe { (packets.free(packet), packets.free(packet)) };
///     assert_eq!((first, second), (Ok(()), Err(ObjectError::NotAllocated)));
/// }
/// ```
// What a hit reads lies in the first cache line.
#[repr(C, align(64))]
pub struct RawCache<'s, S: FrameSource, L: Lifecycle = Bytes> {
    pub(super) source: &'s S,
    pub(super) cpus: Cpus,
    pub(super) identity: IdentityCell,
    pub(super) flags: CacheFlags,
    pub(super) tag: u32,
    pub(super) name: &'static str,
    /// Or why nothing can be allocated.
    pub(super) geometry: Result<Geometry, AllocError>,
    pub(super) lists: IrqLock<Lists>,
    /// Where records are kept if the source has no place for them.
    own_records: Records,
    pub(super) lifecycle: L,
    pub(super) depot: IrqLock<Shelf>,
    /// Objects in stocks.
    pub(super) stocked: AtomicUsize,
    colour: AtomicUsize,
    /// What [`Lists::recede`] said last: what is freed goes to the slabs, and what lies on shelves
    /// follows.
    pub(super) recedes: AtomicBool,
}

impl<S: FrameSource, L: Lifecycle> fmt::Debug for RawCache<'_, S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCache")
            .field("name", &self.name)
            .field("object_bytes", &self.object_bytes())
            .finish_non_exhaustive()
    }
}

impl<'s, S: FrameSource> RawCache<'s, S> {
    /// A cache of objects of `size` bytes aligned to `align`. It takes no memory before its first
    /// allocation; a size or alignment that cannot be is answered by every allocation.
    pub const fn new(
        source: &'s S,
        name: &'static str,
        size: usize,
        align: usize,
        flags: CacheFlags,
    ) -> Self {
        Self::with_lifecycle(source, name, size, align, flags, Bytes)
    }

    /// The same cache, with a number that [`lookup`](super::lookup) finds from each of its objects.
    #[must_use]
    pub const fn with_tag(mut self, tag: u32) -> Self {
        self.tag = tag;
        self
    }

    /// An object, its contents undefined unless `flags` has `ZERO`. Where no slab has to be made
    /// the object lies in any zone, whatever `flags` say: a cache's objects serve all who ask.
    ///
    /// # Errors
    ///
    /// `ZeroSize`, `TooLarge` or `BadAlignment` if there can be no such cache; otherwise what
    /// the source says to a block for a slab. Nothing has changed then.
    #[inline]
    pub fn alloc(&self, flags: AllocFlags) -> Result<NonNull<u8>, AllocError> {
        self.alloc_object(flags).map_err(ConstructError::into_alloc)
    }

    /// Fills `out` with objects, from the front; how many there was memory for. What the CPU's
    /// magazines do not have comes from the slabs under one lock, and from each new slab under
    /// one more, with interrupts masked for a time in proportion to them; a cache with `POISON`
    /// hands out one by one.
    #[inline]
    #[must_use = "only so many places of `out` are filled"]
    pub fn alloc_many(&self, out: &mut [MaybeUninit<NonNull<u8>>], flags: AllocFlags) -> usize {
        self.alloc_objects(out, flags)
    }

    /// Gives an object back. That may take the cache's locks and give frames back, but it never
    /// waits for memory: no shrinker runs.
    ///
    /// # Errors
    ///
    /// See [`ObjectError`]; nothing has changed then.
    ///
    /// # Safety
    ///
    /// If `object` is an object of this cache that is allocated, nobody uses it any more. If it
    /// lies in a slab and is not allocated, that slab is not given back meanwhile: see
    /// [`lookup`](super::lookup).
    #[inline]
    pub unsafe fn free(&self, object: NonNull<u8>) -> Result<(), ObjectError> {
        // SAFETY: the caller's promise.
        unsafe { self.free_object(object) }
    }

    /// Gives objects back: what the CPU's magazines have no room for to the slabs, under one lock,
    /// with interrupts masked for a time in proportion to them.
    ///
    /// # Errors
    ///
    /// How many were freed, and what was wrong with the one behind them; those behind that one are
    /// still allocated.
    ///
    /// # Safety
    ///
    /// As [`free`](Self::free), for each. One that is in the list twice is not allocated the second
    /// time.
    #[inline]
    pub unsafe fn free_many(&self, objects: &[NonNull<u8>]) -> Result<(), (usize, ObjectError)> {
        // SAFETY: the caller's promise.
        unsafe { self.free_objects(objects) }
    }

    /// Gives an object back of which the caller knows the size.
    ///
    /// # Errors
    ///
    /// `SizeMismatch` if the cache's objects have another size, otherwise as [`free`](Self::free).
    ///
    /// # Safety
    ///
    /// As [`free`](Self::free).
    pub unsafe fn free_sized(&self, object: NonNull<u8>, size: usize) -> Result<(), ObjectError> {
        if size != self.object_bytes() {
            let object_bytes = self.object_bytes();
            return Err(ObjectError::SizeMismatch { object_bytes, given_bytes: size });
        }
        // SAFETY: the caller's promise.
        unsafe { self.free(object) }
    }
}

impl<'s, S: FrameSource, L: Lifecycle> RawCache<'s, S, L> {
    pub(super) const fn with_lifecycle(
        source: &'s S,
        name: &'static str,
        size: usize,
        align: usize,
        flags: CacheFlags,
        lifecycle: L,
    ) -> Self {
        Self {
            source,
            name,
            tag: 0,
            flags,
            geometry: Geometry::new(size, align, flags),
            identity: IdentityCell::new(),
            lists: IrqLock::new(Lists::new()),
            own_records: Records::new(),
            lifecycle,
            cpus: Cpus::new(),
            depot: IrqLock::new(Shelf::new()),
            stocked: AtomicUsize::new(0),
            colour: AtomicUsize::new(0),
            recedes: AtomicBool::new(false),
        }
    }

    /// The cache's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes in an object, as the cache was asked for; 0 if there can be no such cache.
    pub const fn object_bytes(&self) -> usize {
        match self.geometry {
            Ok(geometry) => geometry.object_bytes,
            Err(_) => 0,
        }
    }

    #[inline]
    pub(super) fn platform(&self) -> &'s S::Platform {
        self.source.platform()
    }

    /// Where the cache's records are kept.
    #[inline]
    pub(super) fn records(&self) -> &Records {
        self.source.records().unwrap_or(&self.own_records)
    }

    /// The lists, or `WouldBlock` for callers that must not wait.
    #[inline]
    pub(super) fn lock(
        &self,
        flags: AllocFlags,
    ) -> Result<Guard<'_, Lists, S::Platform>, AllocError> {
        if flags.contains(AllocFlags::NO_WAIT) {
            return self.lists.try_lock(self.platform()).ok_or(AllocError::WouldBlock);
        }
        Ok(self.lists.lock(self.platform()))
    }

    pub(super) fn next_colour(&self) -> usize {
        self.colour.fetch_add(1, Relaxed)
    }

    /// The object at `address`, if it is one of this cache: its slab, and which one it is there.
    ///
    /// # Safety
    ///
    /// As [`find`].
    #[inline]
    pub(super) unsafe fn locate(
        &self,
        address: NonNull<u8>,
    ) -> Result<(Slab<'s>, usize), ObjectError> {
        // SAFETY: the caller's promise.
        let slab = unsafe { find(self.source, address) }.ok_or(ObjectError::OutOfRange)?;
        if slab.cache() != self.identity.id() {
            let owner = identity::of(self.source, slab).name;
            return Err(ObjectError::WrongCache { owner, given: self.name });
        }
        match slab.index_of(address.as_ptr() as usize) {
            Some((index, 0)) => Ok((slab, index)),
            Some((index, _)) => Err(ObjectError::NotAnObject { base: slab.object(index) }),
            None => Err(ObjectError::OutOfRange),
        }
    }

    /// Whether `address` lies in an object of this cache, allocated or not.
    ///
    /// # Safety
    ///
    /// As [`lookup`](super::lookup).
    pub unsafe fn owns(&self, address: NonNull<u8>) -> bool {
        // SAFETY: the caller's promise.
        let located = unsafe { self.locate(address) };
        !matches!(located, Err(ObjectError::OutOfRange | ObjectError::WrongCache { .. }))
    }
}

impl<'s, S: FrameSource, L: Lifecycle> RawCache<'s, S, L> {
    /// Whether there are more empty slabs than the cache keeps.
    pub(super) fn has_surplus(&self, lists: &Lists) -> bool {
        let empty = lists.chain(Fill::Empty).len();
        // An eighth of what is in use is kept against the next wave, so giving back is paid for by
        // at least as many frees; and some, so that a cache that empties and fills does not
        // give back and take.
        let small =
            self.geometry.map_or(0, |geometry| (KEPT_BYTES / FRAME_SIZE) >> geometry.order.get());
        let kept = (1 + (lists.slabs() - empty) / 8).max(small);
        !L::CONSTRUCTS && empty > kept
    }

    /// An empty slab more than the cache keeps, taken out of the lists.
    pub(super) fn surplus(&self, lists: &mut Lists) -> Option<OwnSlab> {
        if self.has_surplus(lists) { lists.remove_empty(self.platform()) } else { None }
    }

    /// Gives back every slab that can be emptied; how many frames those had. Before that, what lies
    /// in magazines goes to the slabs: the running CPU's and those on all shelves at once, and so
    /// those that other CPUs have in use, or at their next call where the platform cannot
    /// [synchronize](crate::platform::Platform::synchronize) CPUs.
    pub fn shrink(&self) -> usize {
        self.drain(Others::Visit);
        let mut frames = 0;
        loop {
            let slab = self.lists.lock(self.platform()).remove_empty(self.platform());
            let Some(slab) = slab else { return frames };
            frames += slab.slab().order().frames();
            // SAFETY: it comes from this cache's lists.
            unsafe { self.release(slab) };
        }
    }

    /// Gives the cache's memory back and ends it.
    ///
    /// # Errors
    ///
    /// The cache, unharmed, and which objects are in use, or lost: those never come back.
    #[expect(clippy::result_large_err, reason = "there may be no heap to box the cache in")]
    pub fn destroy(mut self) -> Result<(), (Self, Busy)> {
        match self.tear_down() {
            Ok(()) => Ok(()),
            Err(busy) => Err((self, busy)),
        }
    }

    /// Gives back what can be.
    fn tear_down(&mut self) -> Result<(), Busy> {
        self.drain_all();
        self.shrink();
        let busy = self.busy();
        if busy.live == 0 {
            // Only now, when nobody allocates any more: they stay out of use until then.
            self.restore_ruined();
            self.shrink();
        }
        if self.lists.get_mut().slabs() != 0 {
            return Err(busy);
        }
        // SAFETY: `drain_all` has emptied the slots; the borrow is exclusive.
        unsafe { self.cpus.give(self.source, self.records()) };
        // SAFETY: there is no slab; the borrow is exclusive.
        unsafe { self.identity.give(self.source, self.records()) };
        Ok(())
    }

    /// Puts objects that were set aside back into their slabs, which are about to go.
    #[cold]
    fn restore_ruined(&mut self) {
        self.lists.get_mut().restore_ruined(self.source.platform());
    }

    /// Calls `visit` with every object in a user's hands. The lists' lock is held: `visit` must not
    /// call the cache.
    pub fn for_each_live(&self, visit: &mut dyn FnMut(NonNull<u8>)) {
        self.for_each(&mut |object, state, _| {
            if state == USER {
                visit(object);
            }
        });
    }

    /// Calls `visit` with every object, its state, and whether it is in the free set, with the
    /// lists' lock held.
    fn for_each(&self, visit: &mut dyn FnMut(NonNull<u8>, u8, bool)) {
        let lists = self.lists.lock(self.platform());
        for fill in Fill::all() {
            let mut at = lists.walk(self.platform(), fill, None);
            while let Some(slab) = at {
                for (index, state) in slab.states().iter().enumerate() {
                    visit(slab.object(index), state.load(Relaxed), slab.has(index));
                }
                at = lists.walk(self.platform(), fill, Some(slab));
            }
        }
    }

    /// What is in use or lost, once the magazines are empty.
    #[cold]
    fn busy(&self) -> Busy {
        let (mut live, mut lost) = (Named::NONE, Named::NONE);
        self.for_each(&mut |object, state, is_in_slab| match state {
            USER => live.add(object),
            RUINED => {}
            _ if !is_in_slab => lost.add(object),
            _ => {}
        });
        let objects = if live.count == 0 { lost.first } else { live.first };
        Busy { live: live.count, lost: lost.count, objects }
    }
}

/// How many objects of a kind there are, and the first of them.
struct Named {
    count: usize,
    first: [Option<NonNull<u8>>; LEAKS_NAMED],
}

impl Named {
    const NONE: Self = Self { count: 0, first: [None; LEAKS_NAMED] };

    fn add(&mut self, object: NonNull<u8>) {
        if let Some(place) = self.first.get_mut(self.count) {
            *place = Some(object);
        }
        self.count += 1;
    }
}

impl<S: FrameSource, L: Lifecycle> Drop for RawCache<'_, S, L> {
    /// As [`destroy`](RawCache::destroy), but leaves the slabs of live objects to them.
    fn drop(&mut self) {
        if self.tear_down().is_err() {
            self.restore_ruined();
            self.shrink();
        }
    }
}

impl<S: FrameSource, L: Lifecycle> Shrinker for RawCache<'_, S, L>
where
    Self: Sync,
{
    /// Gives back all that can be: see [`RawCache::shrink`].
    fn shrink(&self, _frames: usize) -> usize {
        Self::shrink(self)
    }
}
