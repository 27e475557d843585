//! What is called when a thread ends, through a key of the C library; and what goes with the code:
//! the key, and the addresses that were reserved.
//!
//! A program may close a library that has kmem inside while threads go on that used it. The
//! destructor that the C library would call when they end is no longer there then, so the key is
//! deleted before: what such a thread had at hand stays where it is, like all memory that the
//! library leaves behind.

use core::ffi::{c_int, c_uint, c_void};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use super::allocator::FRAMES;

/// The C library calls it with what [`arm`] was given.
pub(super) type Destructor = unsafe extern "C" fn(*mut c_void);

/// The C library runs destructors of keys in so many rounds.
pub(super) const ROUNDS: usize = 4;

/// The key, plus one; 0 before there is one, and [`NO_MORE`] when there will be none again.
static KEY: AtomicU32 = AtomicU32::new(0);

const NO_MORE: u32 = u32::MAX;

unsafe extern "C" {
    fn pthread_key_create(key: *mut c_uint, destructor: Option<Destructor>) -> c_int;
    fn pthread_key_delete(key: c_uint) -> c_int;
    fn pthread_setspecific(key: c_uint, value: *const c_void) -> c_int;
}

/// Has the destructor, the same in each call, called with `round`, which is not 0, when this thread
/// ends; whether it will be.
pub(super) fn arm(destructor: Destructor, round: usize) -> bool {
    let Some(key) = key(destructor) else { return false };
    // SAFETY: the key exists; the value is a number that nobody follows as a pointer.
    unsafe { pthread_setspecific(key, ptr::without_provenance(round)) == 0 }
}

fn key(destructor: Destructor) -> Option<c_uint> {
    match KEY.load(Ordering::Acquire) {
        0 => {}
        NO_MORE => return None,
        key => return Some(key - 1),
    }
    let mut key = 0;
    // SAFETY: the destructor is a function of this library, and `forget_key` runs before that goes.
    if unsafe { pthread_key_create(&mut key, Some(destructor)) } != 0 {
        return None;
    }
    // Of two threads that make a key at the same time, one's is used.
    let first = KEY.compare_exchange(0, key + 1, Ordering::AcqRel, Ordering::Acquire).err();
    let Some(first) = first else { return Some(key) };
    // SAFETY: made above, and never used.
    unsafe { pthread_key_delete(key) };
    (first != NO_MORE).then(|| first - 1)
}

/// Called when the library that kmem is in is closed, and when the program ends: what runs after
/// this may still allocate.
extern "C" fn at_close() {
    FRAMES.give_up_rest();
    forget_key();
}

fn forget_key() {
    let key = KEY.swap(NO_MORE, Ordering::AcqRel);
    if key != 0 && key != NO_MORE {
        // SAFETY: it is the key that `key` made.
        unsafe { pthread_key_delete(key - 1) };
    }
}

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_CLOSE: extern "C" fn() = at_close;
