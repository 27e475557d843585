//! Thread slots: which thread stands for which CPU.
//!
//! A thread takes the lowest slot that nobody holds when it first allocates, and hands it back
//! when it ends; whoever takes that slot next finds its caches filled, as a CPU does when another thread
//! is scheduled on it. So ten thousand threads, one after the other, need one slot.
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
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread_local;

use crate::platform::{CpuId, MAX_CPUS};

/// The slot of all threads that found every other taken.
const SHARED: u16 = (MAX_CPUS - 1) as u16;

/// No slot yet: the thread has not called kmem.
const UNASSIGNED: u16 = u16::MAX;

const WORDS: usize = MAX_CPUS / u64::BITS as usize;
const _: () =
    assert!(MAX_CPUS.is_multiple_of(u64::BITS as usize) && MAX_CPUS <= UNASSIGNED as usize);

/// One bit a slot: held by a thread. The shared slot is nobody's.
static TAKEN: [AtomicU64; WORDS] = {
    let mut words = [const { AtomicU64::new(0) }; WORDS];
    words[WORDS - 1] = AtomicU64::new(1 << 63);
    words
};

/// The thread inside [`SHARED`], by the address of its `NESTED`; 0 for none.
static SHARED_OWNER: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's slot.
    static SLOT: Cell<u16> = const { Cell::new(UNASSIGNED) };
    /// How many calls of `enter` are open inside the outermost, while this thread owns `SHARED`.
    static NESTED: Cell<usize> = const { Cell::new(0) };
    /// Its destructor hands the slot back.
    static HANDBACK: Handback = const { Handback };
}

struct Handback;

impl Drop for Handback {
    fn drop(&mut self) {
        // What the thread's other destructors still allocate or free goes by the shared slot.
        hand_back(SLOT.replace(SHARED));
    }
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

/// The numbers in `SLOT` are below `MAX_CPUS`, which the compiler cannot see.
#[cold]
fn unreachable_slot() -> CpuId {
    CpuId::BOOT
}

#[inline]
fn index() -> u16 {
    let slot = SLOT.get();
    if slot == UNASSIGNED { assign() } else { slot }
}

#[cold]
fn assign() -> u16 {
    let slot = take();
    // Before the destructor is registered: the C library allocates for that, perhaps from kmem.
    SLOT.set(slot);
    if slot != SHARED && HANDBACK.try_with(|_| ()).is_err() {
        // The thread is ending and runs no further destructors.
        SLOT.set(SHARED);
        hand_back(slot);
        return SHARED;
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

/// Ends what the matching [`enter`] began.
#[inline]
pub(super) fn leave() {
    if SLOT.get() == SHARED {
        leave_shared();
    }
}

/// This thread as it stands in `SHARED_OWNER`.
fn token() -> usize {
    NESTED.with(|nested| core::ptr::from_ref(nested).addr())
}

#[cold]
fn enter_shared() {
    let token = token();
    // The owner is compared, not a depth, so that a signal handler on top of this function finds either
    // a lock that it can take or one that its thread has.
    if SHARED_OWNER.load(Ordering::Relaxed) == token {
        NESTED.set(NESTED.get() + 1);
        return;
    }
    // Acquire pairs with the Release in `leave_shared`.
    while SHARED_OWNER
        .compare_exchange_weak(0, token, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        std::thread::yield_now();
    }
}

#[cold]
fn leave_shared() {
    match NESTED.get().checked_sub(1) {
        Some(nested) => NESTED.set(nested),
        None => SHARED_OWNER.store(0, Ordering::Release),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn threads_at_the_same_time_hold_different_slots() {
        const THREADS: usize = 16;
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
        const THREADS: usize = MAX_CPUS + 44;
        const ROUNDS: usize = 50;
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
