//! Where the layers above keep their own bookkeeping: small records in frames of their own,
//! named by number.
//!
//! A record is a whole number of 64-byte granules and never crosses a frame. Its **id** is its
//! physical address in granules, so an id becomes an address, and an address an id, by
//! arithmetic over the direct map, and fits the 32-bit owner record that every frame has. The first
//! granule of a frame of records is its header, so no id is a multiple of 64: such values in owner
//! records are never records.
//!
//! Records of all sizes lie in the same frames, each in the first gap that holds it, in a frame
//! whose longest gap is not much longer than need be. Who uses a little of everything, as a small
//! program does of a heap, touches few frames, and a copy of it that writes there copies few.
//!
//! A source can share one pool among all who take from it, so that a cache that keeps a few
//! records does not cost a few frames: see [`FrameSource::records`].
//!
//! # Invariants
//!
//! 1. Every frame of records lies below [`REACH`] frames (256 GiB). A source that hands out a
//!    higher one is asked again for one below ([`FrameSource::take_low`]); if there is none, the
//!    answer is [`AllocError::OutOfReach`].
//! 2. A header's words say which granules of its frame are free, and where its records end.
//! 3. A frame with free granules is in the list of its longest gap, a frame with none is in no
//!    list, and a frame without records has been given back.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::buddy::{AllocError, BlockOwner};
use crate::check::{Rule, Violation, violation};
use crate::frame::{FRAME_SHIFT, FRAME_SIZE, Frame, Order, PhysAddr};
use crate::lock::IrqLock;
use crate::page::granules::{GAPS, GRANULES, Granules};
use crate::page::{AllocFlags, FrameSource};
use crate::platform::Platform;

/// Base-two logarithm of a granule's bytes.
const GRANULE_SHIFT: u32 = 6;

/// Bytes in a granule.
pub(crate) const GRANULE: usize = 1 << GRANULE_SHIFT;

/// Base-two logarithm of the granules in a frame.
const FRAME_GRANULES: u32 = FRAME_SHIFT - GRANULE_SHIFT;

/// Most granules in a record, so that a frame holds at least one beside its header.
pub(crate) const MAX_GRANULES: usize = GRANULES as usize - 1;

const _: () = assert!(FRAME_SIZE == GRANULES as usize * GRANULE);

/// First frame number that an id cannot name.
const REACH: usize = 1 << (32 - FRAME_GRANULES);

/// The same as a frame.
const BEYOND_REACH: Frame = match Frame::new(REACH) {
    Some(frame) => frame,
    None => Frame::MAX,
};

/// No record.
pub(crate) const NONE: u32 = 0;

/// No header: not 0, which is that of frame 0, and no multiple of [`GRANULES`], which all are.
const NO_HEADER: u32 = u32::MAX;

const _: () = assert!(!NO_HEADER.is_multiple_of(GRANULES));

/// Whether an owner record names a record.
#[inline]
pub(crate) const fn names_record(id: u32) -> bool {
    !id.is_multiple_of(GRANULES)
}

/// Where the record `id` lies.
#[inline]
pub(crate) fn address<P: Platform>(platform: &P, id: u32) -> *mut u8 {
    platform.phys_to_virt(PhysAddr::new((id as u64) << GRANULE_SHIFT))
}

/// The id of the record at `address`.
pub(crate) fn id_of<P: Platform>(platform: &P, address: *const u8) -> Option<u32> {
    u32::try_from(platform.virt_to_phys(address)?.as_u64() >> GRANULE_SHIFT).ok()
}

/// The first granule of a frame of records. All fields are changed under the pool's lock alone.
#[repr(C, align(64))]
struct Header {
    /// Invariant 2: [`Granules`].
    free: AtomicU64,
    ends: AtomicU64,
    next: AtomicU32,
    prev: AtomicU32,
}

const _: () = assert!(size_of::<Header>() <= GRANULE);

impl Header {
    fn granules(&self) -> Granules {
        Granules { free: self.free.load(Relaxed), ends: self.ends.load(Relaxed) }
    }

    fn set_granules(&self, granules: Granules) {
        self.free.store(granules.free, Relaxed);
        self.ends.store(granules.ends, Relaxed);
    }
}

/// A frame of records.
#[derive(Clone, Copy)]
struct Member<'a> {
    /// Its header's.
    id: u32,
    header: &'a Header,
}

impl<'a> Member<'a> {
    /// The frame whose header has this id.
    ///
    /// # Safety
    ///
    /// [`Records::take`] has written the header, and the frame is not given back while the answer
    /// is used.
    unsafe fn of<P: Platform>(platform: &P, id: u32) -> Self {
        // SAFETY: the caller's promise; all accesses are atomic.
        Self { id, header: unsafe { &*address(platform, id).cast::<Header>() } }
    }
}

/// A pool of records, for sources to hold: see [`FrameSource::records`].
pub struct Records {
    lists: IrqLock<Lists>,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::new()
    }
}

/// What was to be given is no record.
struct NoRecord;

/// For each length of the longest gap the frames that have it, doubly linked by their headers' ids.
struct Lists {
    heads: [u32; GAPS],
    frames: usize,
}

impl Records {
    /// A pool without frames.
    pub const fn new() -> Self {
        Self { lists: IrqLock::new(Lists { heads: [NO_HEADER; GAPS], frames: 0 }) }
    }

    /// Frames that the pool holds.
    pub fn frames<S: FrameSource>(&self, source: &S) -> usize {
        self.lists.lock(source.platform()).frames
    }

    /// A record of at least `len_bytes` bytes, contents undefined, belonging to the caller alone.
    pub(crate) fn take<S: FrameSource>(
        &self,
        source: &S,
        len_bytes: usize,
        flags: AllocFlags,
    ) -> Result<Record, AllocError> {
        let len = len_bytes.div_ceil(GRANULE);
        if len == 0 || len > MAX_GRANULES {
            return Err(AllocError::TooLarge);
        }
        let (platform, len) = (source.platform(), len as u32);
        if let Some(id) = self.lists.lock(platform).take(platform, len) {
            return Ok(Record::at(platform, id));
        }
        let mut granules = Granules::UNUSED;
        let first = granules.take(len).ok_or(AllocError::TooLarge)?;
        let frame = take_frame_in_reach(source, flags)?;
        let header_id = (frame.number() as u32) << FRAME_GRANULES;
        let header = address(platform, header_id).cast::<Header>();
        // SAFETY: the frame was just taken, so it is the pool's alone, and a header fits a
        // granule, at whose alignment frames start.
        unsafe {
            header.write(Header {
                free: AtomicU64::new(granules.free),
                ends: AtomicU64::new(granules.ends),
                next: AtomicU32::new(NO_HEADER),
                prev: AtomicU32::new(NO_HEADER),
            });
        }
        let mut lists = self.lists.lock(platform);
        lists.frames += 1;
        // SAFETY: written above.
        let member = unsafe { Member::of(platform, header_id) };
        lists.link(platform, member, granules.longest_gap());
        Ok(Record::at(platform, header_id + first))
    }

    /// Gives a record back.
    ///
    /// # Safety
    ///
    /// `id` is a record that [`take`](Self::take) of this pool returned and that nobody uses
    /// any more.
    pub(crate) unsafe fn give<S: FrameSource>(&self, source: &S, id: u32) {
        let platform = source.platform();
        // SAFETY: the caller's promise.
        let given = unsafe { self.lists.lock(platform).give(platform, id) };
        let header_id = match given {
            Ok(Some(header_id)) => header_id,
            Ok(None) => return,
            Err(NoRecord) => return corrupted(platform, id),
        };
        let number = (header_id >> FRAME_GRANULES) as usize;
        if let Some(frame) = Frame::new(number) {
            // SAFETY: `Lists::give` has unlinked the frame: all its records are free, so nobody
            // uses it.
            let given = unsafe { source.give(frame, Order::ZERO, BlockOwner::Slab) };
            if given.is_err() {
                corrupted(platform, header_id);
            }
        }
    }
}

impl Lists {
    /// A record of `len` granules in a frame that has room.
    fn take<P: Platform>(&mut self, platform: &P, len: u32) -> Option<u32> {
        // In the first list the longest gaps may be shorter than this, though by less than half: of
        // its frames one is asked. Those of all further lists hold the record.
        for (gap, head) in self.heads.into_iter().enumerate().skip(len.ilog2() as usize) {
            if head == NO_HEADER {
                continue;
            }
            // SAFETY: it is in a list (invariant 3), and stays there.
            let member = unsafe { Member::of(platform, head) };
            let mut granules = member.header.granules();
            if let Some(first) = granules.take(len) {
                self.change(platform, member, granules, Some(gap));
                return Some(head + first);
            }
        }
        None
    }

    /// Frees the record; the header of its frame if that is to be given back.
    ///
    /// # Safety
    ///
    /// As [`Records::give`].
    unsafe fn give<P: Platform>(&mut self, platform: &P, id: u32) -> Result<Option<u32>, NoRecord> {
        let first = id % GRANULES;
        let header_id = id - first;
        // SAFETY: the record is the caller's, so its frame is the pool's.
        let member = unsafe { Member::of(platform, header_id) };
        let mut granules = member.header.granules();
        let before = granules.longest_gap();
        if !granules.give(first) {
            return Err(NoRecord);
        }
        if granules.are_unused() {
            self.unlink(platform, member, before);
            self.frames -= 1;
            return Ok(Some(header_id));
        }
        self.change(platform, member, granules, before);
        Ok(None)
    }

    /// Notes what the granules of a frame are used for now, whose longest gap was `before`.
    fn change<P: Platform>(
        &mut self,
        platform: &P,
        member: Member<'_>,
        granules: Granules,
        before: Option<usize>,
    ) {
        member.header.set_granules(granules);
        let after = granules.longest_gap();
        if before != after {
            self.unlink(platform, member, before);
            self.link(platform, member, after);
        }
    }

    /// Puts a frame first in the list of its longest gap, if it has one.
    fn link<P: Platform>(&mut self, platform: &P, member: Member<'_>, gap: Option<usize>) {
        let Some(head) = gap.and_then(|gap| self.heads.get_mut(gap)) else { return };
        let next = *head;
        *head = member.id;
        member.header.next.store(next, Relaxed);
        member.header.prev.store(NO_HEADER, Relaxed);
        if next != NO_HEADER {
            // SAFETY: it is in the list (invariant 3).
            let next = unsafe { Member::of(platform, next) };
            next.header.prev.store(member.id, Relaxed);
        }
    }

    /// Takes a frame out of the list of its longest gap, if it is in one.
    fn unlink<P: Platform>(&mut self, platform: &P, member: Member<'_>, gap: Option<usize>) {
        let Some(head) = gap.and_then(|gap| self.heads.get_mut(gap)) else { return };
        let Header { next, prev, .. } = member.header;
        let (next, prev) = (next.load(Relaxed), prev.load(Relaxed));
        if next != NO_HEADER {
            // SAFETY: it is in the list (invariant 3).
            unsafe { Member::of(platform, next) }.header.prev.store(prev, Relaxed);
        }
        if prev == NO_HEADER {
            *head = next;
        } else {
            // SAFETY: as above.
            unsafe { Member::of(platform, prev) }.header.next.store(next, Relaxed);
        }
    }
}

/// A record that was just taken.
pub(crate) struct Record {
    pub(crate) id: u32,
    pub(crate) address: NonNull<u8>,
}

impl Record {
    fn at<P: Platform>(platform: &P, id: u32) -> Self {
        // An id is above 0, and so is its address: promise 1 of `Platform`.
        let address = NonNull::new(address(platform, id)).unwrap_or(NonNull::dangling());
        Self { id, address }
    }
}

/// A frame that ids can name.
fn take_frame_in_reach<S: FrameSource>(source: &S, flags: AllocFlags) -> Result<Frame, AllocError> {
    let frame = source.take(Order::ZERO, BlockOwner::Slab, flags)?;
    if frame.number() < REACH {
        return Ok(frame);
    }
    let low = source.take_low(BEYOND_REACH, BlockOwner::Slab, flags);
    // SAFETY: the frame was just taken and nothing was put there.
    if unsafe { source.give(frame, Order::ZERO, BlockOwner::Slab) }.is_err() {
        corrupted(source.platform(), (frame.number() as u32) << FRAME_GRANULES);
    }
    match low {
        Ok(frame) if frame.number() < REACH => Ok(frame),
        Ok(low) => {
            // SAFETY: as above.
            let _ = unsafe { source.give(low, Order::ZERO, BlockOwner::Slab) };
            Err(AllocError::OutOfReach { frame: low.min(frame) })
        }
        // Whatever the reason is there, here it is that memory begins too high.
        Err(AllocError::OutOfMemory | AllocError::Fragmented { .. }) => {
            Err(AllocError::OutOfReach { frame })
        }
        Err(error) => Err(error),
    }
}

/// Reports that the source does not know a frame that it handed out, or a frame's header a record.
#[cold]
fn corrupted<P: Platform>(platform: &P, id: u32) {
    let address = address(platform, id) as usize;
    violation(&Violation::new(Rule::Corrupted, address).on_cpu(platform.cpu_id()));
}
