//! Times when no signal handler runs on this thread.

use core::mem::MaybeUninit;
use core::ptr;

/// What was blocked before.
#[derive(Clone, Copy)]
pub(crate) struct Mask(libc::sigset_t);

impl Mask {
    /// Blocks all signals of this thread.
    pub(crate) fn block_all() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: the first call fills `all`, the second reads it and fills `before`; neither can
        // fail for these arguments.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }

    /// Blocks what was blocked before, and nothing else.
    pub(crate) fn restore(self) {
        // SAFETY: a mask that the system gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}
