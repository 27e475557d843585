//! A CPU's slot between its owner, other threads and remotes.

use loom::sync::Arc;
use loom::thread;

use crate::cpu_local::CpuSlot;
use crate::machine::{MigratingMachine, PinnedMachine};
use crate::platform::Platform;

/// Adds one to the content from its own CPU as often as `times` says; how often it was let in.
fn owner<P: Platform>(slot: &CpuSlot<usize>, times: usize) -> usize {
    (0..times)
        .filter(|_| {
            // SAFETY: each model runs one thread as the owner where the machine is pinned.
            unsafe { slot.with_local::<P, _>(|content| *content += 1) }.is_some()
        })
        .count()
}

/// Adds one to the content from another CPU; how often it was let in.
fn remote<P: Platform>(slot: &CpuSlot<usize>, platform: &P) -> usize {
    usize::from(slot.with_remote(platform, |content| *content += 1).is_some())
}

#[test]
fn owner_and_remote_never_meet_in_the_slot() {
    loom::model(|| {
        let slot = Arc::new(CpuSlot::new(0));
        let other = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || remote(&slot, &PinnedMachine))
        };
        let mut entries = owner::<PinnedMachine>(&slot, 2);
        entries += other.join().unwrap();
        let total = slot.with_remote(&PinnedMachine, |content| *content);
        assert_eq!(total, Some(entries));
    });
}

#[test]
fn two_remotes_never_meet_in_the_slot() {
    loom::model(|| {
        let slot = Arc::new(CpuSlot::new(0));
        let other = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || remote(&slot, &PinnedMachine))
        };
        let mut entries = remote(&slot, &PinnedMachine);
        entries += other.join().unwrap();
        assert_eq!(slot.with_remote(&PinnedMachine, |content| *content), Some(entries));
    });
}

#[test]
fn an_owner_sees_what_a_remote_left() {
    loom::model(|| {
        let slot = Arc::new(CpuSlot::new(0));
        let other = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || remote(&slot, &PinnedMachine))
        };
        let mut entries = owner::<PinnedMachine>(&slot, 1);
        entries += other.join().unwrap();
        // SAFETY: this thread is the owner.
        let seen = unsafe { slot.with_local::<PinnedMachine, _>(|content| *content) };
        assert_eq!(seen, Some(entries));
    });
}

#[test]
fn migrating_threads_never_meet_in_the_slot() {
    loom::model(|| {
        let slot = Arc::new(CpuSlot::new(0));
        let others: Vec<_> = (0..2)
            .map(|number| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || match number {
                    0 => owner::<MigratingMachine>(&slot, 1),
                    _ => remote(&slot, &MigratingMachine),
                })
            })
            .collect();
        let mut entries = owner::<MigratingMachine>(&slot, 1);
        entries += others.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>();
        assert_eq!(slot.with_remote(&MigratingMachine, |content| *content), Some(entries));
    });
}
