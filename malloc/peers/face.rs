//! The C library's allocation functions over an allocator's own, which the including crate names in
//! `peer`.

use crate::peer;
use core::ffi::{c_int, c_void};

const EINVAL: c_int = 22;
const ENOMEM: c_int = 12;

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: the C function's contract, passed on.
    unsafe { peer::malloc(size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the C function's contract, passed on.
    unsafe { peer::free(block) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // SAFETY: the C function's contract, passed on.
    unsafe { peer::calloc(count, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the C function's contract, passed on.
    unsafe { peer::realloc(block, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
    // SAFETY: the C function's contract, passed on.
    unsafe { peer::memalign(alignment, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    // SAFETY: the C function's contract, passed on.
    unsafe { peer::memalign(alignment, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(
    block: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> c_int {
    if !alignment.is_power_of_two() || alignment < size_of::<usize>() {
        return EINVAL;
    }
    // SAFETY: the C function's contract, passed on.
    let aligned = unsafe { peer::memalign(alignment, size) };
    if aligned.is_null() {
        return ENOMEM;
    }
    // SAFETY: the caller of the C function says where the block's address may be written.
    unsafe { *block = aligned };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    // SAFETY: the C function's contract, passed on.
    unsafe { peer::usable(block) }
}
