//! Allocation and free: the hit in the CPU's loaded magazine, and the way through the shared
//! lists where there is none.
//!
//! A free object's state byte goes from [`USER`] to [`CACHED`] when it is freed, whichever way
//! it takes, so a second free is refused wherever the object lies; and from there to [`USER`],
//! or back into its slab.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use super::RawCache;
use super::cpus::Held;
use super::descriptor::{CACHED, Entry, IN_SLAB, RUINED, USER};
use super::drain::Others;
use super::error::ObjectError;
use super::flags::CacheFlags;
use super::inside::Limits;
use super::lifecycle::{ConstructError, Lifecycle};
use super::lists::Scope;
use super::reload::Turn;
use super::way::Way;
use crate::buddy::AllocError;
use crate::check::violation;
use crate::page::{AllocFlags, FrameSource};
use crate::platform::Platform;

/// How many overwritten objects an allocation passes over before it fails.
const ATTEMPTS: usize = 8;

/// How a free asks for memory, which it can do without: it neither waits for any to come free nor
/// has shrinkers run, since these may want a lock that whoever frees holds.
pub(super) const FOR_FREE: AllocFlags = AllocFlags::NO_WAIT;

/// Flags under which a free looks at more than the object's state.
pub(super) const WATCHED: CacheFlags = CacheFlags::STRICT
    .union(CacheFlags::POISON)
    .union(CacheFlags::RED_ZONE)
    .union(CacheFlags::ZERO_ON_FREE);

impl<'s, S: FrameSource, L: Lifecycle> RawCache<'s, S, L> {
    #[inline]
    pub(super) fn alloc_object(
        &self,
        flags: AllocFlags,
    ) -> Result<NonNull<u8>, ConstructError<L::Error>> {
        match self.alloc_hit() {
            Some(object) => {
                if flags.contains(AllocFlags::ZERO) {
                    // SAFETY: just allocated.
                    unsafe { self.clear(object) };
                }
                Ok(object)
            }
            None => self.alloc_missed(flags),
        }
    }

    /// An object from the loaded magazine if nothing stands in the way: no function is called
    /// here, so nothing has to be saved for one. What does stand there, the slow path finds.
    #[inline(always)]
    pub(crate) fn alloc_hit(&self) -> Option<NonNull<u8>> {
        self.cpus.take(self.platform())
    }

    /// How the slots of this cache are to be used.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            capacity: self.rounds(),
            takes: !self.flags.contains(CacheFlags::POISON),
            puts: !self.flags.intersects(WATCHED),
        }
    }

    /// Visits the running CPU's slot.
    #[inline]
    pub(super) fn hold(&self) -> Option<Held<'_, S::Platform>> {
        self.cpus.hold(self.platform(), self.limits())
    }

    /// The loaded magazine is empty, or there is none.
    #[cold]
    #[inline(never)]
    fn alloc_missed(&self, flags: AllocFlags) -> Result<NonNull<u8>, ConstructError<L::Error>> {
        for _ in 0..ATTEMPTS {
            let object = match self.alloc_reloaded(flags)? {
                Some(object) => object,
                None => self.alloc_shared(flags)?,
            };
            // An object that was written while it was free stays out of use.
            // SAFETY: just allocated.
            if unsafe { self.hand_out(object, flags) } {
                return Ok(object);
            }
        }
        Err(AllocError::OutOfMemory.into())
    }

    /// An object from the lists, or from a new slab.
    fn alloc_shared(&self, flags: AllocFlags) -> Result<NonNull<u8>, ConstructError<L::Error>> {
        let mut object = None;
        let mut sink = |entry: Entry| object = Some(entry.object);
        let (platform, cpu) = (self.platform(), self.platform().cpu_id());
        let taken = self.lock(flags)?.take(platform, cpu, self.near(), 1, USER, &mut sink);
        if taken == 0
            && let Err(error) = self.grow(flags, 1, USER, &mut sink)
            && self.take_idle(1, flags, &mut sink)? == 0
        {
            return Err(error);
        }
        object.ok_or(ConstructError::Alloc(AllocError::OutOfMemory))
    }

    /// Objects that lie idle in magazines, or in slabs near other CPUs, where there is no memory
    /// for new ones; or new ones, where magazines that were emptied make room for them. How many.
    pub(super) fn take_idle(
        &self,
        most: usize,
        flags: AllocFlags,
        mut sink: impl FnMut(Entry),
    ) -> Result<usize, ConstructError<L::Error>> {
        let is_atomic = flags.contains(AllocFlags::ATOMIC);
        let others = if is_atomic { Others::Ask } else { Others::Visit };
        let gave_memory = !flags.contains(AllocFlags::NO_WAIT) && self.drain(others);
        let (platform, cpu) = (self.platform(), self.platform().cpu_id());
        let taken = self.lock(flags)?.take(platform, cpu, Scope::All, most, USER, &mut sink);
        if taken == 0 && gave_memory { self.grow(flags, most, USER, sink) } else { Ok(taken) }
    }

    /// # Safety
    ///
    /// As [`free`](RawCache::free).
    #[inline]
    pub(super) unsafe fn free_object(&self, object: NonNull<u8>) -> Result<(), ObjectError> {
        // SAFETY: the caller's promise.
        if unsafe { self.free_hit(object) } {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { self.free_missed(object) }
    }

    /// Puts an object into the loaded magazine if nothing stands in the way: no function is
    /// called here, so nothing has to be saved for one.
    ///
    /// # Safety
    ///
    /// As [`free_object`](Self::free_object).
    #[inline(always)]
    pub(crate) unsafe fn free_hit(&self, object: NonNull<u8>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.cpus.put(self.source, object) }
    }

    /// The loaded magazine is full, or there is none, or the cache watches its objects, or the
    /// free is a bad one.
    ///
    /// # Safety
    ///
    /// As [`free_object`](Self::free_object).
    #[cold]
    #[inline(never)]
    unsafe fn free_missed(&self, object: NonNull<u8>) -> Result<(), ObjectError> {
        // SAFETY: the caller's promise.
        if unsafe { self.cpus.put_second(self.source, object) } {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        let (slab, index) = unsafe { self.locate(object)? };
        let entry = slab.entry(index);
        if let Some(held) = self.hold() {
            // SAFETY: the caller's promise.
            unsafe { self.claim(entry)? };
            if slab.way() != Way::of(held.cpu()) {
                let turn = self.keep_foreign(&held, slab, index, entry);
                drop(held);
                self.kept_foreign(turn);
                return Ok(());
            }
            if !held.is_to_drain() && held.push(entry) {
                return Ok(());
            }
            drop(held);
            if !self.free_unloaded(entry) {
                self.lists.lock(self.platform()).put(self.platform(), slab, index);
                self.trim();
            }
            return Ok(());
        }
        {
            let mut lists = self.lists.lock(self.platform());
            // SAFETY: the caller's promise.
            unsafe { self.claim(entry)? };
            lists.put(self.platform(), slab, index);
        }
        self.freed_shared();
        Ok(())
    }

    /// What follows [`keep_foreign`](Self::keep_foreign), once the slot is free.
    pub(super) fn kept_foreign(&self, turn: Turn) {
        match turn {
            Turn::Flushed => self.trim(),
            Turn::NeedsMagazine => {
                self.trim();
                // For the next such object; without one it goes to its slab as this one did.
                let _ = self.supply_for_free();
            }
            Turn::Ready | Turn::Nothing => {}
        }
    }

    /// What follows a free on the shared path.
    pub(super) fn freed_shared(&self) {
        self.trim();
        self.want_slot(FOR_FREE);
    }

    /// Makes a user's object a free one.
    ///
    /// # Safety
    ///
    /// The object is one of this cache. If it is allocated, nobody uses it any more.
    #[inline]
    pub(super) unsafe fn claim(&self, entry: Entry) -> Result<(), ObjectError> {
        let state = entry.state();
        if self.flags.contains(CacheFlags::STRICT) {
            state.compare_exchange(USER, CACHED, Relaxed, Relaxed).map_err(refusal)?;
        } else {
            match state.load(Relaxed) {
                USER => state.store(CACHED, Relaxed),
                other => return Err(refusal(other)),
            }
        }
        // SAFETY: the object was allocated; the rest is the caller's promise.
        let taken_back = unsafe { self.take_back(entry.object) };
        if taken_back.is_err() {
            state.store(USER, Relaxed);
        }
        taken_back
    }

    /// Makes an object from a magazine a user's; not one that was freed by two CPUs at once and
    /// lies there twice.
    #[inline]
    pub(super) fn leave(&self, entry: Entry) -> Option<NonNull<u8>> {
        let state = entry.state();
        if state.load(Relaxed) != CACHED {
            self.report_twice(entry);
            return None;
        }
        state.store(USER, Relaxed);
        Some(entry.object)
    }

    /// Reports an object that is in a magazine although it is not free.
    #[cold]
    pub(super) fn report_twice(&self, entry: Entry) {
        let error = match entry.state().load(Relaxed) {
            // It lay in two magazines, and was handed out of the other.
            USER => ObjectError::NotAllocated,
            state => refusal(state),
        };
        let cpu = self.platform().cpu_id();
        violation(&error.violation(entry.object, self.name).on_cpu(cpu));
    }
}

/// What a free of an object in such a state is answered.
#[cold]
const fn refusal(state: u8) -> ObjectError {
    match state {
        IN_SLAB | CACHED | RUINED => ObjectError::NotAllocated,
        _ => ObjectError::Corrupted,
    }
}
