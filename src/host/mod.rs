//! kmem on Linux: the very layers of a kernel over addresses that the system reserves.
//!
//! [`MmapAllocator`] is a program's allocator. Below it lie a [`Heap`](crate::heap::Heap), its
//! caches and a [`PageAllocator`](crate::page::PageAllocator), as in a kernel; what is different is
//! told by a [`HostPlatform`]:
//!
//! | a kernel has | a process has |
//! | --- | --- |
//! | physical memory | a window of 252 GiB of its addresses |
//! | CPUs | thread slots, recycled when threads end |
//! | frames at boot | 64 GiB reserved, opened in steps |
//! | memory added later | further reservations, each as large as the system grants |
//! | memory taken out | available frames lose their memory, not their addresses |
//!
//! # Invariants
//!
//! 1. What a page allocator is given is mapped readable and writable until the process ends.
//! 2. Metadata are in mappings too, fresh ones: zero without being touched. So a reservation of 64
//!    GiB costs the memory of what is used of it.
//! 3. Nothing here allocates from kmem: the system is asked directly, and what is kept about it is
//!    in statics.
//!
//! # How it works
//!
//! *Growth.* A request that the frames cannot meet takes the lock of growth, opens the next step of
//! the reservation (a quarter of what is open, at least 4 MiB) by `mprotect`, adds it and tries
//! again. If the reservation is used up, a further one is made, directly below the last if
//! possible, so that the two are one span. Where the system refuses (`RLIMIT_AS`, strict
//! overcommit), half is asked for, and so on; where it refuses all, the request fails and
//! everything stays usable. With a limit on addresses, reservations take an eighth of it: the rest
//! belongs to stacks and files. Metadata are laid out for all of the limit then, below the first
//! reservation, where the system places the later ones.
//!
//! *Memory.* Reservations have no access rights, so they count for nothing under strict overcommit
//! until they are opened. Opened memory is touched by its users only, since no layer below writes
//! to it.
//!
//! *Threads.* See `slot`.
//!
//! *Hits.* A thread finds its slots in the heap's caches through its row: see `local`. Nothing on
//! that way is a lock, an atomic read-modify-write or a call.
//!
//! *Giving back.* One bit a frame says whether memory lies behind an available frame: see `dirty`.
//! When more than 16 MiB (or, if that is more, a sixty-fourth of what is open) lies idle, or some
//! for half a second, whoever frees gives it back; see `trimming`. The same bits say what a request
//! for zeros need not clear.
//!
//! *Large blocks.* The one that a thread gave back last serves whatever it wants next that fits:
//! see `kept`. Those before it serve whoever wants as much: see `recent`.
//!
//! *Moving.* A long run that cannot grow where it is moves by `mremap`: its pages change their
//! address, nothing is copied.
//!
//! *Huge pages*, on request: the whole reservation is advised, so that memory is backed by them as
//! it is first touched.
//!
//! *fork.* Every lock is taken between `irq_save` and `irq_restore`, so a thread says there that it
//! uses one, and whoever forks waits until none does. The child forgets what lay in the magazines
//! of threads that it does not have, and opens those from which such a thread kept others while it
//! emptied them. The C library is told at the first request to see to it at each fork (`fork.rs`),
//! unless the caller does.
//!
//! *Signals.* A handler that interrupts a hit finds the slot busy and takes the shared path. One
//! that interrupts the holder of a lock must not: [`MmapAllocator::is_interrupted`] tells, and
//! `malloc/` has a reserve for it.
//!
//! # What is missing
//!
//! - A Rust program's signal handler that allocates while its thread holds a lock waits for itself;
//!   C programs have the reserve.
//! - Memory of spans for which metadata were not laid out at the start, beyond 64 GiB or where the
//!   system places them elsewhere than below the first, is not given back.
//!
//! # Sources
//!
//! Linux `mmap(2)`, `madvise(2)`, `Documentation/mm/overcommit-accounting.rst`.

mod ahead;
mod allocator;
mod directory;
mod dirty;
mod ending;
mod fork;
mod frames;
mod growth;
mod kept;
mod local;
mod locks;
mod platform;
mod recent;
mod runs;
mod slot;
mod span;
mod system;
mod thread;
mod trim;
mod trimming;

pub use allocator::{HostFault, HostReport, MmapAllocator};
pub use frames::HostFrames;
pub use platform::HostPlatform;
