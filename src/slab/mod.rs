//! Slab caches: objects of one size each, in blocks of frames.
//!
//! A **cache** hands out objects of one size. It takes blocks of frames from a
//! [`FrameSource`](crate::page::FrameSource) and cuts each into a **slab** of objects.
//! [`RawCache`] deals in bytes, [`Cache`] in values of a type, and [`ObjectCache`] in objects
//! that stay constructed while they are free. In front of the slabs each CPU has
//! **magazines** of free objects and a **shelf** of more, and between them lies a **depot** that
//! all share.
//!
//! # Invariants
//!
//! 1. A free object's bytes are never read or written, hardening on request apart: all bookkeeping
//!    lies in records elsewhere, so no write through a dangling pointer, and none past an object's
//!    end, reaches it.
//! 2. An object is in exactly one of: its slab's free set, a magazine, a user's hands; or nobody's,
//!    for good, once a write to it was found while it was free. Its state byte says whether it is
//!    in its slab, free elsewhere, in use, or ruined so. A magazine is in exactly one of: a CPU's
//!    slot, a shelf (the depot is one), a stock.
//! 3. A slab is in the list that its fill demands: full, partial or empty.
//! 4. The owner record of each frame of a slab is the id of the slab's record, and 0 when the slab
//!    has gone.
//! 5. No frames are taken or given, and no constructor or destructor runs, with a lock of the cache
//!    held.
//! 6. On an error nothing has changed, except that a cache which has the frames of its first slab
//!    and then fails to make it, by a failing constructor for example, keeps the 64 bytes that
//!    identify it.
//!
//! # How it works
//!
//! *From an address to its object.* The frame's owner record names the slab's record by a
//! 32-bit number; the record says where objects begin, how far apart they lie, and whose they
//! are. The object's index is an exact division by multiplication. So a free checks cache, address
//! and state with one load of the owner record and one line of the slab's, and every bad free
//! has its own answer: [`ObjectError`]. [`lookup`] does the same for callers who do not know
//! the cache.
//!
//! *The hit.* A call marks the CPU's slot as busy by a plain store, takes or puts an object at
//! the top of the loaded magazine, writes the object's state byte, and clears the mark: no
//! lock, no atomic read-modify-write, interrupts as they were. A handler that finds the mark
//! takes the shared path. Bytes, not bits, hold the states, because CPUs write neighbouring
//! ones at the same time. One comparison, of the top with a limit, asks at once whether there is a
//! magazine, whether it has a round or room, whether objects of this cache are looked at on the
//! way, and whether another CPU wants to come in.
//!
//! *The miss.* The previous magazine is exchanged for the loaded one; else the CPU's shelf gives a
//! full one, or takes one; else objects move between slabs and magazine in one batch under the
//! lists' lock. What a shelf has no place for goes to the depot, and whoever finds nothing in slabs
//! that are its own, or nobody's, takes from there: CPUs that free what they took never have
//! objects of one slab, whose states share cache lines. Batches begin with one object and double,
//! and a cache takes no memory for CPUs before its 33rd call, so a cache that is hardly used
//! strands little.
//!
//! *Slab size.* The smallest order that holds four objects and leaves at most a 32nd of the block
//! over; if that would need more than eight frames, an eighth. What is left over moves the first
//! object from slab to slab by a cache line: the **colour**. Objects come from slabs low in memory
//! first, as far as that is known without a search, so that high ones become empty.
//!
//! *Giving back.* A slab that becomes empty is kept while no more than an eighth of the slabs
//! in use (and one) are, or 64 KiB of them; of constructed objects it always is. [`RawCache::reap`]
//! gives back what was not needed since the last call, [`RawCache::shrink`] all that can be, other
//! CPUs' magazines included: it shuts their slots, has every CPU pass a barrier, and goes there.
//! Where CPUs cannot be made to synchronize, they empty their magazines themselves, at their next
//! call.
//!
//! # Locks
//!
//! CPU slot (a mark, not a lock), shelf, depot, lists; the pool of records and the source's own are
//! taken with none of these held.
//!
//! # Limits
//!
//! Objects and alignments of at most [`MAX_OBJECT_BYTES`]; [`MAX_OBJECTS`] objects in a slab;
//! records in the first 256 GiB of physical memory (a source that hands out a higher frame is
//! asked again for one below; [`AllocError::OutOfReach`](crate::buddy::AllocError::OutOfReach)
//! where there is none), slabs anywhere. The platform's direct map must be as aligned as the frames
//! are, up to the objects' alignment.
//!
//! # Rejected
//!
//! Links in free objects: one dangling write and the allocator hands out an arbitrary address.
//! One bit an object instead of a byte: two CPUs would need atomic operations on every call.
//! Magazines of bare addresses: 8 bytes a round less, but the hit would have to find the state
//! byte from the address, three dependent loads. Freeing to a list of the slab's CPU (mimalloc,
//! snmalloc): frees from other CPUs cost an atomic operation each, and bookkeeping lies in the
//! objects.
//!
//! # Sources
//!
//! Bonwick, *The Slab Allocator*, 1994; Bonwick and Adams, *Magazines and Vmem*, 2001 (loaded
//! and previous, depot, working set); Linux `mm/slub.c` (sheaves, slabs by waste).

mod bulk;
mod cpus;
mod descriptor;
mod drain;
mod error;
mod find;
mod flags;
mod geometry;
mod grow;
mod harden;
mod identity;
mod inside;
mod key;
mod lifecycle;
mod lists;
mod magazine;
mod paths;
mod raw;
mod reload;
mod second;
mod shelf;
mod slab_box;
mod slot;
mod stats;
mod stock;
#[cfg(feature = "mmap")]
mod third;
mod typed;
mod typed_stock;
mod verify;
mod way;

// What the host takes its hits by, past the heap.
#[cfg(feature = "mmap")]
pub(crate) use descriptor::Slab;
pub use error::{Busy, LEAKS_NAMED, ObjectError};
#[cfg(feature = "mmap")]
pub(crate) use find::{find, named, named_from, origin};
pub use flags::CacheFlags;
pub use geometry::{MAX_OBJECT_BYTES, MAX_OBJECTS};
pub use identity::{Found, lookup};
pub use lifecycle::{Bytes, ConstructError, Constructed};
pub use raw::RawCache;
pub use slab_box::{ObjectBox, SlabBox};
#[cfg(feature = "mmap")]
pub(crate) use slot::Slot;
pub use stats::CacheStats;
pub use stock::Stock;
pub use typed::{Cache, ObjectCache};
pub use typed_stock::{ObjectStock, TypedStock};
pub use verify::CacheFault;

use crate::check::{Rule, Violation, violation};
use crate::platform::Platform;

/// Reports that records contradict each other.
#[cold]
fn corrupted<P: Platform>(platform: &P, address: usize, cache: Option<&'static str>) {
    let mut found = Violation::new(Rule::Corrupted, address).on_cpu(platform.cpu_id());
    if let Some(name) = cache {
        found = found.in_cache(name);
    }
    violation(&found);
}

#[cfg(test)]
mod tests;
