//! The model checker's side of `kmem::sync`, which also lets an interrupt come between any two
//! steps.

use std::cell::RefCell;

pub(crate) use loom::sync::atomic::Ordering;

/// A small number, since every look at a busy slot multiplies the interleavings.
pub(crate) const REMOTE_SPINS: usize = 1;

/// Once is enough here.
pub(crate) const OTHER_REMOTE_SPINS: usize = 1;

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

/// An atomic of the model checker's, between any two operations on which an interrupt may come.
macro_rules! interruptible {
    ($name:ident, $value:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                step();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                step();
                self.0.store(value, order);
                step();
            }

            #[allow(dead_code, reason = "not all of them are exchanged")]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                step();
                let outcome = self.0.compare_exchange(current, new, success, failure);
                step();
                outcome
            }
        }
    };
}

interruptible!(AtomicBool, bool);
interruptible!(AtomicU16, u16);
interruptible!(AtomicU32, u32);
interruptible!(AtomicUsize, usize);

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
