//! The atomics and barriers of what is shared with CPUs by the protocol of [`gate`](crate::gate).
//!
//! One door for all of them, so that the model checker can put its own behind it and try every
//! interleaving of the very source that ships.

pub(crate) use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering};

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

/// How often a remote looks at a busy gate before it gives up. A hit is over within a hundred
/// instructions or so, a visit that moves a batch within some thousands, unless an interrupt or a
/// lock makes it last: the limit bounds the wait, and what stays behind the gate is merely not
/// drained this time.
pub(crate) const REMOTE_SPINS: usize = 10_000;

/// How often a remote looks whether another one is done with a CPU, before it goes on without what
/// that one takes back: it may have thousands of blocks to carry, and wait itself for CPUs that are
/// busy.
pub(crate) const OTHER_REMOTE_SPINS: usize = 8 * REMOTE_SPINS;
