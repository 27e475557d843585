//! Who may use what a CPU has of a cache, or of the frames: that CPU, which a hit asks for one thing only, or a remote.
//!
//! A [`Gate`] keeps the protocol of [`cpu_local`](crate::cpu_local), but that a hit does not look whether it is revoked. A
//! hit has a position, and goes on only if that lies between two limits, a floor and a ceiling; a remote *shuts* these, so that nothing
//! lies between. Whatever changes the limits, or more than a hit does, is a **visit** and looks.
//!
//! A remote revokes, shuts the limits, makes every CPU pass a barrier, and waits for the mark to clear. A visit that was
//! under way may have opened the limits meanwhile. None is under way any more and none can begin, so to shut them once
//! more is for good.
//!
//! # Invariants
//!
//! 1. `busy` is written by whoever runs on the gate's CPU (where threads migrate: who exchanged it from clear to set).
//! 2. What is behind the gate is touched by who has set `busy` and then found the position between the limits, or `revoked`
//!    clear; or by a remote that has set `revoked`, passed a barrier on every CPU, and then seen `busy` clear and the limits shut.
//! 3. `revoked` is set and cleared by the one remote that won it by an exchange, or cleared where there is no other any more.
//! 4. The limits are opened in visits alone. Anybody may shut them.

use core::ops::Range;

use crate::platform::{MAX_CPUS, Pinning, Platform};
use crate::sync::{
    AtomicBool, AtomicUsize, Ordering, REMOTE_SPINS, full_barrier, light_barrier, spin_wait,
};

/// The door to one CPU's slot.
#[repr(C)]
pub(crate) struct Gate {
    busy: AtomicBool,
    revoked: AtomicBool,
    /// A drain is wanted, and not done yet.
    drain: AtomicBool,
    /// A hit goes down from above this,
    floor: AtomicUsize,
    /// and up from below this.
    ceiling: AtomicUsize,
}

/// The floor that nothing is above.
pub(crate) const NO_FLOOR: usize = usize::MAX;
/// The ceiling that nothing is below.
pub(crate) const NO_CEILING: usize = 0;

impl Gate {
    /// A gate that lets no hit through.
    pub(crate) const fn new() -> Self {
        Self::with(false)
    }

    /// A gate that nobody ever enters.
    pub(crate) const fn walled() -> Self {
        Self::with(true)
    }

    const fn with(busy: bool) -> Self {
        Self {
            busy: AtomicBool::new(busy),
            revoked: AtomicBool::new(false),
            drain: AtomicBool::new(false),
            floor: AtomicUsize::new(NO_FLOOR),
            ceiling: AtomicUsize::new(NO_CEILING),
        }
    }

    /// Sets the mark, for a hit: what is behind the gate may be touched as far as [`floor`](Self::floor) or
    /// [`ceiling`](Self::ceiling), read after this, allow. `false` if it is set already.
    ///
    /// # Safety
    ///
    /// `pinning` is the platform's. Where it is [`Pinning::Pinned`], the caller runs on the gate's CPU and stays there until
    /// [`leave`](Self::leave).
    #[inline(always)]
    pub(crate) unsafe fn enter(&self, pinning: Pinning) -> bool {
        match pinning {
            Pinning::Pinned => {
                // Relaxed: whoever wrote the mark ran on this very CPU.
                if self.busy.load(Ordering::Relaxed) {
                    return false;
                }
                self.busy.store(true, Ordering::Relaxed);
                light_barrier();
            }
            Pinning::Migrating => {
                let won =
                    self.busy.compare_exchange(false, true, Ordering::Relaxed, Ordering::Relaxed);
                if won.is_err() {
                    return false;
                }
                // Also pairs with the Release in `leave`: the last owner's work is visible.
                full_barrier();
            }
        }
        // The barrier pairs with the one in `visit_all`: of two that set their own mark and then look at the other's, at
        // least one sees it.
        true
    }

    /// Sets the mark, for a visit: all that is behind the gate is the caller's. `false` if somebody is there.
    ///
    /// # Safety
    ///
    /// As [`enter`](Self::enter).
    #[inline]
    pub(crate) unsafe fn visit(&self, pinning: Pinning) -> bool {
        // SAFETY: the caller's promise.
        if !unsafe { self.enter(pinning) } {
            return false;
        }
        // Acquire pairs with the Release of `Revoked::drop`: the remote's work is visible.
        if self.revoked.load(Ordering::Acquire) {
            self.leave();
            return false;
        }
        true
    }

    /// Clears the mark.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        // Release pairs with the Acquire in `is_clear` and the barrier in a migrating `enter`.
        self.busy.store(false, Ordering::Release);
    }

    /// What a hit must be above to go down.
    #[inline(always)]
    pub(crate) fn floor(&self) -> usize {
        // Relaxed: opened on this very CPU, or shut before the barrier.
        self.floor.load(Ordering::Relaxed)
    }

    /// What a hit must be below to go up.
    #[inline(always)]
    pub(crate) fn ceiling(&self) -> usize {
        // Relaxed: as `floor`.
        self.ceiling.load(Ordering::Relaxed)
    }

    /// What a hit must be neither below nor above, where it does not move.
    #[inline(always)]
    pub(crate) fn limits(&self) -> Range<usize> {
        self.floor()..self.ceiling()
    }

    /// Sets the limits; in a visit.
    #[inline]
    pub(crate) fn open(&self, floor: usize, ceiling: usize) {
        self.floor.store(floor, Ordering::Relaxed);
        self.ceiling.store(ceiling, Ordering::Relaxed);
    }

    /// Makes the next call on the gate's CPU a visit.
    pub(crate) fn shut(&self) {
        self.open(NO_FLOOR, NO_CEILING);
    }

    /// Whether no hit gets through.
    fn is_shut(&self) -> bool {
        self.floor() == NO_FLOOR && self.ceiling() == NO_CEILING
    }

    /// Asks for a drain: at the next call on the gate's CPU, unless that is just opening the gate.
    pub(crate) fn ask(&self) {
        self.drain.store(true, Ordering::Relaxed);
        self.shut();
    }

    /// Whether a drain is wanted.
    pub(crate) fn is_asked(&self) -> bool {
        self.drain.load(Ordering::Relaxed)
    }

    /// Wants no drain any more.
    pub(crate) fn settle(&self) {
        self.drain.store(false, Ordering::Relaxed);
    }

    /// As new, whoever was inside.
    pub(crate) fn forget(&self) {
        self.settle();
        self.shut();
        self.leave();
    }

    /// Lets those in again whom a remote kept out that is not there any more.
    #[cfg(feature = "mmap")]
    pub(crate) fn readmit(&self) {
        // Written only where that is so: a copied process has its own copy of what it writes to. Relaxed: it has one thread.
        if self.revoked.load(Ordering::Relaxed) {
            self.revoked.store(false, Ordering::Relaxed);
        }
    }

    /// Whether the mark is seen clear within a bounded time.
    fn is_clear(&self) -> bool {
        for _ in 0..REMOTE_SPINS {
            // Acquire pairs with the Release in `leave`: the owner's work is visible.
            if !self.busy.load(Ordering::Acquire) {
                return true;
            }
            spin_wait();
        }
        false
    }
}

/// What has a gate.
pub(crate) trait Gated {
    /// Its gate.
    fn gate(&self) -> &Gate;
}

/// Hands to `work` what is behind the gate of each CPU, which `gated` knows by number. Passed over are those whose CPU does
/// not leave in time, those where another remote is, and all if the platform cannot make CPUs synchronize.
///
/// Meanwhile their CPUs take the shared path. Called with no lock held.
pub(crate) fn visit_all<'g, P: Platform, T: Gated + 'g>(
    platform: &P,
    gated: impl Fn(usize) -> Option<&'g T>,
    mut work: impl FnMut(&'g T),
) {
    let mut revoked = Revoked { gated, cpus: [0; WORDS] };
    for cpu in 0..MAX_CPUS {
        revoked.revoke(cpu);
    }
    // Either barrier also pairs with the Release of the last remote's `Revoked::drop`.
    if revoked.is_empty() || !synchronize(platform) {
        return;
    }
    // First see all visits end that were under way: they may have opened limits.
    let mut are_shut = true;
    for gate in revoked.iter().map(T::gate) {
        if gate.is_clear() && !gate.is_shut() {
            gate.shut();
            are_shut = false;
        }
    }
    if !are_shut && !synchronize(platform) {
        return;
    }
    for gated in revoked.iter() {
        // Limits that are open now belong to a visit that was not seen to end.
        if gated.gate().is_clear() && gated.gate().is_shut() {
            work(gated);
        }
    }
}

/// Makes all CPUs pass a barrier; whether they have.
fn synchronize<P: Platform>(platform: &P) -> bool {
    match P::PINNING {
        Pinning::Pinned => platform.synchronize(),
        Pinning::Migrating => {
            full_barrier();
            true
        }
    }
}

/// Words of a bit for each CPU.
const WORDS: usize = MAX_CPUS.div_ceil(64);

/// The gates that a remote has revoked. They are given back to their CPUs when this is dropped, also when the remote's work
/// unwinds.
struct Revoked<'g, T: Gated + 'g, F: Fn(usize) -> Option<&'g T>> {
    gated: F,
    /// A bit for each CPU whose gate it is.
    cpus: [u64; WORDS],
}

impl<'g, T: Gated + 'g, F: Fn(usize) -> Option<&'g T>> Revoked<'g, T, F> {
    /// Revokes the gate of a CPU, unless another remote has done so.
    fn revoke(&mut self, cpu: usize) {
        let Some(gate) = (self.gated)(cpu).map(T::gate) else { return };
        let won = gate.revoked.compare_exchange(false, true, Ordering::Relaxed, Ordering::Relaxed);
        if won.is_ok() {
            gate.shut();
            self.cpus[cpu / 64] |= 1 << (cpu % 64);
        }
    }

    fn is_empty(&self) -> bool {
        self.cpus == [0; WORDS]
    }

    fn iter(&self) -> impl Iterator<Item = &'g T> {
        (0..MAX_CPUS)
            .filter(|cpu| self.cpus[cpu / 64] >> (cpu % 64) & 1 == 1)
            .filter_map(&self.gated)
    }
}

impl<'g, T: Gated + 'g, F: Fn(usize) -> Option<&'g T>> Drop for Revoked<'g, T, F> {
    fn drop(&mut self) {
        for gated in self.iter() {
            // Release pairs with the Acquire in `visit`.
            gated.gate().revoked.store(false, Ordering::Release);
        }
    }
}
