//! How a cache gets slabs and gives them back. No lock of the cache is held while frames are
//! taken, objects constructed or destructed, or frames given back.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Release;

use super::RawCache;
use super::descriptor::{Entry, Slab, record_bytes};
use super::identity::{self, Identity};
use super::key::{CacheNumber, Key};
use super::lifecycle::{ConstructError, Lifecycle};
use super::lists::OwnSlab;
use super::way::Way;
use crate::buddy::{AllocError, BlockOwner};
use crate::frame::{Frame, FrameRange, Order};
use crate::page::records::NONE;
use crate::page::{AllocFlags, FrameSource};
use crate::platform::Platform;

impl<S: FrameSource, L: Lifecycle> RawCache<'_, S, L> {
    /// Makes a slab, takes up to `wanted` objects out of it, marked `state`, for `sink`, and
    /// adds it to the lists; how many were taken, at least one.
    #[cold]
    #[inline(never)]
    pub(super) fn grow(
        &self,
        flags: AllocFlags,
        wanted: usize,
        state: u8,
        sink: impl FnMut(Entry),
    ) -> Result<usize, ConstructError<L::Error>> {
        let slab = self.new_slab(flags)?;
        let taken = slab.slab().take(wanted, state, sink).objects;
        self.lists.lock(self.platform()).add(self.platform(), slab);
        Ok(taken)
    }

    /// A slab with all objects constructed, in no list.
    fn new_slab(&self, flags: AllocFlags) -> Result<OwnSlab, ConstructError<L::Error>> {
        let geometry = self.geometry?;
        let way = Way::of(self.platform().cpu_id());
        // Objects are cleared one by one where that is asked for.
        let flags = flags.difference(AllocFlags::ZERO | AllocFlags::MOVABLE);
        let identity = || Identity {
            name: self.name,
            tag: self.tag,
            object_bytes: geometry.object_bytes as u32,
            number: CacheNumber::new(),
        };
        let record = self.records().take(self.source, record_bytes(geometry.objects), flags)?;
        let mut unfinished =
            Unfinished { cache: self, record: record.id, block: None, slab: None, constructed: 0 };
        let frame = self.source.take(geometry.order, BlockOwner::Slab, flags)?;
        unfinished.block = Some((frame, geometry.order));
        // Last, since it stays.
        let cache = self.identity.ensure(self.source, self.records(), identity, flags)?;

        let start = self.platform().phys_to_virt(frame.start());
        if !(start as usize).is_multiple_of(geometry.align) {
            // The direct map is not as aligned as the frames are.
            return Err(AllocError::BadAlignment.into());
        }
        let colour = geometry.colour(self.next_colour());
        // SAFETY: the block is `order` long and mapped, and the colour lies within what the
        // objects leave over, the lead within the first object's stride.
        let base = unsafe { start.add(colour + geometry.lead) };
        let Some(base) = NonNull::new(base) else { return Err(AllocError::OutOfMemory.into()) };
        // SAFETY: the record was just taken for so many objects. It lives until `release`, which
        // follows the slab's removal from the lists; nobody else holds on to slabs. The cache has
        // not ended.
        let slab = unsafe {
            let key = Key::of(identity::of_id(self.source, cache).number, way);
            Slab::create(record.address, record.id, &geometry, base, cache, self.tag, key)
        };
        unfinished.slab = Some(slab);
        // SAFETY: the slab is new, and this cache's.
        unsafe { self.prepare(slab) };
        if L::CONSTRUCTS {
            for index in 0..slab.objects() {
                // SAFETY: the slab is new: its objects are nobody's, and none is made twice.
                let made = unsafe { self.lifecycle.construct(slab.object(index)) };
                made.map_err(ConstructError::Constructor)?;
                unfinished.constructed = index + 1;
            }
        }
        if !self.own(frame, geometry.order, slab.id()) {
            return Err(AllocError::NoOwnerRecord { frame }.into());
        }
        core::mem::forget(unfinished);
        // SAFETY: made above, and in no list; `unfinished`, which owned it, is forgotten.
        Ok(unsafe { OwnSlab::new(slab) })
    }

    /// Gives back a slab all of whose objects are in it.
    ///
    /// # Safety
    ///
    /// The slab comes from this cache's lists.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn release(&self, slab: OwnSlab) {
        let slab = slab.slab();
        let block = slab.frame(self.platform()).map(|frame| (frame, slab.order()));
        let constructed = if L::CONSTRUCTS { slab.objects() } else { 0 };
        drop(Unfinished { cache: self, record: slab.id(), block, slab: Some(slab), constructed });
    }

    /// Writes the owner records of a block; whether the source has one for each frame.
    fn own(&self, head: Frame, order: Order, id: u32) -> bool {
        let Some(block) = FrameRange::from_len(head, order.frames()) else { return false };
        block.iter().all(|frame| match self.source.owner(frame) {
            Some(cell) => {
                // Release, for the Acquire in `find`: the slab's record is written.
                // SAFETY: the block was taken for the slab.
                unsafe { cell.store(id, Release) };
                true
            }
            None => false,
        })
    }
}

/// A slab that is being made or unmade: everything that is there goes when it is dropped, so an
/// error and a panicking constructor leave nothing behind.
struct Unfinished<'c, 'r, 's, S: FrameSource, L: Lifecycle> {
    cache: &'c RawCache<'s, S, L>,
    record: u32,
    block: Option<(Frame, Order)>,
    slab: Option<Slab<'r>>,
    constructed: usize,
}

impl<S: FrameSource, L: Lifecycle> Drop for Unfinished<'_, '_, '_, S, L> {
    fn drop(&mut self) {
        // Goes last, also when a destructor unwinds.
        let _memory = Memory { cache: self.cache, record: self.record, block: self.block };
        if let Some(slab) = self.slab {
            for index in 0..self.constructed {
                // SAFETY: so many were made, and all of them are in the slab, which is in no list.
                unsafe { self.cache.lifecycle.destruct(slab.object(index)) };
            }
        }
    }
}

/// A slab's frames and record, given back when dropped.
struct Memory<'c, 's, S: FrameSource, L: Lifecycle> {
    cache: &'c RawCache<'s, S, L>,
    record: u32,
    block: Option<(Frame, Order)>,
}

impl<S: FrameSource, L: Lifecycle> Drop for Memory<'_, '_, S, L> {
    fn drop(&mut self) {
        let cache = self.cache;
        if let Some((frame, order)) = self.block {
            cache.own(frame, order, NONE);
            // SAFETY: the block was taken with this order; the slab is in no list, all its
            // objects are in it, and no owner record leads to it any more.
            if unsafe { cache.source.give(frame, order, BlockOwner::Slab) }.is_err() {
                let address = cache.platform().phys_to_virt(frame.start()) as usize;
                super::corrupted(cache.platform(), address, Some(cache.name));
            }
        }
        // SAFETY: taken by `new_slab`; nothing refers to it any more.
        unsafe { cache.records().give(cache.source, self.record) };
    }
}
