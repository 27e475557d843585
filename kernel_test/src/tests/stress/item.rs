//! What CPUs take from kmem, hold, send each other and give back, each piece checked on its way.

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use kmem::page::PageAllocator;
use kmem::slab::{CacheFlags, RawCache};
use kmem::{AllocFlags, Frame, Order};
use spin::Once;

use super::owners::OwnerMap;
use crate::memory::{HEAP, PAGES};
use crate::platform::Pc;

/// A cache that all CPUs share.
pub(super) static CACHE: RawCache<'static, PageAllocator<Pc>> =
    RawCache::new(&PAGES, "stress", 96, 8, CacheFlags::empty());

/// Who has which frame.
static OWNERS: Once<OwnerMap> = Once::new();

pub(super) fn owners() -> &'static OwnerMap {
    OWNERS.call_once(OwnerMap::new)
}

/// Something that kmem handed out.
pub(super) enum Item {
    /// Frames.
    Block { frame: Frame, order: Order },
    /// Memory from the heap, of this size.
    Bytes { memory: Marked, layout: Layout },
    /// An object of [`CACHE`].
    Object(Marked),
}

/// Memory with a mark at either end that is like no other, so that a second owner would be found
/// out.
pub(super) struct Marked {
    start: NonNull<u8>,
    last: NonNull<u64>,
    mark: u64,
}

// SAFETY: it owns its memory.
unsafe impl Send for Marked {}

impl Marked {
    /// # Safety
    ///
    /// The `size` bytes from `start` on are the caller's and aligned to 8; `size` is a multiple of
    /// 8, and not 0.
    unsafe fn new(start: NonNull<u8>, size: usize) -> Self {
        static NEXT_MARK: AtomicU64 = AtomicU64::new(1);
        let mark = NEXT_MARK.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the last word lies inside.
        let last = unsafe { start.add(size - 8) }.cast::<u64>();
        // SAFETY: both words are the caller's.
        unsafe {
            start.cast::<u64>().write_volatile(mark);
            last.write_volatile(mark);
        }
        Self { start, last, mark }
    }

    /// Checks the marks, and gives the memory up.
    fn into_inner(self) -> NonNull<u8> {
        // SAFETY: the memory is still this value's.
        let marks =
            unsafe { [self.start.cast::<u64>().read_volatile(), self.last.read_volatile()] };
        assert_eq!(marks, [self.mark; 2], "{:p} has had a second owner", self.start);
        self.start
    }
}

impl Item {
    /// A block, if there is one.
    pub(super) fn block(order: Order, flags: AllocFlags) -> Option<Self> {
        let frame = PAGES.alloc(order, flags).ok()?;
        owners().take(frame, order);
        Some(Self::Block { frame, order })
    }

    /// So many words from the heap, if it has them.
    pub(super) fn words(words: usize, flags: AllocFlags) -> Option<Self> {
        let layout = Layout::array::<u64>(words).ok()?;
        let start = HEAP.allocate(layout, flags).ok()?.cast();
        // SAFETY: just allocated, and told to nobody else.
        Some(Self::Bytes { memory: unsafe { Marked::new(start, layout.size()) }, layout })
    }

    /// An object of [`CACHE`], if it has one.
    pub(super) fn object(flags: AllocFlags) -> Option<Self> {
        let start = CACHE.alloc(flags).ok()?;
        // SAFETY: just allocated, and told to nobody else.
        Some(Self::Object(unsafe { Marked::new(start, CACHE.object_bytes()) }))
    }

    /// Gives it back.
    pub(super) fn free(self) {
        match self {
            Self::Block { frame, order } => {
                owners().give(frame, order);
                PAGES.free(frame, order).expect("it was allocated");
            }
            Self::Bytes { memory, layout } => {
                // SAFETY: this was the owner, and is gone.
                unsafe { HEAP.deallocate(memory.into_inner(), layout) }.expect("it was allocated");
            }
            Self::Object(memory) => {
                // SAFETY: as above.
                unsafe { CACHE.free(memory.into_inner()) }.expect("it was allocated");
            }
        }
    }
}
