//! A memory manager for one 4 KiB page, as a C library: see `alloc.h`.
//!
//! All 4,096 bytes can be allocated, because an [`Arena`] keeps its records out of band: here in a
//! static pool, so that nothing is taken from the C library's heap either. The arena's integers
//! are the page's addresses, its quantum is 8 bytes.
//!
//! ```sh
//! cargo build --release --features mmap --examples
//! gcc -Iexamples/lab_page program.c target/release/examples/liblab_page.a
//! ```

use std::ffi::{c_char, c_int};
use std::io::Write;
use std::ptr;

use kmem::arena::{Arena, Config, Fit, Segment, segments_needed};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use spin::{Mutex, MutexGuard};

const PAGE_BYTES: usize = 4096;
const UNIT_BYTES: u64 = 8;

/// Enough records for a page of the smallest chunks. All zeros, so they lie in `.bss`.
const RECORDS: usize = segments_needed(1, PAGE_BYTES / UNIT_BYTES as usize);
static POOL: Mutex<[Segment; RECORDS]> = Mutex::new([Segment::SPARE; RECORDS]);

#[expect(clippy::large_enum_variant, reason = "one static, and no heap to put a box in")]
enum Manager {
    /// The pool has not been taken yet.
    New,
    Running {
        arena: Arena<'static>,
        page: u64,
    },
    Stopped(&'static mut [Segment]),
}

static MANAGER: Mutex<Manager> = Mutex::new(Manager::New);

/// Maps the page. 0, or non-zero if there is one already or the system has none.
#[unsafe(no_mangle)]
pub extern "C" fn init_alloc() -> c_int {
    let mut manager = MANAGER.lock();
    if matches!(*manager, Manager::Running { .. }) {
        return -1;
    }
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let mapped = unsafe { mmap_anonymous(ptr::null_mut(), PAGE_BYTES, protection, flags) };
    let Ok(page) = mapped else { return -1 };
    let page = page.expose_provenance() as u64;
    let pool = match std::mem::replace(&mut *manager, Manager::New) {
        Manager::Stopped(pool) => pool,
        _ => &mut MutexGuard::leak(POOL.lock())[..],
    };
    let config = Config::new("page", UNIT_BYTES, Fit::Best);
    let mut arena = Arena::new(config, pool).expect("a pool and a quantum that are right");
    arena.add(page..page + PAGE_BYTES as u64).expect("an empty arena");
    *manager = Manager::Running { arena, page };
    0
}

/// Gives the page back, whatever is still allocated in it. 0, or non-zero if there is no page.
#[unsafe(no_mangle)]
pub extern "C" fn cleanup() -> c_int {
    let mut manager = MANAGER.lock();
    match std::mem::replace(&mut *manager, Manager::New) {
        Manager::Running { arena, page } => {
            *manager = Manager::Stopped(arena.into_parts().0);
            let page = ptr::with_exposed_provenance_mut(page as usize);
            // SAFETY: `page` is the mapping that `init_alloc` made, and is forgotten here; that no
            // chunk of it is used after `cleanup` is what `alloc.h` asks of the caller.
            let unmapped = unsafe { munmap(page, PAGE_BYTES) };
            if unmapped.is_ok() { 0 } else { -1 }
        }
        stopped => {
            *manager = stopped;
            -1
        }
    }
}

/// `size` bytes inside the page, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(size: c_int) -> *mut c_char {
    let Manager::Running { arena, .. } = &mut *MANAGER.lock() else { return ptr::null_mut() };
    match u64::try_from(size) {
        Ok(len) if len.is_multiple_of(UNIT_BYTES) => arena
            .alloc(len)
            .map_or(ptr::null_mut(), |start| ptr::with_exposed_provenance_mut(start as usize)),
        _ => ptr::null_mut(),
    }
}

/// Takes a chunk back; anything else is refused and reported.
#[unsafe(no_mangle)]
pub extern "C" fn dealloc(chunk: *mut c_char) {
    let answer = match &mut *MANAGER.lock() {
        Manager::Running { arena, .. } => arena.free_at(chunk.addr() as u64).map_err(Some),
        _ => Err(None),
    };
    // Nobody can be told if standard error is closed.
    let _ = match answer {
        Ok(_) => Ok(()),
        Err(Some(refusal)) => writeln!(std::io::stderr(), "dealloc({chunk:p}): {refusal}"),
        Err(None) => writeln!(std::io::stderr(), "dealloc({chunk:p}): expected init_alloc() first"),
    };
}
