//! The atomics and cells of everything that CPUs share without a lock.
//!
//! One door for all of them, so that the model checker can put its own behind it and try every
//! interleaving of the very source that ships.

pub(crate) use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Memory that one party at a time may touch; who that is, its user's protocol decides.
#[cfg(feature = "mmap")]
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(feature = "mmap")]
impl<T> UnsafeCell<T> {
    #[inline]
    pub(crate) const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Hands the content's address to `use_it`, which decides whether it may be followed.
    #[inline]
    pub(crate) fn with_mut<R>(&self, use_it: impl FnOnce(*mut T) -> R) -> R {
        use_it(self.0.get())
    }
}

/// Keeps the compiler from moving memory accesses across; costs no instruction. The party on the
/// other side pairs it with a barrier on every CPU ([`Platform::synchronize`]).
///
/// [`Platform::synchronize`]: crate::platform::Platform::synchronize
#[inline]
pub(crate) fn light_barrier() {
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// Orders every memory access before it with every one after it, as seen by all CPUs.
#[inline]
pub(crate) fn full_barrier() {
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// How often a remote looks at a busy CPU slot before it gives up. An owner leaves its slot within
/// a hundred instructions or so, unless its CPU is interrupted: the limit bounds the wait, and
/// what stays in the slot is merely not drained this time.
pub(crate) const REMOTE_SPINS: usize = 10_000;

/// Spends a moment while waiting for another CPU.
#[inline]
pub(crate) fn spin_wait() {
    core::hint::spin_loop();
}
