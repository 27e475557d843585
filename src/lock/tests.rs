use core::cell::Cell;
use std::thread;
use std::thread_local;

use super::IrqLock;
use crate::frame::PhysAddr;
use crate::platform::{IrqState, Platform};

thread_local! {
    /// Whether this "CPU" has its interrupts masked.
    static MASKED: Cell<bool> = const { Cell::new(false) };
}

struct Cpus;

// SAFETY: no memory is given to kmem, and each thread stands for a CPU of its own.
unsafe impl Platform for Cpus {
    fn phys_to_virt(&self, _: PhysAddr) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn virt_to_phys(&self, _: *const u8) -> Option<PhysAddr> {
        None
    }

    fn irq_save(&self) -> IrqState {
        IrqState(usize::from(MASKED.replace(true)))
    }

    unsafe fn irq_restore(&self, state: IrqState) {
        MASKED.set(state.0 != 0);
    }
}

#[test]
fn interrupts_are_masked_exactly_while_the_lock_is_held() {
    let lock = IrqLock::new(1);
    assert!(!MASKED.get());
    {
        let mut held = lock.lock(&Cpus);
        assert!(MASKED.get());
        *held += 1;
    }
    assert!(!MASKED.get());
    assert_eq!(*lock.lock(&Cpus), 2);
}

#[test]
fn nested_locks_unmask_only_at_the_last_release() {
    let (outer, inner) = (IrqLock::new(()), IrqLock::new(()));
    let first = outer.lock(&Cpus);
    let second = inner.lock(&Cpus);
    drop(second);
    assert!(MASKED.get());
    drop(first);
    assert!(!MASKED.get());
}

#[test]
fn a_held_lock_is_refused_at_once_and_interrupts_stand_as_before() {
    let lock = IrqLock::new(());
    let held = lock.lock(&Cpus);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(lock.try_lock(&Cpus).is_none());
            assert!(!MASKED.get());
        });
    });
    drop(held);
    let held = lock.try_lock(&Cpus);
    assert!(held.is_some() && MASKED.get());
    drop(held);
    assert!(!MASKED.get());
}

#[test]
fn one_cpu_at_a_time_reaches_the_value() {
    let mut lock = IrqLock::new(0_u32);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let mut value = lock.lock(&Cpus);
                    *value = core::hint::black_box(*value) + 1;
                }
            });
        }
    });
    assert_eq!(*lock.get_mut(), 40_000);
}
