//! The page layer against a model: a set of ranges, and one number a zone.

use std::collections::BTreeMap;
use std::vec;

use proptest::prelude::*;

use super::*;
use crate::buddy::{AllocError, BlockOwner, ClaimError, RemoveError};
use crate::page::{FrameState, Reach};
use crate::test_support::frame;

/// One call; the numbers pick among what there is.
#[derive(Clone, Debug)]
enum Op {
    Alloc { order: u8, flags: usize },
    AllocExact { frames: usize, flags: usize },
    AllocWithin { frames: usize, end: usize, align: u32, boundary: u32 },
    AllocMany { order: u8, count: usize, flags: usize },
    Claim { start: usize, frames: usize },
    Free { which: usize },
    Resize { which: usize, frames: usize },
    Remove { start: usize, frames: usize },
    Add { which: usize },
    BadFree { start: usize, order: u8 },
}

const FLAGS: [AllocFlags; 9] = [
    AllocFlags::empty(),
    AllocFlags::ATOMIC,
    AllocFlags::ZONE_DMA,
    AllocFlags::ZONE_DMA32,
    AllocFlags::ZONE_DMA32.union(AllocFlags::ATOMIC),
    AllocFlags::NO_FALLBACK,
    AllocFlags::MOVABLE,
    AllocFlags::NO_FALLBACK.union(AllocFlags::ATOMIC),
    AllocFlags::ZONE_DMA32.union(AllocFlags::NO_FALLBACK),
];

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let flags = 0..FLAGS.len();
    let small = prop_oneof![4 => 0_u8..3, 1 => 3_u8..10];
    let frames = prop_oneof![4 => 1_usize..12, 1 => 12_usize..200];
    let op = prop_oneof![
        6 => (small.clone(), flags.clone()).prop_map(|(order, flags)| Op::Alloc { order, flags }),
        4 => (frames.clone(), flags.clone())
            .prop_map(|(frames, flags)| Op::AllocExact { frames, flags }),
        2 => (1_usize..20, 0_usize..TOP, 0_u32..6, 4_u32..8).prop_map(
            |(frames, end, align, boundary)| Op::AllocWithin { frames, end, align, boundary }
        ),
        2 => (0_u8..3, 1_usize..40, flags)
            .prop_map(|(order, count, flags)| Op::AllocMany { order, count, flags }),
        1 => (0..TOP, 1_usize..10).prop_map(|(start, frames)| Op::Claim { start, frames }),
        9 => any::<usize>().prop_map(|which| Op::Free { which }),
        2 => (any::<usize>(), frames.clone())
            .prop_map(|(which, frames)| Op::Resize { which, frames }),
        1 => (0..TOP, frames).prop_map(|(start, frames)| Op::Remove { start, frames }),
        1 => any::<usize>().prop_map(|which| Op::Add { which }),
        1 => (0..TOP, small).prop_map(|(start, order)| Op::BadFree { start, order }),
    ];
    prop::collection::vec(op, 500)
}

/// The machine's frames end here.
const TOP: usize = 0x600;

/// What a frame of the model is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Is {
    Unusable,
    Available,
    Allocated,
    Removed,
}

struct Model {
    pages: Box<PageAllocator<Machine>>,
    frames: Vec<Is>,
    /// First frame to frames, of each allocation.
    held: BTreeMap<usize, usize>,
    removed: Vec<FrameRange>,
}

impl Model {
    fn new() -> Self {
        let regions =
            [usable(0x10, 0x140), usable(0x150, 0x4f0), reserved(0x200, 0x208), usable(0x500, TOP)];
        let (pages, _) = boot(TOP, &regions, SMALL);
        let is = |number| match pages.lookup(frame(number)) {
            FrameState::Available { .. } => Is::Available,
            _ => Is::Unusable,
        };
        let frames = (0..TOP).map(is).collect();
        Self { pages, frames, held: BTreeMap::new(), removed: Vec::new() }
    }

    fn zone(number: usize) -> usize {
        usize::from(number >= 0x100) + usize::from(number >= 0x400)
    }

    fn zone_range(zone: usize) -> core::ops::Range<usize> {
        [0..0x100, 0x100..0x400, 0x400..TOP][zone].clone()
    }

    fn count(&self, zone: usize, wanted: impl Fn(Is) -> bool) -> usize {
        self.frames[Self::zone_range(zone)].iter().filter(|&&is| wanted(is)).count()
    }

    /// The zones that a request may take from, and how many frames it must leave there; the best
    /// first.
    fn marks(&self, flags: AllocFlags) -> Vec<(usize, usize)> {
        let highest = if flags.contains(AllocFlags::ZONE_DMA) {
            0
        } else if flags.contains(AllocFlags::ZONE_DMA32) {
            1
        } else {
            2
        };
        let managed = |zone| self.count(zone, |is| matches!(is, Is::Available | Is::Allocated));
        let mut zones: Vec<usize> = (0..=highest).rev().filter(|&zone| managed(zone) > 0).collect();
        if flags.contains(AllocFlags::NO_FALLBACK) {
            zones.truncate(1);
        }
        let mark = |(place, zone): (usize, usize)| {
            let min = managed(zone).isqrt().min(managed(zone) / 32);
            let mark = if flags.contains(AllocFlags::ATOMIC) {
                0
            } else if place > 0 {
                min + min / 2
            } else {
                min
            };
            (zone, mark)
        };
        zones.into_iter().enumerate().map(mark).collect()
    }

    fn spare(&self, zone: usize, mark: usize) -> usize {
        self.count(zone, |is| is == Is::Available).saturating_sub(mark)
    }

    /// Whether a zone that the request may take from has an aligned block of `order`, and may go so
    /// low.
    fn has_block(&self, order: Order, flags: AllocFlags) -> bool {
        self.marks(flags).into_iter().any(|(zone, mark)| {
            self.spare(zone, mark) >= order.frames()
                && Self::zone_range(zone).step_by(order.frames()).any(|start| {
                    let start = start.next_multiple_of(order.frames());
                    self.frames
                        .get(start..start + order.frames())
                        .is_some_and(|block| block.iter().all(|&is| is == Is::Available))
                })
        })
    }

    /// Notes that `range` was allocated by a request with `flags`.
    fn took(&mut self, range: FrameRange, flags: AllocFlags) {
        let (start, end) = (range.start().number(), range.end().number());
        let zone = Self::zone(start);
        let marks = self.marks(flags);
        let mark = marks.iter().find(|(allowed, _)| *allowed == zone).expect("a zone it allows");
        assert_eq!(Self::zone(end - 1), zone, "{range} lies in one zone");
        assert!(self.spare(zone, mark.1) >= range.frames(), "{range} is held back from {flags:?}");
        self.set(range, Is::Available, Is::Allocated);
        self.held.insert(start, range.frames());
    }

    fn set(&mut self, range: FrameRange, from: Is, to: Is) {
        for frame in range.iter() {
            let is = &mut self.frames[frame.number()];
            assert_eq!(*is, from, "{frame}");
            *is = to;
        }
    }

    /// Checks a refusal: enough frames in pieces, or too few.
    fn refused(&self, frames: usize, flags: AllocFlags, error: AllocError) {
        let spare: usize =
            self.marks(flags).into_iter().map(|(zone, mark)| self.spare(zone, mark)).sum();
        match error {
            AllocError::OutOfMemory => assert!(spare < frames, "{spare} of {frames} {flags:?}"),
            AllocError::Fragmented { available, .. } => {
                assert_eq!(available, spare);
                assert!(spare >= frames);
            }
            other => panic!("{other}"),
        }
    }

    fn pick(&self, which: usize) -> Option<FrameRange> {
        let place = which.checked_rem(self.held.len())?;
        let (&start, &frames) = self.held.iter().nth(place)?;
        FrameRange::from_len(frame(start), frames)
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Alloc { order: k, flags } => {
                let (order, flags) = (order(k), FLAGS[flags]);
                match self.pages.alloc(order, flags) {
                    Ok(frame) => {
                        assert!(frame.is_aligned_to(order));
                        self.took(FrameRange::from_len(frame, order.frames()).unwrap(), flags);
                    }
                    Err(error) => {
                        assert!(!self.has_block(order, flags), "{order} {flags:?}: {error}");
                        self.refused(order.frames(), flags, error);
                    }
                }
            }
            Op::AllocExact { frames, flags } => {
                let flags = FLAGS[flags];
                match self.pages.alloc_exact(frames, flags) {
                    Ok(range) => {
                        assert_eq!(range.frames(), frames);
                        self.took(range, flags);
                    }
                    Err(error) => {
                        assert!(!self.has_block(Order::for_frames(frames).unwrap(), flags));
                        self.refused(frames, flags, error);
                    }
                }
            }
            Op::AllocWithin { frames, end, align, boundary } => {
                let reach = Reach {
                    align_bytes: 0x1000 << align,
                    boundary_bytes: 0x1000 << boundary,
                    ..Reach::below(frame(end).start())
                };
                match self.pages.alloc_within(frames, &reach, AllocFlags::empty()) {
                    Ok(range) => {
                        let (first, last) = (range.start().number(), range.end().number() - 1);
                        assert!(last < end && first.is_multiple_of(1 << align));
                        assert_eq!(first >> boundary, last >> boundary);
                        self.took(range, AllocFlags::empty());
                    }
                    Err(AllocError::TooLarge) => assert!(frames > 1 << boundary || frames > end),
                    Err(error) => self.refused(frames, AllocFlags::empty(), error),
                }
            }
            Op::AllocMany { order: k, count, flags } => {
                let (order, flags) = (order(k), FLAGS[flags]);
                let mut out = vec![Frame::default(); count];
                let filled = self.pages.alloc_many(order, &mut out, flags);
                for &frame in &out[..filled] {
                    self.took(FrameRange::from_len(frame, order.frames()).unwrap(), flags);
                }
                assert!(filled == count || !self.has_block(order, flags));
            }
            Op::Claim { start, frames } => {
                let range = FrameRange::from_len(frame(start), frames).unwrap();
                let free = range.iter().all(|frame| {
                    self.frames.get(frame.number()).is_some_and(|&is| is == Is::Available)
                });
                match self.pages.claim(range) {
                    Ok(()) => self.took(range, AllocFlags::ATOMIC),
                    Err(ClaimError::InUse { frame }) => {
                        assert_ne!(self.frames[frame.number()], Is::Available);
                    }
                    Err(ClaimError::OutOfRange { .. }) => {
                        let last = start + frames - 1;
                        assert!(!free || Self::zone(start) != Self::zone(last), "{range}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Op::Free { which } => {
                let Some(range) = self.pick(which) else { return };
                match Order::for_frames(range.frames()) {
                    // A run that is one block can be freed either way.
                    Some(order)
                        if which.is_multiple_of(2)
                            && order.frames() == range.frames()
                            && range.start().is_aligned_to(order) =>
                    {
                        self.pages.free(range.start(), order).expect("it is allocated");
                    }
                    _ => self.pages.free_exact(range).expect("it is allocated"),
                }
                self.held.remove(&range.start().number());
                self.set(range, Is::Allocated, Is::Available);
            }
            Op::Resize { which, frames } => {
                let Some(range) = self.pick(which) else { return };
                if let Ok(resized) = self.pages.resize(range, frames) {
                    assert_eq!((resized.start(), resized.frames()), (range.start(), frames));
                    self.set(range, Is::Allocated, Is::Available);
                    self.set(resized, Is::Available, Is::Allocated);
                    self.held.insert(range.start().number(), frames);
                } else {
                    assert!(frames > range.frames(), "giving back a tail cannot fail");
                }
            }
            Op::Remove { start, frames } => {
                let range = FrameRange::from_len(frame(start), frames).unwrap();
                match self.pages.remove(range) {
                    Ok(()) => {
                        self.set(range, Is::Available, Is::Removed);
                        self.removed.push(range);
                    }
                    Err(RemoveError::InUse { frame } | RemoveError::Hole { frame }) => {
                        assert_ne!(self.frames[frame.number()], Is::Available);
                    }
                    Err(RemoveError::OutOfRange { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Op::Add { which } => {
                let Some(place) = which.checked_rem(self.removed.len()) else { return };
                let range = self.removed.swap_remove(place);
                // SAFETY: it was removed, and the whole machine is the allocator's.
                unsafe { self.pages.add(range) }.expect("it is a hole in a span");
                self.set(range, Is::Removed, Is::Available);
            }
            Op::BadFree { start, order: k } => {
                if self.held.get(&start) != Some(&order(k).frames()) {
                    assert!(self.pages.free(frame(start), order(k)).is_err());
                }
            }
        }
    }

    fn check(&self) {
        self.pages.verify().expect("sound after each call");
        for kind in ZoneKind::ALL {
            let stats = self.pages.stats(kind);
            let available = self.count(kind.index(), |is| is == Is::Available);
            let allocated = self.count(kind.index(), |is| is == Is::Allocated);
            assert_eq!(stats.available_frames, available, "{kind}");
            assert_eq!(stats.managed_frames, available + allocated, "{kind}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 420, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// 420 cases of 500 calls each.
    #[test]
    fn any_calls_do_what_the_model_says(ops in ops()) {
        let mut model = Model::new();
        for op in &ops {
            model.step(op);
            model.check();
        }
        // What is held is held whole, and nothing else is.
        for (&start, &frames) in &model.held {
            let range = FrameRange::from_len(frame(start), frames).unwrap();
            let owned = matches!(
                model.pages.lookup(range.start()),
                FrameState::Allocated { owner: BlockOwner::Caller, .. }
                    | FrameState::Run { owner: BlockOwner::Caller, .. }
            );
            prop_assert!(owned, "{}", range);
            model.pages.free_exact(range).unwrap();
        }
        exhaust(&model.pages);
    }
}
