//! Requests that fail because a test wants them to.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::page::{
    AllocError, BlockOwner, FaultInjector, FrameSource, FreeError, OwnerRecord, Records,
    ResizeError,
};
use crate::test_support::frame;

type Injector = FaultInjector<PageAllocator<Machine>>;

const NONE: AllocFlags = AllocFlags::empty();

/// A call with three requests, which gives back what it took before it fails.
fn call(source: &Injector) -> Result<(), AllocError> {
    let block = source.take(order(1), BlockOwner::Slab, NONE)?;
    let run = source.take_run(3, Order::ZERO, BlockOwner::Heap, NONE).and_then(|start| {
        let run = FrameRange::from_len(start, 3).unwrap();
        // SAFETY: it grows.
        unsafe { source.resize_run(run, 4, BlockOwner::Heap) }.map_err(|error| {
            assert_eq!(error, ResizeError::OutOfMemory);
            // SAFETY: nobody uses it.
            unsafe { source.give_run(run, BlockOwner::Heap) }.unwrap();
            AllocError::OutOfMemory
        })
    });
    // SAFETY: nobody uses either.
    unsafe {
        source.give(block, order(1), BlockOwner::Slab).unwrap();
        let shorter = source.resize_run(run?, 2, BlockOwner::Heap).unwrap();
        source.give_run(shorter, BlockOwner::Heap).unwrap();
    }
    Ok(())
}

#[test]
fn each_request_can_be_made_to_fail_alone() {
    let pages = boot(0x800, &[usable(0x10, 0x800)], SMALL).0;
    let source = FaultInjector::new(*pages);
    let before = source.source().frames_available();
    assert_eq!(call(&source), Ok(()));
    let requests = source.requests();
    assert_eq!(requests, 3, "giving back is no request");
    for request in 0..requests {
        source.fail_only(request);
        assert_eq!(call(&source), Err(AllocError::OutOfMemory));
        assert_eq!(source.source().frames_available(), before);
        assert_eq!(call(&source), Ok(()), "only one fails");
    }
    source.fail_only(requests);
    assert_eq!(call(&source), Ok(()));
    source.fail_from(1);
    for _ in 0..3 {
        assert_eq!(call(&source), Err(AllocError::OutOfMemory));
    }
    source.fail_none();
    assert_eq!(call(&source), Ok(()));
    exercise(source.source());
}

/// A source none of whose answers is the trait's own.
struct Telling {
    pages: PageAllocator<Machine>,
    /// How often it was asked to move content.
    moves: AtomicUsize,
}

// SAFETY: frames and their records are the page allocator's, and no content is moved that exists.
unsafe impl FrameSource for Telling {
    type Platform = Machine;

    fn platform(&self) -> &Machine {
        self.pages.platform()
    }

    fn take(
        &self,
        order: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        self.pages.take(order, owner, flags)
    }

    fn take_low(
        &self,
        end: Frame,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        self.pages.take_low(end, owner, flags)
    }

    unsafe fn give(&self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError> {
        // SAFETY: passed on.
        unsafe { self.pages.give(frame, order, owner) }
    }

    fn take_run(
        &self,
        frames: usize,
        align: Order,
        owner: BlockOwner,
        flags: AllocFlags,
    ) -> Result<Frame, AllocError> {
        self.pages.take_run(frames, align, owner, flags)
    }

    unsafe fn give_run(&self, run: FrameRange, owner: BlockOwner) -> Result<(), FreeError> {
        // SAFETY: passed on.
        unsafe { self.pages.give_run(run, owner) }
    }

    unsafe fn resize_run(
        &self,
        run: FrameRange,
        frames: usize,
        owner: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        // SAFETY: passed on.
        unsafe { self.pages.resize_run(run, frames, owner) }
    }

    unsafe fn move_content(&self, from: FrameRange, to: FrameRange) -> bool {
        assert!(from.is_empty() && to.is_empty(), "there is nothing to move");
        self.moves.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn owner(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.pages.owner(frame)
    }

    /// Of one frame only.
    fn owner_at_hand(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.pages.owner(frame).filter(|_| frame.number() == 0x20)
    }

    fn owners_at_hand(&self) -> Option<(Frame, &[OwnerRecord])> {
        self.pages.owners_at_hand()
    }

    fn records(&self) -> Option<&Records> {
        self.pages.records()
    }

    fn is_ebbing(&self) -> bool {
        true
    }

    fn run_of(&self, frame: Frame) -> Option<(FrameRange, BlockOwner)> {
        self.pages.run_of(frame)
    }

    fn uncounted_runs(&self) -> (isize, isize) {
        (3, 5)
    }
}

#[test]
fn what_is_no_request_the_source_behind_answers() {
    let pages = *boot(0x800, &[usable(0x10, 0x800)], SMALL).0;
    let source = FaultInjector::new(Telling { pages, moves: AtomicUsize::new(0) });
    let behind = source.source();
    source.fail_from(0);
    assert!(source.is_ebbing());
    assert_eq!(source.uncounted_runs(), (3, 5));
    assert!(source.records().is_some_and(|records| ptr::eq(records, &behind.pages.records)));
    let at_hand = |number| source.owner_at_hand(frame(number)).is_some();
    assert_eq!([0x20, 0x21].map(at_hand), [true, false]);
    let owners = source.owners_at_hand().expect("there are frames");
    let (first, behind_owners) = behind.owners_at_hand().expect("there are frames");
    assert!(owners.0 == first && ptr::eq(owners.1, behind_owners));
    // SAFETY: it moves nothing.
    assert!(unsafe { source.move_content(FrameRange::EMPTY, FrameRange::EMPTY) });
    assert_eq!(behind.moves.load(Ordering::Relaxed), 1);
    assert_eq!(source.requests(), 0);
}
