//! A million random calls of one span against a model that knows only sets of frames.
//!
//! A program is a list of raw numbers that are interpreted against the state they meet, so every
//! part of a failing program is a program again, and the driver cuts it down before it reports.
//! `KMEM_SEED` repeats a run.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU8;

use kmem::buddy::{
    AddError, AllocError, BlockOwner, Buddy, ClaimError, Constraint, FrameState, FreeError, Group,
    Metadata, Need, Placement, RemoveError, ResizeError,
};
use kmem::frame::{Frame, FrameRange, Order};

/// Zeroed metadata for `cover`.
fn metadata(cover: FrameRange) -> Metadata<'static> {
    let need = Need::for_span(cover);
    Metadata {
        states: Box::leak((0..need.states).map(|_| AtomicU8::new(0)).collect()),
        groups: Box::leak(vec![Group::EMPTY; need.groups].into_boxed_slice()),
        words: Box::leak(vec![0; need.words].into_boxed_slice()),
    }
}

fn frame(number: usize) -> Frame {
    Frame::new(number).unwrap()
}

fn order(order: usize) -> Order {
    Order::new(order as u8).unwrap()
}

fn span(start: usize, end: usize) -> FrameRange {
    FrameRange::new(frame(start), frame(end)).unwrap()
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cell {
    Hole,
    Reserved,
    Free,
    /// In the allocation that starts here.
    Taken(usize),
}

/// What is allocated from a frame on; without an owner it lies in a CPU's list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Taken {
    frames: usize,
    owner: Option<BlockOwner>,
}

/// The span as sets of frames.
struct Model {
    start: usize,
    cells: Vec<Cell>,
    taken: BTreeMap<usize, Taken>,
}

impl Model {
    fn new(cover: FrameRange) -> Self {
        let cells = vec![Cell::Hole; cover.frames()];
        Self { start: cover.start().number(), cells, taken: BTreeMap::new() }
    }

    fn end(&self) -> usize {
        self.start + self.cells.len()
    }

    fn cell(&self, at: usize) -> Option<Cell> {
        self.cells.get(at.checked_sub(self.start)?).copied()
    }

    fn fill(&mut self, range: FrameRange, cell: Cell) {
        let from = range.start().number() - self.start;
        self.cells[from..from + range.frames()].fill(cell);
    }

    fn take(&mut self, range: FrameRange, owner: Option<BlockOwner>) {
        let at = range.start().number();
        assert_eq!(self.first_other(range, &[Cell::Free]), None, "{range} handed out twice");
        self.fill(range, Cell::Taken(at));
        self.taken.insert(at, Taken { frames: range.frames(), owner });
    }

    fn give(&mut self, range: FrameRange) {
        self.taken.remove(&range.start().number()).unwrap();
        self.fill(range, Cell::Free);
    }

    /// The first frame of `range` that is none of `cells`.
    fn first_other(&self, range: FrameRange, cells: &[Cell]) -> Option<usize> {
        (range.start().number()..range.end().number())
            .find(|&at| !cells.contains(&self.cell(at).unwrap()))
    }

    /// The free blocks, each as large as it can be, in ascending order.
    fn free_blocks(&self) -> Vec<(usize, Order)> {
        let mut blocks = Vec::new();
        let mut at = self.start;
        while at < self.end() {
            let is_free = |at: usize| self.cell(at) == Some(Cell::Free);
            if !is_free(at) {
                at += 1;
                continue;
            }
            let mut largest = Order::ZERO;
            while let Some(above) = largest.above()
                && at.is_multiple_of(above.frames())
                && (at + largest.frames()..at + above.frames()).all(is_free)
            {
                largest = above;
            }
            blocks.push((at, largest));
            at += largest.frames();
        }
        blocks
    }

    fn free_frames(&self) -> usize {
        self.cells.iter().filter(|&&cell| cell == Cell::Free).count()
    }

    /// The block that a request for `least` is served from.
    fn best(&self, least: Order, placement: Placement) -> Option<(usize, Order)> {
        let blocks = self.free_blocks();
        let sufficient = blocks.iter().filter(|(_, order)| *order >= least);
        let smallest = sufficient.map(|&(_, order)| order).min()?;
        let mut exact = blocks.into_iter().filter(|(_, order)| *order == smallest);
        match placement {
            Placement::Low => exact.next(),
            Placement::High => exact.next_back(),
        }
    }

    fn shortage(&self, frames: usize) -> AllocError {
        match self.free_blocks().iter().map(|&(_, order)| order).max() {
            Some(largest) if self.free_frames() >= frames => {
                AllocError::Fragmented { available: self.free_frames(), largest }
            }
            _ => AllocError::OutOfMemory,
        }
    }

    fn alloc(&self, frames: usize, placement: Placement) -> Result<FrameRange, AllocError> {
        let Some(least) = Order::for_frames(frames) else {
            return Err(if frames == 0 { AllocError::ZeroSize } else { AllocError::TooLarge });
        };
        let (at, order) = self.best(least, placement).ok_or_else(|| self.shortage(frames))?;
        let start = match placement {
            Placement::Low => at,
            Placement::High => at + order.frames() - frames,
        };
        Ok(span(start, start + frames))
    }

    /// Every start in every block is tried.
    fn alloc_within(&self, frames: usize, c: &Constraint) -> Result<FrameRange, AllocError> {
        let Some(least) = Order::for_frames(frames) else {
            return Err(if frames == 0 { AllocError::ZeroSize } else { AllocError::TooLarge });
        };
        if frames > c.window.frames() || c.boundary.is_some_and(|b| frames > b.frames()) {
            return Err(AllocError::TooLarge);
        }
        let mut blocks = self.free_blocks();
        blocks.retain(|&(_, order)| order >= least.max(c.align));
        blocks.sort_by_key(|&(at, order)| (order, at));
        let serves = |start: usize, (at, order): (usize, Order)| {
            let run = span(start, start + frames);
            span(at, at + order.frames()).contains_range(run)
                && c.window.contains_range(run)
                && start.is_multiple_of(c.align.frames())
                && c.boundary
                    .is_none_or(|b| start / b.frames() == (start + frames - 1) / b.frames())
        };
        for block in blocks {
            let mut starts = block.0..block.0 + block.1.frames();
            if let Some(start) = starts.find(|&start| serves(start, block)) {
                return Ok(span(start, start + frames));
            }
        }
        Err(self.shortage(frames))
    }

    fn owner_error(owner: BlockOwner) -> FreeError {
        match owner {
            BlockOwner::Caller => FreeError::OwnedByCaller,
            BlockOwner::Slab => FreeError::OwnedBySlab,
            BlockOwner::Heap => FreeError::OwnedByHeap,
        }
    }

    /// What freeing `given` says; `order` if it is freed as one block.
    fn free(
        &self,
        given: FrameRange,
        order: Option<Order>,
        owner: BlockOwner,
    ) -> Result<FrameRange, FreeError> {
        let at = given.start().number();
        let start = match self.cell(at) {
            None => return Err(FreeError::OutOfRange),
            Some(Cell::Hole) => return Err(FreeError::Hole),
            Some(Cell::Reserved) => return Err(FreeError::Reserved),
            Some(Cell::Free) => return Err(FreeError::NotAllocated),
            Some(Cell::Taken(start)) => start,
        };
        let Taken { frames, owner: actual } = self.taken[&start];
        let allocated = span(start, start + frames);
        let single = Order::largest_at(allocated.start(), frames).filter(|o| o.frames() == frames);
        match (actual, single, order) {
            (None, _, _) => Err(FreeError::NotAllocated),
            (Some(actual), _, _) if actual != owner => Err(Self::owner_error(actual)),
            _ if allocated == given => Ok(given),
            (_, Some(single), _) if start != at => {
                Err(FreeError::NotHead { head: allocated.start(), order: single })
            }
            (_, Some(allocated), Some(given)) => Err(FreeError::WrongOrder { allocated, given }),
            _ => Err(FreeError::WrongRange { allocated, given }),
        }
    }

    fn lookup(&self, at: usize, blocks: &[(usize, Order)]) -> FrameState {
        let start = match self.cell(at) {
            None => return FrameState::OutOfRange,
            Some(Cell::Hole) => return FrameState::Hole,
            Some(Cell::Reserved) => return FrameState::Reserved,
            Some(Cell::Free) => {
                let behind = blocks.partition_point(|&(start, _)| start <= at);
                let (head, order) = blocks[behind - 1];
                return FrameState::Available { head: frame(head), order };
            }
            Some(Cell::Taken(start)) => start,
        };
        let Taken { frames, owner } = self.taken[&start];
        let head = frame(start);
        let single = Order::largest_at(head, frames).filter(|o| o.frames() == frames);
        match (owner, single) {
            (Some(owner), Some(order)) => FrameState::Allocated { head, order, owner },
            (Some(owner), None) => FrameState::Run { run: span(start, start + frames), owner },
            (None, order) => FrameState::Cached { head, order: order.unwrap() },
        }
    }
}

/// One raw step of a program.
#[derive(Clone, Copy, Debug)]
struct Step {
    call: u8,
    a: u32,
    b: u32,
    c: u32,
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn step(&mut self) -> Step {
        let (first, second) = (self.next(), self.next());
        Step {
            call: first as u8,
            a: (first >> 32) as u32,
            b: second as u32,
            c: (second >> 32) as u32,
        }
    }
}

/// A size that is small more often than large, and at most `limit`.
fn skewed(raw: u32, limit: usize) -> usize {
    let bits = (raw >> 24) as usize % (limit.max(1).ilog2() as usize + 1);
    (raw as usize & ((2 << bits) - 1)).min(limit)
}

#[track_caller]
fn same<T: PartialEq + Debug>(what: impl Debug, found: T, expected: T) {
    assert!(found == expected, "{what:?}: expected {expected:?}, found {found:?}");
}

/// The span under test beside its model.
struct Pair {
    buddy: Option<Buddy<'static>>,
    model: Model,
    cover: FrameRange,
}

impl Pair {
    fn new(cover: FrameRange) -> Self {
        let mut buddy = Buddy::new(cover, metadata(cover)).unwrap();
        let mut model = Model::new(cover);
        buddy.add(cover).unwrap();
        model.fill(cover, Cell::Free);
        Self { buddy: Some(buddy), model, cover }
    }

    fn range(&self, a: u32, b: u32) -> FrameRange {
        let start = self.model.start + a as usize % self.model.cells.len();
        let frames = skewed(b, self.model.end() - start);
        span(start, start + frames)
    }

    /// An allocation, or if there is none, some range.
    fn allocation(&self, a: u32) -> (FrameRange, BlockOwner) {
        let owned = self.model.taken.iter().filter(|(_, taken)| taken.owner.is_some());
        let count = owned.clone().count();
        match owned.clone().nth(a as usize % count.max(1)) {
            Some((&at, taken)) => (span(at, at + taken.frames), taken.owner.unwrap()),
            None => (self.range(a, a >> 7), BlockOwner::Caller),
        }
    }

    fn step(&mut self, step: Step) {
        let Step { call, a, b, c } = step;
        let owner = [BlockOwner::Caller, BlockOwner::Slab, BlockOwner::Heap][c as usize % 3];
        let placement = [Placement::Low, Placement::High][(c >> 4) as usize % 2];
        let largest = self.model.cells.len().ilog2() as usize;
        let some_order = order(skewed(a, largest + 1).min(20));
        let mut buddy = self.buddy.take().unwrap();
        let model = &mut self.model;
        match call {
            0..=49 => {
                let expected = model.alloc(some_order.frames(), placement);
                let found = buddy.alloc(some_order, owner, placement);
                same(step, found, expected.map(FrameRange::start));
                if let Ok(range) = expected {
                    model.take(range, Some(owner));
                }
            }
            50..=74 => {
                let frames = skewed(a, model.cells.len() + 1);
                let expected = model.alloc(frames, placement);
                same(step, buddy.alloc_exact(frames, owner, placement), expected);
                if let Ok(range) = expected {
                    model.take(range, Some(owner));
                }
            }
            75..=99 => {
                let frames = skewed(a, model.cells.len());
                let boundary = (c >> 8) as usize % (largest + 4);
                let start = model.start + b as usize % model.cells.len();
                let constraint = Constraint {
                    window: span(start, start + skewed(b.rotate_left(9), model.cells.len())),
                    align: order((c >> 16) as usize % 4 * ((c >> 18) as usize % 3)),
                    boundary: (boundary <= largest).then(|| order(boundary)),
                };
                let expected = model.alloc_within(frames, &constraint);
                let found = buddy.alloc_within(frames, &constraint, owner);
                same((step, constraint, frames), found, expected);
                if let Ok(range) = expected {
                    model.take(range, Some(owner));
                }
            }
            100..=159 => {
                self.buddy = Some(buddy);
                let (range, owner) = self.allocation(a);
                buddy = self.buddy.take().unwrap();
                let single = Order::largest_at(range.start(), range.frames())
                    .filter(|order| order.frames() == range.frames() && b % 2 == 0);
                let expected = self.model.free(range, single, owner);
                let found = match single {
                    Some(order) => buddy.free(range.start(), order, owner),
                    None => buddy.free_exact(range, owner),
                };
                same(step, found, expected.map(drop));
                if let Ok(range) = expected {
                    self.model.give(range);
                }
            }
            160..=179 => {
                let at = frame(a as usize % (model.end() + 4));
                let order = order(b as usize % 21);
                let given = FrameRange::from_len(at, order.frames()).unwrap();
                let expected = model.free(given, Some(order), owner);
                same(step, buddy.free(at, order, owner), expected.map(drop));
                if let Ok(range) = expected {
                    model.give(range);
                }
            }
            180..=189 => {
                self.buddy = Some(buddy);
                let (range, owner) = self.allocation(a);
                buddy = self.buddy.take().unwrap();
                let start = (range.start().number() + b as usize % 3).saturating_sub(1);
                let end = (range.end().number() + (b >> 8) as usize % 3).saturating_sub(1);
                let given = span(start, end.max(start));
                let expected = self.model.free(given, None, owner);
                same((step, given), buddy.free_exact(given, owner), expected.map(drop));
                if let Ok(range) = expected {
                    self.model.give(range);
                }
            }
            190..=199 => {
                let start = model.start.saturating_sub(1) + a as usize % (model.cells.len() + 1);
                let range = span(start, start + skewed(b, 64));
                let expected = if range.is_empty() {
                    Err(ClaimError::ZeroSize)
                } else if !self.cover.contains_range(range) {
                    Err(ClaimError::OutOfRange { range, cover: self.cover })
                } else {
                    match model.first_other(range, &[Cell::Free]) {
                        Some(at) => Err(ClaimError::InUse { frame: frame(at) }),
                        None => Ok(()),
                    }
                };
                same((step, range), buddy.claim(range, owner), expected);
                if expected.is_ok() {
                    model.take(range, Some(owner));
                }
            }
            200..=214 => {
                self.buddy = Some(buddy);
                let (range, owner) = self.allocation(a);
                buddy = self.buddy.take().unwrap();
                let frames = skewed(b, self.model.cells.len() + 1);
                let resized = span(range.start().number(), range.start().number() + frames);
                let (_, added) = resized.split_at(range.end());
                let expected = match self.model.free(range, None, owner) {
                    Err(error) => Err(ResizeError::NotAllocated(error)),
                    Ok(_) if frames == 0 => Err(ResizeError::ZeroSize),
                    Ok(_) if !self.cover.contains_range(resized) => {
                        Err(ResizeError::OutOfRange { frame: self.cover.end() })
                    }
                    Ok(_) => match self.model.first_other(added, &[Cell::Free]) {
                        Some(at) => Err(ResizeError::InUse { frame: frame(at) }),
                        None => Ok(resized),
                    },
                };
                same((step, range, frames), buddy.resize(range, frames, owner), expected);
                if let Ok(resized) = expected {
                    self.model.give(range);
                    self.model.take(resized, Some(owner));
                }
            }
            215..=229 => {
                let order = order(skewed(a, largest.min(8)));
                let mut out = vec![Frame::default(); skewed(b, 150)];
                let cached = c & 0x100 != 0;
                let least = if cached { skewed(c.rotate_left(9), 80) } else { out.len() };
                let taken = if cached {
                    buddy.alloc_cached(order, &mut out, least, placement)
                } else {
                    buddy.alloc_many(order, &mut out, owner, placement)
                };
                let (mut expected, mut most) = (0, out.len());
                while let Some((_, from)) = model.best(order, placement) {
                    if expected > 0 && order.get() < 6 && from.get() >= 6 {
                        most = most.min(if expected < least { expected + least } else { 0 });
                    }
                    if expected >= most {
                        break;
                    }
                    let range = model.alloc(order.frames(), placement).unwrap();
                    same((step, expected, &out), out[expected], range.start());
                    model.take(range, (!cached).then_some(owner));
                    expected += 1;
                }
                same((step, least, &out), taken, expected);
            }
            230..=241 => {
                let cached = c & 0x100 != 0;
                let order = order(skewed(a, largest.min(8)));
                let owner = (!cached).then_some(owner);
                let alike = |(&at, taken): (&usize, &Taken)| {
                    let found = taken.owner == owner && taken.frames == order.frames();
                    (found && at.is_multiple_of(order.frames())).then(|| frame(at))
                };
                let mut frames: Vec<_> = model.taken.iter().filter_map(alike).collect();
                let turned = b as usize % frames.len().max(1);
                frames.rotate_left(turned);
                frames.truncate(skewed(b.rotate_left(11), 150));
                if b & 0x4000 != 0 {
                    frames.extend(frames.first().copied());
                }
                let mut expected = Ok(());
                for (index, &at) in frames.iter().enumerate() {
                    if model.cell(at.number()) == Some(Cell::Free) {
                        expected = Err((index, FreeError::NotAllocated));
                        break;
                    }
                    model.give(FrameRange::from_len(at, order.frames()).unwrap());
                }
                let found = match owner {
                    Some(owner) => buddy.free_many(&frames, order, owner),
                    None => buddy.free_cached(&frames, order),
                };
                same((step, frames), found, expected);
            }
            242..=253 => {
                self.buddy = Some(buddy);
                let range = self.range(a, b);
                buddy = self.buddy.take().unwrap();
                self.change_cover(&mut buddy, range, c);
            }
            254..=255 => {
                let before = (a as usize % 600).min(model.start);
                let behind = b as usize % 600;
                if model.cells.len() + before + behind < 6000 && c % 16 == 0 {
                    let cover = span(model.start - before, model.end() + behind);
                    buddy = buddy.migrate(cover, metadata(cover)).map_err(|(_, e)| e).unwrap();
                    let mut cells = vec![Cell::Hole; before];
                    cells.append(&mut model.cells);
                    cells.resize(cover.frames(), Cell::Hole);
                    (model.start, model.cells) = (model.start - before, cells);
                    self.cover = cover;
                }
            }
        }
        self.buddy = Some(buddy);
    }

    fn change_cover(&mut self, buddy: &mut Buddy<'_>, range: FrameRange, raw: u32) {
        let model = &mut self.model;
        match raw % 5 {
            0 | 1 => {
                let expected = match model.first_other(range, &[Cell::Hole, Cell::Reserved]) {
                    Some(at) => Err(AddError::Overlap { frame: frame(at) }),
                    None => Ok(()),
                };
                same(("add", range), buddy.add(range), expected);
                if expected.is_ok() {
                    model.fill(range, Cell::Free);
                }
            }
            2 => {
                let expected = match model.first_other(range, &[Cell::Hole]) {
                    Some(at) => Err(AddError::Overlap { frame: frame(at) }),
                    None => Ok(()),
                };
                same(("reserve", range), buddy.reserve(range), expected);
                if expected.is_ok() {
                    model.fill(range, Cell::Reserved);
                }
            }
            3 => {
                let expected = match model.first_other(range, &[Cell::Free]) {
                    Some(at) if model.cell(at) == Some(Cell::Hole) => {
                        Err(RemoveError::Hole { frame: frame(at) })
                    }
                    Some(at) => Err(RemoveError::InUse { frame: frame(at) }),
                    None => Ok(()),
                };
                same(("remove", range), buddy.remove(range), expected);
                if expected.is_ok() {
                    model.fill(range, Cell::Hole);
                }
            }
            _ => {
                // Holes at either end of what is left, so that the span does not silt up.
                let holes: Vec<_> = (model.start..model.end())
                    .filter(|&at| matches!(model.cell(at), Some(Cell::Hole | Cell::Reserved)))
                    .collect();
                for at in holes {
                    buddy.add(span(at, at + 1)).unwrap();
                    model.fill(span(at, at + 1), Cell::Free);
                }
            }
        }
    }

    /// Everything that can be asked, after every step; every frame now and then.
    fn check(&self, step: usize) {
        let buddy = self.buddy.as_ref().unwrap();
        same("verify", buddy.verify(), Ok(()));
        same("cover", buddy.cover(), self.cover);
        same("available", buddy.frames_available(), self.model.free_frames());
        if !step.is_multiple_of(16) {
            return;
        }
        let blocks = self.model.free_blocks();
        same("largest", buddy.largest(), blocks.iter().map(|&(_, order)| order).max());
        for order in Order::all() {
            let expected = blocks.iter().filter(|&&(_, o)| o == order).count();
            same(("blocks", order), buddy.available_blocks(order), expected);
        }
        let managed = |cell: &&Cell| !matches!(cell, Cell::Hole | Cell::Reserved);
        let managed = self.model.cells.iter().filter(managed).count();
        same("managed", buddy.frames_managed(), managed);
        for at in self.model.start.saturating_sub(1)..=self.model.end() {
            let expected = self.model.lookup(at, &blocks);
            same(("lookup", at), buddy.lookup(frame(at)), expected);
            let frames = match self.model.taken.get(&at) {
                Some(Taken { frames, owner: Some(_) }) => Some(*frames),
                _ => None,
            };
            same(("frames", at), buddy.allocated_frames(frame(at)), frames);
        }
    }
}

/// Runs a program; the message of its first failure.
fn run(cover: FrameRange, program: &[Step]) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut pair = Pair::new(cover);
        for (index, &step) in program.iter().enumerate() {
            pair.step(step);
            pair.check(index);
        }
    }));
    outcome.map_err(|panic| match panic.downcast_ref::<String>() {
        Some(message) => message.clone(),
        None => format!("{:?}", panic.downcast_ref::<&str>()),
    })
}

/// Cuts a failing program down: leaves out ever smaller parts as long as it still fails.
fn shrink(cover: FrameRange, program: &[Step]) -> Vec<Step> {
    let mut program = program.to_vec();
    let mut part = program.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < program.len() {
            let mut shorter = program.clone();
            shorter.drain(at..(at + part).min(shorter.len()));
            if run(cover, &shorter).is_err() {
                program = shorter;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    program
}

#[track_caller]
fn drive(cover: FrameRange, programs: usize, steps: usize) {
    let given = std::env::var("KMEM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(0x6b6d_656d_u64);
    println!("KMEM_SEED={seed}: {programs} programs of {steps} steps over {cover}");
    let mut random = Random(seed ^ cover.end().number() as u64);
    for _ in 0..programs {
        let program: Vec<_> = (0..steps).map(|_| random.step()).collect();
        if run(cover, &program).is_err() {
            let least = shrink(cover, &program);
            let message = run(cover, &least).unwrap_err();
            panic!("KMEM_SEED={seed}, {cover}: {message}\nafter {least:#?}");
        }
    }
}

#[test]
fn sixty_frames_behave_like_the_model() {
    drive(span(70, 130), 1500, 200);
}

#[test]
fn a_word_and_a_bit_behave_like_the_model() {
    drive(span(0, 67), 1500, 200);
}

#[test]
fn an_unaligned_quarter_group_behaves_like_the_model() {
    drive(span(450, 580), 1000, 200);
}

#[test]
fn one_group_behaves_like_the_model() {
    drive(span(512, 1024), 400, 300);
}

#[test]
fn three_groups_behave_like_the_model() {
    drive(span(900, 2100), 200, 300);
}

#[test]
fn blocks_of_many_groups_behave_like_the_model() {
    drive(span(3, 5200), 50, 400);
}
