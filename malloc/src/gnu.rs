//! Names under which the GNU C library has the same functions once more, for programs that replace
//! `malloc` themselves and call what was there before, and `mallinfo`, which `mallinfo2` has
//! replaced.
//!
//! Nothing here calls an exported function: in such a program that is the program's own, which
//! would call these again.

use core::ffi::{c_int, c_void};

use crate::{c, report, serve};

/// As [`c::malloc`].
#[unsafe(no_mangle)]
pub extern "C" fn __libc_malloc(size: usize) -> *mut c_void {
    serve::allocate_bytes("malloc", size)
}

/// As [`c::calloc`].
#[unsafe(no_mangle)]
pub extern "C" fn __libc_calloc(count: usize, size: usize) -> *mut c_void {
    c::zeroed(count, size)
}

/// As [`c::realloc`].
///
/// # Safety
///
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { serve::reallocate("realloc", block, size) }
}

/// As [`c::free`].
///
/// # Safety
///
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { serve::free("free", block) }
}

/// As [`c::free`]: programs from before it was taken out of `<stdlib.h>` still find it.
///
/// # Safety
///
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { serve::free("cfree", block) }
}

/// As [`c::memalign`].
#[unsafe(no_mangle)]
pub extern "C" fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void {
    c::aligned("memalign", alignment, size)
}

/// As [`c::valloc`].
#[unsafe(no_mangle)]
pub extern "C" fn __libc_valloc(size: usize) -> *mut c_void {
    c::paged(size)
}

/// As [`c::pvalloc`].
#[unsafe(no_mangle)]
pub extern "C" fn __libc_pvalloc(size: usize) -> *mut c_void {
    c::pages(size)
}

/// As [`c::posix_memalign`].
///
/// # Safety
///
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __posix_memalign(
    block: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { c::put_aligned(block, alignment, size) }
}

/// The GNU C library's `struct mallinfo`: [`Info`](crate::Info), with what is too large for an
/// `int` cut to the largest one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ShortInfo([c_int; 10]);

/// `mallinfo`, SVID.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo() -> ShortInfo {
    let info = report::info();
    let all = [
        info.arena,
        info.ordblks,
        info.smblks,
        info.hblks,
        info.hblkhd,
        info.usmblks,
        info.fsmblks,
        info.uordblks,
        info.fordblks,
        info.keepcost,
    ];
    ShortInfo(all.map(|number| c_int::try_from(number).unwrap_or(c_int::MAX)))
}
