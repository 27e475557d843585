//! What the layers above know of frames: somewhere to take blocks from and give them back to.
//!
//! Slabs and heap are written against [`FrameSource`] alone. The page allocator is one; a test's
//! array and a wrapper that fails every nth request are others.

use super::{
    AllocError, AllocFlags, BlockOwner, FrameState, FreeError, OwnerRecord, PageAllocator, Records,
    ResizeError,
};
use crate::buddy::Constraint;
use crate::frame::{Frame, FrameRange, Order};
use crate::platform::Platform;

/// A source of blocks and runs of frames.
///
/// Whatever is written against it works on the page allocator, on a
/// [`FaultInjector`](super::FaultInjector) around it, and on the host's frames:
///
/// ```
/// use kmem::page::{AllocError, AllocFlags, BlockOwner, FrameSource};
/// use kmem::{Order, Platform};
///
/// fn zeroed_page<S: FrameSource>(frames: &S) -> Result<*mut u8, AllocError> {
///     let frame = frames.take(Order::ZERO, BlockOwner::Caller, AllocFlags::ZERO)?;
///     Ok(frames.platform().phys_to_virt(frame.start()))
/// }
/// ```
///
/// # Safety
///
/// 1. What [`take`](Self::take), [`take_low`](Self::take_low), [`take_run`](Self::take_run) and
///    [`resize_run`](Self::resize_run) return belongs to the caller alone until it is given back.
/// 2. [`Platform::phys_to_virt`] of the source's platform maps all of it to readable and writable
///    memory.
/// 3. [`owner`](Self::owner), [`owner_at_hand`](Self::owner_at_hand) and
///    [`owners_at_hand`](Self::owners_at_hand) answer the same cell for the same frame, and
///    different cells for different frames; such a cell holds 0 until the taker of its frame writes
///    it, and nobody else does.
/// 4. [`records`](Self::records), [`owners_at_hand`](Self::owners_at_hand) (once there are frames)
///    and the platform are always the same.
/// 5. Where [`move_content`](Self::move_content) answers `true`, `to` holds what `from` held, as
///    far as the shorter of both goes.
pub unsafe trait FrameSource: Sync {
    /// The machine whose frames these are.
    type Platform: Platform;

    /// The machine whose frames these are.
    fn platform(&self) -> &Self::Platform;

    /// Takes a block of 2^`order` frames.
    ///
    /// # Errors
    ///
    /// As the page allocator's `alloc`; nothing has changed.
    fn take(&self, order: Order, owner: BlockOwner, flags: AllocFlags)
    -> Result<Frame, AllocError>;

    /// Takes one frame, below `end` if there is such a one: for those who name frames in few bits,
    /// and were given a higher one by [`take`](Self::take). The default asks for memory with
    /// addresses of 32 bits, and leaves the rest unasked.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take); nothing has changed.
    fn take_low(
        &self,
        end: Frame,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        let _ = end;
        self.take(Order::ZERO, owner, flags | AllocFlags::ZONE_DMA32)
    }

    /// Gives a block back.
    ///
    /// # Errors
    ///
    /// Where `frame` is not the head of a block of this order and owner; nothing has changed.
    ///
    /// # Safety
    ///
    /// Nobody uses the block any more.
    unsafe fn give(&self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError>;

    /// Takes `frames` contiguous frames, the first of them aligned to `align`.
    ///
    /// # Errors
    ///
    /// As the page allocator's `alloc_exact`; nothing has changed.
    fn take_run(
        &self,
        frames: usize,
        align: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError>;

    /// Gives a run back.
    ///
    /// # Errors
    ///
    /// Where `run` is not exactly one run of this owner; nothing has changed.
    ///
    /// # Safety
    ///
    /// Nobody uses the run any more.
    unsafe fn give_run(&self, run: FrameRange, owner: BlockOwner) -> Result<(), FreeError>;

    /// Makes a run `frames` frames long where it lies: its first frame never changes. A shorter run
    /// gives back its tail; a longer one takes the frames behind it if they are available.
    ///
    /// # Errors
    ///
    /// Where the frames behind are not available, or `run` is not exactly one run of this owner;
    /// nothing has changed.
    ///
    /// # Safety
    ///
    /// Nobody uses what a shorter run gives back.
    unsafe fn resize_run(
        &self,
        run: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError>;

    /// Moves the content of `from` to `to` by changing what addresses mean, as far as the shorter
    /// of both goes; `false`, and nothing has changed, where that cannot be done or does not
    /// pay, which is the default.
    ///
    /// # Safety
    ///
    /// Both are runs that were taken and not given back, they do not overlap, and nobody else uses
    /// them. What is in `from` afterwards is undefined.
    unsafe fn move_content(&self, from: FrameRange, to: FrameRange) -> bool {
        let _ = (from, to);
        false
    }

    /// The owner record of a frame: 0 until its taker writes it, and to be written back to 0 before
    /// it is given back. `None` outside all spans.
    fn owner(&self, frame: Frame) -> Option<&OwnerRecord>;

    /// The same where it is found at once, for callers in a hurry: `None` says only that
    /// [`owner`](Self::owner) has to be asked.
    #[inline]
    fn owner_at_hand(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.owner(frame)
    }

    /// The owner records that are found at once: those of one stretch of frames, from this one on.
    /// Always the same answer once there are frames. `None`, which is the default, has every
    /// record looked up by [`owner`](Self::owner).
    fn owners_at_hand(&self) -> Option<(Frame, &[OwnerRecord])> {
        None
    }

    /// Where all takers keep their records together; `None` if each is to have frames of its own.
    /// Always the same answer.
    fn records(&self) -> Option<&Records> {
        None
    }

    /// Whether frames are wanted back more than speed for now: what is freed then goes to its slab
    /// soon rather than lie at hand. `false`, which is the default, where they never are.
    #[inline]
    fn is_ebbing(&self) -> bool {
        false
    }

    /// The allocated block or run that `frame` lies in, and whose it is: to say what is wrong with
    /// an address.
    fn run_of(&self, frame: Frame) -> Option<(FrameRange, BlockOwner)>;

    /// Runs, and frames of them, that the source has handed out past the heap on it, less those
    /// that it took back so: the heap adds them to its counts. `(0, 0)`, which is the default,
    /// where there are none.
    fn uncounted_runs(&self) -> (isize, isize) {
        (0, 0)
    }
}

// SAFETY: 1. Frames come from buddy allocators, which give each to one taker until it is given
// back, and `give` refuses what is not that taker's. 2. Whoever handed the memory over promised it.
// 3. A record belongs to one frame for good: tables of owner records are only ever appended, zero
// at first, and cover disjoint frames. 4. Neither the pool of records nor the first table ever
// changes. 5. It never does.
unsafe impl<P: Platform> FrameSource for PageAllocator<P> {
    type Platform = P;

    #[inline]
    fn platform(&self) -> &P {
        self.platform()
    }

    #[inline]
    fn take(
        &self,
        order: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        self.take_block(order, owner, flags)
    }

    fn take_low(
        &self,
        end: Frame,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        let window = FrameRange::new(Frame::ZERO, end).unwrap_or(FrameRange::EMPTY);
        self.take_within(1, &Constraint::within(window), owner, flags).map(FrameRange::start)
    }

    #[inline]
    unsafe fn give(&self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError> {
        self.give_block(frame, order, owner)
    }

    fn take_run(
        &self,
        frames: usize,
        align: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        if align == Order::ZERO {
            return self.take_exact(frames, owner, flags).map(FrameRange::start);
        }
        let window = FrameRange::new(Frame::default(), Frame::MAX).unwrap_or(FrameRange::EMPTY);
        let constraint = Constraint { window, align, boundary: None };
        self.take_within(frames, &constraint, owner, flags).map(FrameRange::start)
    }

    unsafe fn give_run(&self, run: FrameRange, owner: BlockOwner) -> Result<(), FreeError> {
        self.give_exact(run, owner)
    }

    unsafe fn resize_run(
        &self,
        run: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        self.resize_as(run, frames, owner)
    }

    #[inline]
    fn owner(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.owners.get(frame)
    }

    #[inline]
    fn owner_at_hand(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.owners.get_first(frame)
    }

    fn owners_at_hand(&self) -> Option<(Frame, &[OwnerRecord])> {
        self.owners.first()
    }

    #[inline]
    fn records(&self) -> Option<&Records> {
        Some(&self.records)
    }

    fn run_of(&self, frame: Frame) -> Option<(FrameRange, BlockOwner)> {
        match self.lookup(frame) {
            FrameState::Allocated { head, order, owner } => {
                Some((FrameRange::from_len(head, order.frames())?, owner))
            }
            FrameState::Run { run, owner } => Some((run, owner)),
            _ => None,
        }
    }
}
