//! Faults on demand: a source of frames that refuses the request it is told to.
//!
//! A test runs a call once for each request that it makes, has that request refused, and checks
//! that the call answers with an error and leaves everything as it was. It costs one atomic
//! addition a request, and nothing where it is not used.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::{
    AllocError, AllocFlags, BlockOwner, FrameSource, FreeError, OwnerRecord, Records, ResizeError,
};
use crate::frame::{Frame, FrameRange, Order};

/// A source of frames of which one request, or every request from one on, fails.
///
/// Requests are [`take`](FrameSource::take), [`take_low`](FrameSource::take_low),
/// [`take_run`](FrameSource::take_run), and [`resize_run`](FrameSource::resize_run) to a larger
/// size. What gives frames back never fails on purpose, and whatever else a source is asked, the
/// one behind answers: what is tested is what runs without this.
#[derive(Debug)]
pub struct FaultInjector<S> {
    source: S,
    /// Requests since the plan was made.
    requests: AtomicUsize,
    /// The first request that fails; no request has the number `usize::MAX`.
    first: AtomicUsize,
    /// The request that succeeds again.
    behind: AtomicUsize,
}

impl<S> FaultInjector<S> {
    /// Passes every request on to `source`, until told otherwise.
    pub const fn new(source: S) -> Self {
        Self {
            source,
            requests: AtomicUsize::new(0),
            first: AtomicUsize::new(usize::MAX),
            behind: AtomicUsize::new(usize::MAX),
        }
    }

    /// Has the request fail that comes after `request` others from now on, and it alone.
    pub fn fail_only(&self, request: usize) {
        self.plan(request, request.saturating_add(1));
    }

    /// Has all requests fail that come after `request` others from now on.
    pub fn fail_from(&self, request: usize) {
        self.plan(request, usize::MAX);
    }

    /// Has no request fail from now on.
    pub fn fail_none(&self) {
        self.plan(usize::MAX, usize::MAX);
    }

    /// How many requests there were since the last plan was made.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// The source behind.
    pub const fn source(&self) -> &S {
        &self.source
    }

    fn plan(&self, first: usize, behind: usize) {
        // Relaxed: plans are made while no request is under way; otherwise any order will do.
        self.first.store(first, Ordering::Relaxed);
        self.behind.store(behind, Ordering::Relaxed);
        self.requests.store(0, Ordering::Relaxed);
    }

    /// Counts a request, and says whether it is to fail.
    fn fails(&self) -> bool {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        let (first, behind) = (&self.first, &self.behind);
        (first.load(Ordering::Relaxed)..behind.load(Ordering::Relaxed)).contains(&request)
    }
}

// SAFETY: every answer is the source's, which keeps all the promises, or a refusal, which promises
// nothing.
unsafe impl<S: FrameSource> FrameSource for FaultInjector<S> {
    type Platform = S::Platform;

    fn platform(&self) -> &S::Platform {
        self.source.platform()
    }

    fn take(
        &self,
        order: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        if self.fails() {
            return Err(AllocError::OutOfMemory);
        }
        self.source.take(order, owner, flags)
    }

    fn take_low(
        &self,
        end: Frame,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        if self.fails() {
            return Err(AllocError::OutOfMemory);
        }
        self.source.take_low(end, owner, flags)
    }

    unsafe fn give(&self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError> {
        // SAFETY: passed on to the caller.
        unsafe { self.source.give(frame, order, owner) }
    }

    fn take_run(
        &self,
        frames: usize,
        align: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        if self.fails() {
            return Err(AllocError::OutOfMemory);
        }
        self.source.take_run(frames, align, owner, flags)
    }

    unsafe fn give_run(&self, run: FrameRange, owner: BlockOwner) -> Result<(), FreeError> {
        // SAFETY: passed on to the caller.
        unsafe { self.source.give_run(run, owner) }
    }

    unsafe fn resize_run(
        &self,
        run: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        if frames > run.frames() && self.fails() {
            return Err(ResizeError::OutOfMemory);
        }
        // SAFETY: passed on to the caller.
        unsafe { self.source.resize_run(run, frames, owner) }
    }

    unsafe fn move_content(&self, from: FrameRange, to: FrameRange) -> bool {
        // SAFETY: passed on to the caller.
        unsafe { self.source.move_content(from, to) }
    }

    fn owner(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.source.owner(frame)
    }

    fn owner_at_hand(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.source.owner_at_hand(frame)
    }

    fn owners_at_hand(&self) -> Option<(Frame, &[OwnerRecord])> {
        self.source.owners_at_hand()
    }

    fn records(&self) -> Option<&Records> {
        self.source.records()
    }

    fn is_ebbing(&self) -> bool {
        self.source.is_ebbing()
    }

    fn run_of(&self, frame: Frame) -> Option<(FrameRange, BlockOwner)> {
        self.source.run_of(frame)
    }

    fn uncounted_runs(&self) -> (isize, isize) {
        self.source.uncounted_runs()
    }
}
