//! A memory manager that grows by one 4 KiB page at a time, as a C library: see `ealloc.h`.
//!
//! An [`Arena`] imports its spans from a [`Source`] that maps one page for each. Imported spans
//! keep their borders, so no chunk crosses a page, even where the system happens to map two pages
//! side by side. The records of all segments of [`MAX_PAGES`] pages lie in static memory: neither
//! starting nor growing maps anything but pages for the caller.
//!
//! ```sh
//! cargo build --release --features mmap --examples
//! gcc -Iexamples/lab_elastic program.c target/release/examples/liblab_elastic.a
//! ```

use std::ffi::{c_char, c_int};
use std::io::Write;
use std::ops::Range;
use std::ptr;

use kmem::arena::{Arena, Config, Fit, Kept, Segment, SegmentState, Source, segments_needed};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use spin::{Mutex, MutexGuard};

const PAGE_BYTES: usize = 4096;
const UNIT_BYTES: u64 = 256;

/// Pages that are mapped at most; with all of them in use, `alloc` answers NULL.
const MAX_PAGES: usize = 1024;

/// Enough records for as many pages of the smallest chunks. All zeros, so they lie in `.bss`.
const RECORDS: usize = segments_needed(MAX_PAGES, MAX_PAGES * PAGE_BYTES / UNIT_BYTES as usize);
static POOL: Mutex<[Segment; RECORDS]> = Mutex::new([Segment::SPARE; RECORDS]);

/// Maps a page when the arena needs one, and leaves it mapped.
struct Pages {
    mapped: usize,
}

impl Source for Pages {
    fn import(&mut self, len: u64) -> Option<Range<u64>> {
        if len > PAGE_BYTES as u64 || self.mapped == MAX_PAGES {
            return None;
        }
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let page = unsafe { mmap_anonymous(ptr::null_mut(), PAGE_BYTES, protection, flags) };
        let start = page.ok()?.expose_provenance() as u64;
        self.mapped += 1;
        Some(start..start + PAGE_BYTES as u64)
    }

    fn release(&mut self, _page: Range<u64>) -> Result<(), Kept> {
        Err(Kept)
    }
}

#[expect(clippy::large_enum_variant, reason = "one static, and no heap to put a box in")]
enum Manager {
    /// The pool has not been taken yet.
    New,
    Running(Arena<'static, Pages>),
    Stopped(&'static mut [Segment]),
}

static MANAGER: Mutex<Manager> = Mutex::new(Manager::New);

/// Starts the manager, if it is not running; maps nothing.
#[unsafe(no_mangle)]
pub extern "C" fn init_alloc() {
    let mut manager = MANAGER.lock();
    let pool = match std::mem::replace(&mut *manager, Manager::New) {
        Manager::New => &mut MutexGuard::leak(POOL.lock())[..],
        Manager::Stopped(pool) => pool,
        running => {
            *manager = running;
            return;
        }
    };
    let config = Config::new("pages", UNIT_BYTES, Fit::Best);
    let arena = Arena::with_source(config, pool, Pages { mapped: 0 });
    *manager = Manager::Running(arena.expect("a pool and a quantum that are right"));
}

/// Stops the manager and unmaps every page, whatever is still allocated.
#[unsafe(no_mangle)]
pub extern "C" fn cleanup() {
    let mut manager = MANAGER.lock();
    match std::mem::replace(&mut *manager, Manager::New) {
        Manager::Running(arena) => {
            let pages = arena.segments().filter(|part| part.state == SegmentState::ImportedSpan);
            for page in pages {
                let start = ptr::with_exposed_provenance_mut(page.range.start as usize);
                // SAFETY: every imported span is one page that `Pages` mapped, and the arena that
                // knows it ends here; that no chunk of it is used after `cleanup` is what
                // `ealloc.h` asks of the caller. A page that stays mapped is only lost.
                let _ = unsafe { munmap(start, PAGE_BYTES) };
            }
            *manager = Manager::Stopped(arena.into_parts().0);
        }
        stopped => *manager = stopped,
    }
}

/// `size` bytes inside one page, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn alloc(size: c_int) -> *mut c_char {
    let Manager::Running(arena) = &mut *MANAGER.lock() else { return ptr::null_mut() };
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
        Manager::Running(arena) => arena.free_at(chunk.addr() as u64).map_err(Some),
        _ => Err(None),
    };
    // Nobody can be told if standard error is closed.
    let _ = match answer {
        Ok(_) => Ok(()),
        Err(Some(refusal)) => writeln!(std::io::stderr(), "dealloc({chunk:p}): {refusal}"),
        Err(None) => writeln!(std::io::stderr(), "dealloc({chunk:p}): expected init_alloc() first"),
    };
}
