//! What the CPUs of a machine keep ready that cannot make them synchronize.

use kmem::AllocFlags;
use kmem::frame::{Frame, FrameRange, Order};
use kmem::page::{ClaimError, FrameState, PageAllocator, RemoveError};

mod support;
use support::{Machine, become_cpu, pages};

const NONE: AllocFlags = AllocFlags::empty();

/// A frame that lies ready on the running CPU.
#[track_caller]
fn kept(pages: &PageAllocator<Machine>) -> Frame {
    let frame = pages.alloc(Order::ZERO, NONE).expect("memory");
    pages.free(frame, Order::ZERO).expect("allocated");
    assert!(matches!(pages.lookup(frame), FrameState::Cached { .. }));
    frame
}

fn alone(frame: Frame) -> FrameRange {
    FrameRange::from_len(frame, 1).expect("a small number")
}

#[test]
fn what_the_callers_own_cpu_keeps_ready_can_be_claimed_and_removed() {
    let pages = pages(4096, 2);
    let before = pages.frames_managed();
    let claimed = alone(kept(&pages));
    assert_eq!(pages.claim(claimed), Ok(()));
    let removed = alone(kept(&pages));
    assert_eq!(pages.remove(removed), Ok(()));
    assert_eq!(pages.frames_managed(), before - 1);
    pages.free_exact(claimed).expect("claimed");
    pages.drain_local();
    assert_eq!(pages.frames_available(), before - 1);
    pages.verify().expect("sound");
}

#[test]
fn what_another_cpu_keeps_ready_stays_there() {
    let pages = pages(4096, 2);
    become_cpu(1);
    let frame = kept(&pages);
    become_cpu(0);
    assert_eq!(pages.claim(alone(frame)), Err(ClaimError::InUse { frame }));
    assert_eq!(pages.remove(alone(frame)), Err(RemoveError::InUse { frame }));
    become_cpu(1);
    pages.drain_local();
    become_cpu(0);
    assert_eq!(pages.claim(alone(frame)), Ok(()));
    pages.verify().expect("sound");
}
