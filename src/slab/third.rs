//! The third look: what a call of the hosted allocator tries when neither the loaded magazine nor
//! the previous one serves it, before it goes the whole way through the heap.
//!
//! As long as a wave of allocations or frees lasts, the CPU's shelf serves: one call in as many as
//! a magazine has rounds comes here.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use super::RawCache;
use super::cpus::Held;
use super::descriptor::{CACHED, Slab, USER};
use super::lifecycle::Lifecycle;
use super::reload::{exchange, put_away};
use crate::page::FrameSource;

impl<S: FrameSource, L: Lifecycle> RawCache<'_, S, L> {
    /// An object from the running CPU's shelf, for its user; `None`, and nobody has got one, if
    /// that needs more. Waits for the shelf's lock.
    ///
    /// Only where the CPU has a [`local_slot`](Self::local_slot): objects are looked at no further.
    pub(crate) fn take_shelved(&self) -> Option<NonNull<u8>> {
        let held = self.hold()?;
        if held.rounds() + held.previous_rounds() > 0 || held.is_to_drain() {
            return None;
        }
        {
            let platform = self.platform();
            let mut shelf = held.shelf().lock(platform);
            let full = shelf.full.pop(platform)?;
            shelf.visits += 1;
            exchange(platform, &held, &mut shelf, full);
        }
        held.pop().and_then(|entry| self.leave(entry))
    }

    /// Puts a user's object, which lies in `slab`, into the running CPU's magazines, of which the
    /// full one behind goes to the shelf; `false`, and no object has changed hands, if that needs
    /// more, or `object` is no user's object of this cache and the CPU's way. Waits for the
    /// shelf's lock.
    ///
    /// Only where the CPU has a [`local_slot`](Self::local_slot): objects are looked at no further.
    ///
    /// # Safety
    ///
    /// As [`Slot::put`](super::slot::Slot::put) says of the object and the slab.
    pub(crate) unsafe fn put_shelved(&self, slab: Slab<'_>, object: NonNull<u8>) -> bool {
        let Some(entry) = slab.entry_of(object) else { return false };
        let Some(held) = self.hold() else { return false };
        let state = entry.state();
        if slab.key() != held.key() || state.load(Relaxed) != USER || held.is_to_drain() {
            return false;
        }
        if held.has_room() || held.has_room_behind() {
            return false;
        }
        // Claimed before anything is waited for, so that a second free is refused meanwhile.
        state.store(CACHED, Relaxed);
        let is_put = self.shelve(&held) && held.push(entry);
        if !is_put {
            state.store(USER, Relaxed);
        }
        is_put
    }

    /// Loads an empty magazine from the running CPU's shelf, which gets a full one for it; whether
    /// that went, or nothing has changed.
    #[inline]
    fn shelve(&self, held: &Held<'_, S::Platform>) -> bool {
        if self.is_ebbing() {
            return false;
        }
        let platform = self.platform();
        let mut shelf = held.shelf().lock(platform);
        if !shelf.has_place(self.object_bytes(), self.cpus.count()) {
            return false;
        }
        let Some(empty) = shelf.empty.pop(platform) else { return false };
        shelf.visits += 1;
        put_away(platform, held, &mut shelf, empty);
        true
    }
}

#[cfg(test)]
mod tests;
