//! Those who hold memory that they could do without.

use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;

use super::error::TooManyShrinkers;
use crate::platform::{MAX_CPUS, Pinned, Pinning, Platform};

/// Somebody who holds frames that he could give back: caches with empty slabs, buffers of files.
pub trait Shrinker: Sync {
    /// Gives frames back to the page allocator, about `frames` of them if there are so many, and
    /// says how many were given.
    ///
    /// It runs on behalf of an allocation that would fail, without any of kmem's locks held by that
    /// allocation, and [pinned](Platform::pin) to its CPU: it does not sleep, nor wait for a thread
    /// that may have to run there. It may allocate, but no shrinker runs for that.
    ///
    /// Several CPUs may be in it at the same time, unless threads [migrate](Pinning::Migrating):
    /// then one thread runs shrinkers, and what others request meanwhile goes without.
    fn shrink(&self, frames: usize) -> usize;
}

/// Most shrinkers that can be registered.
pub const MAX_SHRINKERS: usize = 16;

/// The registered shrinkers, for good.
pub(super) struct Shrinkers {
    table: [Once<&'static dyn Shrinker>; MAX_SHRINKERS],
    /// On which CPUs shrinkers run, so that their own allocations start no others; where threads
    /// migrate, the first says whether they run anywhere.
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
    pub(super) fn run<P: Platform>(&self, platform: &P, frames: usize) -> usize {
        let mut given: usize = 0;
        let mut shrinkers = self.table.iter().map_while(Once::get).peekable();
        if shrinkers.peek().is_none() {
            return given;
        }
        let Some(_running) = self.begin(platform) else { return given };
        for shrinker in shrinkers {
            if given >= frames {
                break;
            }
            // What they say is not to be relied on.
            given = given.saturating_add(shrinker.shrink(frames - given));
        }
        given
    }

    /// Keeps the thread on its CPU and notes that shrinkers run there, until the answer is dropped;
    /// `None` if they do already.
    fn begin<'a, P: Platform>(&'a self, platform: &'a P) -> Option<Running<'a, P>> {
        let pin = Pinned::here(platform);
        let mark = match P::PINNING {
            Pinning::Pinned => &self.running[pin.cpu().index() % MAX_CPUS],
            Pinning::Migrating => &self.running[0],
        };
        if mark.swap(true, Ordering::Relaxed) {
            return None;
        }
        Some(Running { mark, _pin: pin })
    }
}

/// Shrinkers run: ends when this is dropped, also where one of them unwinds.
struct Running<'a, P: Platform> {
    mark: &'a AtomicBool,
    /// Goes behind the mark, which is the CPU's.
    _pin: Pinned<'a, P>,
}

impl<P: Platform> Drop for Running<'_, P> {
    fn drop(&mut self) {
        self.mark.store(false, Ordering::Relaxed);
    }
}
