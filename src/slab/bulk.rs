//! Many objects at once: as many as go by hits, then by one visit of the CPU's slot for each
//! magazine, then by one hold of the lists' lock.

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use super::RawCache;
use super::cpus::Held;
use super::descriptor::{CACHED, Entry, USER};
use super::error::ObjectError;
use super::flags::CacheFlags;
use super::lifecycle::Lifecycle;
use super::lists::Lists;
use super::reload::Turn;
use super::way::Way;
use crate::page::{AllocFlags, FrameSource};
use crate::platform::Platform;

impl<S: FrameSource, L: Lifecycle> RawCache<'_, S, L> {
    #[inline]
    pub(super) fn alloc_objects(
        &self,
        out: &mut [MaybeUninit<NonNull<u8>>],
        flags: AllocFlags,
    ) -> usize {
        let taken = self.cpus.take_many(self.platform(), out);
        if taken == out.len() && !flags.contains(AllocFlags::ZERO) {
            return taken;
        }
        self.alloc_more_objects(out, taken, flags)
    }

    /// Readies the first `taken` objects and allocates the others.
    #[cold]
    #[inline(never)]
    fn alloc_more_objects(
        &self,
        out: &mut [MaybeUninit<NonNull<u8>>],
        taken: usize,
        flags: AllocFlags,
    ) -> usize {
        let mut taken = taken;
        let together = !self.flags.contains(CacheFlags::POISON);
        if together {
            // SAFETY: hits have written those.
            unsafe { self.clear_many(&out[..taken], flags) };
            taken += self.take_ready(&mut out[taken..], flags);
        }
        // The rest needs new slabs, or lies idle in magazines, or is looked at one by one.
        while taken < out.len() {
            let left = out.len() - taken;
            let several = left > 1 && together;
            if several {
                let mut slots = out[taken..].iter_mut();
                let mut sink = |entry: Entry| _ = slots.next().map(|slot| slot.write(entry.object));
                let more = match self.grow(flags, left, USER, &mut sink) {
                    Ok(more) => more,
                    Err(_) => self.take_idle(left, flags, &mut sink).unwrap_or(0),
                };
                for slot in &out[taken..taken + more] {
                    // SAFETY: `sink` has written as many slots as objects were taken.
                    unsafe { self.hand_out(slot.assume_init(), flags) };
                }
                taken += more;
                if more > 0 {
                    continue;
                }
            }
            let Ok(object) = self.alloc_object(flags) else { break };
            out[taken].write(object);
            taken += 1;
            if several {
                // What came with that one.
                taken += self.take_ready(&mut out[taken..], flags);
            }
        }
        taken
    }

    /// Clears objects if `flags` say so.
    ///
    /// # Safety
    ///
    /// All are written, with objects that were just allocated.
    unsafe fn clear_many(&self, objects: &[MaybeUninit<NonNull<u8>>], flags: AllocFlags) {
        if flags.contains(AllocFlags::ZERO) {
            for object in objects {
                // SAFETY: the caller's promise.
                unsafe { self.clear(object.assume_init()) };
            }
        }
    }

    /// Objects that are there, cleared if `flags` say so; how many.
    fn take_ready(&self, out: &mut [MaybeUninit<NonNull<u8>>], flags: AllocFlags) -> usize {
        let taken = self.take_objects(out, flags);
        // SAFETY: so many were taken just now.
        unsafe { self.clear_many(&out[..taken], flags) };
        taken
    }

    /// Objects that are there, from the magazines and then from the slabs; how many.
    fn take_objects(&self, out: &mut [MaybeUninit<NonNull<u8>>], flags: AllocFlags) -> usize {
        let mut taken = 0;
        if let Some(held) = self.hold() {
            loop {
                let left = out.len() - taken;
                let mut places = out[taken..].iter_mut();
                held.pop_while(|entry| {
                    if entry.state().load(Relaxed) != CACHED {
                        return false;
                    }
                    let Some(place) = places.next() else { return false };
                    entry.state().store(USER, Relaxed);
                    place.write(entry.object);
                    true
                });
                taken += left - places.len();
                if taken == out.len() {
                    return taken;
                }
                // Whoever is on top now is not free: it is reported here.
                if let Some(object) = held.pop().and_then(|entry| self.leave(entry)) {
                    out[taken].write(object);
                    taken += 1;
                }
                if held.rounds() == 0 && !self.load_full(&held, flags) {
                    break;
                }
            }
        }
        let left = out.len() - taken;
        if left > 0
            && let Ok(mut lists) = self.lock(flags)
        {
            let mut slots = out[taken..].iter_mut();
            let sink = |entry: Entry| _ = slots.next().map(|slot| slot.write(entry.object));
            let platform = self.platform();
            taken += lists.take(platform, platform.cpu_id(), self.near(), left, USER, sink);
        }
        taken
    }

    /// # Safety
    ///
    /// As [`free_object`](Self::free_object), for each.
    #[inline]
    pub(super) unsafe fn free_objects(
        &self,
        objects: &[NonNull<u8>],
    ) -> Result<(), (usize, ObjectError)> {
        // SAFETY: the caller's promise.
        let done = unsafe { self.cpus.put_many(self.source, objects) };
        if done == objects.len() {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { self.free_more_objects(objects, done) }
    }

    /// Frees the objects from the one at `done` on.
    ///
    /// # Safety
    ///
    /// As [`free_objects`](Self::free_objects).
    #[cold]
    #[inline(never)]
    unsafe fn free_more_objects(
        &self,
        objects: &[NonNull<u8>],
        done: usize,
    ) -> Result<(), (usize, ObjectError)> {
        let mut done = done;
        while let Some(held) = self.hold() {
            if held.is_to_drain() {
                self.drain_inside(*held);
            }
            if held.has_room() {
                // Something about this one is not for a hit.
                // SAFETY: the caller's promise.
                let kept = unsafe { self.free_to(&held, objects[done]) };
                let kept = kept.map_err(|error| (done, error))?;
                done += 1;
                drop(held);
                self.kept_foreign(kept);
            } else {
                let turn = self.load_with_room(&held);
                drop(held);
                match turn {
                    Turn::Ready => {}
                    Turn::NeedsMagazine => {
                        // For the next call; if there is no memory for it, the slabs will do.
                        let _ = self.supply_for_free();
                        break;
                    }
                    Turn::Flushed | Turn::Nothing => break,
                }
            }
            // SAFETY: the caller's promise.
            done += unsafe { self.cpus.put_many(self.source, &objects[done..]) };
            if done == objects.len() {
                return Ok(());
            }
        }
        let mut result = Ok(());
        let mut lists = self.lists.lock(self.platform());
        for (index, &object) in objects.iter().enumerate().skip(done) {
            // SAFETY: the caller's promise.
            if let Err(error) = unsafe { self.free_to_slab(&mut lists, object) } {
                result = Err((index, error));
                break;
            }
        }
        drop(lists);
        self.freed_shared();
        result
    }

    /// Frees an object to the loaded magazine, which has room, or to that for objects from other
    /// ways' slabs.
    ///
    /// # Safety
    ///
    /// As [`free_object`](Self::free_object).
    unsafe fn free_to(
        &self,
        held: &Held<'_, S::Platform>,
        object: NonNull<u8>,
    ) -> Result<Turn, ObjectError> {
        // SAFETY: the caller's promise.
        let (slab, index) = unsafe { self.locate(object)? };
        let entry = slab.entry(index);
        // SAFETY: the caller's promise.
        unsafe { self.claim(entry)? };
        if slab.way() != Way::of(held.cpu()) {
            return Ok(self.keep_foreign(held, slab, index, entry));
        }
        held.push(entry);
        Ok(Turn::Ready)
    }

    /// # Safety
    ///
    /// As [`free_object`](Self::free_object).
    unsafe fn free_to_slab(
        &self,
        lists: &mut Lists,
        object: NonNull<u8>,
    ) -> Result<(), ObjectError> {
        // SAFETY: the caller's promise.
        let (slab, index) = unsafe { self.locate(object)? };
        // SAFETY: the caller's promise.
        unsafe { self.claim(slab.entry(index))? };
        lists.put(self.platform(), slab, index);
        Ok(())
    }
}
