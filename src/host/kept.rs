//! The large block that a thread gave back last, kept for what it wants next: without a lock or a
//! locked instruction.
//!
//! Programs take a large block for a moment, give it back, and take another. From here the next one
//! gets the same memory at once: it has pages, and they are still in the processor's caches. A
//! locked instruction on that way would wait until all that the program has written to the block is
//! in those caches, which takes longer than all the rest.
//!
//! A thread slot keeps one run, which serves every request that fits into it. If it is longer than
//! what is wanted it is **lent**: its user has its beginning, and to the page allocator all of it
//! is taken. A slot lends one run at a time; it is cut to its user's length when another would be
//! lent, or memory is given back.
//!
//! As with objects, two threads that free the same block within the same few instructions may both
//! succeed; the second is found when what its thread keeps is handed on while another uses it.
//!
//! # Invariants
//!
//! 1. What is kept or lent is taken from the page allocator, whole, and no longer than
//!    [`MAX_FRAMES`]. A run that is kept is nobody's, and the owner record of its first frame is 0.
//!    That of a run that is lent has the mark [`LENT`]; so may others, that were lent.
//! 2. `kept` is changed inside the gate: by the slot's own thread, which uses no lock of kmem just
//!    then, or by a remote.
//! 3. A run is lent by one slot at most. Its user has its first `used` frames: fewer than there
//!    are, and at least one.
//! 4. `lent` is set inside the gate, where it is 0. It is set back to 0 by the slot's own thread
//!    inside the gate when that gives the run back, else by whoever holds `lending`: who gives the
//!    run back, makes it another length, or cuts it. A run is cut by the slot's own thread or by a
//!    remote inside the gate, so that it does not come back meanwhile.

use core::sync::atomic::{
    AtomicIsize, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use super::platform::HostPlatform;
use super::{local, slot, thread};
use crate::cpu_set::CpuSet;
use crate::frame::{Frame, FrameRange};
use crate::gate::{self, Gate, Gated, UNNUMBERED};
use crate::heap::SOURCES_MARK;
use crate::platform::{CpuId, MAX_CPUS, Platform};

/// Longer runs are not kept.
pub(super) const MAX_FRAMES: usize = 256;

/// In the owner record of a run: it was lent when it was handed out.
pub(super) const LENT: u32 = SOURCES_MARK;

/// What thread slots keep and have lent.
pub(super) struct Kept {
    keepers: [Keeper; MAX_CPUS],
    /// See invariant 4.
    pub(super) lending: spin::Mutex<()>,
}

/// One thread slot's.
#[repr(align(64))]
pub(super) struct Keeper {
    /// No hit gets through it: who uses what is kept visits.
    gate: Gate,
    /// The run that is kept: see invariant 2.
    pub(super) kept: Place,
    /// The run that is lent, all of it: see invariant 4.
    pub(super) lent: Place,
    /// Frames of what is lent that its user has.
    used: AtomicUsize,
    /// What the thread took by hits, less what it gave back so: runs, and frames of them.
    runs: AtomicIsize,
    frames: AtomicIsize,
}

impl Kept {
    pub(super) const fn new() -> Self {
        Self { keepers: [const { Keeper::new() }; MAX_CPUS], lending: spin::Mutex::new(()) }
    }

    /// Lets `work` use what this thread keeps; `None` if it has no slot of its own, or interrupted
    /// somebody who uses that.
    #[inline(always)]
    pub(super) fn with_own<R>(&self, work: impl FnOnce(&Keeper) -> R) -> Option<R> {
        let keeper = self.own()?;
        if thread::is_locking() {
            return None;
        }
        // SAFETY: the slot is this thread's, which keeps it.
        let visit = unsafe { keeper.gate.visit(UNNUMBERED, HostPlatform::PINNING) }
            .then(|| Visit(keeper))?;
        Some(work(visit.0))
    }

    /// What this thread's own slot keeps.
    #[inline(always)]
    pub(super) fn own(&self) -> Option<&Keeper> {
        self.keepers.get(slot::own()?.index())
    }

    /// All that may keep something.
    pub(super) fn keepers(&self) -> &[Keeper] {
        self.keepers.get(..local::begun()).unwrap_or(&[])
    }

    /// Lets `work` use what each thread keeps or has lent, unless that is just using it.
    pub(super) fn visit_all(&self, platform: &HostPlatform, work: impl FnMut(&Keeper)) {
        let keepers = self.keepers();
        let full = |cpu: CpuId| keepers.get(cpu.index()).is_some_and(|keeper| !keeper.is_empty());
        gate::visit_all(platform, CpuSet::of(full), |cpu| &self.keepers[cpu.index()], work);
    }

    /// Who has lent the run that starts at `head`.
    pub(super) fn lender_of(&self, head: Frame) -> Option<&Keeper> {
        self.keepers().iter().find(|keeper| keeper.lent.holds(head))
    }

    /// Runs and frames that threads took by hits, less what they gave back so.
    pub(super) fn count(&self) -> (isize, isize) {
        self.keepers().iter().fold((0, 0), |(runs, frames), keeper| {
            (runs + keeper.runs.load(Relaxed), frames + keeper.frames.load(Relaxed))
        })
    }

    /// Forgets what the thread of a slot was about that is not there any more.
    pub(super) fn abandon(&self, cpu: CpuId) {
        let keeper = &self.keepers[cpu.index()];
        if keeper.gate.is_busy() {
            keeper.gate.forget(UNNUMBERED);
            // It may have been anywhere between the two.
            if keeper.kept.get() == keeper.lent.get() {
                keeper.lent.set(None);
            }
            keeper.kept.set(None);
        }
    }
}

impl Gated for Keeper {
    fn gate(&self) -> &Gate {
        &self.gate
    }
}

/// A thread at what it keeps, until this is dropped, also when what it does there unwinds.
struct Visit<'a>(&'a Keeper);

impl Drop for Visit<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.gate.leave(UNNUMBERED);
    }
}

impl Keeper {
    const fn new() -> Self {
        Self {
            gate: Gate::new(UNNUMBERED),
            kept: Place::new(),
            lent: Place::new(),
            used: AtomicUsize::new(0),
            runs: AtomicIsize::new(0),
            frames: AtomicIsize::new(0),
        }
    }

    /// Whether nothing is kept or lent here.
    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.lent.is_empty()
    }

    /// How much of what is lent its user has.
    pub(super) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Lends the first `used` frames of a run; inside the gate.
    #[inline]
    pub(super) fn lend(&self, whole: FrameRange, used: usize) {
        self.used.store(used, Relaxed);
        self.lent.set(Some(whole));
    }

    /// Counts what a hit took, or gave back; inside the gate.
    #[inline]
    pub(super) fn count(&self, runs: isize, frames: isize) {
        self.runs.store(self.runs.load(Relaxed) + runs, Relaxed);
        self.frames.store(self.frames.load(Relaxed) + frames, Relaxed);
    }
}

/// A place for a run. One party at a time changes it; others may look, and see the run of before or
/// after if they look at the first frame only.
pub(super) struct Place {
    /// The number of the first frame; 0 for none: no memory of a process lies there.
    head: AtomicUsize,
    frames: AtomicUsize,
}

impl Place {
    const fn new() -> Self {
        Self { head: AtomicUsize::new(0), frames: AtomicUsize::new(0) }
    }

    #[inline]
    pub(super) fn get(&self) -> Option<FrameRange> {
        match self.head.load(Acquire) {
            0 => None,
            head => FrameRange::from_len(Frame::new(head)?, self.frames.load(Relaxed)),
        }
    }

    /// Whether the run here starts at `head`.
    #[inline]
    pub(super) fn holds(&self, head: Frame) -> bool {
        self.head.load(Acquire) == head.number()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Relaxed) == 0
    }

    #[inline]
    pub(super) fn set(&self, run: Option<FrameRange>) {
        if let Some(run) = run {
            self.frames.store(run.frames(), Relaxed);
        }
        // Release, for the Acquire in `get`: whoever finds the run finds how long it is.
        self.head.store(run.map_or(0, |run| run.start().number()), Release);
    }

    pub(super) fn take(&self) -> Option<FrameRange> {
        let run = self.get();
        self.set(None);
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_was_about_is_forgotten_with_it() {
        let kept = Kept::new();
        let run = FrameRange::from_len(Frame::new(64).expect("a frame"), 4);
        let (busy, idle) = (CpuId::new(3).expect("a slot"), CpuId::new(4).expect("a slot"));
        for cpu in [busy, idle] {
            kept.keepers[cpu.index()].kept.set(run);
        }
        let keeper = &kept.keepers[busy.index()];
        let visit = || {
            // SAFETY: nobody else knows the keeper.
            unsafe { keeper.gate.visit(UNNUMBERED, HostPlatform::PINNING) }
        };
        // Half way from keeping the run to lending it.
        assert!(visit());
        keeper.lent.set(run);
        for cpu in [busy, idle] {
            kept.abandon(cpu);
        }
        assert!(visit(), "the next thread gets in");
        assert!(keeper.is_empty(), "the run may be anybody's");
        assert_eq!(kept.keepers[idle.index()].kept.get(), run, "nobody was at that one");
    }
}
