//! The gate of a CPU's slot in a cache, between hits and visits of its owner, other threads, and
//! remotes.

use loom::sync::Arc;
use loom::thread;

use crate::cpu_set::CpuSet;
use crate::gate::{Gate, Gated, visit_all, visit_stopped};
use crate::machine::{MigratingMachine, PinnedMachine};
use crate::platform::{CpuId, Platform};
use crate::sync::UnsafeCell;

/// The gate's.
const NUMBER: u32 = 7;

/// How often somebody was behind the gate.
pub(crate) struct Counter {
    gate: Gate,
    count: UnsafeCell<usize>,
}

impl Gated for Counter {
    fn gate(&self) -> &Gate {
        &self.gate
    }
}

// SAFETY: the count is touched behind the gate alone, which is what is tested: the checker finds
// whoever is not alone there.
unsafe impl Sync for Counter {}

impl Counter {
    /// Open for hits.
    pub(crate) fn open() -> Self {
        let counter = Self::shut();
        counter.gate.open(0, 2);
        counter
    }

    /// Shut, as a slot without magazines.
    pub(crate) fn shut() -> Self {
        Self { gate: Gate::new(NUMBER), count: UnsafeCell::new(0) }
    }

    /// Adds one to the count; the caller is behind the gate.
    fn add(&self) {
        // SAFETY: see `Sync`.
        self.count.with_mut(|count| unsafe { *count += 1 });
    }

    /// What a free does that hits; whether it was let in.
    pub(crate) fn hit<P: Platform>(&self) -> bool {
        // SAFETY: each model runs one thread as the owner where the machine is pinned.
        let is_inside = unsafe { self.gate.enter_as(NUMBER, P::PINNING) };
        is_inside && self.hit_if(NUMBER, |gate| 1 < gate.ceiling())
    }

    /// What an allocation does that hits.
    pub(crate) fn hit_down<P: Platform>(&self) -> bool {
        // SAFETY: as above.
        let number = unsafe { self.gate.enter(P::PINNING) };
        number.is_some_and(|number| self.hit_if(number, |gate| 1 > gate.floor()))
    }

    /// The rest of a hit, with the mark set.
    fn hit_if(&self, number: u32, lets_in: impl FnOnce(&Gate) -> bool) -> bool {
        let is_let_in = lets_in(&self.gate);
        if is_let_in {
            self.add();
        }
        self.gate.leave(number);
        is_let_in
    }

    /// What a call does that misses.
    pub(crate) fn visit<P: Platform>(&self) -> bool {
        // SAFETY: as above.
        if !unsafe { self.gate.visit(NUMBER, P::PINNING) } {
            return false;
        }
        self.add();
        self.gate.open(0, 2);
        self.gate.leave(NUMBER);
        true
    }

    /// What a drain from another CPU does.
    pub(crate) fn drain<P: Platform>(&self, platform: &P) -> bool {
        let mut is_let_in = false;
        visit_all(
            platform,
            CpuSet::of(|cpu| cpu == CpuId::BOOT),
            |_| self,
            |counter: &Self| {
                counter.add();
                is_let_in = true;
            },
        );
        is_let_in
    }

    /// What a drain does when the CPU has stopped.
    pub(crate) fn drain_stopped(&self) -> bool {
        // SAFETY: each model that calls this has no owner meanwhile.
        unsafe {
            visit_stopped(&PinnedMachine, CpuId::BOOT, |_| self, |counter: &Self| counter.add())
        }
    }

    /// The count, for a remote while nobody else is there.
    pub(crate) fn total<P: Platform>(&self, platform: &P) -> Option<usize> {
        let mut total = None;
        visit_all(
            platform,
            CpuSet::of(|cpu| cpu == CpuId::BOOT),
            |_| self,
            |counter: &Self| {
                // SAFETY: see `Sync`.
                total = Some(counter.count.with_mut(|count| unsafe { *count }));
            },
        );
        total
    }
}

fn count(outcomes: impl IntoIterator<Item = bool>) -> usize {
    outcomes.into_iter().map(usize::from).sum()
}

/// Runs `owner` beside a remote; none of them ever meets another behind the gate.
fn owner_and_remote(owner: fn(&Counter) -> usize) {
    loom::model(move || {
        let counter = Arc::new(Counter::open());
        let other = {
            let counter = Arc::clone(&counter);
            thread::spawn(move || usize::from(counter.drain(&PinnedMachine)))
        };
        let entries = owner(&counter) + other.join().unwrap();
        assert_eq!(counter.total(&PinnedMachine), Some(entries));
    });
}

#[test]
fn hits_and_a_remote_never_meet() {
    owner_and_remote(|counter| {
        count([counter.hit::<PinnedMachine>(), counter.hit_down::<PinnedMachine>()])
    });
}

#[test]
fn a_visit_that_opens_the_gate_and_a_remote_never_meet() {
    owner_and_remote(|counter| {
        count([counter.visit::<PinnedMachine>(), counter.hit::<PinnedMachine>()])
    });
}

#[test]
fn an_owner_that_comes_back_sees_what_a_remote_did() {
    loom::model(|| {
        let counter = Arc::new(Counter::shut());
        let other = {
            let counter = Arc::clone(&counter);
            thread::spawn(move || usize::from(counter.drain(&PinnedMachine)))
        };
        let mut entries = count([
            counter.hit_down::<PinnedMachine>(),
            counter.visit::<PinnedMachine>(),
            counter.hit_down::<PinnedMachine>(),
        ]);
        entries += other.join().unwrap();
        assert_eq!(counter.total(&PinnedMachine), Some(entries));
    });
}

#[test]
fn two_remotes_never_meet() {
    loom::model(|| {
        let counter = Arc::new(Counter::open());
        let other = {
            let counter = Arc::clone(&counter);
            thread::spawn(move || usize::from(counter.drain(&PinnedMachine)))
        };
        let mut entries = usize::from(counter.drain(&PinnedMachine));
        entries += other.join().unwrap();
        assert_eq!(counter.total(&PinnedMachine), Some(entries));
    });
}

#[test]
fn two_remotes_of_a_stopped_cpu_never_meet() {
    loom::model(|| {
        let counter = Arc::new(Counter::open());
        let mut entries = usize::from(counter.hit::<PinnedMachine>());
        let other = {
            let counter = Arc::clone(&counter);
            thread::spawn(move || usize::from(counter.drain(&PinnedMachine)))
        };
        entries += usize::from(counter.drain_stopped());
        entries += other.join().unwrap();
        assert_eq!(counter.total(&PinnedMachine), Some(entries));
    });
}

#[test]
fn a_remote_leaves_the_gate_shut_until_a_visit_opens_it() {
    loom::model(|| {
        let counter = Counter::open();
        assert!(counter.drain(&PinnedMachine));
        assert!(!counter.hit::<PinnedMachine>() && !counter.hit_down::<PinnedMachine>());
        assert!(counter.visit::<PinnedMachine>());
        assert!(counter.hit::<PinnedMachine>() && counter.hit_down::<PinnedMachine>());
    });
}

#[test]
fn migrating_threads_never_meet() {
    loom::model(|| {
        let counter = Arc::new(Counter::open());
        let others: Vec<_> = (0..2)
            .map(|number| {
                let counter = Arc::clone(&counter);
                thread::spawn(move || match number {
                    0 => counter.hit::<MigratingMachine>(),
                    _ => counter.drain(&MigratingMachine),
                })
            })
            .collect();
        let mut entries = usize::from(counter.hit_down::<MigratingMachine>());
        entries += count(others.into_iter().map(|thread| thread.join().unwrap()));
        assert_eq!(counter.total(&MigratingMachine), Some(entries));
    });
}
