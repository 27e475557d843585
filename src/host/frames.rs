//! The frames of a process: a page allocator that gets more memory when it runs short.

use core::sync::atomic::AtomicU32;
use std::io::Write as _;

use super::platform::HostPlatform;
use super::span::{self, GRAIN_BYTES, Span};
use crate::buddy::{AllocError, BlockOwner, Corruption, FrameState, FreeError, ResizeError};
use crate::check::{Violation, set_platform_hook};
use crate::frame::{FRAME_SIZE, Frame, FrameRange, Order};
use crate::memory_map::{Region, RegionKind};
use crate::page::{
    AllocFlags, Contents, CpuLists, FrameSource, InitOptions, PageAllocator, Records, ZoneLimits,
    ZoneStats,
};
use crate::platform::Platform;

/// Least memory that is opened at a time, in bytes; beyond it, a quarter of what is open already.
const STEP_BYTES: usize = 4 << 20;

/// Most memory that is opened at a time where a request does not need more, in bytes.
const MAX_STEP_BYTES: usize = 256 << 20;

/// Metadata take less than one byte of so many, and are laid out for a whole span at once.
const METADATA_PART: usize = 512;

/// Stretches of opened addresses that are kept track of for [`HostFrames::trim`].
const MAX_STRETCHES: usize = 16;

/// The frames of this process, from the operating system as they are needed.
///
/// A [`FrameSource`] like a kernel's [`PageAllocator`], which does the work. Nothing is mapped before the
/// first request.
pub struct HostFrames {
    pages: PageAllocator<HostPlatform>,
    /// Held while the system is asked for memory: the first lock in the order.
    growth: spin::Mutex<Growth>,
}

/// What has been got from the system.
struct Growth {
    /// Where the next memory is opened.
    span: Span,
    opened_bytes: usize,
    /// What has been opened, neighbours joined; when the table is full, the rest is not trimmed.
    stretches: [FrameRange; MAX_STRETCHES],
}

impl HostFrames {
    /// The frames of a process, none of them mapped yet.
    pub const fn new() -> Self {
        Self {
            pages: PageAllocator::new(HostPlatform::new()),
            growth: spin::Mutex::new(Growth {
                span: Span::EMPTY,
                opened_bytes: 0,
                stretches: [FrameRange::EMPTY; MAX_STRETCHES],
            }),
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

    /// Gives the memory of available frames back to the system; how many bytes that were. They stay open and read as
    /// zero when they are next used. Takes time in proportion to the blocks there are.
    pub fn trim(&self) -> usize {
        let stretches = lock(&self.growth).stretches;
        stretches.into_iter().map(|stretch| self.trim_stretch(stretch)).sum()
    }

    fn trim_stretch(&self, stretch: FrameRange) -> usize {
        let mut trimmed = 0;
        let mut at = stretch.start();
        while stretch.contains(at) {
            let (head, frames) = match self.pages.lookup(at) {
                FrameState::Available { head, order } => {
                    trimmed += self.trim_block(head, order);
                    (head, order.frames())
                }
                FrameState::Cached { head, order } => (head, order.frames()),
                FrameState::Allocated { head, order, .. } => (head, order.frames()),
                FrameState::Run { run, .. } => (run.start(), run.frames()),
                _ => (at, 1),
            };
            // What was looked up may have changed meanwhile; that the walk goes on may not.
            let behind = head.checked_add(frames).filter(|&behind| behind > at);
            let Some(next) = behind.or(at.checked_add(1)) else { break };
            at = next;
        }
        trimmed
    }

    /// Takes the block so that nobody else does, purges it, and gives it back.
    fn trim_block(&self, head: Frame, order: Order) -> usize {
        let Some(block) = FrameRange::from_len(head, order.frames()) else { return 0 };
        if self.pages.claim(block).is_err() {
            return 0;
        }
        let start = self.pages.platform().phys_to_virt(head.start());
        let bytes = order.frames() * FRAME_SIZE;
        // SAFETY: the block was opened before it was added, and `claim` made it this function's alone.
        let is_purged = unsafe { span::purge(start, bytes) };
        // It was claimed just now.
        let freed = self.pages.free_exact(block);
        debug_assert!(freed.is_ok());
        if is_purged { bytes } else { 0 }
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
        let mut growth = lock(&self.growth);
        loop {
            // Another thread may have opened enough while this one waited.
            match request() {
                Err(error) if is_short(error) => growth.grow(&self.pages, frames).ok_or(error)?,
                answer => return answer,
            }
        }
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

/// Waits for a lock that may be held through a system call.
fn lock<T>(mutex: &spin::Mutex<T>) -> spin::MutexGuard<'_, T> {
    loop {
        match mutex.try_lock() {
            Some(guard) => return guard,
            None => std::thread::yield_now(),
        }
    }
}

/// Ends the process with one line: what a program that frees wrongly gets if it has set no hook.
fn stop(violation: &Violation<'_>) {
    // Unbuffered, so nothing is allocated; where it cannot be written, the process ends all the same.
    let _ = writeln!(std::io::stderr(), "{violation}");
    std::process::abort();
}

impl Growth {
    /// Adds memory in which `frames` frames can be found, if nothing else uses them; `None` if the
    /// system gives no more. Of a span that is too short for that, what is left is added first.
    fn grow(&mut self, pages: &PageAllocator<HostPlatform>, frames: usize) -> Option<()> {
        // As much again, so that the alignment of any block of this length can be kept, and reserves.
        let needed = frames.checked_mul(2 * FRAME_SIZE)?.checked_add(GRAIN_BYTES)?;
        if self.span.start() == 0 {
            return self.begin(pages, needed);
        }
        let step = needed.max((self.opened_bytes / 4).clamp(STEP_BYTES, MAX_STEP_BYTES));
        let left = self.span.left_bytes();
        if left >= needed {
            return self.open(pages, step.min(left)).or_else(|| self.open(pages, needed));
        }
        if left > 0 {
            return self.open(pages, left);
        }
        let with_metadata = needed.checked_add(needed / METADATA_PART + GRAIN_BYTES)?;
        let span = Span::reserve(with_metadata, self.span.start())?;
        let rest = span.rest();
        pages.platform().frames(rest.start, rest.end)?;
        self.span = span;
        self.open(pages, with_metadata)
    }

    /// Reserves the first span and sets the page allocator up over it.
    fn begin(&mut self, pages: &PageAllocator<HostPlatform>, needed: usize) -> Option<()> {
        let mut span = Span::reserve(needed.checked_add(needed / METADATA_PART)?, 0)?;
        let rest = span.rest();
        pages.platform().place_around(rest.start);
        let provision = pages.platform().frames(rest.start, rest.end)?;
        let metadata = rest.len() / METADATA_PART;
        let first = metadata.checked_add(needed.max(STEP_BYTES))?.min(rest.len());
        let opened = span.open(first)?;
        let range = pages.platform().frames(opened.start, opened.end)?;
        let options = InitOptions {
            limits: ZoneLimits::NONE,
            contents: Contents::Zeroed,
            provision,
            // Threads come to the frames for slabs and runs, seldom and for many at once.
            cpu_lists: CpuLists::Omit,
            ..InitOptions::DEFAULT
        };
        let region = Region::from_frames(range, RegionKind::Usable);
        // SAFETY: the range was just opened: zero, and nobody else's, for as long as the process lives.
        unsafe { pages.init_with([region], options) }.ok()?;
        set_platform_hook(stop);
        self.span = span;
        self.note(range);
        Some(())
    }

    /// Opens the next `bytes` bytes of the span and adds them.
    fn open(&mut self, pages: &PageAllocator<HostPlatform>, bytes: usize) -> Option<()> {
        let opened = self.span.open(bytes)?;
        let range = pages.platform().frames(opened.start, opened.end)?;
        // SAFETY: the range was just opened: nobody else's, for as long as the process lives.
        unsafe { pages.add(range) }.ok()?;
        self.note(range);
        Some(())
    }

    fn note(&mut self, range: FrameRange) {
        self.opened_bytes += range.len_bytes() as usize;
        let joined = |stretch: FrameRange| {
            if stretch.end() == range.start() {
                FrameRange::new(stretch.start(), range.end())
            } else if stretch.is_empty() {
                Some(range)
            } else {
                None
            }
        };
        for stretch in &mut self.stretches {
            if let Some(longer) = joined(*stretch) {
                *stretch = longer;
                return;
            }
        }
    }
}

// SAFETY: the page allocator keeps these promises; growing adds to it memory that nobody else has.
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
        self.serve(order.frames(), flags, || self.pages.take(order, owner, flags))
    }

    #[inline]
    unsafe fn give(&self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError> {
        // SAFETY: passed on.
        unsafe { self.pages.give(frame, order, owner) }
    }

    #[inline]
    fn take_run(
        &self,
        frames: usize,
        align: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        let needed = frames.max(align.frames());
        self.serve(needed, flags, || self.pages.take_run(frames, align, owner, flags))
    }

    #[inline]
    unsafe fn give_run(&self, run: FrameRange, owner: BlockOwner) -> Result<(), FreeError> {
        // SAFETY: passed on.
        unsafe { self.pages.give_run(run, owner) }
    }

    #[inline]
    fn resize_run(
        &self,
        run: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        self.pages.resize_run(run, frames, owner)
    }

    #[inline]
    fn owner(&self, frame: Frame) -> Option<&AtomicU32> {
        self.pages.owner(frame)
    }

    #[inline]
    fn owner_at_hand(&self, frame: Frame) -> Option<&AtomicU32> {
        self.pages.owner_at_hand(frame)
    }

    #[inline]
    fn records(&self) -> Option<&Records> {
        self.pages.records()
    }

    #[inline]
    fn run_frames(&self, head: Frame) -> Option<usize> {
        self.pages.run_frames(head)
    }

    fn run_of(&self, frame: Frame) -> Option<(FrameRange, BlockOwner)> {
        self.pages.run_of(frame)
    }
}
