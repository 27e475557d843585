//! Page calls against a table of who holds which frame.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use kmem::frame::{Frame, FrameRange, Order};
use kmem::memory_map::{Region, RegionKind};
use kmem::page::{AllocFlags, PageAllocator, Reach};

use super::support::Machine;

/// One call; numbers pick among what there is.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Call {
    Alloc { order: u8, flags: u8 },
    AllocExact { frames: u16, flags: u8 },
    AllocWithin { frames: u8, end: u16, align: u8, boundary: u8 },
    AllocMany { order: u8, count: u8 },
    Claim { start: u16, frames: u8 },
    Free { nth: u8 },
    FreeWithOrder { start: u16, order: u8 },
    Resize { nth: u8, frames: u16 },
    Drain,
}

const FRAMES: usize = 1600;

const FLAGS: [AllocFlags; 5] = [
    AllocFlags::empty(),
    AllocFlags::ATOMIC,
    AllocFlags::MOVABLE,
    AllocFlags::NO_WAIT,
    AllocFlags::ATOMIC.union(AllocFlags::ZERO),
];

fn flags(raw: u8) -> AllocFlags {
    FLAGS[usize::from(raw) % FLAGS.len()]
}

/// Orders up to 10, mostly those that CPUs keep.
fn order(raw: u8) -> Order {
    Order::new(raw % 11).expect("a small number")
}

struct Model {
    pages: PageAllocator<Machine>,
    first: usize,
    /// Whether somebody holds the frame.
    is_held: Vec<bool>,
    held: BTreeMap<usize, usize>,
}

impl Model {
    fn new() -> Self {
        let machine = Machine::new(FRAMES, 1);
        let (all, first) = (machine.frames(), machine.frames().start().number());
        let pages = PageAllocator::new(machine);
        let hole = FrameRange::from_len(Frame::new(first + 700).expect("a frame"), 9);
        let regions = [
            Region::from_frames(all, RegionKind::Usable),
            Region::from_frames(hole.expect("small"), RegionKind::Reserved),
        ];
        // SAFETY: the memory is the machine's, for nobody else.
        unsafe { pages.init(regions) }.expect("memory for the metadata");
        Self { pages, first, is_held: vec![false; FRAMES], held: BTreeMap::new() }
    }

    fn frame(&self, offset: usize) -> Frame {
        Frame::new(self.first + offset % (FRAMES + 100)).expect("a small number")
    }

    fn took(&mut self, range: FrameRange) {
        let start = range.start().number() - self.first;
        for is_held in &mut self.is_held[start..start + range.frames()] {
            assert!(!*is_held, "{range} handed out twice");
            *is_held = true;
        }
        self.held.insert(start, range.frames());
    }

    fn gave(&mut self, start: usize) {
        let frames = self.held.remove(&start).expect("held");
        self.is_held[start..start + frames].fill(false);
    }

    fn nth(&self, nth: u8) -> Option<FrameRange> {
        let place = usize::from(nth).checked_rem(self.held.len())?;
        let (&start, &frames) = self.held.iter().nth(place)?;
        FrameRange::from_len(self.frame(start), frames)
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Alloc { order: raw, flags: wanted } => {
                let order = order(raw);
                if let Ok(frame) = self.pages.alloc(order, flags(wanted)) {
                    assert!(frame.is_aligned_to(order));
                    self.took(FrameRange::from_len(frame, order.frames()).expect("in memory"));
                }
            }
            Call::AllocExact { frames, flags: wanted } => {
                let frames = usize::from(frames % 900);
                if let Ok(range) = self.pages.alloc_exact(frames, flags(wanted)) {
                    assert_eq!(range.frames(), frames);
                    self.took(range);
                }
            }
            Call::AllocWithin { frames, end, align, boundary } => {
                let end = self.frame(end.into()).start();
                let reach = Reach {
                    align_bytes: 1 << (align % 24),
                    boundary_bytes: 1 << (12 + boundary % 10),
                    ..Reach::below(end)
                };
                let frames = usize::from(frames);
                if let Ok(range) = self.pages.alloc_within(frames, &reach, AllocFlags::empty()) {
                    assert_eq!(range.frames(), frames);
                    assert!(range.end().start() <= end);
                    let first = range.start().start().as_u64();
                    let last = range.end().start().as_u64() - 1;
                    assert!(first.is_multiple_of(1 << (align % 24)));
                    assert_eq!(first / reach.boundary_bytes, last / reach.boundary_bytes);
                    self.took(range);
                }
            }
            Call::AllocMany { order: raw, count } => {
                let order = Order::new(raw % 4).expect("a small number");
                let mut out = vec![Frame::ZERO; usize::from(count)];
                let filled = self.pages.alloc_many(order, &mut out, AllocFlags::empty());
                for &frame in &out[..filled] {
                    self.took(FrameRange::from_len(frame, order.frames()).expect("in memory"));
                }
            }
            Call::Claim { start, frames } => {
                let range = FrameRange::from_len(self.frame(start.into()), frames.into());
                let range = range.expect("small numbers");
                if self.pages.claim(range).is_ok() {
                    self.took(range);
                }
            }
            Call::Free { nth } => {
                let Some(range) = self.nth(nth) else { return };
                self.gave(range.start().number() - self.first);
                match Order::for_frames(range.frames()) {
                    Some(order) if order.frames() == range.frames() && nth % 2 == 0 => {
                        self.pages.free(range.start(), order)
                    }
                    _ => self.pages.free_exact(range),
                }
                .expect("it was allocated");
            }
            Call::FreeWithOrder { start, order: raw } => {
                let (frame, order) = (self.frame(start.into()), order(raw));
                let start = frame.number() - self.first;
                let is_right = self.held.get(&start) == Some(&order.frames());
                assert_eq!(self.pages.free(frame, order).is_ok(), is_right, "{frame} {order}");
                if is_right {
                    self.gave(start);
                }
            }
            Call::Resize { nth, frames } => {
                let Some(range) = self.nth(nth) else { return };
                if let Ok(resized) = self.pages.resize(range, usize::from(frames % 900)) {
                    assert_eq!(resized.start(), range.start());
                    self.gave(range.start().number() - self.first);
                    self.took(resized);
                }
            }
            Call::Drain => {
                assert!(self.pages.drain());
                assert_eq!(self.pages.frames_kept(), 0);
            }
        }
    }

    fn check(&self) {
        self.pages.verify().expect("sound after each call");
        let held: usize = self.held.values().sum();
        let free = self.pages.frames_available() + self.pages.frames_kept();
        assert_eq!(free + held, self.pages.frames_managed(), "frames lost or won");
    }
}

/// Makes the calls, and in the end gives everything back.
pub fn run(bytes: &[u8]) {
    let mut model = Model::new();
    for call in super::decode(bytes) {
        model.call(call);
        model.check();
    }
    while let Some(range) = model.nth(0) {
        model.gave(range.start().number() - model.first);
        model.pages.free_exact(range).expect("it was allocated");
    }
    model.check();
}
