//! The second look: what a call tries in its CPU's slot when the loaded magazine does not serve it,
//! before it goes any further.
//!
//! Every other time the previous magazine serves: it has rounds where the loaded one is empty, or
//! room where that is full. And an object that lies in another way's slab has a magazine of its
//! own.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use super::descriptor::{CACHED, Entry, Slab, USER};
use super::inside::{Inside, Limits};
use super::magazine;
use super::slot::Slot;
use crate::gate::{NO_CEILING, NO_FLOOR};
use crate::platform::Platform;

impl Slot {
    /// An object from the previous magazine, which is loaded for that, for its user; `None`, and no
    /// object has changed hands, if that needs more.
    ///
    /// # Safety
    ///
    /// As [`take`](Self::take), and `platform` is the cache's.
    #[cfg(feature = "mmap")]
    pub(crate) unsafe fn take_second<P: Platform>(&self, platform: &P) -> Option<NonNull<u8>> {
        let serves = |inside: Inside<'_>| inside.rounds() == 0 && inside.previous_rounds() > 0;
        // SAFETY: the caller's promise.
        unsafe { if self.turn(platform, serves) { self.take(P::PINNING) } else { None } }
    }

    /// Puts a user's object, which lies in `slab`, into the previous magazine, which is loaded for
    /// that, or into the one for objects from other ways' slabs; `false`, and no object has
    /// changed hands, if that needs more, or `object` is no user's object of this slot's cache.
    ///
    /// # Safety
    ///
    /// As [`put`](Self::put), and `platform` is the cache's.
    pub(crate) unsafe fn put_second<P: Platform>(
        &self,
        platform: &P,
        slab: Slab<'_>,
        object: NonNull<u8>,
    ) -> bool {
        let (key, demanded) = (slab.key(), self.key);
        // SAFETY: the caller's promise.
        unsafe {
            if key == demanded {
                self.turn(platform, |inside| inside.has_room_behind())
                    && self.put(P::PINNING, slab, object)
            } else {
                key.is_sibling_of(demanded) && self.put_foreign(platform, slab, object)
            }
        }
    }

    /// Loads the previous magazine in exchange for the loaded one if it `serves` and hits may use
    /// it; whether that was so.
    ///
    /// # Safety
    ///
    /// As [`take`](Self::take), and `platform` is the cache's.
    unsafe fn turn<P: Platform>(
        &self,
        platform: &P,
        serves: impl FnOnce(Inside<'_>) -> bool,
    ) -> bool {
        // SAFETY: the caller's promise.
        if !unsafe { self.visit(P::PINNING) } {
            return false;
        }
        let (floor, ceiling) = (self.gate.floor(), self.gate.ceiling());
        // Where the limits are not those of a magazine (invariant 4 of `slot`), there is more to be
        // done than this.
        let mut turns = floor != NO_FLOOR && ceiling != NO_CEILING;
        if turns {
            let capacity = ((ceiling - floor) / size_of::<Entry>()) as u32;
            // SAFETY: entered just now, until `leave`.
            let inside = unsafe { Inside::new(self, capacity) };
            turns = serves(inside);
            if turns {
                inside.swap(platform);
                inside.open(Limits { capacity, takes: true, puts: true });
            }
        }
        self.leave();
        turns
    }

    /// Puts a user's object, which lies in another way's slab of this slot's cache, into the
    /// magazine for such; `false`, and nothing has changed, if that needs more, or `object` is
    /// no user's object.
    ///
    /// # Safety
    ///
    /// As [`put`](Self::put), and `platform` is the cache's.
    unsafe fn put_foreign<P: Platform>(
        &self,
        platform: &P,
        slab: Slab<'_>,
        object: NonNull<u8>,
    ) -> bool {
        let Some(entry) = slab.entry_of(object) else { return false };
        // SAFETY: the caller's promise.
        if !unsafe { self.visit(P::PINNING) } {
            return false;
        }
        let is_users = entry.state().load(Relaxed) == USER;
        // SAFETY: entered just now, until `leave`.
        let is_put = is_users && unsafe { self.push_foreign(platform, entry) };
        if is_put {
            entry.state().store(CACHED, Relaxed);
        }
        self.leave();
        is_put
    }

    /// Puts an object of another way's slab into the magazine for such, if there is one with room.
    ///
    /// # Safety
    ///
    /// The caller is inside.
    #[inline]
    pub(super) unsafe fn push_foreign<P: Platform>(&self, platform: &P, entry: Entry) -> bool {
        let (rounds, room) = (self.foreign_rounds.load(Relaxed), self.foreign_room.load(Relaxed));
        if room == 0 {
            return false;
        }
        let entries = magazine::entries(platform, self.foreign.load(Relaxed));
        // SAFETY: the magazine has room for an entry (invariant 6). The slot is the caller's.
        unsafe { entries.add(rounds as usize).write(entry) };
        self.foreign_rounds.store(rounds + 1, Relaxed);
        self.foreign_room.store(room - 1, Relaxed);
        true
    }
}
