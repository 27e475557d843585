//! Raw memory: all that the page layer ever does to the bytes of a frame.

use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::AtomicU8;

use super::options::Contents;
use super::owners::OwnerRecord;
use crate::buddy::Group;
use crate::frame::{FRAME_SIZE, FrameRange, PhysAddr};
use crate::platform::Platform;

/// Zeroes every byte of `frames`.
///
/// # Safety
///
/// The frames belong to the caller alone, and the platform maps them.
pub(super) unsafe fn zero<P: Platform>(platform: &P, frames: FrameRange) {
    if frames.is_empty() {
        return;
    }
    let start = platform.phys_to_virt(frames.start().start());
    // SAFETY: `phys_to_virt` maps these frames to writable memory, contiguous as they are
    // (`Platform`, 1), and the caller says that nobody else uses them.
    unsafe { ptr::write_bytes(start, 0, frames.frames() * FRAME_SIZE) };
}

/// Types of which all bytes zero is a value.
///
/// # Safety
///
/// That is so, and the type has no destructor.
pub(super) unsafe trait Zeroable {}

// SAFETY: an integer.
unsafe impl Zeroable for u64 {}
// SAFETY: has the representation of an integer.
unsafe impl Zeroable for AtomicU8 {}
// SAFETY: has the representation of an integer.
unsafe impl Zeroable for OwnerRecord {}
// SAFETY: a `repr(C)` structure of integers only, as its definition asserts.
unsafe impl Zeroable for Group {}

/// Frames that kmem has taken for its own metadata, for good, handed out as slices from low to high
/// addresses.
///
/// # Invariant
///
/// `base` is aligned to a frame. The bytes from `used` to `len_bytes` are zero, mapped at the same
/// place for good, and nobody else knows them.
pub(super) struct Carving {
    start: PhysAddr,
    base: NonNull<u8>,
    /// Bytes handed out, from `base`.
    used: usize,
    /// Bytes in all.
    len_bytes: usize,
}

impl Carving {
    /// Takes `frames`; `None` if the platform does not map them to an aligned pointer that is not
    /// null.
    ///
    /// # Safety
    ///
    /// The platform maps the frames, nobody else uses them from now on, and if `contents` says so
    /// they are zero.
    pub(super) unsafe fn new<P: Platform>(
        platform: &P,
        frames: FrameRange,
        contents: Contents,
    ) -> Option<Self> {
        let start = frames.start().start();
        let base = NonNull::new(platform.phys_to_virt(start))?;
        if base.addr().get() % FRAME_SIZE != 0 {
            return None;
        }
        if contents == Contents::Unknown {
            // SAFETY: passed on to the caller.
            unsafe { zero(platform, frames) };
        }
        let len_bytes = frames.frames() * FRAME_SIZE;
        Some(Self { start, base, used: 0, len_bytes })
    }

    /// The physical address of the byte that would be handed out next.
    pub(super) fn next(&self) -> PhysAddr {
        PhysAddr::new(self.start.as_u64() + self.used as u64)
    }

    /// The next `len` values of `T`, all zero; `None` if there is no room.
    pub(super) fn take<T: Zeroable>(&mut self, len: usize) -> Option<&'static mut [T]> {
        let first = self.place(len)?;
        // SAFETY: `place` gives these bytes, aligned for `T`, to nobody else, for good. They are
        // zero, which is a value of each `T: Zeroable`.
        Some(unsafe { slice::from_raw_parts_mut(first.as_ptr(), len) })
    }

    /// `len` values for good, each of which `make` makes; `None` if there is no room.
    pub(super) fn put<T>(&mut self, len: usize, make: impl Fn() -> T) -> Option<&'static [T]> {
        let first = self.place(len)?;
        for index in 0..len {
            // SAFETY: `index` is below `len`, for which `place` gives the bytes, aligned for `T`,
            // to nobody else.
            unsafe { first.add(index).write(make()) };
        }
        // SAFETY: so many values were just written, to bytes that nobody else is given, for good.
        Some(unsafe { slice::from_raw_parts(first.as_ptr(), len) })
    }

    /// The place of the next `len` values of `T`: zero bytes, aligned for it, mapped for good and
    /// known to nobody else. `None` if there is no room.
    fn place<T>(&mut self, len: usize) -> Option<NonNull<T>> {
        const { assert!(align_of::<T>() <= FRAME_SIZE) };
        let start = self.used.checked_next_multiple_of(align_of::<T>())?;
        let end = start.checked_add(len.checked_mul(size_of::<T>())?)?;
        if end > self.len_bytes {
            return None;
        }
        // `base` is aligned to a frame and `start` to `T`; and nothing is handed out twice, since
        // `used` is behind it now.
        self.used = end;
        // SAFETY: `start` is at most `len_bytes`, and all of it is one mapping.
        Some(unsafe { self.base.add(start) }.cast())
    }
}
