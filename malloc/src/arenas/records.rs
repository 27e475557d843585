//! Records of segments, in runs of frames of their own: out of reach of every overflow of a block.

use core::slice;

use super::spans::{give_frames, take_frames};
use kmem::arena::Segment;
use kmem::frame::FRAME_SIZE;
use kmem::page::AllocFlags;

/// Records in a frame.
pub(super) const PER_FRAME: usize = FRAME_SIZE / size_of::<Segment>();

/// `frames` frames full of spare records.
pub(super) fn take(frames: usize) -> Option<&'static mut [Segment]> {
    let start = take_frames(frames, AllocFlags::ZERO)?.cast::<Segment>();
    // SAFETY: the frames are zero, which is what spare records are; aligned to more than a record;
    // and nobody else's until they are given back.
    Some(unsafe { slice::from_raw_parts_mut(start.as_ptr(), frames * PER_FRAME) })
}

/// Gives records back that [`take`] returned.
pub(super) fn give(records: &'static mut [Segment]) {
    let frames = records.len() / PER_FRAME;
    // SAFETY: they came from `take`, and the only reference to them ends here.
    unsafe { give_frames(records.as_mut_ptr().cast(), frames) };
}
