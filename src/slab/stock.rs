//! Objects set aside, so that what follows cannot fail.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use super::RawCache;
use super::descriptor::{CACHED, Entry};
use super::lifecycle::{Bytes, ConstructError, Lifecycle};
use super::lists::Scope;
use super::magazine::{Magazine, Magazines};
use crate::page::{AllocError, AllocFlags, FrameSource};
use crate::platform::Platform;

/// Objects of a cache set aside for one holder, who can then take them without fail in a
/// section that must not. What is left goes back to the cache when the stock is dropped.
pub struct Stock<'c, S: FrameSource, L: Lifecycle = Bytes> {
    cache: &'c RawCache<'c, S, L>,
    /// Full magazines.
    rest: Magazines,
    /// The magazine in use.
    loaded: Option<Magazine>,
    /// Magazines that are used up: giving their memory back takes a lock, so they go when the
    /// stock does.
    used: Magazines,
    objects: usize,
}

impl<S: FrameSource, L: Lifecycle> fmt::Debug for Stock<'_, S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stock").field("objects", &self.objects).finish_non_exhaustive()
    }
}

impl<S: FrameSource> RawCache<'_, S> {
    /// Sets `objects` objects aside.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Self::alloc), if there is not memory for all of them; none is set aside then.
    pub fn reserve(&self, objects: usize, flags: AllocFlags) -> Result<Stock<'_, S>, AllocError> {
        self.set_aside(objects, flags).map_err(ConstructError::into_alloc)
    }
}

impl<S: FrameSource, L: Lifecycle> RawCache<'_, S, L> {
    /// As [`reserve`](RawCache::reserve), whatever becomes of the objects.
    pub(super) fn set_aside(
        &self,
        objects: usize,
        flags: AllocFlags,
    ) -> Result<Stock<'_, S, L>, ConstructError<L::Error>> {
        let mut stock = Stock {
            cache: self,
            rest: Magazines::new(),
            loaded: None,
            used: Magazines::new(),
            objects: 0,
        };
        while stock.objects < objects {
            stock.add_magazine(objects - stock.objects, flags)?;
        }
        Ok(stock)
    }
}

impl<'c, S: FrameSource, L: Lifecycle> Stock<'c, S, L> {
    /// An object, its contents undefined; `None` when the stock is used up. Takes no lock and
    /// no memory.
    pub fn alloc(&mut self) -> Option<NonNull<u8>> {
        loop {
            let entry = self.pop()?;
            if let Some(object) = self.cache.leave(entry)
                // SAFETY: set aside until now, so nobody knows it.
                && unsafe { self.cache.hand_out(object, AllocFlags::empty()) }
            {
                return Some(object);
            }
        }
    }

    /// Whose objects these are.
    pub(super) fn cache(&self) -> &'c RawCache<'c, S, L> {
        self.cache
    }

    /// How many objects are left.
    pub const fn len(&self) -> usize {
        self.objects
    }

    /// Whether the stock is used up.
    pub const fn is_empty(&self) -> bool {
        self.objects == 0
    }

    fn pop(&mut self) -> Option<Entry> {
        let platform = self.cache.platform();
        loop {
            if let Some(mut magazine) = self.loaded.take() {
                if let Some(entry) = magazine.pop(platform) {
                    self.loaded = Some(magazine);
                    self.objects -= 1;
                    self.cache.stocked.fetch_sub(1, Relaxed);
                    return Some(entry);
                }
                self.used.push(platform, magazine);
            }
            self.loaded = Some(self.rest.pop(platform)?);
        }
    }

    /// Fills one more magazine with up to `wanted` objects.
    fn add_magazine(
        &mut self,
        wanted: usize,
        flags: AllocFlags,
    ) -> Result<(), ConstructError<L::Error>> {
        let cache = self.cache;
        let (platform, capacity) = (cache.platform(), cache.rounds());
        let magazine = cache.new_magazine(flags)?;
        let wanted = wanted.min(capacity as usize);
        let entries = magazine.entries(platform);
        let mut rounds = 0;
        let mut sink = |entry: Entry| {
            // SAFETY: the magazine is new, has room for `capacity` entries, and no more than
            // `wanted` come.
            unsafe { entries.add(rounds).write(entry) };
            rounds += 1;
        };
        let mut taken = match cache.lock(flags) {
            Ok(mut lists) => {
                lists.take(platform, platform.cpu_id(), Scope::All, wanted, CACHED, &mut sink)
            }
            Err(_) => 0,
        };
        let mut failure = None;
        while taken < wanted && failure.is_none() {
            match cache.grow(flags, wanted - taken, CACHED, &mut sink) {
                Ok(more) => taken += more,
                Err(error) => failure = Some(error),
            }
        }
        // SAFETY: `sink` has written as many entries as objects were taken.
        self.rest.push(platform, unsafe { magazine.with_rounds(taken as u32) });
        self.objects += taken;
        cache.stocked.fetch_add(taken, Relaxed);
        failure.map_or(Ok(()), Err)
    }
}

impl<S: FrameSource, L: Lifecycle> Drop for Stock<'_, S, L> {
    fn drop(&mut self) {
        let platform = self.cache.platform();
        while let Some(magazine) = self.loaded.take().or_else(|| self.rest.pop(platform)) {
            let magazine = self.cache.empty(&mut self.cache.lists.lock(platform), magazine);
            self.cache.give_magazine(magazine);
        }
        while let Some(magazine) = self.used.pop(platform) {
            self.cache.give_magazine(magazine);
        }
        self.cache.stocked.fetch_sub(self.objects, Relaxed);
        self.cache.trim();
    }
}
