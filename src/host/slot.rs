//! Thread slots: which thread stands for which CPU.
//!
//! A thread takes the lowest slot that nobody holds when it first allocates, and hands it back
//! when it ends; whoever takes that slot next finds its caches filled, as a CPU does when another
//! thread is scheduled on it. So ten thousand threads, one after the other, need one slot.
//!
//! More threads at a time than there are slots share the last one. What a CPU does alone, they do
//! under a lock: from [`enter`] to [`leave`].
//!
//! # Invariants
//!
//! 1. Every slot but [`SHARED`] is held by at most one thread, from the moment that its bit in
//!    `TAKEN` goes from 0 to 1 until that thread sets it back.
//! 2. Between [`enter`] and the matching [`leave`] a thread on [`SHARED`] owns `SHARED_OWNER`.
//! 3. A thread's slot changes only outside every pair of `enter` and `leave`.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::thread::{self, Thread, UNASSIGNED};
use super::{ending, local, system};
use crate::page::records::{GRANULE, MAX_GRANULES};
use crate::platform::{CpuId, MAX_CPUS};

/// How many slots there are. Every size class has a table of them, two of which fit a frame of
/// records.
pub(super) const SLOTS: usize = 248;
const _: () = {
    assert!(SLOTS <= MAX_CPUS && MAX_CPUS <= UNASSIGNED as usize);
    assert!(2 * (SLOTS * size_of::<usize>()).div_ceil(GRANULE) <= MAX_GRANULES);
};

/// The slot of all threads that found every other taken.
const SHARED: u16 = (SLOTS - 1) as u16;

const WORDS: usize = SLOTS.div_ceil(u64::BITS as usize);

/// One bit a slot: held by a thread. The shared slot is nobody's, and so is what there is behind
/// it.
static TAKEN: [AtomicU64; WORDS] = {
    let mut words = [const { AtomicU64::new(0) }; WORDS];
    words[WORDS - 1] = AtomicU64::new(u64::MAX << (SHARED as u32 % u64::BITS));
    words
};

/// The thread inside [`SHARED`], by the address of its `Thread`; 0 for none.
static SHARED_OWNER: AtomicUsize = AtomicUsize::new(0);

/// Runs in a thread that ends, `round` counting from 1: other destructors may still allocate and
/// free, so it asks to be called again until the last round.
unsafe extern "C" fn hand_back_at_last(round: *mut c_void) {
    let round = round.addr();
    if round < ending::ROUNDS && ending::arm(hand_back_at_last, round + 1) {
        return;
    }
    // What the C library still allocates or frees for the thread goes by the shared slot.
    let this = thread::this();
    this.row.set(&raw const local::EMPTY);
    hand_back(this.slot.swap(SHARED, Ordering::Relaxed));
}

/// This thread's slot, taken now if it has none.
#[inline]
pub(super) fn current() -> CpuId {
    let slot = index();
    match CpuId::new(usize::from(slot)) {
        Some(cpu) => cpu,
        None => unreachable_slot(),
    }
}

/// This thread's slot, if it has one that it shares with nobody.
#[inline(always)]
pub(super) fn own() -> Option<CpuId> {
    let slot = thread::slot();
    if slot < SHARED { CpuId::new(usize::from(slot)) } else { None }
}

/// The numbers in `slot` are below `SLOTS`, which the compiler cannot see.
#[cold]
fn unreachable_slot() -> CpuId {
    CpuId::BOOT
}

#[inline]
fn index() -> u16 {
    let slot = thread::slot();
    if slot == UNASSIGNED { assign() } else { slot }
}

#[cold]
#[inline(never)]
fn assign() -> u16 {
    let slot = take();
    let own = if slot == SHARED { None } else { CpuId::new(usize::from(slot)) };
    if let Some(cpu) = own {
        local::begin(cpu);
    }
    let place = &thread::this().slot;
    // Before the destructor is armed: the C library may allocate for that, from kmem.
    if let Err(earlier) =
        place.compare_exchange(UNASSIGNED, slot, Ordering::Relaxed, Ordering::Relaxed)
    {
        // A signal handler came in between, and has assigned one.
        hand_back(slot);
        return earlier;
    }
    if slot != SHARED && !ending::arm(hand_back_at_last, 1) {
        place.store(SHARED, Ordering::Relaxed);
        hand_back(slot);
        return SHARED;
    }
    if let Some(cpu) = own {
        thread::this().row.set(local::row_of(cpu));
    }
    slot
}

/// Takes the lowest slot that nobody holds, or the shared one.
fn take() -> u16 {
    for (word_index, word) in TAKEN.iter().enumerate() {
        let mut bits = word.load(Ordering::Relaxed);
        while bits != u64::MAX {
            let bit = bits.trailing_ones();
            // Acquire pairs with the Release in `hand_back`: what the slot's last thread wrote
            // to its CPU-local state is seen by this one.
            let won = word.compare_exchange_weak(
                bits,
                bits | 1 << bit,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match won {
                Ok(_) => return (word_index as u32 * u64::BITS + bit) as u16,
                Err(now) => bits = now,
            }
        }
    }
    SHARED
}

fn hand_back(slot: u16) {
    if slot >= SHARED {
        return;
    }
    let (word, bit) = (usize::from(slot) / 64, slot % 64);
    TAKEN[word].fetch_and(!(1 << bit), Ordering::Release);
}

/// Begins something that only one thread at a time does on its slot. Nests.
#[inline]
pub(super) fn enter() {
    if index() == SHARED {
        enter_shared();
    }
}

/// [`enter`] and [`current`] in one look at the thread.
#[inline(always)]
pub(super) fn enter_here() -> CpuId {
    let slot = thread::slot();
    if slot >= SHARED {
        return enter_here_slowly();
    }
    // There is one for each slot, which the compiler sees here.
    CpuId::new(usize::from(slot)).unwrap_or(CpuId::BOOT)
}

#[cold]
#[inline(never)]
fn enter_here_slowly() -> CpuId {
    enter();
    current()
}

/// Ends what [`enter_here`] began, which said `cpu`.
#[inline(always)]
pub(super) fn leave_from(cpu: CpuId) {
    if cpu.index() == usize::from(SHARED) {
        leave_shared();
    }
}

/// Ends what the matching [`enter`] began.
#[inline]
pub(super) fn leave() {
    if thread::slot() == SHARED {
        leave_shared();
    }
}

/// The slots that a thread ever held, and the shared one. What belongs to the others was never
/// touched: after a fork, every page that is costs a fault.
pub(super) fn ever_held() -> impl Iterator<Item = CpuId> {
    (0..local::begun()).chain([SLOTS - 1]).filter_map(CpuId::new)
}

/// Frees all slots but this thread's, in a process that has only this thread. `abandon` is told of
/// each whose thread is not there any more, before that.
pub(super) fn free_others(abandon: impl Fn(CpuId)) {
    let own = thread::slot();
    for number in 0..SHARED {
        let (word, bit) = (usize::from(number) / 64, number % 64);
        if number == own || TAKEN[word].load(Ordering::Relaxed) >> bit & 1 == 0 {
            continue;
        }
        if let Some(cpu) = CpuId::new(usize::from(number)) {
            abandon(cpu);
        }
        hand_back(number);
    }
    if own != SHARED
        && SHARED_OWNER.swap(0, Ordering::Relaxed) != 0
        && let Some(cpu) = CpuId::new(usize::from(SHARED))
    {
        abandon(cpu);
    }
}

/// This thread as a number that no other has.
pub(super) fn token() -> usize {
    ptr::from_ref::<Thread>(thread::this()).addr()
}

#[cold]
fn enter_shared() {
    let token = token();
    // The owner is compared, not a depth, so that a signal handler on top of this function finds
    // either a lock that it can take or one that its thread has.
    if SHARED_OWNER.load(Ordering::Relaxed) == token {
        let nested = &thread::this().nested;
        nested.set(nested.get() + 1);
        return;
    }
    // Acquire pairs with the Release in `leave_shared`.
    while SHARED_OWNER
        .compare_exchange_weak(0, token, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        system::yield_now();
    }
}

#[cold]
fn leave_shared() {
    let nested: &Cell<usize> = &thread::this().nested;
    match nested.get().checked_sub(1) {
        Some(fewer) => nested.set(fewer),
        None => SHARED_OWNER.store(0, Ordering::Release),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
    use std::thread;

    /// The slots belong to the whole process: tests that count them run one at a time.
    pub(in crate::host) fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn threads_at_the_same_time_hold_different_slots() {
        const THREADS: usize = 16;
        let _alone = alone();
        let barrier = Barrier::new(THREADS);
        let slots: BTreeSet<CpuId> = thread::scope(|scope| {
            let threads: std::vec::Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        let slot = current();
                        barrier.wait();
                        slot
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(slots.len(), THREADS);
    }

    #[test]
    fn a_thread_keeps_its_slot() {
        assert_eq!(current(), current());
    }

    #[test]
    fn threads_beyond_the_last_slot_take_turns() {
        // More threads at a time than slots: all add to a plain counter per slot.
        const THREADS: usize = SLOTS + 44;
        const ROUNDS: usize = 50;
        let _alone = alone();
        struct Counters([Cell<usize>; MAX_CPUS]);
        // SAFETY: a cell is touched only between `enter` and `leave` by the thread of that slot,
        // which is the property under test.
        unsafe impl Sync for Counters {}
        let counters = Counters([const { Cell::new(0) }; MAX_CPUS]);
        let barrier = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let (counters, barrier) = (&counters, &barrier);
                scope.spawn(move || {
                    current();
                    barrier.wait();
                    for _ in 0..ROUNDS {
                        enter();
                        enter();
                        let Counters(cells) = counters;
                        let cell = &cells[current().index()];
                        let seen = cell.get();
                        thread::yield_now();
                        cell.set(seen + 1);
                        leave();
                        leave();
                    }
                    barrier.wait();
                });
            }
        });
        let Counters(cells) = counters;
        assert_eq!(cells.iter().map(Cell::get).sum::<usize>(), THREADS * ROUNDS);
        assert!(cells[usize::from(SHARED)].get() > 0, "nobody had to share");
    }
}
