//! Who has which frame, kept apart from kmem: the judge of everything here.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use kmem::{Frame, Order};

use crate::memory::PAGES;

/// One bit a frame: whether it is in somebody's hands.
pub(super) struct OwnerMap {
    words: Vec<AtomicU64>,
}

/// The bits of a block in one word.
struct Part {
    word: usize,
    mask: u64,
}

/// The words that a block's bits lie in. Blocks are aligned, so one of up to 64 frames lies in one
/// word.
fn parts(frame: Frame, order: Order) -> impl Iterator<Item = Part> {
    let (first, frames) = (frame.number(), order.frames());
    let mask = if frames < 64 { ((1 << frames) - 1) << (first % 64) } else { !0 };
    (0..frames.div_ceil(64)).map(move |nth| Part { word: first / 64 + nth, mask })
}

impl OwnerMap {
    /// A map of all frames that kmem manages, nobody having any.
    pub(super) fn new() -> Self {
        let end = PAGES.zones().map(|zone| zone.cover.end().number()).max().unwrap_or_default();
        Self { words: (0..end.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Notes that a block has been handed out.
    #[track_caller]
    pub(super) fn take(&self, frame: Frame, order: Order) {
        for Part { word, mask } in parts(frame, order) {
            // Relaxed, as everything here: the allocator orders what happens to a frame.
            let before = self.words[word].fetch_or(mask, Ordering::Relaxed);
            assert_eq!(before & mask, 0, "{frame} of {order} was handed out twice");
        }
    }

    /// Notes that a block is about to be given back.
    #[track_caller]
    pub(super) fn give(&self, frame: Frame, order: Order) {
        for Part { word, mask } in parts(frame, order) {
            let before = self.words[word].fetch_and(!mask, Ordering::Relaxed);
            assert_eq!(before & mask, mask, "{frame} of {order} was not handed out");
        }
    }

    /// How many frames are in somebody's hands.
    pub(super) fn held(&self) -> usize {
        let ones = |word: &AtomicU64| word.load(Ordering::Relaxed).count_ones() as usize;
        self.words.iter().map(ones).sum()
    }
}
