//! The slow path of a CPU's magazines: exchange with its shelf and the depot, refill from the
//! slabs, and the way back.
//!
//! Loaded and previous magazine together bound the visits to the shelf: between two of them lie
//! at least as many calls as a magazine has rounds, whatever the sequence. Nothing here takes
//! memory while a slot is held.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use super::RawCache;
use super::cpus::Held;
use super::descriptor::{CACHED, Entry, Slab};
use super::flags::CacheFlags;
use super::identity;
use super::lifecycle::{ConstructError, Lifecycle};
use super::lists::{Lists, Scope};
use super::magazine::{Magazine, magazine_bytes, rounds_for};
use super::paths::{FOR_FREE, WATCHED};
use super::shelf::{Shelf, has_depot_place};
#[cfg(feature = "mmap")]
use super::slot::Slot;
use crate::buddy::AllocError;
use crate::lock::{Guard, IrqLock};
use crate::page::records::NONE;
use crate::page::{AllocFlags, FrameSource};
#[cfg(feature = "mmap")]
use crate::platform::CpuId;
use crate::platform::Platform;

/// What came of an attempt to make the loaded magazine useful.
pub(super) enum Turn {
    /// It has rounds, or room.
    Ready,
    /// It has room, since objects have gone back to the slabs: some of those may be more than the
    /// cache keeps.
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
        // That waits for the lists' lock: the next call that may does it.
        if held.is_to_drain() && !flags.contains(AllocFlags::NO_WAIT) {
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
            let mut shelf = lock_shelf(held.shelf(), platform, flags)?;
            shelf.visits += 1;
            if let Some(full) = shelf.full.pop(platform) {
                exchange(platform, held, &mut shelf, full);
                return Ok(Turn::Ready);
            }
            if !held.has_loaded() {
                let Some(empty) = self.empty_magazine(&mut shelf, flags)? else {
                    return Ok(Turn::NeedsMagazine);
                };
                held.load(platform, empty);
            }
            shelf.miss(self.object_bytes(), self.cpus.count());
        }
        // The loaded magazine is empty, and a batch is no more than it holds.
        let batch = held.next_batch();
        let mut refill = held.refill(batch);
        // SAFETY: `take` hands out no more than `batch`.
        let sink = |entry| unsafe { refill.put(entry) };
        let taken = self.lock(flags)?.take(platform, held.cpu(), self.near(), batch, CACHED, sink);
        refill.finish();
        if self.recedes.load(Relaxed) {
            self.recedes.store(false, Relaxed);
        }
        if taken > 0 {
            return Ok(Turn::Ready);
        }
        let mut depot = lock_shelf(&self.depot, platform, flags)?;
        let Some(full) = depot.full.pop(platform) else { return Ok(Turn::Nothing) };
        exchange(platform, held, &mut depot, full);
        Ok(Turn::Ready)
    }

    /// An empty magazine from the CPU's own shelf, or from the depot, for a request with `flags`.
    fn empty_magazine(
        &self,
        shelf: &mut Shelf,
        flags: AllocFlags,
    ) -> Result<Option<Magazine>, AllocError> {
        let platform = self.platform();
        match shelf.empty.pop(platform) {
            None => Ok(lock_shelf(&self.depot, platform, flags)?.empty.pop(platform)),
            own => Ok(own),
        }
    }

    /// How far the running CPU may reach for slabs: for each CPU, a slab's worth of objects is left
    /// to the others.
    pub(super) fn near(&self) -> Scope {
        Scope::Near(self.cpus.count() * self.geometry.map_or(0, |geometry| geometry.objects))
    }

    /// Loads a magazine with rounds in the place of the empty one, if there is one; the slabs are
    /// left alone.
    pub(super) fn load_full(&self, held: &Held<'_, S::Platform>, flags: AllocFlags) -> bool {
        let platform = self.platform();
        if held.previous_rounds() > 0 {
            held.swap(platform);
            return true;
        }
        let Ok(mut shelf) = lock_shelf(held.shelf(), platform, flags) else { return false };
        shelf.visits += 1;
        let Some(full) = shelf.full.pop(platform) else { return false };
        exchange(platform, held, &mut shelf, full);
        true
    }

    /// Loads a magazine with room in the place of the full one, if there is one; the slabs are
    /// left alone.
    pub(super) fn load_with_room(&self, held: &Held<'_, S::Platform>) -> Turn {
        let platform = self.platform();
        if held.has_loaded() && held.has_room_behind() {
            held.swap(platform);
            return Turn::Ready;
        }
        let (cpus, is_ebbing) = (self.cpus.count(), self.is_ebbing());
        let mut shelf = held.shelf().lock(platform);
        shelf.visits += 1;
        let has_place = !is_ebbing && shelf.has_place(self.object_bytes(), cpus);
        if has_place || !held.has_previous() {
            let Ok(Some(empty)) = self.empty_magazine(&mut shelf, AllocFlags::empty()) else {
                return Turn::NeedsMagazine;
            };
            put_away(platform, held, &mut shelf, empty);
            return Turn::Ready;
        }
        if is_ebbing {
            return Turn::Nothing;
        }
        let mut depot = self.depot.lock(platform);
        if !has_depot_place(depot.full.len(), cpus) {
            shelf.turn_away();
            return Turn::Nothing;
        }
        let Some(empty) = depot.empty.pop(platform) else { return Turn::NeedsMagazine };
        put_away(platform, held, &mut depot, empty);
        Turn::Ready
    }

    /// Whether what is freed is not to be kept, since memory goes back: all of it, or this cache's.
    pub(super) fn is_ebbing(&self) -> bool {
        self.source.is_ebbing() || self.recedes.load(Relaxed)
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
                    if self.supply_for_free().is_err() {
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
        let turn = self.load_with_room(held);
        if !matches!(turn, Turn::Nothing) {
            return turn;
        }
        let (emptied, turn) = self.flush(held.take_previous());
        held.put_previous(emptied);
        held.swap(platform);
        let follows = self.recedes.load(Relaxed).then(|| self.unshelve(held)).flatten();
        follows.unwrap_or(turn)
    }

    /// Puts a claimed object, which lies in another way's slab, where it goes back to that slab:
    /// into the CPU's magazine for such objects, which is emptied first if it is full.
    pub(super) fn keep_foreign(
        &self,
        held: &Held<'_, S::Platform>,
        slab: Slab<'_>,
        index: usize,
        entry: Entry,
    ) -> Turn {
        let platform = self.platform();
        if self.flags.intersects(WATCHED) {
            self.lists.lock(platform).put(platform, slab, index);
            return Turn::Flushed;
        }
        if held.push_foreign(platform, entry) {
            return Turn::Ready;
        }
        let full = held.take_foreign();
        if full.is_none() {
            let empty = self.empty_magazine(&mut held.shelf().lock(platform), AllocFlags::empty());
            let Ok(Some(empty)) = empty else {
                self.lists.lock(platform).put(platform, slab, index);
                return Turn::NeedsMagazine;
            };
            held.put_foreign(empty);
            held.push_foreign(platform, entry);
            return Turn::Ready;
        }
        let (emptied, turn) = self.flush(full);
        held.put_foreign(emptied);
        held.push_foreign(platform, entry);
        turn
    }

    /// Has the rounds of a magazine on the CPU's shelf, if there is one, follow those that were
    /// flushed: all of them would be too many at once.
    fn unshelve(&self, held: &Held<'_, S::Platform>) -> Option<Turn> {
        let platform = self.platform();
        let full = held.shelf().lock(platform).full.pop(platform)?;
        let (emptied, turn) = self.flush(full);
        held.shelf().lock(platform).empty.push(platform, emptied);
        Some(turn)
    }

    /// Puts the rounds of a magazine back into their slabs, and returns it without them.
    fn flush(&self, magazine: Magazine) -> (Magazine, Turn) {
        let mut lists = self.lists.lock(self.platform());
        let emptied = self.empty(&mut lists, magazine);
        self.note_recess(&lists);
        (emptied, if self.has_surplus(&lists) { Turn::Flushed } else { Turn::Ready })
    }

    /// Notes whether the users are about to be done, as the lists say. Where empty slabs are kept
    /// for their constructed objects, they do not go whatever comes back.
    fn note_recess(&self, lists: &Lists) {
        let recedes =
            !L::CONSTRUCTS && self.geometry.is_ok_and(|geometry| lists.recede(geometry.objects));
        if recedes != self.recedes.load(Relaxed) {
            self.recedes.store(recedes, Relaxed);
        }
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
        match lock_shelf(&self.depot, self.platform(), flags) {
            Ok(mut depot) => depot.empty.push(self.platform(), magazine),
            Err(error) => {
                self.give_magazine(magazine);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The same on behalf of a free. Without memory for one at once the object goes to its slab,
    /// and the next such free asks again; the depot's lock is not worth that, since a free
    /// waits for the lists' as well.
    pub(super) fn supply_for_free(&self) -> Result<(), AllocError> {
        let magazine = self.new_magazine(FOR_FREE)?;
        self.depot.lock(self.platform()).empty.push(self.platform(), magazine);
        Ok(())
    }

    /// The slot of a CPU for as long as the cache lives, if it has one and hits need look at
    /// nothing else.
    #[cfg(feature = "mmap")]
    pub(crate) fn local_slot(&self, cpu: CpuId) -> Option<NonNull<Slot>> {
        if self.flags.intersects(WATCHED) {
            return None;
        }
        self.cpus.slot(self.platform(), cpu).map(NonNull::from)
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
        let id = self.identity.id();
        if id == NONE {
            return;
        }
        // SAFETY: this cache has not ended.
        let cache = unsafe { identity::of_id(self.source, id) }.number;
        // Without one, the next call on the shared path tries again.
        let _ = self.cpus.add_slot(self.source, self.records(), cache, flags);
    }
}

/// The shelf, for a request with `flags`.
fn lock_shelf<'a, P: Platform>(
    shelf: &'a IrqLock<Shelf>,
    platform: &'a P,
    flags: AllocFlags,
) -> Result<Guard<'a, Shelf, P>, AllocError> {
    if flags.contains(AllocFlags::NO_WAIT) {
        return shelf.try_lock(platform).ok_or(AllocError::WouldBlock);
    }
    Ok(shelf.lock(platform))
}

/// Loads a magazine with rounds in the place of the empty one, if there is one, which goes to the
/// shelf.
pub(super) fn exchange<P: Platform>(
    platform: &P,
    held: &Held<'_, P>,
    shelf: &mut Shelf,
    full: Magazine,
) {
    let loaded = held.take_loaded();
    if !loaded.is_none() {
        shelf.empty.push(platform, loaded);
    }
    held.load(platform, full);
}

/// Loads an empty magazine in the place of the full one, if there is one, which becomes the
/// previous one. That goes to the shelf.
pub(super) fn put_away<P: Platform>(
    platform: &P,
    held: &Held<'_, P>,
    shelf: &mut Shelf,
    empty: Magazine,
) {
    if !held.has_loaded() {
        return held.load(platform, empty);
    }
    let previous = held.take_previous();
    if !previous.is_none() {
        shelf.full.push(platform, previous);
    }
    held.put_previous(empty);
    held.swap(platform);
}
