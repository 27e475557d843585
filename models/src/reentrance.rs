//! An interrupt handler that uses the same CPU's slot, between any two steps of what it
//! interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::cpu_local::CpuSlot;
use crate::machine::PinnedMachine;
use crate::sync::{interrupt_after, interrupt_is_pending};
use crate::visits::Counter;

/// What a CPU or a handler does with what belongs to the CPU; whether it was let in.
type Act<T> = fn(&T) -> bool;

/// What belongs to a CPU, and how often somebody was let in.
trait Model: Sized + 'static {
    fn new() -> Self;
    fn total(&self) -> Option<usize>;
}

impl Model for CpuSlot<Vec<u32>> {
    fn new() -> Self {
        Self::new(Vec::new())
    }

    fn total(&self) -> Option<usize> {
        self.with_remote(&PinnedMachine, |content| content.len())
    }
}

impl Model for Counter {
    fn new() -> Self {
        Self::open()
    }

    fn total(&self) -> Option<usize> {
        Self::total(self, &PinnedMachine)
    }
}

fn push_local(slot: &CpuSlot<Vec<u32>>) -> bool {
    // SAFETY: a model of one CPU: whoever runs, runs on the slot's own.
    unsafe { slot.with_local::<PinnedMachine, _>(|content| content.push(1)) }.is_some()
}

fn push_remote(slot: &CpuSlot<Vec<u32>>) -> bool {
    slot.with_remote(&PinnedMachine, |content| content.push(2)).is_some()
}

/// Runs `interrupted` with `handler` before its step number `steps`; `None` if it has fewer steps,
/// else how often the handler was let in.
fn interrupt_at<T: Model>(steps: usize, interrupted: Act<T>, handler: Act<T>) -> Option<usize> {
    const NOT_INTERRUPTED: usize = usize::MAX;
    let outcome = Arc::new(AtomicUsize::new(NOT_INTERRUPTED));
    let model_outcome = Arc::clone(&outcome);
    loom::model(move || {
        let slot = Arc::new(T::new());
        let handled = Arc::new(AtomicUsize::new(0));
        let (handler_slot, handler_handled) = (Arc::clone(&slot), Arc::clone(&handled));
        interrupt_after(steps, move || {
            handler_handled.store(usize::from(handler(&handler_slot)), Relaxed);
        });
        let let_in = usize::from(interrupted(&slot));
        if interrupt_is_pending() {
            return;
        }
        let handled = handled.load(Relaxed);
        assert_eq!(slot.total(), Some(let_in + handled), "interrupted before step {steps}");
        model_outcome.store(handled, Relaxed);
    });
    Some(outcome.load(Relaxed)).filter(|&handled| handled != NOT_INTERRUPTED)
}

/// How often the handler came in time, and how often it was let in, over all steps.
fn interrupt_everywhere<T: Model>(interrupted: Act<T>, handler: Act<T>) -> (usize, usize) {
    let let_in: Vec<_> =
        (0..).map_while(|steps| interrupt_at(steps, interrupted, handler)).collect();
    (let_in.len(), let_in.iter().sum())
}

#[test]
fn a_handler_enters_before_and_after_its_cpu_but_never_within() {
    let (interruptions, let_in) = interrupt_everywhere(push_local, push_local);
    assert!(interruptions >= 5, "only {interruptions} steps were interrupted");
    assert!((1..interruptions).contains(&let_in), "let in {let_in} of {interruptions} times");
}

#[test]
fn a_handler_that_drains_its_own_cpu_never_waits_for_it() {
    let (interruptions, let_in) = interrupt_everywhere(push_local, push_remote);
    assert!((1..interruptions).contains(&let_in), "let in {let_in} of {interruptions} times");
}

#[test]
fn a_handler_finds_a_revoked_slot_closed() {
    let (interruptions, let_in) = interrupt_everywhere(push_remote, push_local);
    assert!((1..interruptions).contains(&let_in), "let in {let_in} of {interruptions} times");
}

/// Lets a handler do each of a cache's acts at every step of each: it is never let in between, and never waits.
#[test]
fn a_handler_never_gets_behind_the_gate_while_its_cpu_or_a_remote_is_there() {
    let acts: [(&str, Act<Counter>); 4] = [
        ("hit", Counter::hit::<PinnedMachine>),
        ("hit down", Counter::hit_down::<PinnedMachine>),
        ("visit", Counter::visit::<PinnedMachine>),
        ("drain", |counter| counter.drain(&PinnedMachine)),
    ];
    for (interrupted, act) in acts {
        for (handler, handling) in acts {
            let (interruptions, let_in) = interrupt_everywhere(act, handling);
            assert!(
                (1..interruptions).contains(&let_in),
                "{handler} on top of {interrupted}: let in {let_in} of {interruptions} times"
            );
        }
    }
}
