//! The C library's `errno`.

use core::ffi::c_int;

/// Sets it.
pub(crate) fn set(code: c_int) {
    // SAFETY: the C library's variable, one for each thread.
    unsafe { *libc::__errno_location() = code };
}

/// Runs `work` and leaves it as it was.
pub(crate) fn keeping<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: as above.
    let before = unsafe { *libc::__errno_location() };
    let result = work();
    set(before);
    result
}
