//! kmem on Linux: the very layers of a kernel over addresses that the system reserves.
//!
//! [`MmapAllocator`] is a program's allocator. Below it lie a [`Heap`](crate::heap::Heap), its caches and a
//! [`PageAllocator`](crate::page::PageAllocator), as in a kernel; what is different is told by a [`HostPlatform`]:
//!
//! | a kernel has | a process has |
//! | --- | --- |
//! | physical memory | a window of 252 GiB of its addresses |
//! | CPUs | thread slots, recycled when threads end |
//! | frames at boot | 64 GiB reserved, opened in steps |
//! | memory added later | further reservations, each the larger half that the system grants |
//! | memory taken out | [`trim`](MmapAllocator::trim): available frames lose their memory, not their addresses |
//!
//! # Invariants
//!
//! 1. What a page allocator is given is mapped readable and writable until the process ends.
//! 2. Metadata are in mappings too, fresh ones: zero without being touched. So a reservation of 64 GiB costs the memory
//!    of what is used of it.
//! 3. Nothing here allocates from kmem: the system is asked directly, and what is kept about it is in statics.
//!
//! # How it works
//!
//! *Growth.* A request that the frames cannot meet takes the lock of growth, opens the next step of the reservation (a quarter
//! of what is open, at least 4 MiB) by `mprotect`, adds it and tries again. If the reservation is used up, a further one is
//! made, directly below the last if possible, so that the two are one span. Where the system refuses
//! (`RLIMIT_AS`, strict overcommit), half is asked for, and so on; where it refuses all, the request fails and everything
//! stays usable. With a limit on addresses, reservations take an eighth of it: the rest belongs to stacks and files.
//!
//! *Memory.* Reservations have no access rights, so they count for nothing under strict overcommit until they are
//! opened. Opened memory is touched by its users only, since no layer below writes to it.
//!
//! *Threads.* See [`slot`].
//!
//! # What is missing
//!
//! - **fork** while other threads are inside the allocator: the child inherits locks that nobody will release. A child of
//!   a single-threaded process, or of one whose other threads are elsewhere, works.
//! - **Signal handlers** must not allocate if they can interrupt the allocator: masking signals, as a
//!   kernel masks interrupts, would cost two system calls a lock.
//! - Memory goes back when [`trim`](MmapAllocator::trim) is called, not by itself.
//!
//! # Sources
//!
//! Linux `mmap(2)`, `madvise(2)`, `Documentation/mm/overcommit-accounting.rst`.

mod allocator;
mod frames;
mod platform;
mod slot;
mod span;

pub use allocator::{HostFault, HostReport, MmapAllocator};
pub use frames::HostFrames;
pub use platform::HostPlatform;
