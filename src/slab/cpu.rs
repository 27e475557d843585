//! What each CPU has of a cache: two magazines, and the mark that it is using them.
//!
//! # Invariants
//!
//! 1. A slot's fields are written by its own CPU alone, while `busy` is set; but any CPU may
//!    set `drain` and clear `capacity`, which sends the next free on that CPU to the slow path.
//! 2. `busy` is set by a plain store. That is enough, since the thread is pinned (where threads
//!    migrate, the mark is an atomic exchange) and an interrupt handler runs to completion on
//!    top of what it interrupted: it finds the mark set and takes the shared path, or finds it
//!    clear and leaves the slot as it would be between two calls.
//! 3. Where there is no slot there is [`ABSENT`], which is always busy, and where there is no
//!    table there is one of these. So a hit asks one question: is the slot busy?
//! 4. `rounds <= capacity` of the loaded magazine, or `capacity` is 0.

use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    compiler_fence,
};

use super::descriptor::Entry;
#[cfg(feature = "mmap")]
use super::descriptor::{CACHED, Slab, USER};
use super::magazine::{self, Magazine};
use crate::buddy::AllocError;
use crate::page::records::{self, NONE, Records};
use crate::page::{AllocFlags, FrameSource};
use crate::platform::{CpuId, MAX_CPUS, Pinning, Platform};

/// One CPU's magazines of one cache: a cache line.
#[repr(C, align(64))]
pub(crate) struct Slot {
    busy: AtomicBool,
    drain: AtomicBool,
    /// Rounds in the loaded magazine.
    rounds: AtomicU32,
    /// Rounds that the loaded magazine can hold; 0 without one, and while a drain is wanted.
    capacity: AtomicU32,
    previous_rounds: AtomicU32,
    /// The loaded magazine's entries.
    entries: AtomicPtr<Entry>,
    loaded: AtomicU32,
    previous: AtomicU32,
    /// Objects to take from the slabs next time, doubled each time: a cache that is hardly used
    /// strands little.
    batch: AtomicU32,
    /// The record of the cache.
    cache: AtomicU32,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// The slot of a CPU that has none.
static ABSENT: Slot = Slot::new(true);

/// The table of a cache that has none.
static NO_SLOTS: [AtomicPtr<Slot>; MAX_CPUS] =
    [const { AtomicPtr::new((&raw const ABSENT).cast_mut()) }; MAX_CPUS];

impl Slot {
    const fn new(is_busy: bool) -> Self {
        Self {
            busy: AtomicBool::new(is_busy),
            drain: AtomicBool::new(false),
            rounds: AtomicU32::new(0),
            capacity: AtomicU32::new(0),
            previous_rounds: AtomicU32::new(0),
            entries: AtomicPtr::new(core::ptr::null_mut()),
            loaded: AtomicU32::new(NONE),
            previous: AtomicU32::new(NONE),
            batch: AtomicU32::new(1),
            cache: AtomicU32::new(NONE),
        }
    }

    /// An object from the loaded magazine, for its user; `None`, and nothing has changed, if there is none or the slot is
    /// being used.
    ///
    /// # Safety
    ///
    /// The caller runs on the slot's CPU and stays there, and nothing else uses the slot on that CPU but interrupt handlers.
    /// The cache watches none of its objects.
    #[cfg(feature = "mmap")]
    #[inline(always)]
    pub(crate) unsafe fn pop_hit(&self) -> Option<NonNull<u8>> {
        if self.busy.load(Relaxed) {
            return None;
        }
        self.busy.store(true, Relaxed);
        compiler_fence(SeqCst);
        let rounds = self.rounds.load(Relaxed);
        let mut object = None;
        if rounds != 0 {
            let entries = self.entries.load(Relaxed);
            // SAFETY: the slot is the caller's and owns the loaded magazine, whose entries these are; the index is below
            // its rounds.
            let entry = unsafe { magazine::read(NonNull::new_unchecked(entries), rounds - 1) };
            // Whatever is wrong with an object is the slow path's to report.
            if entry.state().load(Relaxed) == CACHED {
                entry.state().store(USER, Relaxed);
                self.rounds.store(rounds - 1, Relaxed);
                object = Some(entry.object);
            }
        }
        compiler_fence(SeqCst);
        self.busy.store(false, Relaxed);
        object
    }

    /// Puts a user's object into the loaded magazine; `false`, and nothing has changed, if there is no room, the slot is being
    /// used, or `object` is no user's object of this slot's cache.
    ///
    /// # Safety
    ///
    /// As [`pop_hit`](Self::pop_hit). `slab` is where `object` lies. If it is an allocated object, nobody uses it any more.
    #[cfg(feature = "mmap")]
    #[inline(always)]
    pub(crate) unsafe fn push_hit(&self, slab: Slab<'_>, object: NonNull<u8>) -> bool {
        if self.busy.load(Relaxed) {
            return false;
        }
        let Some(index) = slab.index_at(object.as_ptr() as usize) else { return false };
        let entry = slab.entry_at(object, index);
        self.busy.store(true, Relaxed);
        compiler_fence(SeqCst);
        let rounds = self.rounds.load(Relaxed);
        let is_good = rounds < self.capacity.load(Relaxed)
            && slab.cache() == self.cache.load(Relaxed)
            && entry.state().load(Relaxed) == USER;
        if is_good {
            entry.state().store(CACHED, Relaxed);
            let entries = self.entries.load(Relaxed);
            // SAFETY: the slot is the caller's and owns the loaded magazine, which has room for `capacity` entries.
            unsafe { entries.add(rounds as usize).write(entry) };
            self.rounds.store(rounds + 1, Relaxed);
        }
        compiler_fence(SeqCst);
        self.busy.store(false, Relaxed);
        is_good
    }

    /// What stands for the slot of a CPU that has none: no hit finds it free.
    #[cfg(feature = "mmap")]
    pub(crate) const fn absent() -> *const Self {
        &raw const ABSENT
    }

    /// Whether this is a CPU's slot.
    fn is_present(&self) -> bool {
        !core::ptr::eq(self, &ABSENT)
    }

    /// The rounds in both magazines, as far as another CPU can tell.
    pub(super) fn total_rounds(&self) -> usize {
        (self.rounds.load(Relaxed) + self.previous_rounds.load(Relaxed)) as usize
    }

    /// As new.
    fn forget(&self) {
        self.drain.store(false, Relaxed);
        self.rounds.store(0, Relaxed);
        self.capacity.store(0, Relaxed);
        self.previous_rounds.store(0, Relaxed);
        self.loaded.store(NONE, Relaxed);
        self.previous.store(NONE, Relaxed);
        self.batch.store(1, Relaxed);
        self.busy.store(false, Relaxed);
    }

    /// Asks the slot's CPU to give its objects back at its next free.
    pub(super) fn ask_to_drain(&self) {
        self.drain.store(true, Relaxed);
        self.capacity.store(0, Relaxed);
    }
}

/// A slot that this CPU is using; nobody else touches it until this is dropped.
pub(super) struct Held<'a, P: Platform> {
    slot: &'a Slot,
    platform: &'a P,
    /// Where this was made.
    cpu: CpuId,
}

impl<'a, P: Platform> Held<'a, P> {
    /// Marks the slot of a CPU that does not run as used.
    ///
    /// # Safety
    ///
    /// The slot's CPU does not use the cache until this is dropped, and neither does anybody
    /// else the slot.
    pub(super) unsafe fn absent(slot: &'a Slot, platform: &'a P) -> Self {
        let cpu = platform.pin_here();
        slot.busy.store(true, Relaxed);
        Self { slot, platform, cpu }
    }

    /// An object from the loaded magazine.
    #[inline]
    pub(super) fn pop(&self) -> Option<Entry> {
        self.pop_if(|_| true)
    }

    /// The object at the top of the loaded magazine, if it is as it should be.
    #[inline(always)]
    pub(super) fn pop_if(&self, is_good: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        let rounds = self.slot.rounds.load(Relaxed);
        if rounds == 0 {
            return None;
        }
        let entries = self.slot.entries.load(Relaxed);
        // SAFETY: the slot is ours (invariant 2) and owns the loaded magazine, whose entries
        // these are; the index is below its rounds.
        let entry = unsafe { magazine::read(NonNull::new_unchecked(entries), rounds - 1) };
        if !is_good(&entry) {
            return None;
        }
        self.slot.rounds.store(rounds - 1, Relaxed);
        Some(entry)
    }

    /// Up to `wanted` objects from the loaded magazine.
    #[inline]
    pub(super) fn pop_many(&self, wanted: usize, mut sink: impl FnMut(Entry)) {
        let rounds = self.slot.rounds.load(Relaxed);
        let left = rounds - (rounds as usize).min(wanted) as u32;
        let entries = self.slot.entries.load(Relaxed);
        self.slot.rounds.store(left, Relaxed);
        for index in (left..rounds).rev() {
            // SAFETY: as in `pop`; nobody writes there while the slot is ours.
            sink(unsafe { magazine::read(NonNull::new_unchecked(entries), index) });
        }
    }

    /// A place in the loaded magazine, if there is room.
    #[inline]
    pub(super) fn room(&self) -> Option<Room<'_, 'a, P>> {
        let rounds = self.slot.rounds.load(Relaxed);
        // Not `==`: a drain clears the capacity.
        (rounds < self.slot.capacity.load(Relaxed)).then_some(Room { held: self, rounds })
    }

    /// Puts an object into the loaded magazine, if there is room.
    pub(super) fn push(&self, entry: Entry) -> bool {
        let room = self.room();
        if let Some(room) = room {
            room.fill(entry);
            return true;
        }
        false
    }

    /// Puts objects into a loaded magazine that the caller knows to have room. A drain that
    /// is asked for in between clears the capacity, but not the room.
    pub(super) fn refill(&self) -> Refill<'_, 'a, P> {
        let rounds = self.slot.rounds.load(Relaxed);
        Refill { held: self, entries: self.slot.entries.load(Relaxed), rounds }
    }

    #[inline]
    fn write(&self, rounds: u32, entry: Entry) {
        let entries = self.slot.entries.load(Relaxed);
        // SAFETY: the slot is ours (invariant 2) and owns the loaded magazine, which has room
        // for `capacity` entries, and is not null when that is above 0.
        unsafe { entries.add(rounds as usize).write(entry) };
        self.slot.rounds.store(rounds + 1, Relaxed);
    }

    /// Whether the loaded magazine has room.
    pub(super) fn has_room(&self) -> bool {
        self.room().is_some()
    }

    pub(super) fn rounds(&self) -> u32 {
        self.slot.rounds.load(Relaxed)
    }

    pub(super) fn previous_rounds(&self) -> u32 {
        self.slot.previous_rounds.load(Relaxed)
    }

    pub(super) fn has_loaded(&self) -> bool {
        self.slot.loaded.load(Relaxed) != NONE
    }

    pub(super) fn has_previous(&self) -> bool {
        self.slot.previous.load(Relaxed) != NONE
    }

    /// Whether a drain was asked for; asks no more.
    pub(super) fn take_drain(&self) -> bool {
        let wanted = self.slot.drain.load(Relaxed);
        if wanted {
            self.slot.drain.store(false, Relaxed);
        }
        wanted
    }

    /// Whether a drain was asked for.
    pub(super) fn is_to_drain(&self) -> bool {
        self.slot.drain.load(Relaxed)
    }

    /// Takes the loaded magazine out.
    pub(super) fn take_loaded(&self) -> (Magazine, u32) {
        let rounds = self.slot.rounds.load(Relaxed);
        // SAFETY: the slot is ours, and loses the magazine here.
        let loaded = unsafe { Magazine::from_id(self.slot.loaded.load(Relaxed)) };
        self.slot.loaded.store(NONE, Relaxed);
        self.slot.rounds.store(0, Relaxed);
        self.slot.capacity.store(0, Relaxed);
        (loaded, rounds)
    }

    /// Loads a magazine; there is none loaded.
    pub(super) fn load(&self, magazine: Magazine, rounds: u32, capacity: u32) {
        if magazine.is_none() {
            return;
        }
        self.slot.entries.store(magazine.entries(self.platform), Relaxed);
        self.slot.loaded.store(magazine.into_id(), Relaxed);
        self.slot.rounds.store(rounds, Relaxed);
        self.slot.capacity.store(capacity, Relaxed);
    }

    /// Takes the previous magazine out.
    pub(super) fn take_previous(&self) -> (Magazine, u32) {
        let rounds = self.slot.previous_rounds.load(Relaxed);
        // SAFETY: the slot is ours, and loses the magazine here.
        let previous = unsafe { Magazine::from_id(self.slot.previous.load(Relaxed)) };
        self.slot.previous.store(NONE, Relaxed);
        self.slot.previous_rounds.store(0, Relaxed);
        (previous, rounds)
    }

    /// Puts a magazine where there is no previous one.
    pub(super) fn put_previous(&self, magazine: Magazine, rounds: u32) {
        self.slot.previous.store(magazine.into_id(), Relaxed);
        self.slot.previous_rounds.store(rounds, Relaxed);
    }

    /// Loads the previous magazine and makes the loaded one the previous.
    pub(super) fn swap(&self, capacity: u32) {
        let (loaded, rounds) = self.take_loaded();
        let (previous, previous_rounds) = self.take_previous();
        self.put_previous(loaded, rounds);
        self.load(previous, previous_rounds, capacity);
    }

    /// How many objects to take from the slabs now.
    pub(super) fn next_batch(&self, capacity: u32) -> usize {
        let batch = self.slot.batch.load(Relaxed).min(capacity);
        self.slot.batch.store(batch * 2, Relaxed);
        batch as usize
    }
}

/// A place for one object in a loaded magazine.
pub(super) struct Room<'h, 'a, P: Platform> {
    held: &'h Held<'a, P>,
    rounds: u32,
}

impl<P: Platform> Room<'_, '_, P> {
    /// Puts an object there.
    #[inline]
    pub(super) fn fill(self, entry: Entry) {
        self.held.write(self.rounds, entry);
    }
}

/// A loaded magazine that is being filled: see [`Held::refill`].
pub(super) struct Refill<'h, 'a, P: Platform> {
    held: &'h Held<'a, P>,
    entries: *mut Entry,
    rounds: u32,
}

impl<P: Platform> Refill<'_, '_, P> {
    /// Puts an object behind the others.
    #[inline(always)]
    pub(super) fn put(&mut self, entry: Entry) {
        // SAFETY: the slot is held (invariant 2) and owns the loaded magazine, whose entries these are; whoever fills it knows
        // that there is room.
        unsafe { self.entries.add(self.rounds as usize).write(entry) };
        self.rounds += 1;
    }

    /// Makes them the magazine's.
    pub(super) fn finish(self) {
        self.held.slot.rounds.store(self.rounds, Relaxed);
    }
}

impl<P: Platform> Drop for Held<'_, P> {
    #[inline]
    fn drop(&mut self) {
        // The magazines are whole before a handler on this CPU can find the mark clear.
        compiler_fence(SeqCst);
        // Release, for the Acquire in `hold` where threads migrate.
        self.slot.busy.store(false, Release);
        self.platform.unpin_from(self.cpu);
    }
}

/// The slots of one cache: a table of their addresses, by CPU. Neither exists before it is needed.
pub(super) struct Cpus {
    table: AtomicPtr<AtomicPtr<Slot>>,
    /// The table's record.
    table_id: AtomicU32,
    /// Calls that took the shared path, until there are slots.
    calls: AtomicU32,
}

/// A cache takes memory for slots after so many calls.
const CALLS_BEFORE_SLOTS: u32 = 32;

impl Cpus {
    pub(super) const fn new() -> Self {
        Self {
            table: AtomicPtr::new((&raw const NO_SLOTS).cast_mut().cast()),
            table_id: AtomicU32::new(NONE),
            calls: AtomicU32::new(0),
        }
    }

    /// How many CPUs the table has.
    fn len<P: Platform>(platform: &P) -> usize {
        platform.cpu_count().min(MAX_CPUS)
    }

    /// The CPU's cell in the table.
    #[inline]
    fn cell(&self, cpu: CpuId) -> &AtomicPtr<Slot> {
        // Acquire, for the Release in `add_table`: the cells are written.
        let table = self.table.load(Acquire);
        // SAFETY: the table is that of `NO_SLOTS`, which has a cell for every `CpuId`, or that
        // of `add_table`, which has one for each CPU below the platform's `cpu_count`, and
        // every `cpu_id` is below it. It lives as long as the cache.
        unsafe { &*table.add(cpu.index()) }
    }

    /// The CPU's slot, or [`ABSENT`].
    #[inline]
    fn at(&self, cpu: CpuId) -> &Slot {
        // SAFETY: cells lead to `ABSENT` or to a slot that `add_slot` has written, which lives
        // as long as the cache. Acquire, for the Release there.
        unsafe { &*self.cell(cpu).load(Acquire) }
    }

    /// The CPU's slot, which lives as long as the cache, if it has one.
    #[cfg(feature = "mmap")]
    pub(super) fn local(&self, cpu: CpuId) -> Option<NonNull<Slot>> {
        Some(self.at(cpu)).filter(|slot| slot.is_present()).map(NonNull::from)
    }

    /// The CPU's slot, if it has one.
    pub(super) fn slot<P: Platform>(&self, platform: &P, cpu: CpuId) -> Option<&Slot> {
        (cpu.index() < Self::len(platform)).then(|| self.at(cpu)).filter(|slot| slot.is_present())
    }

    /// All slots.
    pub(super) fn slots<P: Platform>(&self, platform: &P) -> impl Iterator<Item = &Slot> {
        (0..Self::len(platform)).filter_map(move |number| self.slot(platform, CpuId::new(number)?))
    }

    /// Holds the running CPU's slot; `None` where there is none, and where this interrupted its
    /// use.
    #[inline(always)]
    pub(super) fn hold<'a, P: Platform>(&'a self, platform: &'a P) -> Option<Held<'a, P>> {
        let cpu = platform.pin_here();
        let slot = self.at(cpu);
        let is_free = match P::PINNING {
            Pinning::Pinned => !slot.busy.load(Relaxed),
            // Acquire, for the Release of the thread that had the slot before, and has moved away.
            Pinning::Migrating => slot.busy.compare_exchange(false, true, Acquire, Relaxed).is_ok(),
        };
        if !is_free {
            platform.unpin_from(cpu);
            return None;
        }
        if P::PINNING == Pinning::Pinned {
            slot.busy.store(true, Relaxed);
        }
        // No handler on this CPU sees the magazines change before it can see the mark.
        compiler_fence(SeqCst);
        Some(Held { slot, platform, cpu })
    }

    /// Counts a call on the shared path; whether the running CPU should have a slot by now.
    #[inline]
    pub(super) fn wants_slot<P: Platform>(&self, platform: &P) -> bool {
        let calls = self.calls.load(Relaxed);
        if calls < CALLS_BEFORE_SLOTS {
            self.calls.store(calls + 1, Relaxed);
            return false;
        }
        !self.at(platform.cpu_id()).is_present()
    }

    /// Gives the running CPU a slot; whether it is a new one.
    #[cold]
    pub(super) fn add_slot<S: FrameSource>(
        &self,
        source: &S,
        records: &Records,
        cache: u32,
        flags: AllocFlags,
    ) -> Result<bool, AllocError> {
        let platform = source.platform();
        if self.table_id.load(Acquire) == NONE {
            self.add_table(source, records, flags)?;
        }
        let cpu = platform.cpu_id();
        let absent = (&raw const ABSENT).cast_mut();
        if core::ptr::eq(self.table.load(Acquire), NO_SLOTS.as_ptr()) {
            // Another CPU is making the table.
            return Ok(false);
        }
        let record = records.take(source, size_of::<Slot>(), flags)?;
        let slot = record.address.cast::<Slot>().as_ptr();
        // SAFETY: the record was just taken; granules have a slot's size and alignment.
        unsafe {
            slot.write(Slot::new(false));
            (*slot).cache.store(cache, Relaxed);
        }
        // Release, for the Acquire in `at`.
        if self.cell(cpu).compare_exchange(absent, slot, AcqRel, Relaxed).is_ok() {
            return Ok(true);
        }
        // SAFETY: taken above; nobody has seen it.
        unsafe { records.give(source, record.id) };
        Ok(false)
    }

    fn add_table<S: FrameSource>(
        &self,
        source: &S,
        records: &Records,
        flags: AllocFlags,
    ) -> Result<(), AllocError> {
        let cpus = Self::len(source.platform());
        let record = records.take(source, cpus * size_of::<AtomicPtr<Slot>>(), flags)?;
        let table = record.address.cast::<AtomicPtr<Slot>>().as_ptr();
        for index in 0..cpus {
            // SAFETY: the record was just taken for so many cells.
            unsafe { table.add(index).write(AtomicPtr::new((&raw const ABSENT).cast_mut())) };
        }
        // The id first, by whoever wins it: it is read only when the cache ends.
        if self.table_id.compare_exchange(NONE, record.id, AcqRel, Relaxed).is_ok() {
            // Release, for the Acquire in `cell`.
            self.table.store(table, Release);
        } else {
            // SAFETY: taken above; nobody has seen it.
            unsafe { records.give(source, record.id) };
        }
        Ok(())
    }

    /// Makes the slot of a CPU that has none any more ready for another: without magazines.
    pub(super) fn abandon(&self, cpu: CpuId) {
        let slot = self.at(cpu);
        if slot.is_present() {
            slot.forget();
        }
    }

    /// Gives the slots and the table back.
    ///
    /// # Safety
    ///
    /// The slots hold no magazine, and nobody uses the cache.
    pub(super) unsafe fn give<S: FrameSource>(&self, source: &S, records: &Records) {
        let platform = source.platform();
        for number in 0..Self::len(platform) {
            let slot = CpuId::new(number).and_then(|cpu| self.slot(platform, cpu));
            if let Some(id) =
                slot.and_then(|slot| records::id_of(platform, (&raw const *slot).cast()))
            {
                // SAFETY: `add_slot` took it; nobody uses it.
                unsafe { records.give(source, id) };
            }
        }
        self.table.store(NO_SLOTS.as_ptr().cast_mut(), Relaxed);
        let id = self.table_id.swap(NONE, Relaxed);
        if id != NONE {
            // SAFETY: `add_table` took it; nobody uses it.
            unsafe { records.give(source, id) };
        }
    }
}
