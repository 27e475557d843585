//! Those who hold memory that they could do without.

use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;

use super::error::TooManyShrinkers;
use crate::platform::{CpuId, MAX_CPUS};

/// Somebody who holds frames that he could give back: caches with empty slabs, buffers of files.
pub trait Shrinker: Sync {
    /// Gives frames back to the page allocator, about `frames` of them if there are so many, and
    /// says how many were given.
    ///
    /// It runs on behalf of an allocation that would fail, without any of kmem's locks held by that
    /// allocation. It may allocate, but no shrinker runs for that.
    fn shrink(&self, frames: usize) -> usize;
}

/// Most shrinkers that can be registered.
pub const MAX_SHRINKERS: usize = 16;

/// The registered shrinkers, for good.
pub(super) struct Shrinkers {
    table: [Once<&'static dyn Shrinker>; MAX_SHRINKERS],
    /// On which CPUs shrinkers run, so that their own allocations start no others.
    running: [AtomicBool; MAX_CPUS],
}

impl Shrinkers {
    pub(super) const fn new() -> Self {
        Self {
            table: [const { Once::new() }; MAX_SHRINKERS],
            running: [const { AtomicBool::new(false) }; MAX_CPUS],
        }
    }

    pub(super) fn register(&self, shrinker: &'static dyn Shrinker) -> Result<(), TooManyShrinkers> {
        for place in &self.table {
            let mut taken = false;
            place.call_once(|| {
                taken = true;
                shrinker
            });
            if taken {
                return Ok(());
            }
        }
        Err(TooManyShrinkers { limit: MAX_SHRINKERS })
    }

    /// Runs shrinkers until `frames` frames have been given back; says how many were.
    pub(super) fn run(&self, cpu: CpuId, frames: usize) -> usize {
        let running = &self.running[cpu.index() % MAX_CPUS];
        if running.swap(true, Ordering::Relaxed) {
            return 0;
        }
        let mut given = 0;
        for shrinker in self.table.iter().map_while(Once::get) {
            if given >= frames {
                break;
            }
            given += shrinker.shrink(frames - given);
        }
        running.store(false, Ordering::Relaxed);
        given
    }
}
