//! rpmalloc as a library to preload.

use core::ffi::c_void;

mod peer {
    use super::c_void;
    use core::ffi::c_int;
    use core::ptr;
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    pub use rpmalloc_sys::{
        rpfree as free, rpmalloc_usable_size as usable, rpmemalign as aligned,
    };

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
        unsafe { rpmalloc_sys::rpmalloc_thread_finalize() };
    }

    #[inline(always)]
    unsafe fn begin() {
        if unsafe { rpmalloc_sys::rpmalloc_is_thread_initialized() } == 0 {
            unsafe { begin_thread() };
        }
    }

    #[cold]
    unsafe fn begin_thread() {
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
        unsafe { begin() };
        unsafe { rpmalloc_sys::rpmalloc(size) }
    }
    pub unsafe fn calloc(count: usize, size: usize) -> *mut c_void {
        unsafe { begin() };
        unsafe { rpmalloc_sys::rpcalloc(count, size) }
    }
    pub unsafe fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        unsafe { begin() };
        unsafe { rpmalloc_sys::rprealloc(block, size) }
    }
    pub unsafe fn memalign(alignment: usize, size: usize) -> *mut c_void {
        unsafe { begin() };
        unsafe { aligned(alignment, size) }
    }
}

#[path = "../../face.rs"]
mod face;
