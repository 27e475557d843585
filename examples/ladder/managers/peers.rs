//! What stands above the ladder: the C library's heap, kmem's, and kmem's arena cutting bytes.

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use kmem::arena::{Arena, Config, Fit, Segment};
use kmem::{AllocFlags, MmapAllocator};

use super::system::{PAGE, WORD};
use super::{Ledger, Manager, System};

unsafe extern "C" {
    fn malloc(len: usize) -> *mut u8;
    fn free(block: *mut u8);
}

/// The C library's heap.
pub(crate) struct Libc;

impl Manager for Libc {
    fn malloc(&mut self, len: usize) -> usize {
        // SAFETY: `malloc` may be called with any length.
        unsafe { malloc(len) }.expose_provenance()
    }

    fn free(&mut self, at: usize) {
        // SAFETY: `at` came from `malloc`, and nobody uses it any more.
        unsafe { free(ptr::with_exposed_provenance_mut(at)) };
    }

    fn ledger(&self) -> Ledger {
        Ledger::default()
    }
}

/// kmem on the host, by address alone, as its own C library calls it: what this thread has at hand,
/// or else the heap.
pub(crate) struct Kmem;

const KMEM: MmapAllocator = MmapAllocator::new();

impl Kmem {
    /// Ready to serve: it has got its first memory from the system, as the C library's heap has
    /// long before `main`.
    pub(crate) fn new() -> Self {
        let mut kmem = Self;
        let block = kmem.malloc(WORD);
        kmem.free(block);
        kmem
    }
}

impl Manager for Kmem {
    fn malloc(&mut self, len: usize) -> usize {
        let block = KMEM.allocate_hit(len).or_else(|| {
            let layout = Layout::from_size_align(len, WORD).ok()?;
            Some(KMEM.allocate(layout, AllocFlags::empty()).ok()?.cast())
        });
        block.map_or(0, |block| block.as_ptr().expose_provenance())
    }

    fn free(&mut self, at: usize) {
        let block = ptr::with_exposed_provenance_mut(at);
        // SAFETY: `at` came from `malloc`, and nobody uses it any more.
        unsafe {
            if !KMEM.deallocate_hit(block)
                && let Some(block) = NonNull::new(block)
            {
                KMEM.deallocate(block).expect("an allocated block");
            }
        }
    }

    fn ledger(&self) -> Ledger {
        Ledger::default()
    }
}

/// Instant fit over 8-byte units of one mapping; every record lies out of band.
pub(crate) struct ByteArena {
    arena: Arena<'static>,
    system: System,
}

const BYTES: usize = 1 << 30;
const RECORDS: usize = 1 << 18;

impl ByteArena {
    pub(crate) fn new() -> Self {
        let mut system = System::new();
        let records = vec![Segment::SPARE; RECORDS].leak();
        let config = Config { cached_quanta: 16, ..Config::new("bytes", 8, Fit::Instant) };
        let mut arena = Arena::new(config, records).expect("a sound configuration");
        let start = system.map(BYTES, PAGE).expect("a mapping") as u64;
        arena.add(start..start + BYTES as u64).expect("an empty arena");
        Self { arena, system }
    }
}

impl Manager for ByteArena {
    fn malloc(&mut self, len: usize) -> usize {
        self.arena.alloc(len as u64).map_or(0, |start| start as usize)
    }

    fn free(&mut self, at: usize) {
        let _ = self.arena.free_at(at as u64);
    }

    fn ledger(&self) -> Ledger {
        Ledger { system_calls: Some(self.system.calls), ..Ledger::default() }
    }
}
