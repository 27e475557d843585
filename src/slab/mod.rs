//! Slab caches: objects of one size each, in blocks of frames.

mod cpu;
mod descriptor;
mod error;
mod flags;
mod geometry;
mod grow;
mod harden;
mod identity;
mod lifecycle;
mod lists;
mod magazine;
mod paths;
mod raw;
mod reload;
mod stats;
mod stock;
mod typed;
mod verify;

pub use error::{Busy, LEAKS_NAMED, ObjectError};
pub use flags::CacheFlags;
pub use geometry::{MAX_OBJECT_BYTES, MAX_OBJECTS};
pub use identity::{Found, lookup};
pub use lifecycle::{Bytes, ConstructError};
pub use raw::RawCache;
pub use stats::CacheStats;
pub use stock::Stock;
pub use typed::{Cache, Constructed, ObjectBox, ObjectCache, SlabBox};
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
