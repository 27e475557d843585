//! snmalloc as a library to preload.

use core::ffi::c_void;

mod peer {
    use super::c_void;
    pub unsafe fn memalign(alignment: usize, size: usize) -> *mut c_void {
        // SAFETY: a power of two, from the face, and a size above 0.
        unsafe { snmalloc_sys::sn_rust_alloc(alignment, size.max(1)) }
    }
    pub use snmalloc_sys::{
        sn_calloc as calloc, sn_free as free, sn_malloc as malloc,
        sn_malloc_usable_size as usable_const, sn_realloc as realloc,
    };
    pub unsafe fn usable(block: *mut c_void) -> usize {
        // SAFETY: the caller's promise.
        unsafe { usable_const(block) }
    }
}

#[path = "../../face.rs"]
mod face;
