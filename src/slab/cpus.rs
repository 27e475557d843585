//! The slots of a cache: one for each CPU that uses it often enough.
//!
//! # Invariants
//!
//! 1. A CPU's slot is in the table from when it is made until the cache ends; where there is none
//!    there is [`ABSENT`], and where there is no table there is one of these.
//! 2. A slot is entered by its own CPU, or by a remote as [`gate`] says.

use core::mem::MaybeUninit;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use super::descriptor::Slab;
use super::inside::{Inside, Limits};
use super::key::{CacheNumber, Key};
use super::shelf::Shelf;
use super::slot::{ABSENT, Slot};
use super::way::Way;
use crate::buddy::AllocError;
use crate::cpu_set::CpuSet;
use crate::gate::{self, Gated};
use crate::lock::IrqLock;
use crate::page::records::{self, NONE, Records};
use crate::page::{AllocFlags, FrameSource};
use crate::platform::{CpuId, MAX_CPUS, Platform};

/// The table of a cache that has none.
static NO_SLOTS: [AtomicPtr<Slot>; MAX_CPUS] =
    [const { AtomicPtr::new((&raw const ABSENT).cast_mut()) }; MAX_CPUS];

/// A slot that this CPU visits; nobody else touches it until this is dropped.
pub(super) struct Held<'a, P: Platform> {
    slot: &'a Slot,
    inside: Inside<'a>,
    limits: Limits,
    platform: &'a P,
    /// Where this was made.
    cpu: CpuId,
}

impl<'a, P: Platform> Deref for Held<'a, P> {
    type Target = Inside<'a>;

    #[inline]
    fn deref(&self) -> &Inside<'a> {
        &self.inside
    }
}

impl<'a, P: Platform> Held<'a, P> {
    /// Whose slot it is.
    pub(super) fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// What a slab must have whose objects go into its magazines.
    #[cfg(feature = "mmap")]
    pub(super) fn key(&self) -> Key {
        self.slot.key
    }

    /// The magazines that the CPU has not in use.
    pub(super) fn shelf(&self) -> &'a IrqLock<Shelf> {
        &self.slot.shelf
    }
}

impl<P: Platform> Drop for Held<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.inside.open(self.limits);
        self.slot.leave();
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
    /// How many slots there are.
    count: AtomicU32,
    /// A slot was abandoned, with free objects that are in no magazine since.
    has_lost: AtomicBool,
}

/// A cache takes memory for slots after so many calls.
const CALLS_BEFORE_SLOTS: u32 = 32;

impl Cpus {
    pub(super) const fn new() -> Self {
        Self {
            table: AtomicPtr::new((&raw const NO_SLOTS).cast_mut().cast()),
            table_id: AtomicU32::new(NONE),
            calls: AtomicU32::new(0),
            count: AtomicU32::new(0),
            has_lost: AtomicBool::new(false),
        }
    }

    /// How many CPUs the table has.
    fn len<P: Platform>(platform: &P) -> usize {
        platform.cpu_count().min(MAX_CPUS)
    }

    /// The cell in the table of a CPU that the machine has.
    #[inline]
    fn cell(&self, cpu: CpuId) -> &AtomicPtr<Slot> {
        // Acquire, for the Release in `add_table`: the cells are written.
        let table = self.table.load(Acquire);
        // SAFETY: the table is that of `NO_SLOTS`, which has a cell for every `CpuId`, or that
        // of `add_table`, which has one for each CPU below the platform's `cpu_count`: callers ask
        // for the running CPU's, or have compared. It lives as long as the cache.
        unsafe { &*table.add(cpu.index()) }
    }

    /// The slot of a CPU that the machine has, or [`ABSENT`].
    #[inline]
    fn at(&self, cpu: CpuId) -> &Slot {
        // SAFETY: cells lead to `ABSENT` or to a slot that `add_slot` has written, which lives
        // as long as the cache. Acquire, for the Release there.
        unsafe { &*self.cell(cpu).load(Acquire) }
    }

    /// The CPU's slot, which lives as long as the cache, if it has one.
    pub(super) fn slot<P: Platform>(&self, platform: &P, cpu: CpuId) -> Option<&Slot> {
        (cpu.index() < Self::len(platform)).then(|| self.at(cpu)).filter(|slot| slot.is_present())
    }

    /// How many CPUs have slots.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count.load(Relaxed) as usize
    }

    /// All slots.
    pub(super) fn slots<P: Platform>(&self, platform: &P) -> impl Iterator<Item = &Slot> {
        (0..Self::len(platform)).filter_map(move |number| self.slot(platform, CpuId::new(number)?))
    }

    /// An object for its user from the running CPU's slot, if it is at hand: see [`Slot::take`].
    #[inline(always)]
    pub(super) fn take<P: Platform>(&self, platform: &P) -> Option<NonNull<u8>> {
        let cpu = platform.pin_here();
        // SAFETY: the slot is that of the CPU, which `pin_here` keeps.
        let object = unsafe { self.at(cpu).take(P::PINNING) };
        platform.unpin_from(cpu);
        object
    }

    /// Puts a user's object into the running CPU's slot, if that is simple: see [`Slot::put`].
    ///
    /// # Safety
    ///
    /// As there; the slab is not given back meanwhile, also if the object is free.
    #[inline(always)]
    pub(super) unsafe fn put<S: FrameSource>(&self, source: &S, object: NonNull<u8>) -> bool {
        // SAFETY: the slot is that of the CPU, which is kept meanwhile; the rest is the caller's
        // promise.
        unsafe {
            self.with_slab_at_hand(source, object, |slot, slab| {
                slot.put(S::Platform::PINNING, slab, object)
            })
        }
    }

    /// Lets `put` have the running CPU's slot, pinned to it, and the slab of an object, if that is
    /// found at once.
    ///
    /// # Safety
    ///
    /// As [`Slot::slab_at_hand`].
    #[inline(always)]
    unsafe fn with_slab_at_hand<S: FrameSource>(
        &self,
        source: &S,
        object: NonNull<u8>,
        put: impl FnOnce(&Slot, Slab<'_>) -> bool,
    ) -> bool {
        let platform = source.platform();
        let cpu = platform.pin_here();
        let slot = self.at(cpu);
        // SAFETY: the caller's promise.
        let slab = unsafe { slot.slab_at_hand(source, object) };
        let is_put = slab.is_some_and(|slab| put(slot, slab));
        platform.unpin_from(cpu);
        is_put
    }

    /// As [`put`](Self::put), where that has failed: see [`Slot::put_second`].
    ///
    /// # Safety
    ///
    /// As [`put`](Self::put).
    pub(super) unsafe fn put_second<S: FrameSource>(
        &self,
        source: &S,
        object: NonNull<u8>,
    ) -> bool {
        // SAFETY: as in `put`.
        unsafe {
            self.with_slab_at_hand(source, object, |slot, slab| {
                slot.put_second(source.platform(), slab, object)
            })
        }
    }

    /// As [`take`](Self::take), for many: see [`Slot::take_many`].
    #[inline(always)]
    pub(super) fn take_many<P: Platform>(
        &self,
        platform: &P,
        out: &mut [MaybeUninit<NonNull<u8>>],
    ) -> usize {
        let cpu = platform.pin_here();
        // SAFETY: the slot is that of the CPU, which `pin_here` keeps.
        let taken = unsafe { self.at(cpu).take_many(P::PINNING, out) };
        platform.unpin_from(cpu);
        taken
    }

    /// As [`put`](Self::put), for many: see [`Slot::put_many`].
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    pub(super) unsafe fn put_many<S: FrameSource>(
        &self,
        source: &S,
        objects: &[NonNull<u8>],
    ) -> usize {
        let platform = source.platform();
        let cpu = platform.pin_here();
        // SAFETY: the slot is that of the CPU, which `pin_here` keeps; the rest is the caller's
        // promise.
        let put = unsafe { self.at(cpu).put_many(source, objects) };
        platform.unpin_from(cpu);
        put
    }

    /// Visits the running CPU's slot; `None` where there is none, where this interrupted its
    /// use, and where a remote is there.
    #[inline(always)]
    pub(super) fn hold<'a, P: Platform>(
        &'a self,
        platform: &'a P,
        limits: Limits,
    ) -> Option<Held<'a, P>> {
        let cpu = platform.pin_here();
        let slot = self.at(cpu);
        // SAFETY: the slot is that of the CPU, which `pin_here` keeps.
        if !unsafe { slot.visit(P::PINNING) } {
            platform.unpin_from(cpu);
            return None;
        }
        // SAFETY: entered just now, until the answer is dropped.
        let inside = unsafe { Inside::new(slot, limits.capacity) };
        Some(Held { slot, inside, limits, platform, cpu })
    }

    /// Has a drain done by each CPU that has objects, or may be about to have some: at its next
    /// call. Whether there is one.
    pub(super) fn ask<P: Platform>(&self, platform: &P) -> bool {
        let has_some = |slot: &&Slot| slot.gate().is_busy() || slot.total_rounds() > 0;
        let full = self.slots(platform).filter(has_some);
        full.map(|slot| slot.gate().ask()).count() > 0
    }

    /// Hands to `work` the slots of all CPUs that do not use theirs just now: see
    /// [`gate::visit_all`].
    pub(super) fn visit_all<P: Platform>(
        &self,
        platform: &P,
        capacity: u32,
        mut work: impl FnMut(Inside<'_>),
    ) {
        let with_slots = CpuSet::of(|cpu| self.slot(platform, cpu).is_some());
        let visit = |slot| {
            // SAFETY: `gate::visit_all` has let us in, until this returns.
            work(unsafe { Inside::new(slot, capacity) });
        };
        gate::visit_all(platform, with_slots, |cpu| self.at(cpu), visit);
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

    /// Gives the running CPU a slot.
    #[cold]
    pub(super) fn add_slot<S: FrameSource>(
        &self,
        source: &S,
        records: &Records,
        cache: CacheNumber,
        flags: AllocFlags,
    ) -> Result<(), AllocError> {
        let platform = source.platform();
        if self.table_id.load(Acquire) == NONE {
            self.add_table(source, records, flags)?;
        }
        let cpu = platform.cpu_id();
        let absent = (&raw const ABSENT).cast_mut();
        if ptr::eq(self.table.load(Acquire), NO_SLOTS.as_ptr()) {
            // Another CPU is making the table.
            return Ok(());
        }
        let record = records.take(source, size_of::<Slot>(), flags)?;
        let slot = record.address.cast::<Slot>().as_ptr();
        // SAFETY: the record was just taken; granules have a slot's size and alignment.
        unsafe {
            slot.write(Slot::new(source, Key::demanded(cache, Way::of(cpu))));
        }
        // Release, for the Acquire in `at`.
        if self.cell(cpu).compare_exchange(absent, slot, AcqRel, Relaxed).is_ok() {
            self.count.fetch_add(1, Relaxed);
            return Ok(());
        }
        // SAFETY: taken above; nobody has seen it.
        unsafe { records.give(source, record.id) };
        Ok(())
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

    /// Makes a slot that has no CPU any more ready for another: without magazines.
    pub(super) fn abandon(&self, slot: &Slot) {
        slot.forget();
        self.has_lost.store(true, Relaxed);
    }

    /// Whether there may be free objects in neither slab nor magazine.
    pub(super) fn has_lost(&self) -> bool {
        self.has_lost.load(Relaxed)
    }

    /// Lets a CPU into its slot again, from which a remote kept it that is not there any more.
    #[cfg(feature = "mmap")]
    pub(super) fn readmit<P: Platform>(&self, platform: &P, cpu: CpuId) {
        if let Some(slot) = self.slot(platform, cpu) {
            slot.gate().readmit();
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
