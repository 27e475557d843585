//! The functions of C11, C23, POSIX and the GNU C library, with their edge cases.
//!
//! | call | answer |
//! | --- | --- |
//! | `malloc(0)`, `calloc(0, n)`, `aligned_alloc(a, 0)` | a block of its own that can be freed |
//! | more than `PTRDIFF_MAX` bytes, or a product that overflows | null, `ENOMEM` |
//! | `realloc(NULL, n)` | as `malloc(n)` |
//! | `realloc(p, 0)` | frees `p`, null (undefined in C23; as the GNU C library does) |
//! | `aligned_alloc`, `memalign` with an alignment that is no power of two | null, `EINVAL` |
//! | `posix_memalign` with one that is no power of two or below a pointer's size | `EINVAL`; pointer and `errno` untouched |
//! | `free(NULL)` | nothing; `free` never changes `errno` |
//!
//! Blocks of up to 8 bytes are aligned to 8 bytes, others to 16 at least: so much as any object
//! that fits can need.

use core::ffi::{CStr, c_char, c_int, c_void};

use crate::engine::Request;
use crate::report::{self, Info};
use crate::{errno, serve};

/// A page of the machine, for `valloc` and `pvalloc`.
const PAGE_BYTES: usize = 4096;

// The two functions that programs call most begin at cache lines, whatever else changes: how long
// they take would depend on it.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .text.kmem_malloc,\"ax\",@progbits",
    ".p2align 6",
    ".popsection",
    ".pushsection .text.kmem_free,\"ax\",@progbits",
    ".p2align 6",
    ".popsection",
);

/// `malloc`, C11 7.22.3.4.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.kmem_malloc")]
pub extern "C" fn malloc(size: usize) -> *mut c_void {
    serve::allocate_bytes("malloc", size)
}

/// `free`, C11 7.22.3.3.
///
/// # Safety
///
/// `block` is null or an allocated block that nobody uses any more.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.kmem_free")]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { serve::free("free", block) }
}

/// `calloc`, C11 7.22.3.2.
#[unsafe(no_mangle)]
pub extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    zeroed(count, size)
}

/// See [`calloc`].
#[inline(always)]
pub(crate) fn zeroed(count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        Some(bytes) => serve::allocate_zeroed("calloc", bytes),
        None => serve::out_of_memory(),
    }
}

/// `realloc`, C11 7.22.3.5.
///
/// # Safety
///
/// As [`free`], if it succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { serve::reallocate("realloc", block, size) }
}

/// `reallocarray`, POSIX.1-2024.
///
/// # Safety
///
/// As [`realloc`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(
    block: *mut c_void,
    count: usize,
    size: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: the caller's promise.
        Some(bytes) => unsafe { serve::reallocate("reallocarray", block, bytes) },
        None => serve::out_of_memory(),
    }
}

/// `aligned_alloc`, C17 7.22.3.1.
#[unsafe(no_mangle)]
pub extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    aligned("aligned_alloc", alignment, size)
}

/// `memalign`, GNU.
#[unsafe(no_mangle)]
pub extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
    aligned("memalign", alignment, size)
}

/// `posix_memalign`, POSIX.1-2008.
///
/// # Safety
///
/// `block` can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(
    block: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { put_aligned(block, alignment, size) }
}

/// See [`posix_memalign`].
///
/// # Safety
///
/// As there.
pub(crate) unsafe fn put_aligned(block: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    if !alignment.is_power_of_two() || alignment < size_of::<*mut c_void>() {
        return libc::EINVAL;
    }
    let request = Request::of(size).aligned_to(alignment);
    let aligned = errno::keeping(|| serve::allocate("posix_memalign", request));
    if aligned.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { *block = aligned };
    0
}

/// `valloc`, BSD.
#[unsafe(no_mangle)]
pub extern "C" fn valloc(size: usize) -> *mut c_void {
    paged(size)
}

/// See [`valloc`].
pub(crate) fn paged(size: usize) -> *mut c_void {
    aligned("valloc", PAGE_BYTES, size)
}

/// `pvalloc`, GNU: whole pages.
#[unsafe(no_mangle)]
pub extern "C" fn pvalloc(size: usize) -> *mut c_void {
    pages(size)
}

/// See [`pvalloc`].
pub(crate) fn pages(size: usize) -> *mut c_void {
    match size.max(1).checked_next_multiple_of(PAGE_BYTES) {
        Some(bytes) => aligned("pvalloc", PAGE_BYTES, bytes),
        None => serve::out_of_memory(),
    }
}

pub(crate) fn aligned(call: &'static str, alignment: usize, size: usize) -> *mut c_void {
    if !alignment.is_power_of_two() {
        errno::set(libc::EINVAL);
        return core::ptr::null_mut();
    }
    serve::allocate(call, Request::of(size).aligned_to(alignment))
}

/// `malloc_usable_size`, GNU.
///
/// # Safety
///
/// `block` is null or an allocated block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    // SAFETY: the caller's promise.
    unsafe { serve::usable_bytes(block) }
}

/// `free_sized`, C23 7.24.3.4.
///
/// # Safety
///
/// As [`free`]; `block` was allocated with this size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_sized(block: *mut c_void, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { serve::free_sized("free_sized", block, 1, size) }
}

/// `free_aligned_sized`, C23 7.24.3.5.
///
/// # Safety
///
/// As [`free`]; `block` was allocated with this alignment and size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_aligned_sized(block: *mut c_void, alignment: usize, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { serve::free_sized("free_aligned_sized", block, alignment, size) }
}

/// `malloc_trim`, GNU: gives back to the system what can be; 1 if that was anything. In a signal
/// handler on top of a call that holds a lock it is nothing.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(_keep: usize) -> c_int {
    c_int::from(crate::engine::trim() > 0)
}

/// `mallopt`, GNU: kmem's options are environment variables, so nothing is set; 1, as if it were.
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(_parameter: c_int, _value: c_int) -> c_int {
    1
}

/// `mallinfo2`, GNU. In a signal handler on top of a call that holds a lock all of it is 0.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo2() -> Info {
    report::info()
}

/// `malloc_info`, GNU: XML.
///
/// # Safety
///
/// `file` is an open stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, file: *mut libc::FILE) -> c_int {
    if options != 0 {
        return libc::EINVAL;
    }
    // SAFETY: the caller's promise.
    unsafe { report::xml(file) };
    0
}

/// `malloc_stats`, GNU: to standard error. In a signal handler on top of a call that holds a lock
/// it says so instead.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_stats() {
    report::statistics();
}

/// Gives an allocated block a name: see `kmem.h`.
///
/// # Safety
///
/// `block` is null or an allocated block; `name` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_name(block: *mut c_void, name: *const c_char) -> *mut c_void {
    if !name.is_null() {
        // SAFETY: the caller's promise.
        unsafe { serve::name(block, CStr::from_ptr(name)) };
    }
    block
}

/// `malloc` and [`malloc_name`] in one.
///
/// # Safety
///
/// `name` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_named(size: usize, name: *const c_char) -> *mut c_void {
    let block = serve::allocate("malloc_named", Request::of(size));
    // SAFETY: the caller's promise.
    unsafe { malloc_name(block, name) }
}

/// Prints every live block: see `kmem.h`.
///
/// # Safety
///
/// `file` is an open stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn print_memory(file: *mut libc::FILE) {
    // SAFETY: the caller's promise.
    unsafe { report::print_memory(file) };
}

/// Recounts all of the allocator's books: see `kmem.h`. 0 if they agree.
#[unsafe(no_mangle)]
pub extern "C" fn kmem_verify() -> c_int {
    report::verify()
}
