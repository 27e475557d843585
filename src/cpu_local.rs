//! State that belongs to one CPU, entered without a locked instruction and without masking
//! interrupts.
//!
//! Each CPU has a [`CpuSlot`]. Its owner marks the slot *busy* by a plain store, works, and
//! clears the mark by a plain store. That is enough, because only two kinds of party can get
//! between those stores:
//!
//! - An **interrupt handler** on the same CPU. It runs to completion on top of what it
//!   interrupted. If it came before the mark was set it enters and leaves unnoticed; if it came
//!   after, it finds the mark and goes to the shared path instead. It never waits.
//! - A **remote** CPU that wants the slot's content because memory is short. It *revokes* the
//!   slot, makes every CPU pass a memory barrier ([`Platform::synchronize`]), and waits for the
//!   mark to clear: from then on the owner finds the slot revoked and goes to the shared path.
//!   The cost of the handshake lies wholly with the remote side.
//!
//! Where threads migrate between CPUs in the midst of a call ([`Pinning::Migrating`]) the mark is
//! set by an atomic exchange, and the slot is a lock that nobody waits for.
//!
//! # Invariants
//!
//! 1. The content is touched only between setting and clearing `busy`, or by a remote that has
//!    seen `busy` clear after revoking.
//! 2. `busy` is written only by whoever runs on the owning CPU (`Pinned`), or by whoever exchanged it
//!    from clear to set (`Migrating`).
//! 3. `revoked` is set and cleared only by the one remote that won it by an exchange.
//!
//! # Sources
//!
//! Linux's "sheaves" (6.18) use a CPU-local trylock the same way; asymmetric barriers are those
//! of `membarrier(2)` and of hazard pointers' reclamation.

use crate::platform::{Pinning, Platform};
use crate::sync::{
    AtomicBool, Ordering, REMOTE_SPINS, UnsafeCell, full_barrier, light_barrier, spin_wait,
};

/// One CPU's own `T`: see the module's docs.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct CpuSlot<T> {
    busy: AtomicBool,
    revoked: AtomicBool,
    content: UnsafeCell<T>,
}

// SAFETY: a reference to the content exists only while `with_local` or `with_remote` runs its
// `work`, and by invariant 1 that is one party at a time: sharing a slot hands `T` from one thread
// to another, never to two at once.
unsafe impl<T: Send> Sync for CpuSlot<T> {}

impl<T> CpuSlot<T> {
    pub(crate) const fn new(content: T) -> Self {
        Self {
            busy: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
            content: UnsafeCell::new(content),
        }
    }

    /// Lets `work` use the content on its own CPU, or answers `None` at once if the slot is busy
    /// or revoked: the caller then takes the shared path.
    ///
    /// `work` must not switch threads.
    ///
    /// # Safety
    ///
    /// Where `P` is [`Pinning::Pinned`], this slot is that of the CPU which runs the calling
    /// thread, and the thread stays pinned to it until this returns.
    #[inline(always)]
    pub(crate) unsafe fn with_local<P: Platform, R>(
        &self,
        work: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        match P::PINNING {
            Pinning::Pinned => {
                // Relaxed: whoever wrote the mark ran on this very CPU.
                if self.busy.load(Ordering::Relaxed) {
                    return None;
                }
                self.busy.store(true, Ordering::Relaxed);
                light_barrier();
            }
            Pinning::Migrating => {
                self.busy
                    .compare_exchange(false, true, Ordering::Relaxed, Ordering::Relaxed)
                    .ok()?;
                // Also pairs with the Release of `Busy::drop`: the last owner's work is visible.
                full_barrier();
            }
        }
        let _busy = Busy(&self.busy);
        // The barrier above pairs with the one in `with_remote`: of two that set their own mark and
        // then look at the other's, at least one sees it. Acquire pairs with the Release of
        // `Revoked::drop`: the remote's work is visible.
        if self.revoked.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: invariant 1: this party set `busy` and found the slot not revoked, so no handler
        // and no thread enters, and a remote waits, until `_busy` is dropped.
        Some(self.content.with_mut(|content| work(unsafe { &mut *content })))
    }

    /// Lets `work` use the content from any CPU; `None` if another remote has it, if the owner does
    /// not leave it, or if the platform cannot make CPUs synchronize.
    ///
    /// While `work` runs the owner takes the shared path. Call it with no lock held.
    pub(crate) fn with_remote<P: Platform, R>(
        &self,
        platform: &P,
        work: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        self.revoked.compare_exchange(false, true, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        let _revoked = Revoked(&self.revoked);
        // Either barrier also pairs with the Release of the last remote's `Revoked::drop`.
        match P::PINNING {
            Pinning::Pinned if !platform.synchronize() => return None,
            Pinning::Pinned => {}
            Pinning::Migrating => full_barrier(),
        }
        for _ in 0..REMOTE_SPINS {
            // Acquire pairs with the Release of `Busy::drop`: the owner's work is visible.
            if !self.busy.load(Ordering::Acquire) {
                // SAFETY: invariant 1: `revoked` was set before the barrier on every CPU that might
                // enter, and `busy` was clear after it: whoever enters now finds the slot revoked.
                return Some(self.content.with_mut(|content| work(unsafe { &mut *content })));
            }
            spin_wait();
        }
        None
    }

    /// Lets others in where a CPU was busy that is not there any more; whether it was.
    #[cfg(feature = "mmap")]
    pub(crate) fn abandon(&self) -> bool {
        let was_busy = self.busy.load(Ordering::Relaxed);
        self.busy.store(false, Ordering::Relaxed);
        was_busy
    }
}

/// Clears the mark of the party on the owning CPU, also when its work unwinds.
struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release pairs with the Acquires of `busy` in `with_remote` and a migrating `with_local`.
        self.0.store(false, Ordering::Release);
    }
}

/// Gives the slot back to its owner, also when the remote's work unwinds.
struct Revoked<'a>(&'a AtomicBool);

impl Drop for Revoked<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquires of `revoked` in `with_local` and `with_remote`.
        self.0.store(false, Ordering::Release);
    }
}
