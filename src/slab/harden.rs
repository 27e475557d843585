//! What hardened caches do to an object's bytes on the way in and on the way out.
//!
//! Red zones lie before and behind every object and hold [`RED`] from the slab's first to its
//! last moment. A free object of a cache that poisons holds [`POISON`], or zeros where objects
//! are cleared as well. Constructed objects are never touched, only their red zones.

use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::Ordering::Relaxed;

use super::RawCache;
use super::descriptor::{IN_SLAB, RUINED, Slab};
use super::error::ObjectError;
use super::find::find;
use super::flags::CacheFlags;
use super::lifecycle::Lifecycle;
use super::verify::CacheFault;
use crate::check::{Detail, Rule, Violation, violation};
use crate::page::{AllocFlags, FrameSource};
use crate::platform::Platform;

/// What red zones hold. Guards against writes past an object's ends; costs at least 16 bytes an
/// object.
const RED: u8 = 0xbb;

/// What poisoned free objects hold. Guards against writes after a free; costs a pass over the
/// object at each free and each allocation.
const POISON: u8 = 0x6b;

/// Flags under which the bytes of free objects are known.
const FILLED: CacheFlags = CacheFlags::POISON.union(CacheFlags::ZERO_ON_FREE);

impl<S: FrameSource, L: Lifecycle> RawCache<'_, S, L> {
    /// What free objects hold.
    const fn pattern(&self) -> u8 {
        if self.flags.contains(CacheFlags::ZERO_ON_FREE) { 0 } else { POISON }
    }

    fn fills(&self) -> bool {
        !L::CONSTRUCTS && self.flags.intersects(FILLED)
    }

    fn poisons(&self) -> bool {
        !L::CONSTRUCTS && self.flags.contains(CacheFlags::POISON)
    }

    /// Readies the bytes of a new slab's objects, before any is constructed.
    ///
    /// # Safety
    ///
    /// The slab is this cache's, and all of it the caller's.
    pub(super) unsafe fn prepare(&self, slab: Slab<'_>) {
        if !self.fills() && !self.flags.contains(CacheFlags::RED_ZONE) {
            return;
        }
        for index in 0..slab.objects() {
            let object = slab.object(index);
            for (offset, len) in self.red_zones() {
                // SAFETY: the zones lie within the object's stride, or for the first one's lead
                // before it in the block, all of which is ours.
                unsafe { object.offset(offset).write_bytes(RED, len) };
            }
            if self.fills() {
                // SAFETY: the object is so long, and ours.
                unsafe { object.write_bytes(self.pattern(), self.object_bytes()) };
            }
        }
    }

    /// Readies an object for its user; whether it may have it.
    ///
    /// # Safety
    ///
    /// It is one of this cache that was just allocated: nobody else knows it.
    #[inline]
    pub(super) unsafe fn hand_out(&self, object: NonNull<u8>, flags: AllocFlags) -> bool {
        if self.flags.contains(CacheFlags::POISON) || flags.contains(AllocFlags::ZERO) {
            // SAFETY: the caller's promise.
            return unsafe { self.hand_out_checked(object, flags) };
        }
        true
    }

    /// # Safety
    ///
    /// As [`hand_out`](Self::hand_out).
    unsafe fn hand_out_checked(&self, object: NonNull<u8>, flags: AllocFlags) -> bool {
        let bytes = self.object_bytes();
        if self.poisons() {
            // SAFETY: the caller's promise; an object is so long, and `prepare` or `take_back` has
            // written it.
            let written = unsafe { first_other(object, bytes, self.pattern()) };
            if let Some((offset, value)) = written {
                // SAFETY: the object is out of its slab.
                if let Some(slab) = unsafe { find(self.source, object) }
                    && let Some(index) = slab.index_at(object.addr().get())
                {
                    slab.states()[index].store(RUINED, Relaxed);
                }
                // Last: a hook may unwind.
                self.report_write(object, offset as isize, value);
                return false;
            }
        }
        if flags.contains(AllocFlags::ZERO) {
            // SAFETY: the caller's promise.
            unsafe { self.clear(object) };
        }
        true
    }

    /// Zeroes an object, unless it holds a value.
    ///
    /// # Safety
    ///
    /// As [`hand_out`](Self::hand_out).
    pub(crate) unsafe fn clear(&self, object: NonNull<u8>) {
        if !L::CONSTRUCTS {
            // SAFETY: the caller's promise; an object is so long.
            unsafe { object.write_bytes(0, self.object_bytes()) };
        }
    }

    /// Checks and readies an object on its way back.
    ///
    /// # Safety
    ///
    /// The object is one of this cache that was allocated, and nobody uses it any more.
    #[inline]
    pub(super) unsafe fn take_back(&self, object: NonNull<u8>) -> Result<(), ObjectError> {
        // SAFETY: the object's slab lives while the object is out of it.
        if let Some((offset, found)) = unsafe { self.overrun(object) } {
            return Err(ObjectError::Overrun { offset, found });
        }
        if self.fills() {
            // SAFETY: the caller's promise.
            unsafe { object.write_bytes(self.pattern(), self.object_bytes()) };
        }
        Ok(())
    }

    /// The first bad byte of an object's red zones.
    ///
    /// # Safety
    ///
    /// The object is one of this cache, and its slab lives meanwhile.
    #[inline]
    unsafe fn overrun(&self, object: NonNull<u8>) -> Option<(isize, u8)> {
        self.red_zones().into_iter().find_map(|(offset, len)| {
            // SAFETY: the zones are part of the slab and written by `prepare`; users have no
            // business there.
            let other = unsafe { first_other(object.offset(offset), len, RED) };
            other.map(|(at, value)| (offset + at as isize, value))
        })
    }

    /// Where the red zones lie, from an object's first byte, and how long they are.
    #[inline]
    fn red_zones(&self) -> [(isize, usize); 2] {
        match self.geometry {
            Ok(geometry) if geometry.lead > 0 => {
                let behind = geometry.stride - geometry.lead - geometry.object_bytes;
                [
                    (-(geometry.lead as isize), geometry.lead),
                    (geometry.object_bytes as isize, behind),
                ]
            }
            _ => [(0, 0); 2],
        }
    }

    /// Whether the red zones of a slab's objects are whole, and the poison of those that lie in it.
    /// What is on its way to a user, or back, is looked at when it is handed out.
    ///
    /// # Safety
    ///
    /// The slab is this cache's, and the caller holds the lists' lock.
    pub(super) unsafe fn check_bytes(&self, slab: Slab<'_>) -> Result<(), CacheFault> {
        for (index, state) in slab.states().iter().enumerate() {
            let object = slab.object(index);
            // SAFETY: the caller's promise.
            let mut bad = unsafe { self.overrun(object) };
            if self.poisons() && state.load(Relaxed) == IN_SLAB {
                // SAFETY: such objects were written by `prepare` or `take_back`; they leave the
                // slab under the lock that the caller holds.
                let written = unsafe { first_other(object, self.object_bytes(), self.pattern()) };
                bad = bad.or(written.map(|(offset, value)| (offset as isize, value)));
            }
            if let Some((offset, found)) = bad {
                return Err(CacheFault::Overwritten {
                    object: object.as_ptr() as usize,
                    offset,
                    found,
                });
            }
        }
        Ok(())
    }

    #[cold]
    fn report_write(&self, object: NonNull<u8>, offset: isize, value: u8) {
        let expected = Detail::Byte { offset, value: self.pattern() };
        let found = Violation::new(Rule::WriteAfterFree, object.as_ptr() as usize)
            .expected_found(expected, Detail::Byte { offset, value })
            .in_cache(self.name)
            .on_cpu(self.platform().cpu_id());
        violation(&found);
    }
}

/// The first of `len` bytes that is not `pattern`.
///
/// # Safety
///
/// The bytes are readable and initialised.
unsafe fn first_other(start: NonNull<u8>, len: usize, pattern: u8) -> Option<(usize, u8)> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice::from_raw_parts(start.as_ptr(), len) };
    let at = bytes.iter().position(|&byte| byte != pattern)?;
    Some((at, bytes[at]))
}
