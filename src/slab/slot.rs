//! What each CPU has of a cache: three magazines of free objects, behind a [`Gate`], and a
//! [`Shelf`] of others.
//!
//! # Invariants
//!
//! 1. What is behind the gate is changed by who is inside (`gate`, invariant 2), and that of a CPU
//!    that has stopped also by whoever drains or abandons it. Both that one and a remote hold the
//!    lists' lock all the while that they change it.
//! 2. Where there is no slot there is [`ABSENT`], which nobody ever enters. So a hit asks one
//!    question: is the slot busy? The gate's number is the key of the slabs whose objects it takes
//!    back, so a free asks that in the same breath.
//! 3. The loaded magazine's entries begin at `bottom`, and its rounds end at `top`, at most its
//!    capacity above. Without one both are null.
//! 4. The gate's limits are shut, or `bottom` and the end of the loaded magazine. The floor stays
//!    shut if objects are looked at when they are handed out, the ceiling if they are when they
//!    come back: a hit need not ask what the cache demands.
//! 5. `ground` and `key` do not change once the slot is in its cache's table.
//! 6. Where `foreign_room` is not 0 there is a foreign magazine, of a cache whose objects need no
//!    look when they come back. It has `foreign_rounds` entries and room for so many more.

use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering::Relaxed};

use super::descriptor::{CACHED, Entry, Objects, Slab, USER};
use super::find::{Ground, find_at_hand};
use super::key::Key;
use super::magazine;
use super::shelf::Shelf;
use crate::gate::{Gate, Gated};
use crate::lock::IrqLock;
use crate::page::FrameSource;
use crate::page::records::NONE;
use crate::platform::{Mapping, Pinning, Platform};

/// One CPU's magazines of one cache. A hit finds all that it needs of it in the first cache line.
#[repr(C, align(64))]
pub(crate) struct Slot {
    pub(super) gate: Gate,
    /// Where the next round goes.
    pub(super) top: AtomicPtr<Entry>,
    pub(super) ground: Ground,
    /// The loaded magazine's first entry.
    pub(super) bottom: AtomicPtr<Entry>,
    /// What a slab must have for a hit: the cache's number and the CPU's way. It is the gate's
    /// number too.
    pub(super) key: Key,
    pub(super) loaded: AtomicU32,
    pub(super) previous: AtomicU32,
    /// The magazine of objects from other CPUs' slabs, which go back there.
    pub(super) foreign: AtomicU32,
    pub(super) previous_rounds: AtomicU8,
    /// Objects to take from the slabs next time, doubled each time: a cache that is hardly used
    /// strands little.
    pub(super) batch: AtomicU8,
    /// How many objects the magazine of other slabs' has, and for how many it has room.
    pub(super) foreign_rounds: AtomicU8,
    pub(super) foreign_room: AtomicU8,
    /// The CPU's other magazines; not behind the gate.
    pub(super) shelf: IrqLock<Shelf>,
}

const _: () = assert!(core::mem::offset_of!(Slot, bottom) <= 64 && size_of::<Slot>() == 128);
// Twice as many is the most that `batch` comes to.
const _: () = assert!(2 * magazine::MAX_ROUNDS <= u8::MAX as u32);

// SAFETY: what is not atomic does not change (invariant 5), and the pointer in it leads to atomics
// that live for ever.
unsafe impl Sync for Slot {}

/// The slot of a CPU that has none.
pub(super) static ABSENT: Slot = Slot::with(Gate::walled(), Ground::EMPTY, Key::NOBODY);

impl Slot {
    const fn with(gate: Gate, ground: Ground, key: Key) -> Self {
        Self {
            gate,
            top: AtomicPtr::new(ptr::null_mut()),
            ground,
            bottom: AtomicPtr::new(ptr::null_mut()),
            key,
            loaded: AtomicU32::new(NONE),
            previous: AtomicU32::new(NONE),
            foreign: AtomicU32::new(NONE),
            previous_rounds: AtomicU8::new(0),
            batch: AtomicU8::new(1),
            foreign_rounds: AtomicU8::new(0),
            foreign_room: AtomicU8::new(0),
            shelf: IrqLock::new(Shelf::new()),
        }
    }

    /// A slot without magazines, for hits of slabs with this key.
    pub(super) fn new<S: FrameSource>(source: &S, key: Key) -> Self {
        Self::with(Gate::new(key.0), Ground::of(source), key)
    }

    /// What stands for the slot of a CPU that has none: no hit finds it free.
    #[cfg(feature = "mmap")]
    pub(crate) const fn absent() -> *const Self {
        &raw const ABSENT
    }

    /// Enters for more than a hit; `false` if somebody is there.
    ///
    /// # Safety
    ///
    /// As [`take`](Self::take), until [`leave`](Self::leave).
    #[inline(always)]
    pub(super) unsafe fn visit(&self, pinning: Pinning) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.gate.visit(self.key.0, pinning) }
    }

    /// Ends a [`visit`](Self::visit).
    #[inline(always)]
    pub(super) fn leave(&self) {
        self.gate.leave(self.key.0);
    }

    /// Whether this is a CPU's slot.
    pub(super) fn is_present(&self) -> bool {
        !ptr::eq(self, &ABSENT)
    }

    /// An object from the loaded magazine, for its user; `None`, and nothing has changed, if that
    /// needs more than a look into the magazine.
    ///
    /// # Safety
    ///
    /// `pinning` is the platform's. Where it is pinned the caller runs on the slot's CPU and stays
    /// there, and nothing else uses the slot on that CPU but interrupt handlers.
    #[inline(always)]
    pub(super) unsafe fn take(&self, pinning: Pinning) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise.
        let number = unsafe { self.gate.enter(pinning) }?;
        let top = self.top.load(Relaxed);
        let mut object = None;
        if top.addr() > self.gate.floor() {
            // SAFETY: the floor is the bottom of the loaded magazine, so below the top is a round
            // of it (invariants 3 and 4). The slot is the caller's.
            let (last, entry) = unsafe { (top.sub(1), top.sub(1).read()) };
            // Whatever is wrong with an object is the slow path's to report.
            if entry.state().load(Relaxed) == CACHED {
                entry.state().store(USER, Relaxed);
                self.top.store(last, Relaxed);
                object = Some(entry.object);
            }
        }
        self.gate.leave(number);
        object
    }

    /// Puts a user's object, which lies in `slab`, into the loaded magazine; `false`, and nothing
    /// has changed, if that needs more, or `object` is no user's object of this slot's cache
    /// and way.
    ///
    /// # Safety
    ///
    /// As [`take`](Self::take). If it is an allocated object, nobody uses it any more, and the slab
    /// lives as long as an object of it is out of it.
    #[inline(always)]
    pub(super) unsafe fn put(&self, pinning: Pinning, slab: Slab<'_>, object: NonNull<u8>) -> bool {
        let Some(entry) = slab.entry_of(object) else { return false };
        let number = slab.key().0;
        // SAFETY: the caller's promise.
        if !unsafe { self.gate.enter_as(number, pinning) } {
            return false;
        }
        let top = self.top.load(Relaxed);
        let is_good = top.addr() < self.gate.ceiling() && entry.state().load(Relaxed) == USER;
        if is_good {
            entry.state().store(CACHED, Relaxed);
            // SAFETY: the ceiling is the end of the loaded magazine, so at the top is room for an
            // entry (invariants 3 and 4). The slot is the caller's.
            unsafe { top.write(entry) };
            // SAFETY: as above.
            self.top.store(unsafe { top.add(1) }, Relaxed);
        }
        self.gate.leave(number);
        is_good
    }

    /// Objects from the loaded magazine, for their user, as [`take`](Self::take) takes one; how
    /// many, into as many of the places from the first on.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    pub(super) unsafe fn take_many(
        &self,
        pinning: Pinning,
        out: &mut [MaybeUninit<NonNull<u8>>],
    ) -> usize {
        // SAFETY: the caller's promise.
        let Some(number) = (unsafe { self.gate.enter(pinning) }) else { return 0 };
        let top = self.top.load(Relaxed);
        let rounds = top.addr().saturating_sub(self.gate.floor()) / size_of::<Entry>();
        let places = rounds.min(out.len());
        let out = &mut out[..places];
        let mut taken = 0;
        while let Some(place) = out.get_mut(taken) {
            // SAFETY: the floor is the bottom of the loaded magazine, so that many rounds of it lie
            // below the top (invariants 3 and 4). The slot is the caller's.
            let entry = unsafe { top.sub(taken + 1).read() };
            if entry.state().load(Relaxed) != CACHED {
                break;
            }
            entry.state().store(USER, Relaxed);
            place.write(entry.object);
            taken += 1;
        }
        // Whom the limits have not let in writes nothing: a remote may be here.
        if taken > 0 {
            // SAFETY: as above.
            self.top.store(unsafe { top.sub(taken) }, Relaxed);
        }
        self.gate.leave(number);
        taken
    }

    /// Puts users' objects into the loaded magazine, as [`put`](Self::put) puts one; how many, from
    /// the first on.
    ///
    /// # Safety
    ///
    /// As there, and as [`slab_at_hand`](Self::slab_at_hand), for each.
    #[inline(always)]
    pub(super) unsafe fn put_many<S: FrameSource>(
        &self,
        source: &S,
        objects: &[NonNull<u8>],
    ) -> usize {
        // SAFETY: the caller's promise.
        let Some(number) = (unsafe { self.gate.enter(S::Platform::PINNING) }) else { return 0 };
        let top = self.top.load(Relaxed);
        let room = self.gate.ceiling().saturating_sub(top.addr()) / size_of::<Entry>();
        let objects = objects.get(..room).unwrap_or(objects);
        let mut put = 0;
        while let Some(rest) = objects.get(put..)
            && let Some(&first) = rest.first()
            // SAFETY: the caller's promise for `first`. The slab lives on while the others of its
            // row are looked at, since then `first` is in the magazine.
            && let Some(slab) = unsafe { self.slab_at_hand(source, first) }
            && slab.key() == self.key
        {
            // SAFETY: the ceiling is the end of the loaded magazine, so at the top is room for all
            // of these (invariants 3 and 4). The slot is the caller's.
            let more = unsafe { put_row(slab.here(), rest, top.add(put)) };
            if more == 0 {
                break;
            }
            put += more;
        }
        // As above.
        if put > 0 {
            // SAFETY: as above.
            self.top.store(unsafe { top.add(put) }, Relaxed);
        }
        self.gate.leave(number);
        put
    }

    /// The slab that an object lies in, where that is found at once.
    ///
    /// # Safety
    ///
    /// As [`find`](super::find::find), of the source that the slot was made for.
    #[inline(always)]
    pub(super) unsafe fn slab_at_hand<'s, S: FrameSource>(
        &'s self,
        source: &'s S,
        object: NonNull<u8>,
    ) -> Option<Slab<'s>> {
        match S::Platform::MAPPING {
            // SAFETY: the caller's promise.
            Mapping::Linear => unsafe { self.ground.slab(object) },
            // SAFETY: the caller's promise.
            Mapping::Pieces => unsafe { find_at_hand(source, object) },
        }
    }

    /// An object from the loaded magazine, for its user; `None`, and nothing has changed, if there
    /// is none or the slot is being used.
    ///
    /// # Safety
    ///
    /// The caller runs on the slot's CPU and stays there, and nothing else uses the slot on that
    /// CPU but interrupt handlers.
    #[cfg(feature = "mmap")]
    #[inline(always)]
    pub(crate) unsafe fn pop_hit(&self) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise.
        unsafe { self.take(Pinning::Pinned) }
    }

    /// Puts a user's object into the loaded magazine; `false`, and nothing has changed, if there is
    /// no room, the slot is being used, or `object` is no user's object of this slot's cache
    /// and way.
    ///
    /// # Safety
    ///
    /// As [`pop_hit`](Self::pop_hit). `slab` is where `object` lies. If it is an allocated object,
    /// nobody uses it any more.
    #[cfg(feature = "mmap")]
    #[inline(always)]
    pub(crate) unsafe fn push_hit(&self, slab: Slab<'_>, object: NonNull<u8>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.put(Pinning::Pinned, slab, object) }
    }

    /// Rounds in the loaded magazine; too many at most, if another CPU asks while they change.
    pub(super) fn rounds(&self) -> u32 {
        let bytes = self.top.load(Relaxed).addr().wrapping_sub(self.bottom.load(Relaxed).addr());
        (bytes / size_of::<Entry>()).min(magazine::MAX_ROUNDS as usize) as u32
    }

    /// The rounds in all three magazines, as far as another CPU can tell.
    pub(super) fn total_rounds(&self) -> usize {
        let previous = u32::from(self.previous_rounds.load(Relaxed));
        let foreign = u32::from(self.foreign_rounds.load(Relaxed));
        (self.rounds() + previous + foreign) as usize
    }

    /// Without magazines, whoever was inside.
    pub(super) fn forget(&self) {
        self.top.store(ptr::null_mut(), Relaxed);
        self.bottom.store(ptr::null_mut(), Relaxed);
        self.previous_rounds.store(0, Relaxed);
        self.loaded.store(NONE, Relaxed);
        self.previous.store(NONE, Relaxed);
        self.foreign.store(NONE, Relaxed);
        self.foreign_rounds.store(0, Relaxed);
        self.foreign_room.store(0, Relaxed);
        self.batch.store(1, Relaxed);
        self.gate.forget(self.key.0);
    }
}

/// Makes users' objects, up to the first that is none or lies elsewhere than among `near`, free
/// ones, and writes them to `room`; how many. Neighbours in the list are often neighbours in
/// memory.
///
/// # Safety
///
/// `room` is the caller's, and there is room for all `objects`. Nobody uses those that are
/// allocated any more.
#[inline(always)]
unsafe fn put_row(near: Objects<'_>, objects: &[NonNull<u8>], room: *mut Entry) -> usize {
    let mut put = 0;
    while let Some(&object) = objects.get(put) {
        let Some(entry) = near.entry_of(object) else { break };
        if entry.state().load(Relaxed) != USER {
            break;
        }
        entry.state().store(CACHED, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { room.add(put).write(entry) };
        put += 1;
    }
    put
}

impl Gated for Slot {
    fn gate(&self) -> &Gate {
        &self.gate
    }
}
