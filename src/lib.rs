//! Kernel memory management: a buddy page allocator over physical memory, slab caches of objects on
//! top of it, and a heap on top of those.
//!
//! # The map
//!
//! The layers, lowest first; no module imports one that stands above it, and each is usable alone.
//!
//! 1. [`frame`]: frames, ranges and orders, in types that cannot be mistaken for each other.
//!    [`platform`]: all that kmem must be told about the machine. [`memory_map`]: a boot loader's
//!    memory map, however untidy, as exact ranges.
//! 2. [`bitmap`], [`buddy`]: the buddy algorithm over one span of frames. [`arena`]: ranges of
//!    anything else, under a fit policy.
//! 3. [`check`]: what kmem does when it catches a violation.
//! 4. [`page`]: the frames of a whole machine: zones, watermarks, constraints, CPUs.
//! 5. [`slab`]: caches of objects of one size.
//! 6. [`heap`]: memory by [`Layout`](core::alloc::Layout).
//! 7. [`report`]: what kmem shows of itself.
//! 8. `host` (feature `mmap`): the same layers on Linux.
//!
//! A kernel calls three things at boot: [`PageAllocator::new`] and [`Heap::new`] in statics, and
//! [`PageAllocator::init`] with the boot loader's map. The README below shows it whole.
//!
//! # The words
//!
//! - **frame**: a physical page, 4 KiB, named by its *frame number*.
//! - **order**: a block of order *k* is 2^*k* frames at a multiple of 2^*k*. Its **buddy** is the
//!   other half of the block of the next order: a block is **split** into buddies, and two free
//!   buddies **coalesce**.
//! - **span**: a stretch of frames under one buddy allocator, perhaps with **holes**.
//! - **zone**: the memory below an address limit. Its **watermarks** say how many frames are kept
//!   back, for whom.
//! - **cache**: a source of objects of one size; they lie in **slabs**, blocks of frames cut into
//!   objects, each slab beginning at another **colour** so that objects spread over a CPU's cache
//!   sets.
//! - **magazine**: an array of free objects that a CPU keeps ready; the **depot** keeps full and
//!   empty magazines between the CPUs and the slabs. To **reap** is to give empty slabs back.
//! - **arena**: a set of integer ranges, its **segments**, in multiples of a **quantum**; it may
//!   **import** spans.
//! - **red zone**, **poison**: bytes around an object, and in a free one, that show who wrote where
//!   he must not.
//!
// Where the README links to the pages of docs/, which rustdoc does not have. Of two definitions of
// a link the first is the one that counts, and the README's come after these.
//! [memory map]: memory_map
//! [buddy]: buddy
//! [page]: page
//! [slab]: slab
//! [heap]: heap
//! [arena]: arena
#![cfg_attr(feature = "mmap", doc = "[host]: host")]
//! [docs/malloc.md]: https://docs.rs/crate/kmem/latest/source/docs/malloc.md
//! [docs/testing.md]: https://docs.rs/crate/kmem/latest/source/docs/testing.md
//! [docs/benchmarks.md]: https://docs.rs/crate/kmem/latest/source/docs/benchmarks.md
//! [docs/ladder.md]: https://docs.rs/crate/kmem/latest/source/docs/ladder.md
//! [docs/README.md]: https://docs.rs/crate/kmem/latest/source/docs/README.md
//! [gates]: https://docs.rs/crate/kmem/latest/source/docs/testing.md
//!
#![doc = include_str!("../README.md")]
#![no_std]
// Whoever has one of these in a type of his own can derive `Debug` for that.
#![warn(missing_debug_implementations)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "kmem needs a target with pointers of 64 bits: addresses and counts of frames are as wide"
);

#[cfg(any(test, all(feature = "mmap", not(target_arch = "x86_64"))))]
extern crate std;

pub mod arena;
pub mod bitmap;
pub mod buddy;
pub mod check;
mod cpu_set;
pub mod frame;
mod gate;
pub mod heap;
#[cfg(feature = "mmap")]
pub mod host;
mod lock;
pub mod memory_map;
pub mod page;
pub mod platform;
pub mod report;
pub mod slab;
mod sync;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;

pub use buddy::Buddy;
pub use frame::{Frame, FrameRange, Order, PhysAddr};
pub use heap::Heap;
#[cfg(feature = "mmap")]
pub use host::MmapAllocator;
pub use memory_map::{MemoryMap, Region, RegionKind};
pub use page::{AllocFlags, PageAllocator};
pub use platform::{CpuId, IrqState, Mapping, Pinning, Platform};
pub use slab::{Cache, CacheFlags, ObjectCache, RawCache};
