//! Who a cache is: what a slab's record says of it by one number.
//!
//! The record lies outside the cache, so a cache can be moved, and an object freed by address
//! alone, or to the wrong cache, finds its cache's name although nothing points to the cache
//! itself.

use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use super::descriptor::{Slab, USER};
use super::error::ObjectError;
use super::find::find;
use super::key::CacheNumber;
use crate::buddy::AllocError;
use crate::page::records::{NONE, Records, address};
use crate::page::{AllocFlags, FrameSource};

/// What is known of a cache from any of its objects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) name: &'static str,
    pub(super) tag: u32,
    pub(super) object_bytes: u32,
    pub(super) number: CacheNumber,
}

/// The id of a cache's identity; none until its first slab.
pub(super) struct IdentityCell(AtomicU32);

impl IdentityCell {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(NONE))
    }

    #[inline]
    pub(super) fn id(&self) -> u32 {
        // Acquire, for the Release in `ensure`: the record was written before.
        self.0.load(Acquire)
    }

    /// The id, after writing what `identity` says to a record if this is the first time.
    pub(super) fn ensure<S: FrameSource>(
        &self,
        source: &S,
        records: &Records,
        identity: impl FnOnce() -> Identity,
        flags: AllocFlags,
    ) -> Result<u32, AllocError> {
        let id = self.id();
        if id != NONE {
            return Ok(id);
        }
        let record = records.take(source, size_of::<Identity>(), flags)?;
        // SAFETY: the record was just taken and has room; records are aligned to granules.
        unsafe { record.address.cast::<Identity>().write(identity()) };
        match self.0.compare_exchange(NONE, record.id, AcqRel, Acquire) {
            Ok(_) => Ok(record.id),
            Err(first) => {
                // SAFETY: taken above; nobody has seen it.
                unsafe { records.give(source, record.id) };
                Ok(first)
            }
        }
    }

    /// Gives the record back.
    ///
    /// # Safety
    ///
    /// The cache has no slab, and nobody uses it.
    pub(super) unsafe fn give<S: FrameSource>(&self, source: &S, records: &Records) {
        let id = self.0.swap(NONE, AcqRel);
        if id != NONE {
            // SAFETY: `ensure` took it; only slabs' records refer to it, and there are none.
            unsafe { records.give(source, id) };
        }
    }
}

/// The identity of the cache of a living slab.
pub(super) fn of<S: FrameSource>(source: &S, slab: Slab<'_>) -> Identity {
    // SAFETY: a slab is created with the id of its cache's identity, which outlives the cache's
    // slabs.
    unsafe { of_id(source, slab.cache()) }
}

/// The identity with this id.
///
/// # Safety
///
/// `id` is that of a cache that has not ended.
pub(super) unsafe fn of_id<S: FrameSource>(source: &S, id: u32) -> Identity {
    // SAFETY: `ensure` wrote the record before it gave the id out.
    unsafe { address(source.platform(), id).cast::<Identity>().read() }
}

/// An object, found by its address alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Found {
    /// The object's first byte.
    pub base: NonNull<u8>,
    /// Bytes in the object, as the cache was asked for.
    pub object_bytes: usize,
    /// The cache's name.
    pub cache: &'static str,
    /// The cache's tag: see [`RawCache::with_tag`](super::RawCache::with_tag).
    pub tag: u32,
    /// Whether the object is in a user's hands.
    pub is_allocated: bool,
}

/// The object that `address` lies in, and its cache, from any address in memory: what `free` by
/// address alone needs. Constant time: one load of the owner record, then the slab's record and
/// the cache's.
///
/// # Errors
///
/// `OutOfRange` if there is no object.
///
/// # Safety
///
/// If the address lies in a slab, that is not given back meanwhile: one of its objects is
/// allocated, or nobody uses its cache.
pub unsafe fn lookup<S: FrameSource>(
    source: &S,
    address: NonNull<u8>,
) -> Result<Found, ObjectError> {
    // SAFETY: the caller's promise.
    let slab = unsafe { find(source, address) }.ok_or(ObjectError::OutOfRange)?;
    let (index, _) = slab.index_of(address.as_ptr() as usize).ok_or(ObjectError::OutOfRange)?;
    let identity = of(source, slab);
    let entry = slab.entry(index);
    Ok(Found {
        base: entry.object,
        object_bytes: identity.object_bytes as usize,
        cache: identity.name,
        tag: identity.tag,
        is_allocated: entry.state().load(Relaxed) == USER,
    })
}
