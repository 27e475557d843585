//! Remotes that meet at the gate of a CPU.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::cpu_set::CpuSet;
use crate::frame::PhysAddr;
use crate::gate::{self, Gate, Gated};
use crate::platform::{CpuId, IrqState, Pinning, Platform};
use crate::sync::{OTHER_REMOTE_SPINS, REMOTE_SPINS};

struct Behind(Gate);

impl Gated for Behind {
    fn gate(&self) -> &Gate {
        &self.0
    }
}

/// A machine of three CPUs, as one of them sees it, and what that does while it waits.
struct Waiting<F> {
    cpu: usize,
    wait: F,
}

// SAFETY: no memory is given to kmem, which does nothing here that depends on the CPUs.
unsafe impl<F: Fn() + Sync> Platform for Waiting<F> {
    fn phys_to_virt(&self, _: PhysAddr) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn virt_to_phys(&self, _: *const u8) -> Option<PhysAddr> {
        None
    }

    fn irq_save(&self) -> IrqState {
        IrqState(0)
    }

    unsafe fn irq_restore(&self, _: IrqState) {}

    fn cpu_id(&self) -> CpuId {
        CpuId::new(self.cpu).unwrap()
    }

    fn cpu_count(&self) -> usize {
        3
    }

    fn relax(&self) {
        (self.wait)();
    }

    fn synchronize(&self) -> bool {
        true
    }
}

/// Visits from `cpu` what is behind the gate of the first CPU, and does `wait` where another remote
/// is there.
fn visit(cpu: usize, behind: &Behind, wait: impl Fn() + Sync, work: impl FnMut(&Behind)) {
    let first = CpuSet::of(|cpu| cpu == CpuId::BOOT);
    gate::visit_all(&Waiting { cpu, wait }, first, |_| behind, work);
}

/// How often a remote on `cpu` waits for the first CPU, which stays inside.
fn waits_for_the_first_cpu(cpu: usize) -> usize {
    let behind = Behind(Gate::new(1));
    // SAFETY: whether this thread is the first CPU or not, it is the only one.
    assert!(unsafe { behind.0.enter_as(1, Pinning::Pinned) });
    let waits = AtomicUsize::new(0);
    let wait = || _ = waits.fetch_add(1, Ordering::Relaxed);
    visit(cpu, &behind, wait, |_| panic!("the CPU was inside"));
    waits.into_inner()
}

/// How often a remote on CPU 1 waits for one on `other` that does not go on.
fn waits_in_vain(other: usize) -> usize {
    let behind = Behind(Gate::new(1));
    let waits = AtomicUsize::new(0);
    let wait = || _ = waits.fetch_add(1, Ordering::Relaxed);
    let work = |behind: &_| visit(1, behind, wait, |_| panic!("another remote was there"));
    visit(other, &behind, || (), work);
    waits.into_inner()
}

#[test]
fn a_remote_waits_for_what_another_one_does() {
    let behind = Behind(Gate::new(1));
    let [inside, awaited, left] = [const { AtomicBool::new(false) }; 3];
    let until = |flag: &AtomicBool| {
        while !flag.load(Ordering::Acquire) {
            thread::yield_now();
        }
    };
    let waits = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let work = |_: &_| {
                inside.store(true, Ordering::Release);
                until(&awaited);
            };
            visit(0, &behind, || (), work);
            left.store(true, Ordering::Release);
        });
        until(&inside);
        let wait = || {
            waits.fetch_add(1, Ordering::Relaxed);
            awaited.store(true, Ordering::Release);
            until(&left);
        };
        let mut entered = false;
        visit(1, &behind, wait, |_| entered = true);
        // Also where nobody waited the other one is let go.
        awaited.store(true, Ordering::Release);
        assert!(!entered, "another remote was there");
    });
    assert_eq!(waits.into_inner(), 1);
}

#[test]
fn a_remote_does_not_wait_for_another_one_for_ever() {
    assert_eq!(waits_in_vain(0), OTHER_REMOTE_SPINS);
}

#[test]
fn an_interrupt_does_not_wait_for_the_remote_that_it_interrupted() {
    assert_eq!(waits_in_vain(1), 0);
}

#[test]
fn an_interrupt_does_not_wait_for_the_call_that_it_interrupted() {
    assert_eq!(waits_for_the_first_cpu(0), 0);
    let bounded = waits_for_the_first_cpu(1);
    assert!((1..=2 * REMOTE_SPINS).contains(&bounded), "{bounded}");
}

#[test]
fn a_cpu_is_let_in_again_while_the_remote_goes_on_to_the_next() {
    let both = [Behind(Gate::new(1)), Behind(Gate::new(1))];
    // SAFETY: this thread is both CPUs.
    let is_let_in = |gate: &Gate| unsafe { gate.visit(1, Pinning::Pinned) };
    let cpus = CpuSet::of(|cpu| cpu.index() < 2);
    let mut visits = 0;
    let work = |behind: &_| {
        let [first, second] = both.each_ref().map(|Behind(gate)| is_let_in(gate));
        assert_eq!((first, second), (visits == 1, false));
        assert!(std::ptr::eq(behind, &both[visits]));
        visits += 1;
        if first {
            both[0].0.leave(1);
        }
    };
    gate::visit_all(&Waiting { cpu: 2, wait: || () }, cpus, |cpu| &both[cpu.index()], work);
    assert_eq!(visits, 2);
    assert!(is_let_in(&both[1].0));
}
