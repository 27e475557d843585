//! The slow path of a CPU's magazines: exchange with the depot, refill from the slabs, and the
//! way back.
//!
//! Loaded and previous magazine together bound the visits to the depot: between two of them lie
//! at least as many calls as a magazine has rounds, whatever the sequence. Nothing here takes
//! memory while a slot is held.

use core::sync::atomic::Ordering::Relaxed;

use super::RawCache;
use super::cpus::Held;
use super::descriptor::{self, CACHED, Entry};
use super::flags::CacheFlags;
use super::inside::Inside;
use super::lifecycle::{ConstructError, Lifecycle};
use super::lists::{Filling, Lists};
use super::magazine::{self, Magazine, magazine_bytes, rounds_for};
#[cfg(feature = "mmap")]
use super::paths::WATCHED;
#[cfg(feature = "mmap")]
use super::slot::Slot;
use crate::buddy::AllocError;
use crate::page::records::NONE;
use crate::page::{AllocFlags, FrameSource};
use crate::platform::CpuId;
use core::ptr::NonNull;

/// How other CPUs' objects are to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Others {
    /// At once, by going there: takes a barrier on every CPU.
    Visit,
    /// At their next call.
    Ask,
}

/// What came of an attempt to make the loaded magazine useful.
pub(super) enum Turn {
    /// It has rounds, or room.
    Ready,
    /// It has room, and objects have gone back to the slabs for that.
    Flushed,
    /// An empty magazine is needed, and the depot has none.
    NeedsMagazine,
    /// There is nothing to be had.
    Nothing,
}

impl<S: FrameSource, L: Lifecycle> RawCache<'_, S, L> {
    /// How many rounds this cache's magazines have.
    pub(super) fn rounds(&self) -> u32 {
        rounds_for(self.object_bytes())
    }

    /// An object from a magazine, after a refill; `None` if there is no slot, or none to refill
    /// from.
    pub(super) fn alloc_reloaded(
        &self,
        flags: AllocFlags,
    ) -> Result<Option<NonNull<u8>>, ConstructError<L::Error>> {
        self.want_slot(flags);
        for attempt in 0..2 {
            let Some(held) = self.hold() else { return Ok(None) };
            match self.reload(&held, flags)? {
                Turn::Ready => return Ok(held.pop().and_then(|entry| self.leave(entry))),
                Turn::NeedsMagazine if attempt == 0 => {
                    drop(held);
                    if self.supply(flags).is_err() {
                        return Ok(None);
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Gets rounds into the loaded magazine.
    fn reload(&self, held: &Held<'_, S::Platform>, flags: AllocFlags) -> Result<Turn, AllocError> {
        let platform = self.platform();
        if held.is_to_drain() {
            self.drain_inside(**held);
        }
        if held.rounds() > 0 {
            return Ok(Turn::Ready);
        }
        if held.previous_rounds() > 0 {
            held.swap(platform);
            return Ok(Turn::Ready);
        }
        {
            let mut depot = if flags.contains(AllocFlags::NO_WAIT) {
                self.depot.try_lock(platform).ok_or(AllocError::WouldBlock)?
            } else {
                self.depot.lock(platform)
            };
            depot.visits += 1;
            if let Some((full, rounds)) = depot.full.pop(platform) {
                let (loaded, _) = held.take_loaded();
                if !loaded.is_none() {
                    depot.empty.push(platform, loaded, 0);
                }
                held.load(platform, full, rounds);
                return Ok(Turn::Ready);
            }
            if !held.has_loaded() {
                let Some((empty, _)) = depot.empty.pop(platform) else {
                    return Ok(Turn::NeedsMagazine);
                };
                held.load(platform, empty, 0);
            }
        }
        let mut lists = self.lock(flags)?;
        // The loaded magazine is empty, and a batch is no more than it holds.
        let batch = held.next_batch();
        let mut refill = held.refill();
        let taken = lists.take(platform, batch, CACHED, |entry| refill.put(entry));
        refill.finish();
        Ok(if taken == 0 { Turn::Nothing } else { Turn::Ready })
    }

    /// Loads a magazine with rounds in the place of the empty one, if there is one; the slabs are
    /// left alone.
    pub(super) fn load_full(&self, held: &Held<'_, S::Platform>, flags: AllocFlags) -> bool {
        let platform = self.platform();
        if held.previous_rounds() > 0 {
            held.swap(platform);
            return true;
        }
        let depot = match flags.contains(AllocFlags::NO_WAIT) {
            true => self.depot.try_lock(platform),
            false => Some(self.depot.lock(platform)),
        };
        let Some(mut depot) = depot else { return false };
        depot.visits += 1;
        let Some((full, rounds)) = depot.full.pop(platform) else { return false };
        let (loaded, _) = held.take_loaded();
        if !loaded.is_none() {
            depot.empty.push(platform, loaded, 0);
        }
        held.load(platform, full, rounds);
        true
    }

    /// Loads a magazine with room in the place of the full one, if there is one; the slabs are
    /// left alone.
    pub(super) fn load_with_room(&self, held: &Held<'_, S::Platform>) -> Turn {
        let platform = self.platform();
        if held.has_loaded() && held.has_previous() && held.previous_rounds() < self.rounds() {
            held.swap(platform);
            return Turn::Ready;
        }
        let mut depot = self.depot.lock(platform);
        depot.visits += 1;
        if held.has_previous() && !depot.has_room(self.object_bytes()) {
            return Turn::Nothing;
        }
        let Some((empty, _)) = depot.empty.pop(platform) else { return Turn::NeedsMagazine };
        if held.has_loaded() {
            let (previous, rounds) = held.take_previous();
            if !previous.is_none() {
                depot.full.push(platform, previous, rounds);
            }
            held.put_previous(empty, 0);
            held.swap(platform);
        } else {
            held.load(platform, empty, 0);
        }
        Turn::Ready
    }

    /// Puts a claimed object into the CPU's magazines after making room; whether that went.
    pub(super) fn free_unloaded(&self, entry: Entry) -> bool {
        for attempt in 0..2 {
            let Some(held) = self.hold() else { return false };
            match self.unload(&held) {
                Turn::Ready => return held.push(entry),
                Turn::Flushed => {
                    let pushed = held.push(entry);
                    drop(held);
                    self.trim();
                    return pushed;
                }
                Turn::NeedsMagazine if attempt == 0 => {
                    drop(held);
                    if self.supply(AllocFlags::empty()).is_err() {
                        return false;
                    }
                }
                _ => return false,
            }
        }
        false
    }

    /// Gets room into the loaded magazine.
    fn unload(&self, held: &Held<'_, S::Platform>) -> Turn {
        let platform = self.platform();
        if held.is_to_drain() {
            self.drain_inside(**held);
            if held.has_room() {
                return Turn::Flushed;
            }
        }
        if held.has_room() {
            return Turn::Ready;
        }
        if held.has_loaded() && held.has_previous() && held.previous_rounds() < self.rounds() {
            held.swap(platform);
            return Turn::Ready;
        }
        let mut depot = self.depot.lock(platform);
        depot.visits += 1;
        if held.has_previous() && !depot.has_room(self.object_bytes()) {
            drop(depot);
            let (previous, rounds) = held.take_previous();
            self.empty(&mut self.lists.lock(platform), &previous, rounds);
            held.put_previous(previous, 0);
            held.swap(platform);
            return Turn::Flushed;
        }
        let Some((empty, _)) = depot.empty.pop(platform) else { return Turn::NeedsMagazine };
        if !held.has_loaded() {
            held.load(platform, empty, 0);
            return Turn::Ready;
        }
        let (previous, rounds) = held.take_previous();
        if !previous.is_none() {
            depot.full.push(platform, previous, rounds);
        }
        held.put_previous(empty, 0);
        held.swap(platform);
        Turn::Ready
    }

    /// An empty magazine.
    pub(super) fn new_magazine(&self, flags: AllocFlags) -> Result<Magazine, AllocError> {
        let flags = flags.difference(AllocFlags::ZERO | AllocFlags::MOVABLE);
        let record = self.records().take(self.source, magazine_bytes(self.rounds()), flags)?;
        // SAFETY: the record was just taken for so many rounds.
        Ok(unsafe { Magazine::create(record) })
    }

    /// Puts a new magazine into the depot.
    pub(super) fn supply(&self, flags: AllocFlags) -> Result<(), AllocError> {
        let magazine = self.new_magazine(flags)?;
        self.depot.lock(self.platform()).empty.push(self.platform(), magazine, 0);
        Ok(())
    }

    /// The slot of a CPU for as long as the cache lives, if it has one and hits need look at nothing else.
    #[cfg(feature = "mmap")]
    pub(crate) fn local_slot(&self, cpu: CpuId) -> Option<NonNull<Slot>> {
        if self.flags.intersects(WATCHED) { None } else { self.cpus.local(cpu) }
    }

    /// Gives the running CPU a slot if the cache is used often enough.
    pub(super) fn want_slot(&self, flags: AllocFlags) {
        if self.flags.contains(CacheFlags::NO_MAGAZINES)
            || self.geometry.is_err()
            || !self.cpus.wants_slot(self.platform())
        {
            return;
        }
        let flags = flags.difference(AllocFlags::ZERO | AllocFlags::MOVABLE);
        let cache = self.identity.id();
        if cache == NONE {
            return;
        }
        if let Ok(true) = self.cpus.add_slot(self.source, self.records(), cache, flags) {
            self.depot.lock(self.platform()).cpus += 1;
        }
    }

    /// Puts the rounds of a magazine back into their slabs. Neighbours in a magazine are often neighbours in a slab: that one
    /// is found, and sorted into its list, once for all of them.
    pub(super) fn empty(&self, lists: &mut Lists, magazine: &Magazine, rounds: u32) {
        let Some(entries) = NonNull::new(magazine.entries(self.platform())) else { return };
        let mut round = 0;
        while round < rounds {
            // SAFETY: the caller owns the magazine, and it has so many rounds.
            let first = unsafe { magazine::read(entries, round) };
            let Some(slab) = descriptor::find(self.source, first.object) else {
                let address = first.object.as_ptr() as usize;
                super::corrupted(self.platform(), address, Some(self.name));
                round += 1;
                continue;
            };
            let mut filling = Filling::new(slab);
            let mut put = 0;
            while round + put < rounds {
                // SAFETY: as above.
                let entry = unsafe { magazine::read(entries, round + put) };
                if !filling.put(self.platform(), entry) {
                    break;
                }
                put += 1;
            }
            lists.finish(self.platform(), filling);
            if put == 0 {
                if first.state().load(Relaxed) == CACHED {
                    // It is another slab's: one of the two records is wrong.
                    let address = first.object.as_ptr() as usize;
                    super::corrupted(self.platform(), address, Some(self.name));
                } else {
                    self.report_twice(first);
                }
                put = 1;
            }
            round += put;
        }
    }

    /// Puts the rounds of a slot's magazines back into their slabs.
    pub(super) fn drain_inside(&self, slot: Inside<'_>) {
        slot.settle();
        let mut lists = self.lists.lock(self.platform());
        let (loaded, rounds) = slot.take_loaded();
        if !loaded.is_none() {
            self.empty(&mut lists, &loaded, rounds);
        }
        slot.load(self.platform(), loaded, 0);
        let (previous, rounds) = slot.take_previous();
        if !previous.is_none() {
            self.empty(&mut lists, &previous, rounds);
        }
        slot.put_previous(previous, 0);
    }

    /// Puts idle objects back into their slabs: the running CPU's, the depot's, and other CPUs'. What cannot be had of those,
    /// they are asked for.
    pub(super) fn drain(&self, others: Others) {
        let platform = self.platform();
        if let Some(held) = self.hold() {
            self.drain_inside(*held);
        }
        if self.cpus.ask(platform) && others == Others::Visit {
            self.cpus.visit_all(platform, self.rounds(), |slot| self.drain_inside(slot));
        }
        self.drain_depot(usize::MAX, usize::MAX);
    }

    /// Takes full magazines out of the depot, puts their rounds back into their slabs, and
    /// gives empty ones' memory back: so many of each at most.
    fn drain_depot(&self, full: usize, empty: usize) {
        let platform = self.platform();
        for _ in 0..full {
            let Some((magazine, rounds)) = self.depot.lock(platform).full.pop(platform) else {
                break;
            };
            self.empty(&mut self.lists.lock(platform), &magazine, rounds);
            self.give_magazine(magazine);
        }
        for _ in 0..empty {
            let Some((magazine, _)) = self.depot.lock(platform).empty.pop(platform) else { break };
            self.give_magazine(magazine);
        }
    }

    pub(super) fn give_magazine(&self, magazine: Magazine) {
        if !magazine.is_none() {
            // SAFETY: the magazine was ours; its record came from `supply`.
            unsafe { self.records().give(self.source, magazine.into_id()) };
        }
    }

    /// Puts the objects of a CPU that has stopped back into their slabs, and gives its
    /// magazines' memory back.
    ///
    /// # Safety
    ///
    /// The CPU does not run, or does not use the cache during the call.
    pub unsafe fn drain_cpu(&self, cpu: CpuId) {
        let Some(slot) = self.cpus.slot(self.platform(), cpu) else { return };
        // SAFETY: the caller's promise: nobody else is inside.
        let slot = unsafe { Inside::new(slot, self.rounds()) };
        self.drain_inside(slot);
        let (loaded, _) = slot.take_loaded();
        let (previous, _) = slot.take_previous();
        slot.open(self.limits());
        self.give_magazine(loaded);
        self.give_magazine(previous);
        self.trim();
    }

    /// Forgets a CPU's magazines and their objects: see [`Heap::abandon_cpu`](crate::heap::Heap::abandon_cpu). Other CPUs are not
    /// touched, so at worst objects are lost.
    pub fn abandon_cpu(&self, cpu: CpuId) {
        self.cpus.abandon(cpu);
    }

    /// Empties every magazine and gives its memory back.
    pub(super) fn drain_all(&mut self) {
        for number in 0..crate::platform::MAX_CPUS {
            if let Some(cpu) = CpuId::new(number) {
                // SAFETY: the exclusive borrow shows that no CPU uses the cache.
                unsafe { self.drain_cpu(cpu) };
            }
        }
        self.drain_depot(usize::MAX, usize::MAX);
    }

    /// Gives back what has not been needed since the last call: the fewest empty slabs and the
    /// fewest magazines in the depot that there have been at any time in between. Called at
    /// intervals, it follows the working set. How many frames were given back.
    pub fn reap(&self) -> usize {
        let platform = self.platform();
        let (full, empty) = {
            let depot = self.depot.lock(platform);
            (depot.full.idle, depot.empty.idle)
        };
        self.drain_depot(full, empty);
        {
            let mut depot = self.depot.lock(platform);
            depot.full.settle();
            depot.empty.settle();
        }
        let idle = self.lists.lock(platform).idle;
        let mut frames = 0;
        for _ in 0..idle {
            let slab = self.lists.lock(platform).remove_empty(platform);
            let Some(slab) = slab else { break };
            frames += slab.order().frames();
            // SAFETY: `remove_empty` took it out of the lists, and all its objects are in it.
            unsafe { self.release(slab) };
        }
        self.lists.lock(platform).settle();
        frames
    }

    /// Gives back empty slabs beyond those that the cache keeps. Each was emptied by an earlier
    /// free, so the work is bounded by theirs.
    pub(super) fn trim(&self) {
        loop {
            let surplus = {
                let mut lists = self.lists.lock(self.platform());
                self.surplus(&mut lists)
            };
            let Some(slab) = surplus else { return };
            // SAFETY: `surplus` took it out of the lists, and all its objects are in it.
            unsafe { self.release(slab) };
        }
    }
}
