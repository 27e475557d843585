//! The frames of a process: a page allocator that gets more memory when it runs short.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::ahead::Ahead;
use super::directory::Directory;
use super::dirty::Dirty;
use super::fork;
use super::kept::Kept;
use super::locks;
use super::platform::HostPlatform;
use super::recent::Recent;
use super::span::{self, GRAIN, Span};
use super::system;
use super::thread;
use super::trimming::Trimming;
use crate::buddy::{AllocError, BlockOwner, Corruption, FrameState, FreeError, ResizeError};
use crate::frame::{FRAME_SIZE, Frame, FrameRange, Order};
use crate::heap::run_frames_of;
use crate::page::{AllocFlags, FrameSource, OwnerRecord, PageAllocator, Records, ZoneStats};
use crate::platform::Platform;

/// Shorter blocks are copied, not moved: a system call and the faults that follow cost more.
const LEAST_MOVE_BYTES: usize = 256 << 10;

/// Most moves in a process: each can leave two more mappings, of which the system allows 65,530.
const MAX_MOVES: usize = 16384;

/// The frames of this process, from the operating system as they are needed.
///
/// A [`FrameSource`] like a kernel's [`PageAllocator`], which does the work. Nothing is mapped
/// before the first request.
pub struct HostFrames {
    pub(super) pages: PageAllocator<HostPlatform>,
    /// Held while the system is asked for memory: the first lock in the order.
    growth: spin::Mutex<Growth>,
    pub(super) trimming: Trimming,
    pub(super) dirty: Dirty,
    ahead: Ahead,
    /// Owner records by address.
    pub(super) directory: Directory,
    /// What was opened of all spans. Changed with the lock of `growth` held.
    pub(super) opened_bytes: AtomicUsize,
    /// Whether huge pages are asked for.
    is_huge: AtomicBool,
    /// How often pages were moved.
    moves: AtomicUsize,
    /// Runs that came back lately: to the page allocator they are taken.
    pub(super) kept: Kept,
    pub(super) recent: spin::Mutex<Recent>,
}

impl fmt::Debug for HostFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFrames").finish_non_exhaustive()
    }
}

/// What is still to be got from the system.
pub(super) struct Growth {
    /// Where the next memory is opened.
    pub(super) span: Span,
}

impl HostFrames {
    /// The frames of a process, none of them mapped yet.
    pub const fn new() -> Self {
        Self {
            pages: PageAllocator::new(HostPlatform::new()),
            growth: spin::Mutex::new(Growth { span: Span::EMPTY }),
            trimming: Trimming::new(),
            dirty: Dirty::new(),
            ahead: Ahead::new(),
            directory: Directory::new(),
            opened_bytes: AtomicUsize::new(0),
            is_huge: AtomicBool::new(false),
            moves: AtomicUsize::new(0),
            kept: Kept::new(),
            recent: spin::Mutex::new(Recent::new()),
        }
    }

    /// The page allocator that keeps the frames.
    pub const fn pages(&self) -> &PageAllocator<HostPlatform> {
        &self.pages
    }

    /// The only zone that has memory.
    pub fn stats(&self) -> Option<ZoneStats> {
        self.pages.zones().next()
    }

    /// Calls `visit` with the address and bytes of every run of the heap. Takes time in proportion
    /// to the blocks there are, and to the grains between the lowest and the highest.
    pub(super) fn for_each_run(&self, visit: &mut dyn FnMut(NonNull<u8>, usize)) {
        let Some(cover) = self.stats().map(|stats| stats.cover) else { return };
        let mut at = cover.start();
        while cover.contains(at) {
            let Some(mut next) = at.checked_add(1) else { break };
            let block = match self.pages.lookup(at) {
                FrameState::Available { head, order } | FrameState::Cached { head, order } => {
                    FrameRange::from_len(head, order.frames())
                }
                FrameState::Allocated { head, order, owner } => {
                    let block = FrameRange::from_len(head, order.frames());
                    if owner == BlockOwner::Heap {
                        self.visit_run(block, visit);
                    }
                    block
                }
                FrameState::Run { run, owner } => {
                    if owner == BlockOwner::Heap {
                        self.visit_run(Some(run), visit);
                    }
                    Some(run)
                }
                // A grain is opened wholly, or not at all.
                FrameState::Hole | FrameState::OutOfRange if at.is_aligned_to(GRAIN) => {
                    FrameRange::from_len(at, GRAIN.frames())
                }
                _ => None,
            };
            if let Some(block) = block {
                next = next.max(block.end());
            }
            at = next;
        }
    }

    fn visit_run(&self, run: Option<FrameRange>, visit: &mut dyn FnMut(NonNull<u8>, usize)) {
        let Some(run) = run else { return };
        let record = self.pages.owner(run.start()).map(|record| record.load(Relaxed));
        // Those that are kept have no record, and of those that are lent it says how much is used.
        let Some(used) = record.and_then(run_frames_of) else { return };
        if let Some(start) = NonNull::new(self.pages.platform().phys_to_virt(run.start().start())) {
            visit(start, used.min(run.frames()) * FRAME_SIZE);
        }
    }

    /// Has the system back memory by huge pages, where it can, from now on: fewer misses of address
    /// translation, more memory for little that is used. `false` if the system has none;
    /// nothing has changed then.
    pub fn use_huge_pages(&self) -> bool {
        with_lock(&self.growth, |growth| {
            let is_granted = growth.span.start() == 0 || growth.span.use_huge_pages();
            self.is_huge.store(is_granted, Relaxed);
            is_granted
        })
    }

    /// Gives the addresses back that were never opened, if that takes no waiting: no more memory is
    /// expected to be wanted. Should it be, other addresses are reserved.
    pub(super) fn give_up_rest(&self) {
        if thread::is_locking() {
            return;
        }
        locks::enter();
        if let Some(mut growth) = self.growth.try_lock() {
            growth.span.give_up();
        }
        locks::leave();
    }

    /// Asks for huge pages in a span that was just reserved, if they are wanted. If they cannot be
    /// had, small ones serve.
    pub(super) fn advise(&self, span: &Span) {
        if self.is_huge.load(Relaxed) {
            let _ = span.use_huge_pages();
        }
    }

    /// Says of frames that were just taken that they are in use, and clears what of them is asked
    /// to be zero and is not; how many of them have memory.
    fn taken(&self, range: FrameRange, flags: AllocFlags) -> usize {
        self.trimming.rises();
        let dirty = self.dirty.clear(range);
        if dirty > 0 && flags.contains(AllocFlags::ZERO) {
            self.clear(range);
        }
        dirty
    }

    /// Clears frames that were just taken.
    fn clear(&self, range: FrameRange) {
        let start = self.pages.platform().phys_to_virt(range.start().start());
        // SAFETY: the frames are mapped, and the taker's alone.
        unsafe { start.write_bytes(0, range.frames() * FRAME_SIZE) };
    }

    /// Counts everything again.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn verify(&self) -> Result<(), Corruption> {
        self.pages.verify()
    }

    /// Makes a request; where memory is short, gets more from the system and makes it again.
    #[inline]
    fn serve<T>(
        &self,
        frames: usize,
        flags: AllocFlags,
        request: impl Fn() -> Result<T, AllocError>,
    ) -> Result<T, AllocError> {
        match request() {
            Err(error) if is_short(error) && !flags.contains(AllocFlags::NO_WAIT) => {
                self.grow_and_serve(frames, request)
            }
            answer => answer,
        }
    }

    #[cold]
    #[inline(never)]
    fn grow_and_serve<T>(
        &self,
        frames: usize,
        request: impl Fn() -> Result<T, AllocError>,
    ) -> Result<T, AllocError> {
        fork::watch();
        with_lock(&self.growth, |growth| {
            let mut keeps_runs = true;
            loop {
                // Another thread may have opened enough while this one waited.
                match request() {
                    Err(error) if is_short(error) => {
                        if growth.grow(self, frames).is_some() {
                            continue;
                        }
                        if !keeps_runs {
                            return Err(error);
                        }
                        self.give_kept();
                        keeps_runs = false;
                    }
                    answer => return answer,
                }
            }
        })
    }
}

impl Default for HostFrames {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether more memory would help.
fn is_short(error: AllocError) -> bool {
    matches!(
        error,
        AllocError::OutOfMemory | AllocError::Fragmented { .. } | AllocError::NotInitialized
    )
}

/// Lets `work` use what is behind a lock that may be held through a system call.
pub(super) fn with_lock<T, R>(mutex: &spin::Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    locks::enter();
    let mut guard = loop {
        match mutex.try_lock() {
            Some(guard) => break guard,
            None => system::yield_now(),
        }
    };
    let result = work(&mut guard);
    drop(guard);
    locks::leave();
    result
}

// SAFETY: 1. The page allocator keeps that promise, and growing adds to it memory that nobody else
// has. Runs that came back and were kept are taken from it and nobody's (`kept` and `recent`,
// invariants 1); of one that is lent its user has the beginning (`kept`, invariant 3). 2. What is
// opened stays mapped (`Span::open`). 3. and 4. The page allocator's owner records, and its pool.
// 5. `move_pages` answers so only where it has moved all of them.
unsafe impl FrameSource for HostFrames {
    type Platform = HostPlatform;

    #[inline]
    fn platform(&self) -> &HostPlatform {
        self.pages.platform()
    }

    #[inline]
    fn take(
        &self,
        order: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        let plain = flags.difference(AllocFlags::ZERO);
        let frame = self.serve(order.frames(), flags, || self.pages.take(order, owner, plain))?;
        if let Some(block) = FrameRange::from_len(frame, order.frames())
            && self.taken(block, flags) == 0
        {
            self.ahead.taken(&self.pages, &self.dirty, block);
        }
        Ok(frame)
    }

    #[inline]
    unsafe fn give(&self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError> {
        if let Some(block) = FrameRange::from_len(frame, order.frames()) {
            self.dirty.mark(block);
        }
        // SAFETY: passed on.
        unsafe { self.pages.give(frame, order, owner) }?;
        self.trim_if_due();
        Ok(())
    }

    #[inline]
    fn take_run(
        &self,
        frames: usize,
        align: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        if owner == BlockOwner::Heap
            && align == Order::ZERO
            && let Some(run) = self.take_recent(frames)
        {
            if flags.contains(AllocFlags::ZERO) {
                self.clear(run);
            }
            return Ok(run.start());
        }
        let needed = frames.max(align.frames());
        let plain = flags.difference(AllocFlags::ZERO);
        let head =
            self.serve(needed, flags, || self.pages.take_run(frames, align, owner, plain))?;
        if let Some(run) = FrameRange::from_len(head, frames) {
            self.taken(run, flags);
        }
        Ok(head)
    }

    #[inline]
    unsafe fn give_run(&self, run: FrameRange, owner: BlockOwner) -> Result<(), FreeError> {
        let given = if owner == BlockOwner::Heap { self.give_recent(run) } else { Some(run) };
        let Some(given) = given else { return Ok(()) };
        self.dirty.mark(given);
        // SAFETY: passed on; a run that was kept is nobody's.
        match unsafe { self.pages.give_run(given, owner) } {
            Err(error) if given.start() == run.start() => return Err(error),
            // One that had to make way, and that two threads kept, is not the caller's fault.
            _ => {}
        }
        self.trim_if_due();
        Ok(())
    }

    #[inline]
    unsafe fn resize_run(
        &self,
        run: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        if owner == BlockOwner::Heap
            // SAFETY: the caller's promise.
            && let Some(resized) = unsafe { self.resize_lent(run, frames) }
        {
            return resized;
        }
        // SAFETY: the caller's promise.
        let resized = unsafe { self.resize_taken(run, frames, owner) };
        self.trim_if_due();
        resized
    }

    #[inline]
    fn is_ebbing(&self) -> bool {
        self.trimming.is_ebbing()
    }

    unsafe fn move_content(&self, from: FrameRange, to: FrameRange) -> bool {
        let bytes = from.frames().min(to.frames()) * FRAME_SIZE;
        if bytes < LEAST_MOVE_BYTES || self.moves.load(Relaxed) >= MAX_MOVES {
            return false;
        }
        let at = |range: FrameRange| self.pages.platform().phys_to_virt(range.start().start());
        // SAFETY: frames of ours are opened; the rest is the caller's promise.
        let is_moved = unsafe { span::move_pages(at(from), at(to), bytes) };
        // What was refused once is not asked for again.
        self.moves.fetch_add(if is_moved { 1 } else { MAX_MOVES }, Relaxed);
        is_moved
    }

    #[inline]
    fn owner(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.pages.owner(frame)
    }

    #[inline]
    fn owner_at_hand(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.pages.owner_at_hand(frame)
    }

    fn owners_at_hand(&self) -> Option<(Frame, &[OwnerRecord])> {
        self.pages.owners_at_hand()
    }

    #[inline]
    fn records(&self) -> Option<&Records> {
        self.pages.records()
    }

    fn run_of(&self, frame: Frame) -> Option<(FrameRange, BlockOwner)> {
        self.pages.run_of(frame)
    }

    fn uncounted_runs(&self) -> (isize, isize) {
        self.kept.count()
    }
}
