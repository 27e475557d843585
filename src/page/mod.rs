//! Frames for a whole machine: [`PageAllocator`].
//!
//! A page allocator takes the memory map of a boot loader, sorts the memory into **zones** by
//! address limit, lays one [buddy allocator](crate::buddy) over each contiguous enough stretch of a
//! zone (a **span**), and serves requests from the highest zone that a request allows downwards.
//! What must be had even when memory is short is held back by **watermarks**.
//!
//! # Invariants
//!
//! 1. A frame is in at most one span; a span lies within one zone. Spans of a zone ascend.
//! 2. The bytes of a managed frame are never read or written here, except to zero a block on
//!    request.
//! 3. Metadata lie in frames carved out of the memory they describe, which are reserved in their
//!    span, if they lie in one, or holes where memory is zero from the start
//!    ([`Contents::Zeroed`]). They are recorded in `carved`, so that nobody adds them by mistake.
//! 4. Owner records never move and are never given back.
//! 5. An ordinary request leaves `min` frames in its zone, and `high` in every zone below it; a
//!    request with [`AllocFlags::ATOMIC`] may take the last frame. Only
//!    [`claim`](PageAllocator::claim), for which no other frame will do, ignores this.
//! 6. On an error nothing has changed.
//!
//! # Locks
//!
//! `growth` (adding and removing memory), then one zone. No two zones are ever locked together;
//! what concerns several is checked first and then done zone by zone, under `growth`, or undone.
//! Locks mask interrupts, so handlers may allocate. No block is zeroed, no shrinker runs and
//! nothing is waited for with a lock held; but metadata are zeroed under `growth`, and copied under
//! the zone's lock, when a span grows.
//!
//! # How it works
//!
//! *Spans.* A hole in a span costs its metadata, a span costs a place in a table of [`MAX_SPANS`] a
//! zone and a look on each request. Spans are cut at holes of more than 1/64 of the zone's memory
//! (and 1 MiB), so holes add little to the metadata; if that gives too many spans, only at the
//! larger ones.
//!
//! *Metadata* lie at the top of the highest usable range that holds them all, in one piece; if
//! memory is so scattered that none does, each span's lie in a piece of their own.
//!
//! *Order of zones.* A request first takes from zones that have plenty, its own zone first; then it
//! goes down to `min` in its own; then shrinkers run; then it fails. The zone of a frame is found
//! by comparing it with two limits.
//!
//! *Memory added later* joins the spans that it touches: new metadata are laid out in the new
//! memory and the span moves there, under the zone's lock, in time linear in the span. The old
//! metadata's frames become available. Memory for which [`InitOptions::provision`] has laid out
//! metadata at boot is added without moving anything.
//!
//! *CPUs.* Each CPU keeps a few blocks of small orders, and of 2 MiB, in front of the zone that it
//! took from last: a hit takes no lock, masks no interrupts and needs no locked instruction. They
//! count as taken in all statistics here, are refilled only while there is plenty, and are drained,
//! on all CPUs, before a request fails.
//!
//! # Rejected
//!
//! A lock for the whole allocator: zones would wait for each other. Descriptors in the frames of
//! added memory alone, one span for each addition: blocks would not coalesce across the seam, and
//! the table of spans would fill. Lower zones protected by a ratio of the higher ones (Linux'
//! `lowmem_reserve`): on small machines it closes zone DMA to everybody; `high` does the same by a
//! constant.
//!
//! Sources: Linux `mm/page_alloc.c` (zones, watermarks, fallback); Gorman, *Understanding the Linux
//! Virtual Memory Manager*, 2004.

mod cpus;
mod error;
mod flags;
mod frame_lists;
mod granules;
mod growth;
mod init;
mod inject;
mod list_index;
mod options;
mod owners;
mod passes;
mod plan;
mod raw;
pub(crate) mod records;
mod request;
mod shrink;
mod source;
mod view;
mod zone;

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicUsize};

use spin::Once;

pub use crate::buddy::{
    AllocError, BlockOwner, ClaimError, Corruption, FrameState, FreeError, RemoveError, ResizeError,
};
pub use error::{AddMemoryError, InitError, TooManyShrinkers};
pub use flags::AllocFlags;
pub use inject::FaultInjector;
pub use options::{BootReport, Contents, CpuLists, InitOptions, Owners, ZoneKind, ZoneLimits};
pub use owners::OwnerRecord;
pub use records::Records;
pub use request::Reach;
pub use shrink::{MAX_SHRINKERS, Shrinker};
pub use source::FrameSource;
pub use zone::{Watermarks, ZoneCounts, ZoneStats};

use crate::frame::{Frame, FrameRange};
use crate::lock::IrqLock;
use crate::platform::Platform;
use cpus::Cpus;
use owners::OwnerTables;
use plan::List;
use shrink::Shrinkers;
use zone::Zone;

/// How many zones there are.
pub const ZONES: usize = 3;

/// Most spans of a zone.
pub const MAX_SPANS: usize = 8;

/// Most pieces of metadata that are kept track of. Beyond them, the frames of outgrown metadata
/// stay reserved.
const MAX_CARVED: usize = 64;

/// What was settled at initialisation.
struct Setup {
    /// The frames of each zone.
    zones: [FrameRange; ZONES],
    options: InitOptions,
}

impl Setup {
    /// The zone of `frame`.
    #[inline]
    fn zone_of(&self, frame: Frame) -> usize {
        usize::from(frame >= self.zones[0].end()) + usize::from(frame >= self.zones[1].end())
    }
}

/// The frames of a machine. See the [module's documentation](self).
///
/// A kernel has one, in a `static`, and calls [`init`](Self::init) once.
///
/// ```
/// use kmem::page::{AllocError, FreeError, PageAllocator};
/// use kmem::{AllocFlags, Order, Platform};
///
/// fn blocks<P: Platform>(pages: &PageAllocator<P>) -> Result<(), AllocError> {
///     let order = Order::new(2).expect("blocks of four frames");
///     let buffer = pages.alloc(order, AllocFlags::ZONE_DMA32 | AllocFlags::ZERO)?;
///     assert!(buffer.start().as_u64() < 1 << 32);
///     assert_eq!(pages.free(buffer, order), Ok(()));
///     assert_eq!(pages.free(buffer, order), Err(FreeError::NotAllocated));
///     Ok(())
/// }
/// ```
pub struct PageAllocator<P> {
    platform: P,
    setup: Once<Setup>,
    zones: [IrqLock<Zone>; ZONES],
    /// One bit a zone: whether it has memory. A request passes over the zones that have none.
    populated: AtomicU8,
    owners: OwnerTables,
    shrinkers: Shrinkers,
    /// The records of slabs, caches and whoever else keeps some.
    records: Records,
    /// Held while memory is added or removed. The frames that hold metadata.
    growth: IrqLock<List<MAX_CARVED>>,
    /// What stands in front of the zones, one for each CPU; nothing if [`InitOptions::cpu_lists`]
    /// says so.
    cpus: Cpus,
    /// How many calls want all CPUs' lists to stay empty.
    lists_kept_empty: AtomicUsize,
}

impl<P: Platform> PageAllocator<P> {
    /// A page allocator without memory: every request answers
    /// [`NotInitialized`](AllocError::NotInitialized) until [`init`](Self::init).
    pub const fn new(platform: P) -> Self {
        Self {
            platform,
            setup: Once::new(),
            zones: [const { IrqLock::new(Zone::new()) }; ZONES],
            populated: AtomicU8::new(0),
            owners: OwnerTables::new(),
            shrinkers: Shrinkers::new(),
            records: Records::new(),
            growth: IrqLock::new(List::new()),
            cpus: Cpus::new(),
            lists_kept_empty: AtomicUsize::new(0),
        }
    }

    /// The machine.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// Has `shrinker` asked for frames before an allocation fails, from now on.
    ///
    /// # Errors
    ///
    /// If there are [`MAX_SHRINKERS`] already.
    pub fn register_shrinker(
        &self,
        shrinker: &'static dyn Shrinker,
    ) -> Result<(), TooManyShrinkers> {
        self.shrinkers.register(shrinker)
    }
}

impl<P> fmt::Debug for PageAllocator<P> {
    /// Its name alone: it can be shown wherever a lock may be held. [`crate::report`] shows more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageAllocator").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
