//! Requests that fail because a test wants them to.

use super::*;
use crate::page::{AllocError, BlockOwner, FaultInjector, FrameSource, ResizeError};

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
