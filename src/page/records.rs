//! Where the layers above keep their own bookkeeping: small records in frames of their own,
//! named by number.
//!
//! A record is a whole number of 64-byte granules and never crosses a frame. Its **id** is its
//! physical address in granules, so an id becomes an address, and an address an id, by
//! arithmetic over the direct map, and fits the 32-bit owner record that every frame has. A
//! frame of records serves records of one size; its first granule is its header. So no id is a
//! multiple of 64: such values in owner records are never records.
//!
//! A source can share one pool among all who take from it, so that a cache that keeps a few
//! records does not cost a few frames: see [`FrameSource::records`].
//!
//! # Invariants
//!
//! 1. Every frame of records lies below [`REACH`] frames (256 GiB). A source that hands out a
//!    higher one is asked again for one below 4 GiB; if there is none either, the answer is [`AllocError::OutOfReach`].
//! 2. A header's mask has a bit for each free record of its frame.
//! 3. A frame with some free records is in the list of its size, a frame with none is in no
//!    list, and a frame with nothing but free records has been given back.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::buddy::{AllocError, BlockOwner};
use crate::check::{Rule, Violation, violation};
use crate::frame::{FRAME_SHIFT, FRAME_SIZE, Frame, Order, PhysAddr};
use crate::lock::IrqLock;
use crate::page::{AllocFlags, FrameSource};
use crate::platform::Platform;

/// Base-two logarithm of a granule's bytes.
const GRANULE_SHIFT: u32 = 6;

/// Bytes in a granule.
pub(crate) const GRANULE: usize = 1 << GRANULE_SHIFT;

/// Base-two logarithm of the granules in a frame.
const FRAME_GRANULES: u32 = FRAME_SHIFT - GRANULE_SHIFT;

/// Granules in a frame.
const GRANULES: usize = FRAME_SIZE / GRANULE;

/// Most granules in a record, so that a frame holds at least one beside its header.
pub(crate) const MAX_GRANULES: usize = GRANULES - 1;

/// First frame number that an id cannot name.
const REACH: usize = 1 << (32 - (FRAME_GRANULES));

/// No record.
pub(crate) const NONE: u32 = 0;

/// Whether an owner record names a record.
#[inline]
pub(crate) const fn names_record(id: u32) -> bool {
    !id.is_multiple_of(GRANULES as u32)
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
    /// Invariant 2.
    free: AtomicU64,
    next: AtomicU32,
    prev: AtomicU32,
    granules: u32,
}

const _: () = assert!(size_of::<Header>() <= GRANULE);

/// Records in a frame of records of this size.
const fn records_in_frame(granules: usize) -> usize {
    MAX_GRANULES / granules
}

/// The mask of a frame with nothing but free records.
const fn full_mask(granules: usize) -> u64 {
    (1 << records_in_frame(granules)) - 1
}

/// A pool of records, for sources to hold: see [`FrameSource::records`].
pub struct Records {
    lists: IrqLock<Lists>,
}

/// For each size the frames with free records, doubly linked by their headers' ids.
struct Lists {
    heads: [u32; MAX_GRANULES + 1],
    frames: usize,
}

impl Records {
    /// A pool without frames.
    pub const fn new() -> Self {
        Self { lists: IrqLock::new(Lists { heads: [NONE; MAX_GRANULES + 1], frames: 0 }) }
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
        let granules = len_bytes.div_ceil(GRANULE);
        if granules == 0 || granules > MAX_GRANULES {
            return Err(AllocError::TooLarge);
        }
        let platform = source.platform();
        if let Some(id) = self.lists.lock(platform).take(platform, granules) {
            return Ok(Record::at(platform, id));
        }
        let frame = take_frame_in_reach(source, flags)?;
        let header_id = (frame.number() as u32) << (FRAME_GRANULES);
        let header = address(platform, header_id).cast::<Header>();
        // SAFETY: the frame was just taken, so it is the pool's alone, and a header fits a
        // granule, at whose alignment frames start.
        unsafe {
            header.write(Header {
                free: AtomicU64::new(full_mask(granules) & !1),
                next: AtomicU32::new(NONE),
                prev: AtomicU32::new(NONE),
                granules: granules as u32,
            });
        }
        let mut lists = self.lists.lock(platform);
        lists.frames += 1;
        if records_in_frame(granules) > 1 {
            lists.link(platform, header_id);
        }
        Ok(Record::at(platform, header_id + 1))
    }

    /// Gives a record back.
    ///
    /// # Safety
    ///
    /// `id` is a record that [`take`](Self::take) of this pool returned and that nobody uses
    /// any more.
    pub(crate) unsafe fn give<S: FrameSource>(&self, source: &S, id: u32) {
        let platform = source.platform();
        let Some(header_id) = self.lists.lock(platform).give(platform, id) else { return };
        let number = (header_id >> (FRAME_GRANULES)) as usize;
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
    /// A free record of a frame that has some.
    fn take<P: Platform>(&mut self, platform: &P, granules: usize) -> Option<u32> {
        let header_id = self.heads[granules];
        if header_id == NONE {
            return None;
        }
        let header = self.header(platform, header_id);
        let free = header.free.load(Relaxed);
        header.free.store(free & (free - 1), Relaxed);
        if free & (free - 1) == 0 {
            self.unlink(platform, header_id);
        }
        Some(header_id + 1 + free.trailing_zeros() * granules as u32)
    }

    /// Marks the record free; the header of its frame if that is to be given back.
    fn give<P: Platform>(&mut self, platform: &P, id: u32) -> Option<u32> {
        let header_id = id - id % GRANULES as u32;
        let header = self.header(platform, header_id);
        let granules = header.granules as usize;
        let record = (id - header_id - 1) / header.granules;
        let before = header.free.load(Relaxed);
        let after = before | 1 << record;
        header.free.store(after, Relaxed);
        if after == full_mask(granules) {
            if before != 0 {
                self.unlink(platform, header_id);
            }
            self.frames -= 1;
            return Some(header_id);
        }
        if before == 0 {
            self.link(platform, header_id);
        }
        None
    }

    fn link<P: Platform>(&mut self, platform: &P, id: u32) {
        let header = self.header(platform, id);
        let head = &mut self.heads[header.granules as usize % (MAX_GRANULES + 1)];
        let next = *head;
        header.next.store(next, Relaxed);
        header.prev.store(NONE, Relaxed);
        *head = id;
        if next != NONE {
            self.header(platform, next).prev.store(id, Relaxed);
        }
    }

    fn unlink<P: Platform>(&mut self, platform: &P, id: u32) {
        let header = self.header(platform, id);
        let (next, prev) = (header.next.load(Relaxed), header.prev.load(Relaxed));
        if next != NONE {
            self.header(platform, next).prev.store(prev, Relaxed);
        }
        if prev == NONE {
            self.heads[header.granules as usize % (MAX_GRANULES + 1)] = next;
        } else {
            self.header(platform, prev).next.store(next, Relaxed);
        }
    }

    /// The header `id`, for as long as its frame belongs to the pool.
    fn header<'a, P: Platform>(&self, platform: &P, id: u32) -> &'a Header {
        // SAFETY: the ids that reach here are those of frames of this pool, whose first granule
        // `Records::take` made a header; all accesses are atomic. Callers, all in this file,
        // drop the reference before the frame is given back.
        unsafe { &*address(platform, id).cast::<Header>() }
    }
}

/// A record that was just taken.
pub(crate) struct Record {
    pub(crate) id: u32,
    pub(crate) address: NonNull<u8>,
    /// Not `Send`: nobody needs it to be.
    _raw: PhantomData<*mut u8>,
}

impl Record {
    fn at<P: Platform>(platform: &P, id: u32) -> Self {
        // An id is above 0, and so is its address: promise 1 of `Platform`.
        let address = NonNull::new(address(platform, id)).unwrap_or(NonNull::dangling());
        Self { id, address, _raw: PhantomData }
    }
}

/// A frame that ids can name.
fn take_frame_in_reach<S: FrameSource>(source: &S, flags: AllocFlags) -> Result<Frame, AllocError> {
    let frame = source.take(Order::ZERO, BlockOwner::Slab, flags)?;
    if frame.number() < REACH {
        return Ok(frame);
    }
    let low = source.take(Order::ZERO, BlockOwner::Slab, flags | AllocFlags::ZONE_DMA32);
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

/// Reports that the source does not know a frame that it handed out.
#[cold]
fn corrupted<P: Platform>(platform: &P, id: u32) {
    let address = address(platform, id) as usize;
    violation(&Violation::new(Rule::Corrupted, address).on_cpu(platform.cpu_id()));
}

impl Default for Records {
    fn default() -> Self {
        Self::new()
    }
}
