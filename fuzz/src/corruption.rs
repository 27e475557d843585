//! State bytes of a buddy allocator flipped between calls: whatever they say, nothing panics and
//! nothing outside the span is handed out; and a recount never takes damage for a sound state that
//! it can tell apart.

use std::sync::atomic::{AtomicU8, Ordering};

use arbitrary::Arbitrary;
use kmem::buddy::{BlockOwner, Buddy, Group, Metadata, Need, Placement};
use kmem::frame::{Frame, FrameRange, Order};

/// One call.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Call {
    Alloc { order: u8 },
    AllocExact { frames: u16 },
    Free { start: u16, order: u8 },
    FreeExact { start: u16, frames: u16 },
    Resize { start: u16, from: u16, to: u16 },
    Flip { frame: u16, bits: u8 },
    Lookup { frame: u16 },
}

const FRAMES: usize = 1300;
const OWNER: BlockOwner = BlockOwner::Caller;

/// Makes the calls.
pub fn run(bytes: &[u8]) {
    let start = Frame::new(0x800).expect("a small number");
    let cover = FrameRange::from_len(start, FRAMES).expect("small numbers");
    let need = Need::for_span(cover);
    let states: Vec<AtomicU8> = (0..need.states).map(|_| AtomicU8::new(0)).collect();
    let mut groups = vec![Group::EMPTY; need.groups];
    let mut words = vec![0; need.words];
    let metadata = Metadata { states: &states, groups: &mut groups, words: &mut words };
    let mut buddy = Buddy::new(cover, metadata).expect("enough metadata");
    buddy.add(cover).expect("covered");
    let frame = |offset: u16| Frame::new(0x800 + usize::from(offset) % FRAMES).expect("small");
    let order = |raw: u8| Order::new(raw % 11).expect("a small number");
    let mut is_flipped = false;
    for call in super::decode(bytes) {
        match call {
            Call::Alloc { order: raw } => {
                if let Ok(frame) = buddy.alloc(order(raw), OWNER, Placement::Low) {
                    let block = FrameRange::from_len(frame, order(raw).frames());
                    assert!(block.is_some_and(|block| cover.contains_range(block)));
                }
            }
            Call::AllocExact { frames } => {
                if let Ok(range) = buddy.alloc_exact(frames.into(), OWNER, Placement::Low) {
                    assert!(cover.contains_range(range));
                }
            }
            Call::Free { start, order: raw } => {
                _ = buddy.free(frame(start), order(raw), OWNER);
            }
            Call::FreeExact { start, frames } => {
                if let Some(range) = FrameRange::from_len(frame(start), frames.into()) {
                    _ = buddy.free_exact(range, OWNER);
                }
            }
            Call::Resize { start, from, to } => {
                if let Some(range) = FrameRange::from_len(frame(start), from.into()) {
                    _ = buddy.resize(range, to.into(), OWNER);
                }
            }
            Call::Flip { frame, bits } => {
                is_flipped |= bits != 0;
                // The states of groups are few, so they get as many hits as those of all frames.
                let (of_frames, of_groups) = states.split_at(FRAMES);
                let flipped = if frame < 0x8000 { of_frames } else { of_groups };
                flipped[usize::from(frame) % flipped.len()].fetch_xor(bits, Ordering::Relaxed);
            }
            Call::Lookup { frame: at } => _ = buddy.lookup(frame(at)),
        }
        assert!(is_flipped || buddy.verify().is_ok(), "unsound without damage");
    }
    _ = buddy.verify();
}
