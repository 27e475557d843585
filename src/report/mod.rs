//! What kmem shows of itself: every view is a `Display` that allocates nothing.
//!
//! | view | shows | as |
//! | --- | --- | --- |
//! | [`Buddyinfo`] | free blocks of each order in each zone | Linux's `/proc/buddyinfo`, to the byte |
//! | [`Slabinfo`] | objects and slabs of each cache | Linux's `/proc/slabinfo`, to the byte |
//! | [`ZoneSummary`] | fill, watermarks and fragmentation of each zone | a table |
//! | [`HeapMap`] | what every stretch of frames is used for | a map of characters |
//!
//! ```
//! use kmem::report::{Buddyinfo, HeapMap, Slabinfo, ZoneSummary};
//! use kmem::{Heap, PageAllocator, Platform};
//!
//! fn show<P: Platform>(pages: &PageAllocator<P>, heap: &Heap<'_, PageAllocator<P>>) -> String {
//!     let mut text = format!("{}{}", Buddyinfo(pages), ZoneSummary(pages));
//!     // Caches of one's own are shown by their `stats`, too.
//!     text += &Slabinfo(heap.cache_stats()).to_string();
//!     for zone in pages.zones() {
//!         text += &HeapMap::new(pages, zone.cover, 256).to_string();
//!     }
//!     text
//! }
//! ```
//!
//! The two Linux formats are there for tools and eyes that read them already; `buddyinfo` merely
//! has more columns, since kmem's orders go further.
//!
//! A view takes each zone's lock while it counts that zone, so the lines of one view may be of
//! slightly different instants while other CPUs allocate.

#![forbid(unsafe_code)]

mod buddyinfo;
mod heap_map;
mod slabinfo;
mod zone_summary;

pub use buddyinfo::Buddyinfo;
pub use heap_map::HeapMap;
pub use slabinfo::Slabinfo;
pub use zone_summary::ZoneSummary;

#[cfg(test)]
mod tests;
