//! A slot for who is inside: magazines that are loaded, exchanged and emptied.

use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

use super::descriptor::Entry;
use super::magazine::Magazine;
use super::slot::Slot;
use crate::gate::{NO_CEILING, NO_FLOOR};
use crate::page::records::NONE;
use crate::platform::Platform;

/// How the slots of a cache are to be used.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Rounds of a magazine.
    pub(super) capacity: u32,
    /// Whether a hit may take, and whether it may put.
    pub(super) takes: bool,
    pub(super) puts: bool,
}

/// A slot, for who is inside: all that is in it.
#[derive(Clone, Copy)]
pub(super) struct Inside<'a> {
    slot: &'a Slot,
    capacity: u32,
}

impl<'a> Inside<'a> {
    /// The inside of a slot of a cache whose magazines have `capacity` rounds.
    ///
    /// # Safety
    ///
    /// The caller is inside, and stays there as long as he uses this.
    pub(super) unsafe fn new(slot: &'a Slot, capacity: u32) -> Self {
        Self { slot, capacity }
    }

    /// Opens the gate for hits, unless a drain is wanted or there is nothing for them.
    #[inline]
    pub(super) fn open(self, limits: Limits) {
        if !self.has_loaded() || self.slot.gate.is_asked() {
            return self.slot.gate.shut();
        }
        let bottom = self.slot.bottom.load(Relaxed).addr();
        let end = bottom + self.capacity as usize * size_of::<Entry>();
        let floor = if limits.takes { bottom } else { NO_FLOOR };
        self.slot.gate.open(floor, if limits.puts { end } else { NO_CEILING });
    }

    /// An object from the loaded magazine.
    #[inline]
    pub(super) fn pop(self) -> Option<Entry> {
        let mut popped = None;
        self.pop_while(|entry| popped.is_none() && popped.replace(entry).is_none());
        popped
    }

    /// Takes objects from the loaded magazine, the last put first, as long as `wants` takes them;
    /// one that it does not take stays, on top.
    #[inline(always)]
    pub(super) fn pop_while(self, mut wants: impl FnMut(Entry) -> bool) {
        let bottom = self.slot.bottom.load(Relaxed);
        let mut top = self.slot.top.load(Relaxed);
        while top != bottom {
            // SAFETY: below the top is a round of the loaded magazine (invariant 3). The slot is
            // ours.
            let (last, entry) = unsafe { (top.sub(1), top.sub(1).read()) };
            if !wants(entry) {
                break;
            }
            top = last;
        }
        self.slot.top.store(top, Relaxed);
    }

    /// Puts objects into the loaded magazine as long as it has room and `next` has some.
    #[inline(always)]
    pub(super) fn push_while(self, mut next: impl FnMut() -> Option<Entry>) {
        let room = if self.has_loaded() { self.capacity - self.rounds() } else { 0 };
        let mut top = self.slot.top.load(Relaxed);
        for _ in 0..room {
            let Some(entry) = next() else { break };
            // SAFETY: at the top is room for so many entries (invariant 3). The slot is ours.
            unsafe {
                top.write(entry);
                top = top.add(1);
            }
        }
        self.slot.top.store(top, Relaxed);
    }

    /// Puts an object into the loaded magazine, if there is room.
    pub(super) fn push(self, entry: Entry) -> bool {
        let mut entry = Some(entry);
        self.push_while(|| entry.take());
        entry.is_none()
    }

    /// Whether the loaded magazine has room.
    pub(super) fn has_room(self) -> bool {
        self.has_loaded() && self.rounds() < self.capacity
    }

    /// Whether the loaded magazine has no room, and the previous one has.
    pub(super) fn has_room_behind(self) -> bool {
        !self.has_room() && self.has_previous() && self.previous_rounds() < self.capacity
    }

    pub(super) fn rounds(self) -> u32 {
        self.slot.rounds()
    }

    pub(super) fn previous_rounds(self) -> u32 {
        self.slot.previous_rounds.load(Relaxed).into()
    }

    #[inline]
    pub(super) fn has_loaded(self) -> bool {
        self.slot.loaded.load(Relaxed) != NONE
    }

    pub(super) fn has_previous(self) -> bool {
        self.slot.previous.load(Relaxed) != NONE
    }

    /// Whether a drain was asked for.
    pub(super) fn is_to_drain(self) -> bool {
        self.slot.gate.is_asked()
    }

    /// Asks for a drain no more.
    pub(super) fn settle(self) {
        self.slot.gate.settle();
    }

    /// Takes the loaded magazine out.
    pub(super) fn take_loaded(self) -> Magazine {
        let id = self.slot.loaded.load(Relaxed);
        // SAFETY: the slot is ours, and loses the magazine here; its rounds end at the top
        // (invariant 3).
        let loaded = unsafe { Magazine::from_id(id, self.rounds()) };
        self.slot.loaded.store(NONE, Relaxed);
        self.set(ptr::null_mut(), 0);
        loaded
    }

    /// Loads a magazine; there is none loaded.
    pub(super) fn load<P: Platform>(self, platform: &P, magazine: Magazine) {
        if magazine.is_none() {
            return;
        }
        self.set(magazine.entries(platform), magazine.rounds());
        self.slot.loaded.store(magazine.into_id(), Relaxed);
    }

    /// Where the loaded magazine's entries are, and how many rounds it has.
    fn set(self, entries: *mut Entry, rounds: u32) {
        self.slot.bottom.store(entries, Relaxed);
        self.slot.top.store(entries.wrapping_add(rounds as usize), Relaxed);
    }

    /// Takes the previous magazine out.
    pub(super) fn take_previous(self) -> Magazine {
        let id = self.slot.previous.load(Relaxed);
        // SAFETY: the slot is ours, and loses the magazine here; it came with these rounds.
        let previous = unsafe { Magazine::from_id(id, self.previous_rounds()) };
        self.slot.previous.store(NONE, Relaxed);
        self.slot.previous_rounds.store(0, Relaxed);
        previous
    }

    /// Puts a magazine where there is no previous one.
    pub(super) fn put_previous(self, magazine: Magazine) {
        self.slot.previous_rounds.store(magazine.rounds() as u8, Relaxed);
        self.slot.previous.store(magazine.into_id(), Relaxed);
    }

    /// Puts an object of another way's slab into the magazine for such, if there is one with room.
    pub(super) fn push_foreign<P: Platform>(self, platform: &P, entry: Entry) -> bool {
        // SAFETY: we are inside.
        unsafe { self.slot.push_foreign(platform, entry) }
    }

    /// Takes the magazine of objects from other ways' slabs out.
    pub(super) fn take_foreign(self) -> Magazine {
        let (id, rounds) = (&self.slot.foreign, &self.slot.foreign_rounds);
        // SAFETY: the slot is ours, and loses the magazine here, with its rounds (invariant 6).
        let foreign = unsafe { Magazine::from_id(id.load(Relaxed), rounds.load(Relaxed).into()) };
        self.slot.foreign.store(NONE, Relaxed);
        self.slot.foreign_rounds.store(0, Relaxed);
        self.slot.foreign_room.store(0, Relaxed);
        foreign
    }

    /// Puts a magazine where there is none for objects from other ways' slabs.
    pub(super) fn put_foreign(self, magazine: Magazine) {
        let rounds = magazine.rounds();
        let room = if magazine.is_none() { 0 } else { self.capacity - rounds };
        self.slot.foreign.store(magazine.into_id(), Relaxed);
        self.slot.foreign_rounds.store(rounds as u8, Relaxed);
        self.slot.foreign_room.store(room as u8, Relaxed);
    }

    /// Loads the previous magazine and makes the loaded one the previous.
    pub(super) fn swap<P: Platform>(self, platform: &P) {
        let (loaded, previous) = (self.take_loaded(), self.take_previous());
        self.put_previous(loaded);
        self.load(platform, previous);
    }

    /// Fills the empty magazine that is loaded with at most `batch` objects, which it has room for.
    /// The first to be put is the first to be handed out: objects of a fresh slab go to users
    /// as they lie in memory, which is what caches fetch ahead.
    pub(super) fn refill(self, batch: usize) -> Refill<'a> {
        let end = self.slot.bottom.load(Relaxed).wrapping_add(batch);
        Refill { slot: self.slot, end, first: end }
    }

    /// How many objects to take from the slabs now.
    pub(super) fn next_batch(self) -> usize {
        let batch = self.slot.batch.load(Relaxed).min(self.capacity as u8);
        self.slot.batch.store(batch * 2, Relaxed);
        batch.into()
    }
}

/// A loaded magazine that is being filled, from above: see [`Inside::refill`].
pub(super) struct Refill<'a> {
    slot: &'a Slot,
    end: *mut Entry,
    /// What was put last.
    first: *mut Entry,
}

impl Refill<'_> {
    /// Puts an object below the others.
    ///
    /// # Safety
    ///
    /// Fewer were put than [`refill`](Inside::refill) was told, which the magazine has room for.
    #[inline(always)]
    pub(super) unsafe fn put(&mut self, entry: Entry) {
        // SAFETY: by the caller's promise this is at the bottom or above, and below a place that
        // the magazine has (slot, invariant 3). The slot is that of who is inside.
        unsafe {
            self.first = self.first.sub(1);
            self.first.write(entry);
        }
    }

    /// Makes them the magazine's.
    pub(super) fn finish(self) {
        let bottom = self.slot.bottom.load(Relaxed);
        let rounds = (self.end.addr() - self.first.addr()) / size_of::<Entry>();
        if self.first != bottom {
            // Fewer than were wanted.
            // SAFETY: so many entries were put, from `first` on, and the magazine's places begin at
            // the bottom.
            unsafe { ptr::copy(self.first, bottom, rounds) };
        }
        self.slot.top.store(bottom.wrapping_add(rounds), Relaxed);
    }
}
