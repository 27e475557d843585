//! What each CPU has of a cache: two magazines, and the mark that it is using them.
//!
//! # Invariants
//!
//! 1. A slot's fields are written by its own CPU alone, while `busy` is set; but any CPU may set `drain` and clear
//!    `capacity`, which sends the next free on that CPU to the slow path.
//! 2. `busy` is set by a plain store. That is enough, since the thread is pinned and an interrupt handler
//!    runs to completion on top of what it interrupted: it finds the mark set and takes the shared path, or finds it
//!    clear and leaves the slot as it would be between two calls.
//! 3. `rounds <= capacity` of the loaded magazine, or `capacity` is 0.

use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    compiler_fence,
};

use super::descriptor::Entry;
use super::magazine::{self, Magazine};
use super::records::{NONE, Records, address};
use crate::buddy::AllocError;
use crate::page::{AllocFlags, FrameSource};
use crate::platform::{CpuId, MAX_CPUS, Platform};

/// One CPU's magazines of one cache: a cache line.
#[repr(C, align(64))]
pub(super) struct Slot {
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
    /// Objects to take from the slabs next time, doubled each time: a cache that is hardly used strands little.
    batch: AtomicU32,
}

const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    const NEW: Self = Self {
        busy: AtomicBool::new(false),
        drain: AtomicBool::new(false),
        rounds: AtomicU32::new(0),
        capacity: AtomicU32::new(0),
        previous_rounds: AtomicU32::new(0),
        entries: AtomicPtr::new(core::ptr::null_mut()),
        loaded: AtomicU32::new(NONE),
        previous: AtomicU32::new(NONE),
        batch: AtomicU32::new(1),
    };

    /// The rounds in both magazines, as far as another CPU can tell.
    pub(super) fn total_rounds(&self) -> usize {
        (self.rounds.load(Relaxed) + self.previous_rounds.load(Relaxed)) as usize
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
}

impl<'a, P: Platform> Held<'a, P> {
    /// Marks the slot of a CPU that does not run as used.
    ///
    /// # Safety
    ///
    /// The slot's CPU does not use the cache until this is dropped, and neither does anybody else the slot.
    pub(super) unsafe fn absent(slot: &'a Slot, platform: &'a P) -> Self {
        platform.pin();
        slot.busy.store(true, Relaxed);
        Self { slot, platform }
    }

    /// An object from the loaded magazine.
    #[inline]
    pub(super) fn pop(&self) -> Option<Entry> {
        let rounds = self.slot.rounds.load(Relaxed);
        if rounds == 0 {
            return None;
        }
        let entries = self.slot.entries.load(Relaxed);
        // SAFETY: the slot is ours (invariant 2) and owns the loaded magazine, whose entries these are; the
        // index is below its rounds.
        let entry = unsafe { magazine::read(NonNull::new_unchecked(entries), rounds - 1) };
        self.slot.rounds.store(rounds - 1, Relaxed);
        Some(entry)
    }

    /// Puts an object into the loaded magazine, if there is room.
    #[inline]
    pub(super) fn push(&self, entry: Entry) -> bool {
        let rounds = self.slot.rounds.load(Relaxed);
        // Not `==`: a drain clears the capacity.
        if rounds >= self.slot.capacity.load(Relaxed) {
            return false;
        }
        let entries = self.slot.entries.load(Relaxed);
        // SAFETY: the slot is ours (invariant 2) and owns the loaded magazine, which has room for `capacity`
        // entries, and is not null when that is above 0.
        unsafe { entries.add(rounds as usize).write(entry) };
        self.slot.rounds.store(rounds + 1, Relaxed);
        true
    }

    /// Whether the loaded magazine has room.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.slot.rounds.load(Relaxed) < self.slot.capacity.load(Relaxed)
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

impl<P: Platform> Drop for Held<'_, P> {
    #[inline]
    fn drop(&mut self) {
        // The magazines are whole before a handler on this CPU can find the mark clear.
        compiler_fence(SeqCst);
        self.slot.busy.store(false, Relaxed);
        self.platform.unpin();
    }
}

/// The slots of one cache: a table of their ids, by CPU. Neither exists before it is needed.
pub(super) struct Cpus {
    table: AtomicPtr<AtomicU32>,
    table_id: AtomicU32,
    /// Calls that took the shared path, until there are slots.
    calls: AtomicU32,
}

/// A cache takes memory for slots after so many calls.
const CALLS_BEFORE_SLOTS: u32 = 32;

impl Cpus {
    pub(super) const fn new() -> Self {
        Self {
            table: AtomicPtr::new(core::ptr::null_mut()),
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
    fn cell<P: Platform>(&self, platform: &P, cpu: CpuId) -> Option<&AtomicU32> {
        // Acquire, for the Release in `add_slot`: the cells are written.
        let table = self.table.load(Acquire);
        if table.is_null() || cpu.index() >= Self::len(platform) {
            return None;
        }
        // SAFETY: `add_slot` wrote a cell for each CPU, and the table lives as long as the cache.
        Some(unsafe { &*table.add(cpu.index()) })
    }

    /// The CPU's slot.
    #[inline]
    pub(super) fn slot<P: Platform>(&self, platform: &P, cpu: CpuId) -> Option<&Slot> {
        // Acquire, for the Release in `add_slot`: the slot is written.
        let id = self.cell(platform, cpu)?.load(Acquire);
        // SAFETY: `add_slot` made the record a slot, and it lives as long as the cache.
        (id != NONE).then(|| unsafe { &*address(platform, id).cast::<Slot>() })
    }

    /// All slots.
    pub(super) fn slots<P: Platform>(&self, platform: &P) -> impl Iterator<Item = &Slot> {
        (0..Self::len(platform)).filter_map(move |number| self.slot(platform, CpuId::new(number)?))
    }

    /// Holds the running CPU's slot; `None` where there is none, and where this interrupted its use.
    #[inline]
    pub(super) fn hold<'a, P: Platform>(&'a self, platform: &'a P) -> Option<Held<'a, P>> {
        platform.pin();
        match self.slot(platform, platform.cpu_id()) {
            Some(slot) if !slot.busy.load(Relaxed) => {
                slot.busy.store(true, Relaxed);
                // No handler on this CPU sees the magazines change before it can see the mark.
                compiler_fence(SeqCst);
                Some(Held { slot, platform })
            }
            _ => {
                platform.unpin();
                None
            }
        }
    }

    /// Counts a call on the shared path; whether the running CPU should have a slot by now.
    #[inline]
    pub(super) fn wants_slot<P: Platform>(&self, platform: &P) -> bool {
        let calls = self.calls.load(Relaxed);
        if calls < CALLS_BEFORE_SLOTS {
            self.calls.store(calls + 1, Relaxed);
            return false;
        }
        self.slot(platform, platform.cpu_id()).is_none()
    }

    /// Gives the running CPU a slot; whether it is a new one.
    #[cold]
    pub(super) fn add_slot<S: FrameSource>(
        &self,
        source: &S,
        records: &Records,
        flags: AllocFlags,
    ) -> Result<bool, AllocError> {
        let platform = source.platform();
        if self.table.load(Acquire).is_null() {
            self.add_table(source, records, flags)?;
        }
        let Some(cell) = self.cell(platform, platform.cpu_id()) else { return Ok(false) };
        let record = records.take(source, size_of::<Slot>(), flags)?;
        // SAFETY: the record was just taken; granules have a slot's size and alignment.
        unsafe { record.address.cast::<Slot>().write(Slot::NEW) };
        if cell.compare_exchange(NONE, record.id, AcqRel, Relaxed).is_ok() {
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
        let record = records.take(source, cpus * size_of::<AtomicU32>(), flags)?;
        let table = record.address.cast::<AtomicU32>().as_ptr();
        // SAFETY: the record was just taken for so many cells, each of which is 0 when all its bytes are.
        unsafe { table.write_bytes(0, cpus) };
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

    /// Gives the slots and the table back.
    ///
    /// # Safety
    ///
    /// The slots hold no magazine.
    pub(super) unsafe fn give<S: FrameSource>(&mut self, source: &S, records: &Records) {
        for number in 0..Self::len(source.platform()) {
            let cell = CpuId::new(number).and_then(|cpu| self.cell(source.platform(), cpu));
            let id = cell.map_or(NONE, |cell| cell.swap(NONE, Relaxed));
            if id != NONE {
                // SAFETY: `add_slot` took it; the exclusive borrow shows that nobody uses it.
                unsafe { records.give(source, id) };
            }
        }
        *self.table.get_mut() = core::ptr::null_mut();
        let id = core::mem::replace(self.table_id.get_mut(), NONE);
        if id != NONE {
            // SAFETY: `add_table` took it; the exclusive borrow shows that nobody uses it.
            unsafe { records.give(source, id) };
        }
    }
}
