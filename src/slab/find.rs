//! From an address to its slab: one load, of the owner record of the frame, and arithmetic.

use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::Acquire;

use super::descriptor::Slab;
use crate::frame::{FRAME_SHIFT, Frame};
use crate::page::records::{GRANULE, address, names_record};
use crate::page::{FrameSource, OwnerRecord};
use crate::platform::{Mapping, Platform};

/// The slab that `address` lies in, if any.
///
/// # Safety
///
/// If it lies in a slab, that is not given back while the answer is used: one of its objects is
/// out of it (allocated, or in a magazine), or nobody uses its cache.
#[inline(always)]
pub(crate) unsafe fn find<S: FrameSource>(source: &S, address: NonNull<u8>) -> Option<Slab<'_>> {
    let platform = source.platform();
    let phys = platform.virt_to_phys(address.as_ptr())?;
    let id = source.owner(Frame::containing(phys)?)?.load(Acquire);
    // SAFETY: an owner record's; the rest is the caller's promise.
    unsafe { named(source, id) }
}

/// The same where the owner record is at hand: `None` proves nothing.
///
/// # Safety
///
/// As [`find`].
#[inline(always)]
pub(super) unsafe fn find_at_hand<S: FrameSource>(
    source: &S,
    address: NonNull<u8>,
) -> Option<Slab<'_>> {
    let phys = source.platform().virt_to_phys(address.as_ptr())?;
    let id = source.owner_at_hand(Frame::containing(phys)?)?.load(Acquire);
    // SAFETY: an owner record's; the rest is the caller's promise.
    unsafe { named(source, id) }
}

/// The slab whose id an owner record holds, loaded with Acquire: that pairs with the Release in
/// `grow`, before which the slab's record was written.
///
/// # Safety
///
/// `id` comes from an owner record of this source by such a load, and the slab, if it names one, is
/// not given back while the answer is used: see [`find`].
#[inline(always)]
pub(crate) unsafe fn named<'s, S: FrameSource>(source: &'s S, id: u32) -> Option<Slab<'s>> {
    if !names_record(id) {
        return None;
    }
    // SAFETY: owner records hold ids of living slabs (invariant 4 of `descriptor`), and the caller
    // promises that this one lives on.
    Some(unsafe { Slab::of_record(address(source.platform(), id), id) })
}

/// Where the states of a slab with the id 0 would be, if all memory is mapped at one distance, and
/// the frame `first` at `start`.
pub(crate) fn origin(start: *mut u8, first: Frame) -> *mut u8 {
    // Ids are physical addresses in granules.
    Slab::states_in(start.wrapping_byte_sub(first.start().as_u64() as usize))
}

/// As [`named`], where all memory is mapped at one distance.
///
/// # Safety
///
/// It is, and `origin` is its [`origin`]. The rest as for [`named`].
#[inline(always)]
pub(crate) unsafe fn named_from<'s>(origin: *mut u8, id: u32) -> Option<Slab<'s>> {
    if !names_record(id) {
        return None;
    }
    // SAFETY: as in `named`; ids are addresses in granules, from the origin on.
    Some(unsafe { Slab::with_states(origin.wrapping_add(id as usize * GRANULE), id) })
}

/// The owner records of one stretch of frames, by address: what a hit finds an object's slab by.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Ground {
    /// Where the first frame lies that has its record here.
    start: usize,
    owners: *const OwnerRecord,
    origin: *mut u8,
    /// How many records there are.
    frames: usize,
}

impl Ground {
    /// No frames.
    pub(super) const EMPTY: Self =
        Self { start: 0, owners: ptr::null(), origin: ptr::null_mut(), frames: 0 };

    /// The owner records that are at hand, where addresses lead to them without a question to the
    /// platform.
    pub(super) fn of<S: FrameSource>(source: &S) -> Self {
        let Some((first, owners)) = source.owners_at_hand() else { return Self::EMPTY };
        if S::Platform::MAPPING != Mapping::Linear {
            return Self::EMPTY;
        }
        let start = source.platform().phys_to_virt(first.start());
        Self {
            start: start.addr(),
            owners: owners.as_ptr(),
            origin: origin(start, first),
            frames: owners.len(),
        }
    }

    /// The slab that `address` lies in; `None` proves nothing.
    ///
    /// # Safety
    ///
    /// As [`find`].
    #[inline(always)]
    pub(super) unsafe fn slab(&self, address: NonNull<u8>) -> Option<Slab<'_>> {
        // What is below is beyond.
        let frame = address.addr().get().wrapping_sub(self.start) >> FRAME_SHIFT;
        if frame >= self.frames {
            return None;
        }
        // SAFETY: there are so many records, which live for good.
        let id = unsafe { (*self.owners.add(frame)).load(Acquire) };
        // SAFETY: an owner record's, of a source whose memory is mapped at one distance; the rest
        // is the caller's promise.
        unsafe { named_from(self.origin, id) }
    }
}
