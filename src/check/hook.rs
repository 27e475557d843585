//! Where violations go.

use core::mem;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::Violation;
use crate::platform::MAX_CPUS;

/// What a kernel does about a violation. It may stop, or return to have the block left alone:
/// leaked, not freed. It runs wherever the violation was found, perhaps with locks held and in an
/// interrupt handler, and on several CPUs at once. So it must not call kmem: not allocate, and not
/// show its [reports](crate::report), which take the same locks.
pub type Hook = fn(&Violation<'_>);

/// The kernel's hook as a pointer; null for the default.
static HOOK: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// On which CPUs the kernel's hook runs.
static RUNNING: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Has every violation from now on handled by `hook`; `None` panics with the violation as its
/// message. That is the default, too, except on Linux, where `host` prints it and ends the process.
pub fn set_hook(hook: Option<Hook>) {
    let pointer = hook.map_or(ptr::null_mut(), |hook| hook as *mut ());
    // Release, for the Acquire in `current`: what the hook uses was set up before.
    HOOK.store(pointer, Ordering::Release);
}

/// Has violations handled by `hook` unless [`set_hook`] has said otherwise: what a platform does by
/// default.
#[cfg(feature = "mmap")]
pub(crate) fn set_platform_hook(hook: Hook) {
    // Release as in `set_hook`. Where a hook is set already, it stays.
    let _ = HOOK.compare_exchange(
        ptr::null_mut(),
        hook as *mut (),
        Ordering::Release,
        Ordering::Relaxed,
    );
}

fn current() -> Option<Hook> {
    let pointer = HOOK.load(Ordering::Acquire);
    if pointer.is_null() {
        return None;
    }
    // SAFETY: only `set_hook` and `set_platform_hook` write `HOOK`, and write either null or a
    // `Hook`.
    Some(unsafe { mem::transmute::<*mut (), Hook>(pointer) })
}

/// Hands `violation` to the kernel's hook. Returns if the hook does: the caller then leaves the
/// block as it is.
///
/// # Panics
///
/// By default; and where the violation happens inside the hook, on the same CPU.
#[cold]
#[inline(never)]
#[track_caller]
pub fn violation(violation: &Violation<'_>) {
    let Some(hook) = current() else { panic!("{violation}") };
    let running = &RUNNING[violation.cpu.index() % MAX_CPUS];
    if running.swap(true, Ordering::Relaxed) {
        panic!("{violation}, found inside the violation hook");
    }
    let _stop = Stop(running);
    hook(violation);
}

/// Marks the hook as no longer running, also when it unwinds.
struct Stop(&'static AtomicBool);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
