//! The model checker's side of `kmem::sync`, which also lets an interrupt come between any two
//! steps.

use std::cell::RefCell;

pub(crate) use loom::sync::atomic::Ordering;

/// A small number, since every look at a busy slot multiplies the interleavings.
pub(crate) const REMOTE_SPINS: usize = 2;

type Handler = Box<dyn FnOnce()>;

std::thread_local! {
    static INTERRUPT: RefCell<Option<(usize, Handler)>> = const { RefCell::new(None) };
}

/// Runs `handler` on this CPU before the step number `steps` from now on.
pub(crate) fn interrupt_after(steps: usize, handler: impl FnOnce() + 'static) {
    INTERRUPT.with(|cell| *cell.borrow_mut() = Some((steps, Box::new(handler))));
}

/// Whether the handler given to [`interrupt_after`] has not run; forgets it.
pub(crate) fn interrupt_is_pending() -> bool {
    INTERRUPT.with(|cell| cell.borrow_mut().take().is_some())
}

/// A point at which an interrupt may come.
pub(crate) fn step() {
    let due = INTERRUPT.with(|cell| {
        let mut cell = cell.borrow_mut();
        match cell.as_mut() {
            Some((0, _)) => cell.take(),
            Some((steps, _)) => {
                *steps -= 1;
                None
            }
            None => None,
        }
    });
    if let Some((_, handler)) = due {
        handler();
    }
}

#[derive(Debug)]
pub(crate) struct AtomicBool(loom::sync::atomic::AtomicBool);

impl AtomicBool {
    pub(crate) fn new(value: bool) -> Self {
        Self(loom::sync::atomic::AtomicBool::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> bool {
        step();
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: bool, order: Ordering) {
        step();
        self.0.store(value, order);
        step();
    }

    pub(crate) fn compare_exchange(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        step();
        let outcome = self.0.compare_exchange(current, new, success, failure);
        step();
        outcome
    }
}

#[derive(Debug)]
pub(crate) struct AtomicUsize(loom::sync::atomic::AtomicUsize);

impl AtomicUsize {
    pub(crate) fn new(value: usize) -> Self {
        Self(loom::sync::atomic::AtomicUsize::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> usize {
        step();
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: usize, order: Ordering) {
        step();
        self.0.store(value, order);
        step();
    }
}

#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with_mut<R>(&self, use_it: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(use_it)
    }
}

/// The light side of an asymmetric barrier. The model checker knows only symmetric ones.
pub(crate) fn light_barrier() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

pub(crate) fn full_barrier() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

pub(crate) fn spin_wait() {
    loom::thread::yield_now();
}
