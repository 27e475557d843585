//! The lock of the shared paths: a spin lock that keeps interrupts away while it is held.
//!
//! A handler that allocates must never spin on a lock that its own CPU holds, so interrupts are
//! masked *before* the lock is taken and put back *after* it is released. Where even waiting for
//! another CPU is too long, [`IrqLock::try_lock`] answers at once.
//!
//! # Lock order
//!
//! CPU slot (a mark, not a lock), shelf, depot, slab lists, growth, zone: a lock may be taken while
//! holding only locks that stand before it in this list, and never two of a kind. A pool of records
//! is locked with none of these held, and takes none meanwhile. Nothing is allocated with a lock
//! held.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

use crate::platform::{IrqState, Platform};

/// A value that one CPU at a time can reach, with that CPU's interrupts masked.
pub(crate) struct IrqLock<T> {
    mutex: spin::Mutex<T>,
}

impl<T> IrqLock<T> {
    /// A free lock around `value`.
    pub(crate) const fn new(value: T) -> Self {
        Self { mutex: spin::Mutex::new(value) }
    }

    /// Masks interrupts and waits for the lock.
    #[inline]
    pub(crate) fn lock<'a, P: Platform>(&'a self, platform: &'a P) -> Guard<'a, T, P> {
        let state = platform.irq_save();
        loop {
            match self.mutex.try_lock() {
                Some(inner) => return Guard::new(inner, platform, state),
                None => self.wait(platform),
            }
        }
    }

    /// Returns when the lock looks free.
    #[cold]
    fn wait<P: Platform>(&self, platform: &P) {
        while self.mutex.is_locked() {
            platform.relax();
        }
    }

    /// Masks interrupts and takes the lock if nobody holds it; otherwise `None`, and interrupts
    /// are as before.
    #[inline]
    pub(crate) fn try_lock<'a, P: Platform>(&'a self, platform: &'a P) -> Option<Guard<'a, T, P>> {
        let state = platform.irq_save();
        match self.mutex.try_lock() {
            Some(inner) => Some(Guard::new(inner, platform, state)),
            None => {
                // SAFETY: `state` comes from the `irq_save` above, on this CPU since interrupts
                // have been masked between the two.
                unsafe { platform.irq_restore(state) };
                None
            }
        }
    }

    /// The value, without locking: the exclusive borrow shows that nobody holds the lock.
    #[inline]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.mutex.get_mut()
    }
}

/// The lock, held: releases it and then puts interrupts back when dropped.
///
/// It is bound to the CPU that took it and cannot be sent to another. Guards of several locks are
/// dropped in the reverse of the order they were taken in, as [`Platform::irq_restore`] demands.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct Guard<'a, T, P: Platform> {
    inner: ManuallyDrop<spin::MutexGuard<'a, T>>,
    platform: &'a P,
    state: IrqState,
    /// Not `Send`: `state` belongs to this CPU.
    bound_to_cpu: PhantomData<*const ()>,
}

impl<'a, T, P: Platform> Guard<'a, T, P> {
    #[inline]
    fn new(inner: spin::MutexGuard<'a, T>, platform: &'a P, state: IrqState) -> Self {
        Self { inner: ManuallyDrop::new(inner), platform, state, bound_to_cpu: PhantomData }
    }
}

impl<T, P: Platform> Deref for Guard<'_, T, P> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T, P: Platform> DerefMut for Guard<'_, T, P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T, P: Platform> Drop for Guard<'_, T, P> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: dropped here and nowhere else, and not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.inner) };
        // SAFETY: `state` comes from the `irq_save` that this guard was made after; the guard is
        // not `Send`, and where guards are dropped in order interrupts have been masked
        // since, so this is the same CPU.
        unsafe { self.platform.irq_restore(self.state) };
    }
}

#[cfg(test)]
mod tests;
