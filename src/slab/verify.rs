//! The recount of a cache.

use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use super::RawCache;
use super::descriptor::{CACHED, Slab};
use super::identity;
use super::key::Key;
use super::lifecycle::Lifecycle;
use super::lists::Fill;
use crate::page::FrameSource;
use crate::page::records::NONE;

/// What a recount found wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CacheFault {
    /// A slab's bits, state bytes and count disagree.
    Slab {
        /// The slab's first object.
        base: usize,
    },
    /// A slab lies in another list than its fill demands.
    List {
        /// The slab's first object.
        base: usize,
    },
    /// The slab names another cache, or the owner records of its frames do not lead to it.
    Owner {
        /// The slab's first object.
        base: usize,
    },
    /// A byte that nobody may write was written: in a red zone, or in a free object.
    Overwritten {
        /// The object.
        object: usize,
        /// Where the first such byte lies, in bytes from the object's start.
        offset: isize,
        /// What it is.
        found: u8,
    },
    /// A list is longer or shorter than its count, or its links disagree.
    Chain,
    /// The number of free objects outside their slabs differs from what magazines, depot and
    /// stocks hold.
    Cached {
        /// What they hold.
        expected: usize,
        /// Objects whose state says so.
        found: usize,
    },
    /// The number of available objects differs from a recount.
    Available {
        /// What the count says.
        expected: usize,
        /// What there is.
        found: usize,
    },
}

impl fmt::Display for CacheFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Slab { base } => {
                write!(f, "slab at {base:#x}: bits, states and count disagree")
            }
            Self::List { base } => write!(f, "slab at {base:#x}: in the wrong list"),
            Self::Owner { base } => write!(f, "slab at {base:#x}: not owner of its frames"),
            Self::Overwritten { object, offset, found } => {
                write!(f, "object at {object:#x}: byte {found:#04x} written at offset {offset}")
            }
            Self::Chain => f.write_str("a list and its count disagree"),
            Self::Cached { expected, found } => {
                write!(f, "expected {expected} objects in magazines, found {found}")
            }
            Self::Available { expected, found } => {
                write!(f, "expected {expected} available objects, found {found}")
            }
        }
    }
}

impl core::error::Error for CacheFault {}

impl<S: FrameSource, L: Lifecycle> RawCache<'_, S, L> {
    /// Recounts everything, and looks at the bytes of red zones and of poisoned objects that lie in
    /// their slabs. Takes time in proportion to the cache's objects, with its lock held. Exact
    /// while no other CPU uses the cache.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn verify(&self) -> Result<(), CacheFault> {
        let platform = self.platform();
        let lists = self.lists.lock(platform);
        let mut available = 0;
        let mut cached = 0;
        for fill in Fill::all() {
            let mut previous = None;
            let mut len = 0;
            while let Some(slab) = lists.walk(platform, fill, previous) {
                let base = slab.object(0).as_ptr() as usize;
                let prev = previous.map_or(NONE, Slab::id);
                if slab.prev().load(Relaxed) != prev || len == lists.chain(fill).len() {
                    return Err(CacheFault::Chain);
                }
                if Fill::of(slab) != fill || slab.list().load(Relaxed) != fill.number() {
                    return Err(CacheFault::List { base });
                }
                if !slab.is_consistent() {
                    return Err(CacheFault::Slab { base });
                }
                let is_named = slab.cache() == self.identity.id()
                    && slab.key() == Key::of(identity::of(self.source, slab).number, slab.way());
                if !is_named || !self.owns_frames(slab) {
                    return Err(CacheFault::Owner { base });
                }
                // SAFETY: the slab is in the lists, which are locked.
                unsafe { self.check_bytes(slab)? };
                available += slab.available();
                cached += slab.in_state(CACHED);
                previous = Some(slab);
                len += 1;
            }
            if len != lists.chain(fill).len() {
                return Err(CacheFault::Chain);
            }
        }
        if available != lists.available {
            return Err(CacheFault::Available { expected: lists.available, found: available });
        }
        drop(lists);
        let expected = self.cached();
        let agrees = cached == expected || cached > expected && self.cpus.has_lost();
        if !agrees {
            return Err(CacheFault::Cached { expected, found: cached });
        }
        Ok(())
    }

    fn owns_frames(&self, slab: Slab<'_>) -> bool {
        let Some(head) = slab.frame(self.platform()) else { return false };
        (0..slab.order().frames()).all(|nth| {
            let cell = head.checked_add(nth).and_then(|frame| self.source.owner(frame));
            cell.is_some_and(|cell| cell.load(Relaxed) == slab.id())
        })
    }
}
