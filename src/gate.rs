//! Who may use what belongs to a CPU: that CPU, without a locked instruction and without masking
//! interrupts, or a remote.
//!
//! The CPU marks its [`Gate`] *busy* by a plain store, works, and clears the mark by a plain store.
//! That is enough, because only two kinds of party can get between those stores:
//!
//! - An **interrupt handler** on the same CPU. It runs to completion on top of what it interrupted.
//!   If it came before the mark was set it enters and leaves unnoticed; if it came after, it finds
//!   the mark and goes to the shared path instead. It never waits.
//! - A **remote** CPU that wants what is behind the gate because memory is short. It *revokes* the
//!   gate, makes every CPU pass a memory barrier ([`Platform::synchronize`]), and waits for the
//!   mark to clear: from then on the CPU finds its gate revoked and goes to the shared path. The
//!   cost of the handshake lies wholly with the remote side.
//!
//! Clear, the mark is the gate's **number**, which it keeps for good. So who demands a number
//! learns by one comparison that nobody is inside and that the gate is the one he takes it for.
//!
//! Where threads migrate between CPUs in the midst of a call ([`Pinning::Migrating`]) the mark is
//! set by an atomic exchange, and the gate is a lock that nobody waits for.
//!
//! Not even whether it is revoked does a **hit** look. It has a position, and goes on only if that
//! lies between two limits, a floor and a ceiling, which it must look at anyway; a remote *shuts*
//! these, so that nothing lies between. Whatever changes the limits, or more than a hit does, is a
//! **visit** and looks. A visit that was under way when a remote shut the limits may have opened
//! them meanwhile. None is under way any more once the mark has been clear, and none can begin, so
//! to shut them once more is for good.
//!
//! # Invariants
//!
//! 1. `mark` is written by whoever runs on the gate's CPU (where threads migrate: who exchanged it
//!    from clear to set).
//! 2. What is behind the gate is touched by who has set `mark` and then found the position between
//!    the limits, or `revoked` clear; or by a remote that has set `revoked`, passed a barrier on
//!    every CPU, and then seen `mark` clear and the limits shut; or, for a CPU that has stopped, by
//!    one that has set `revoked`, or as its owner says.
//! 3. `revoked` is set and cleared by the one remote that won it by an exchange, or cleared where
//!    there is no other any more.
//! 4. The limits are opened in visits alone. Anybody may shut them.
//!
//! # Sources
//!
//! Linux's "sheaves" (6.18) use a CPU-local trylock the same way; asymmetric barriers are those of
//! `membarrier(2)` and of hazard pointers' reclamation.

use core::ops::Range;

use crate::cpu_set::CpuSet;
use crate::platform::{CpuId, Pinning, Platform};
use crate::sync::{
    AtomicBool, AtomicU16, AtomicU32, AtomicUsize, OTHER_REMOTE_SPINS, Ordering, REMOTE_SPINS,
    full_barrier, light_barrier,
};

/// The door to what belongs to one CPU.
#[repr(C)]
pub(crate) struct Gate {
    /// [`BUSY`] while somebody is inside, else the gate's number.
    mark: AtomicU32,
    /// Who has revoked the gate: see [`remote_on`], or [`NOBODY`].
    remote: AtomicU16,
    /// A drain is wanted, and not done yet.
    drain: AtomicBool,
    /// A hit goes down from above this,
    floor: AtomicUsize,
    /// and up from below this.
    ceiling: AtomicUsize,
}

/// The mark while somebody is inside, and no gate's number.
pub(crate) const BUSY: u32 = u32::MAX;

/// The number of gates that nobody tells apart.
pub(crate) const UNNUMBERED: u32 = 0;

/// The floor that nothing is above.
pub(crate) const NO_FLOOR: usize = usize::MAX;
/// The ceiling that nothing is below.
pub(crate) const NO_CEILING: usize = 0;

/// No remote.
const NOBODY: u16 = 0;

/// A remote that runs on this CPU, for whom another one waits that runs on another.
fn remote_on(cpu: CpuId) -> u16 {
    cpu.index() as u16 + 1
}

impl Gate {
    /// A gate that nobody ever enters.
    pub(crate) const fn walled() -> Self {
        Self::new(BUSY)
    }

    /// A gate of this number that lets no hit through.
    pub(crate) const fn new(number: u32) -> Self {
        Self {
            mark: AtomicU32::new(number),
            remote: AtomicU16::new(NOBODY),
            drain: AtomicBool::new(false),
            floor: AtomicUsize::new(NO_FLOOR),
            ceiling: AtomicUsize::new(NO_CEILING),
        }
    }

    /// Sets the mark, for a hit: what is behind the gate may be touched as far as
    /// [`floor`](Self::floor) or [`ceiling`](Self::ceiling), read after this, allow. The gate's
    /// number, to leave with, or `None` if the mark is set already.
    ///
    /// # Safety
    ///
    /// `pinning` is the platform's. Where it is [`Pinning::Pinned`], the caller runs on the gate's
    /// CPU and stays there until [`leave`](Self::leave).
    #[inline(always)]
    pub(crate) unsafe fn enter(&self, pinning: Pinning) -> Option<u32> {
        // Relaxed: whoever wrote the mark ran on this very CPU.
        let number = self.mark.load(Ordering::Relaxed);
        // SAFETY: the caller's promise.
        (number != BUSY && unsafe { self.set(number, pinning) }).then_some(number)
    }

    /// As [`enter`](Self::enter), if the gate has this number, which is not [`BUSY`]; whether all
    /// that was so.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn enter_as(&self, number: u32, pinning: Pinning) -> bool {
        // Relaxed: as in `enter`.
        // SAFETY: the caller's promise.
        self.mark.load(Ordering::Relaxed) == number && unsafe { self.set(number, pinning) }
    }

    /// Sets the mark, which was seen to be `number`; `false` if somebody was quicker.
    ///
    /// # Safety
    ///
    /// As [`enter`](Self::enter).
    #[inline(always)]
    unsafe fn set(&self, number: u32, pinning: Pinning) -> bool {
        match pinning {
            Pinning::Pinned => {
                self.mark.store(BUSY, Ordering::Relaxed);
                light_barrier();
            }
            Pinning::Migrating => {
                let won =
                    self.mark.compare_exchange(number, BUSY, Ordering::Relaxed, Ordering::Relaxed);
                if won.is_err() {
                    return false;
                }
                // Also pairs with the Release in `leave`: the last owner's work is visible.
                full_barrier();
            }
        }
        // The barrier pairs with the one in `visit_all`: of two that set their own mark and then
        // look at the other's, at least one sees it.
        true
    }

    /// Sets the mark, for a visit: all that is behind the gate is the caller's. `false` if somebody
    /// is there. `number` is the gate's.
    ///
    /// # Safety
    ///
    /// As [`enter`](Self::enter).
    #[inline]
    pub(crate) unsafe fn visit(&self, number: u32, pinning: Pinning) -> bool {
        // SAFETY: the caller's promise.
        if !unsafe { self.enter_as(number, pinning) } {
            return false;
        }
        // Acquire pairs with the Release of `Revoked::give_back`: the remote's work is visible.
        if self.remote.load(Ordering::Acquire) != NOBODY {
            self.leave(number);
            return false;
        }
        true
    }

    /// Clears the mark; `number` is the gate's.
    #[inline(always)]
    pub(crate) fn leave(&self, number: u32) {
        // Release pairs with the Acquire in `is_clear` and the barrier in a migrating `enter`.
        self.mark.store(number, Ordering::Release);
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

    /// Whether somebody is inside just now, or was when his CPU stopped.
    pub(crate) fn is_busy(&self) -> bool {
        self.mark.load(Ordering::Relaxed) == BUSY
    }

    /// As new, whoever was inside.
    pub(crate) fn forget(&self, number: u32) {
        self.settle();
        self.shut();
        self.leave(number);
    }

    /// Lets those in again whom a remote kept out that is not there any more.
    #[cfg(feature = "mmap")]
    pub(crate) fn readmit(&self) {
        // Written only where that is so: a copied process has its own copy of what it writes to.
        // Relaxed: it has one thread.
        if self.remote.load(Ordering::Relaxed) != NOBODY {
            self.remote.store(NOBODY, Ordering::Relaxed);
        }
    }

    /// Whether the mark is seen clear before so many looks were in vain.
    fn is_clear<P: Platform>(&self, platform: &P, most: usize) -> bool {
        let mut spins = 0;
        // Acquire pairs with the Release in `leave`: the owner's work is visible.
        while self.mark.load(Ordering::Acquire) == BUSY {
            if spins == most {
                return false;
            }
            platform.relax();
            spins += 1;
        }
        true
    }
}

/// What has a gate.
pub(crate) trait Gated {
    /// Its gate.
    fn gate(&self) -> &Gate;
}

/// Hands to `work` what is behind the gates of these CPUs; `gated` says what that is, always the
/// same of a CPU. Passed over are those who do not leave in time (whom this interrupted on its own
/// CPU, at once), those where another remote is, and all if the platform cannot make CPUs
/// synchronize. The other remote is waited for in the end: so who goes on to look for what remotes
/// make room for finds also what that one did, unless it takes very long, or was interrupted on
/// this CPU.
///
/// Meanwhile the CPUs take the shared path. Called with no lock held that one of them, or another
/// remote, waits for inside.
pub(crate) fn visit_all<'g, P: Platform, T: Gated + 'g>(
    platform: &P,
    cpus: CpuSet,
    gated: impl Fn(CpuId) -> &'g T,
    work: impl FnMut(&'g T),
) {
    let here = platform.cpu_id();
    let own = remote_on(here);
    let visited = visit_revoked(platform, here, Revoked::revoke(own, cpus, &gated), work);
    for cpu in cpus.iter().filter(|&cpu| !visited.contains(cpu)) {
        // Relaxed: what the other remote did lies behind locks of its own.
        let remote = || gated(cpu).gate().remote.load(Ordering::Relaxed);
        let (other, mut spins) = (remote(), 0);
        while other != NOBODY && other != own && remote() == other {
            if spins == OTHER_REMOTE_SPINS {
                return;
            }
            platform.relax();
            spins += 1;
        }
    }
}

/// The same for the gates that this remote has revoked, each of which is given back at once; those
/// CPUs.
fn visit_revoked<'g, P: Platform, T: Gated + 'g>(
    platform: &P,
    here: CpuId,
    mut revoked: Revoked<'g, T, impl Fn(CpuId) -> &'g T>,
    mut work: impl FnMut(&'g T),
) -> CpuSet {
    let cpus = revoked.cpus;
    // Either barrier also pairs with the Release of the last remote's `Revoked::give_back`.
    if cpus.is_empty() || !synchronize(platform) {
        return cpus;
    }
    // Who is inside on this CPU was interrupted by this, and does not leave before.
    let spins = |cpu| if cpu == here { 0 } else { REMOTE_SPINS };
    // First see all visits end that were under way: they may have opened limits.
    let mut are_shut = true;
    for cpu in cpus.iter() {
        let gate = (revoked.gated)(cpu).gate();
        if gate.is_clear(platform, spins(cpu)) && !gate.is_shut() {
            gate.shut();
            are_shut = false;
        }
    }
    if !are_shut && !synchronize(platform) {
        return cpus;
    }
    for cpu in cpus.iter() {
        let gated = (revoked.gated)(cpu);
        // Limits that are open now belong to a visit that was not seen to end.
        let is_clear = gated.gate().is_clear(platform, spins(cpu));
        if is_clear && gated.gate().is_shut() {
            work(gated);
        }
        revoked.give_back(cpu);
    }
    cpus
}

/// Hands to `work` what is behind the gate of a CPU that has stopped: that CPU needs no barrier.
/// `false` if another remote is there.
///
/// # Safety
///
/// The CPU is not inside and does not enter until this returns, and what it did there is visible to
/// the caller.
pub(crate) unsafe fn visit_stopped<'g, P: Platform, T: Gated + 'g>(
    platform: &P,
    cpu: CpuId,
    gated: impl Fn(CpuId) -> &'g T,
    work: impl FnMut(&'g T),
) -> bool {
    let mut stopped = CpuSet::default();
    stopped.add(cpu);
    let revoked = Revoked::revoke(remote_on(platform.cpu_id()), stopped, gated);
    // Pairs with the Release of the last remote's `Revoked::give_back`.
    full_barrier();
    revoked.iter().map(work).count() > 0
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

/// The gates that a remote has revoked. Those that it has not given back are when this is dropped,
/// also when the remote's work unwinds.
struct Revoked<'g, T: Gated + 'g, F: Fn(CpuId) -> &'g T> {
    gated: F,
    cpus: CpuSet,
}

impl<'g, T: Gated + 'g, F: Fn(CpuId) -> &'g T> Revoked<'g, T, F> {
    /// Revokes the gates of these CPUs for `remote`, but those that another one has revoked.
    fn revoke(remote: u16, cpus: CpuSet, gated: F) -> Self {
        let mut revoked = Self { gated, cpus: CpuSet::default() };
        for cpu in cpus.iter() {
            let gate = (revoked.gated)(cpu).gate();
            let won =
                gate.remote.compare_exchange(NOBODY, remote, Ordering::Relaxed, Ordering::Relaxed);
            if won.is_ok() {
                gate.shut();
                revoked.cpus.add(cpu);
            }
        }
        revoked
    }

    fn iter(&self) -> impl Iterator<Item = &'g T> {
        self.cpus.iter().map(&self.gated)
    }

    /// Lets this CPU in again.
    fn give_back(&mut self, cpu: CpuId) {
        self.cpus.remove(cpu);
        // Release pairs with the Acquire in `visit`.
        (self.gated)(cpu).gate().remote.store(NOBODY, Ordering::Release);
    }
}

impl<'g, T: Gated + 'g, F: Fn(CpuId) -> &'g T> Drop for Revoked<'g, T, F> {
    fn drop(&mut self) {
        let cpus = self.cpus;
        cpus.iter().for_each(|cpu| self.give_back(cpu));
    }
}
