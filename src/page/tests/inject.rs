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

/// A source of which nothing is requested, and none of whose answers is the trait's own.
struct Telling {
    owners: [OwnerRecord; 2],
    records: Records,
    /// How often it was asked to move content.
    moves: AtomicUsize,
}

const NO_REQUEST: &str = "nothing is requested";

// SAFETY: it gives nobody any memory.
unsafe impl FrameSource for Telling {
    type Platform = Machine;

    fn platform(&self) -> &Machine {
        unreachable!("{NO_REQUEST}")
    }
    fn take(&self, _: Order, _: BlockOwner, _: AllocFlags) -> Result<Frame, AllocError> {
        unreachable!("{NO_REQUEST}")
    }
    unsafe fn give(&self, _: Frame, _: Order, _: BlockOwner) -> Result<(), FreeError> {
        unreachable!("{NO_REQUEST}")
    }
    fn take_run(
        &self,
        _: usize,
        _: Order,
        _: BlockOwner,
        _: AllocFlags,
    ) -> Result<Frame, AllocError> {
        unreachable!("{NO_REQUEST}")
    }
    unsafe fn give_run(&self, _: FrameRange, _: BlockOwner) -> Result<(), FreeError> {
        unreachable!("{NO_REQUEST}")
    }
    unsafe fn resize_run(
        &self,
        _: FrameRange,
        _: usize,
        _: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        unreachable!("{NO_REQUEST}")
    }

    unsafe fn move_content(&self, _: FrameRange, _: FrameRange) -> bool {
        self.moves.fetch_add(1, Ordering::Relaxed) == 0
    }
    fn owner(&self, _: Frame) -> Option<&OwnerRecord> {
        Some(&self.owners[0])
    }
    fn owner_at_hand(&self, _: Frame) -> Option<&OwnerRecord> {
        Some(&self.owners[1])
    }
    fn owners_at_hand(&self) -> Option<(Frame, &[OwnerRecord])> {
        Some((frame(7), &self.owners))
    }
    fn records(&self) -> Option<&Records> {
        Some(&self.records)
    }
    fn is_ebbing(&self) -> bool {
        true
    }
    fn run_of(&self, at: Frame) -> Option<(FrameRange, BlockOwner)> {
        Some((FrameRange::from_len(at, 9)?, BlockOwner::Heap))
    }
    fn uncounted_runs(&self) -> (isize, isize) {
        (3, 5)
    }
}

#[test]
fn what_is_no_request_the_source_behind_answers() {
    let owners = [const { OwnerRecord::new() }; 2];
    let moves = AtomicUsize::new(0);
    let source = FaultInjector::new(Telling { owners, records: Records::new(), moves });
    let behind = source.source();
    source.fail_from(0);
    let at = frame(0x20);
    assert!(ptr::eq(source.owner(at).unwrap(), &behind.owners[0]));
    assert!(ptr::eq(source.owner_at_hand(at).unwrap(), &behind.owners[1]));
    let (first, owners) = source.owners_at_hand().unwrap();
    assert!(first == frame(7) && ptr::eq(owners, &behind.owners));
    assert!(ptr::eq(source.records().unwrap(), &behind.records));
    assert!(source.is_ebbing());
    assert_eq!(source.run_of(at), behind.run_of(at));
    assert_eq!(source.uncounted_runs(), (3, 5));
    // SAFETY: nothing is moved.
    assert!(unsafe { source.move_content(FrameRange::EMPTY, FrameRange::EMPTY) });
    assert_eq!((behind.moves.load(Ordering::Relaxed), source.requests()), (1, 0));
}
