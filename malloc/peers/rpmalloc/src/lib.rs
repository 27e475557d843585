//! rpmalloc as a library to preload.

use core::ffi::c_void;

mod peer {
    use super::c_void;
    use core::ffi::c_int;
    use core::ptr;
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    pub use rpmalloc_sys::{rpfree as free, rpmalloc_usable_size as usable, rpmemalign as aligned};

    unsafe extern "C" {
        fn pthread_key_create(
            key: *mut u32,
            destructor: unsafe extern "C" fn(*mut c_void),
        ) -> c_int;
        fn pthread_setspecific(key: u32, value: *const c_void) -> c_int;
    }

    /// The key whose destructor ends a thread's heap; 0 before there is one.
    static KEY: AtomicU32 = AtomicU32::new(0);

    unsafe extern "C" fn finish(_: *mut c_void) {
        // SAFETY: called once in a thread that ends.
        unsafe { rpmalloc_sys::rpmalloc_thread_finalize() };
    }

    #[inline(always)]
    unsafe fn begin() {
        // SAFETY: it has no preconditions.
        if unsafe { rpmalloc_sys::rpmalloc_is_thread_initialized() } == 0 {
            // SAFETY: the thread has not begun.
            unsafe { begin_thread() };
        }
    }

    #[cold]
    unsafe fn begin_thread() {
        // SAFETY: C functions whose arguments are this thread's or static; the key exists before it
        // is used.
        unsafe {
            rpmalloc_sys::rpmalloc_initialize();
            rpmalloc_sys::rpmalloc_thread_initialize();
            if KEY.load(Relaxed) == 0 {
                let mut key = 0;
                pthread_key_create(&mut key, finish);
                KEY.store(key, Relaxed);
            }
            pthread_setspecific(KEY.load(Relaxed), ptr::dangling());
        }
    }

    pub unsafe fn malloc(size: usize) -> *mut c_void {
        // SAFETY: it has no preconditions.
        unsafe { begin() };
        // SAFETY: the thread has begun.
        unsafe { rpmalloc_sys::rpmalloc(size) }
    }
    pub unsafe fn calloc(count: usize, size: usize) -> *mut c_void {
        // SAFETY: it has no preconditions.
        unsafe { begin() };
        // SAFETY: the thread has begun.
        unsafe { rpmalloc_sys::rpcalloc(count, size) }
    }
    pub unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: it has no preconditions.
        unsafe { begin() };
        // SAFETY: the thread has begun; the caller's promise.
        unsafe { rpmalloc_sys::rprealloc(block, size) }
    }
    pub unsafe fn memalign(alignment: usize, size: usize) -> *mut c_void {
        // SAFETY: it has no preconditions.
        unsafe { begin() };
        // SAFETY: the thread has begun.
        unsafe { aligned(alignment, size) }
    }
}

#[path = "../../face.rs"]
mod face;
