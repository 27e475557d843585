//! What stands above the ladder: any Rust global allocator, and kmem's arena cutting bytes.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use kmem::arena::{Arena, Config, Fit, Segment};

use super::system::{PAGE, WORD};
use super::{Ledger, Manager, System};

/// A global allocator. `GlobalAlloc` wants the length back, and `free` does not know it, so it is
/// kept in a word in front, as C libraries do.
pub(crate) struct Global<A>(pub A);

impl<A: GlobalAlloc> Manager for Global<A> {
    fn malloc(&mut self, len: usize) -> usize {
        let Ok(layout) = Layout::from_size_align(len + WORD, WORD) else { return 0 };
        // SAFETY: the layout has a size above 0.
        let block = unsafe { self.0.alloc(layout) };
        if block.is_null() {
            return 0;
        }
        // SAFETY: the block is ours, aligned to a word, and at least one long.
        unsafe { block.cast::<usize>().write(len) };
        block.expose_provenance() + WORD
    }

    fn free(&mut self, at: usize) {
        let block: *mut u8 = ptr::with_exposed_provenance_mut(at - WORD);
        // SAFETY: `at` came from `malloc`, which wrote the length in front of it.
        let len = unsafe { block.cast::<usize>().read() };
        // SAFETY: this is the layout that `malloc` made of a length that it could make one of.
        let layout = unsafe { Layout::from_size_align_unchecked(len + WORD, WORD) };
        // SAFETY: the block was allocated here with this layout, and nobody uses it any more.
        unsafe { self.0.dealloc(block, layout) };
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
const RECORDS: usize = 1 << 19;

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
