//! An interrupt handler that uses the same CPU's slot, between any two steps of what it
//! interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::machine::PinnedMachine;
use crate::sync::{interrupt_after, interrupt_is_pending};
use crate::visits::Counter;

/// What a CPU or a handler does with what belongs to the CPU; whether it was let in.
type Act = fn(&Counter) -> bool;

/// Runs `interrupted` with `handler` before its step number `steps`; `None` if it has fewer steps,
/// else how often the handler was let in.
fn interrupt_at(steps: usize, interrupted: Act, handler: Act) -> Option<usize> {
    const NOT_INTERRUPTED: usize = usize::MAX;
    let outcome = Arc::new(AtomicUsize::new(NOT_INTERRUPTED));
    let model_outcome = Arc::clone(&outcome);
    loom::model(move || {
        let slot = Arc::new(Counter::open());
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
        assert_eq!(
            slot.total(&PinnedMachine),
            Some(let_in + handled),
            "interrupted before step {steps}"
        );
        model_outcome.store(handled, Relaxed);
    });
    Some(outcome.load(Relaxed)).filter(|&handled| handled != NOT_INTERRUPTED)
}

/// How often the handler came in time, and how often it was let in, over all steps.
fn interrupt_everywhere(interrupted: Act, handler: Act) -> (usize, usize) {
    let let_in: Vec<_> =
        (0..).map_while(|steps| interrupt_at(steps, interrupted, handler)).collect();
    (let_in.len(), let_in.iter().sum())
}

/// Lets a handler do each of a cache's acts at every step of each: it is never let in between, and
/// never waits.
#[test]
fn a_handler_never_gets_behind_the_gate_while_its_cpu_or_a_remote_is_there() {
    let acts: [(&str, Act); 4] = [
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
