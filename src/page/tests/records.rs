//! Records: they never overlap, keep to their frames, and leave nothing behind.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::buddy::{AllocError, BlockOwner, FreeError, ResizeError};
use crate::check::{Rule, set_hook};
use crate::frame::FRAME_SIZE;
use crate::page::records::{GRANULE, MAX_GRANULES, Record, names_record};
use crate::page::{FrameSource, OwnerRecord, Records};
use crate::platform::Platform;
use crate::test_support::{alone_with_hook, frame};

/// First frame that records cannot lie in: that at 256 GiB.
const REACH: usize = 1 << 26;

/// An allocator whose memory begins where the reach of records ends.
fn beyond_reach(options: InitOptions) -> PageAllocator<Machine> {
    let memory = frames(REACH, REACH + 0x200);
    let pages = PageAllocator::new(Machine::new([memory]));
    let map = [Region::from_frames(memory, RegionKind::Usable)];
    // SAFETY: the whole machine is the allocator's.
    unsafe { pages.init_with(map, options) }.expect("the map has memory");
    pages
}

/// One record, and what its owner wrote into all of it.
struct Held {
    record: Record,
    bytes: usize,
    mark: u8,
}

impl Held {
    fn new(record: Record, bytes: usize, mark: u8) -> Self {
        // SAFETY: the record is ours, and so long.
        unsafe { record.address.write_bytes(mark, bytes) };
        Self { record, bytes, mark }
    }

    fn is_intact(&self) -> bool {
        let start = self.record.address.as_ptr();
        // SAFETY: it was written when it was taken.
        (0..self.bytes).all(|at| unsafe { start.add(at).read() } == self.mark)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn records_of_all_sizes_share_frames(
        steps in prop::collection::vec((1..=MAX_GRANULES * GRANULE, any::<Index>(), any::<bool>()), 1..120)
    ) {
        let (pages, _) = boot(0x300, &[usable(0x100, 0x300)], SMALL);
        let available = pages.frames_available();
        let records = Records::new();
        let mut held: Vec<Held> = Vec::new();
        for (mark, (bytes, index, gives)) in steps.into_iter().enumerate() {
            if gives && !held.is_empty() {
                let gone = held.swap_remove(index.index(held.len()));
                prop_assert!(gone.is_intact(), "another record was written over it");
                // SAFETY: taken below, and nobody uses it any more.
                unsafe { records.give(&*pages, gone.record.id) };
            } else {
                let record = records.take(&*pages, bytes, AllocFlags::empty()).unwrap();
                prop_assert!(names_record(record.id));
                held.push(Held::new(record, bytes, mark as u8));
            }
            // In use: granules of records, and one for the header of each frame.
            let granules: usize = held.iter().map(|held| held.bytes.div_ceil(GRANULE)).sum();
            let frames = records.frames(&*pages);
            prop_assert_eq!(pages.frames_available(), available - frames);
            prop_assert!(granules.div_ceil(MAX_GRANULES) <= frames && frames <= held.len());
        }
        for gone in held {
            prop_assert!(gone.is_intact());
            // SAFETY: as above.
            unsafe { records.give(&*pages, gone.record.id) };
        }
        prop_assert_eq!((records.frames(&*pages), pages.frames_available()), (0, available));
        pages.verify().unwrap();
    }
}

#[test]
fn frame_0_holds_records_like_any_other() {
    let (pages, _) = boot(0x80, &[usable(0, 0x80)], SMALL);
    // Only two frames are left, and the lower one is taken first.
    while pages.alloc(Order::ZERO, AllocFlags::ATOMIC).is_ok() {}
    for number in [0, 0x40] {
        pages.free(frame(number), Order::ZERO).unwrap();
    }
    let records = Records::new();
    let take = |granules| records.take(&*pages, granules * GRANULE, AllocFlags::ATOMIC).unwrap();
    // SAFETY: taken here, never used, and given once.
    let give = |record: Record| unsafe { records.give(&*pages, record.id) };
    let (first, second) = (take(20), take(20));
    assert_eq!((first.id, second.id, records.frames(&*pages)), (1, 21, 1));
    // Beside another frame it leaves its list and comes back.
    let (other, filler) = (take(43), take(20));
    assert_eq!(records.frames(&*pages), 2);
    give(second);
    let second = take(20);
    assert_eq!((second.id, records.frames(&*pages)), (21, 2));
    [first, second, other, filler].into_iter().for_each(give);
    assert_eq!((records.frames(&*pages), pages.frames_available()), (0, 2));
    pages.verify().unwrap();
}

#[test]
fn records_and_frames_of_them_that_are_given_back_twice_are_told_as_damage() {
    static FOUND: spin::Mutex<Vec<(Rule, usize)>> = spin::Mutex::new(Vec::new());
    let _alone = alone_with_hook();
    let (pages, _) = boot(0x300, &[usable(0x100, 0x300)], SMALL);
    let records = Records::new();
    let take = |_| records.take(&*pages, GRANULE, AllocFlags::empty()).unwrap();
    let [first, last] = [0, 1].map(take);
    let lies_in = frame(last.id as usize / (FRAME_SIZE / GRANULE));
    // SAFETY: nobody uses either record, and what is given twice is to be refused.
    let give = |record: &Record| unsafe { records.give(&*pages, record.id) };
    set_hook(Some(|found| FOUND.lock().push((found.rule, found.address))));
    give(&first);
    give(&first);
    // SAFETY: nobody takes the frame in this test, whose memory stays.
    unsafe { pages.give(lies_in, Order::ZERO, BlockOwner::Slab) }.unwrap();
    give(&last);
    set_hook(None);
    let header = pages.platform().phys_to_virt(lies_in.start()).addr();
    let told = [first.address.addr().get(), header].map(|address| (Rule::Corrupted, address));
    assert_eq!(*FOUND.lock(), told);
    pages.verify().unwrap();
}

#[test]
fn many_small_records_fill_their_frames() {
    let (pages, _) = boot(0x300, &[usable(0x100, 0x300)], SMALL);
    let records = Records::new();
    // Sizes that caches ask for: what they note of slabs, magazines and slots.
    let sizes = [6, 2, 15, 2, 10, 1, 8, 2].map(|granules| granules * GRANULE);
    let taken: Vec<Record> = (0..400)
        .map(|number| records.take(&*pages, sizes[number % 8], AllocFlags::empty()).unwrap())
        .collect();
    let least = (sizes.iter().sum::<usize>() * 50 / GRANULE).div_ceil(MAX_GRANULES);
    let frames = records.frames(&*pages);
    assert!(frames <= least + least / 10, "{frames} frames where {least} would do");
    for record in taken {
        // SAFETY: taken above, never used.
        unsafe { records.give(&*pages, record.id) };
    }
    assert_eq!(records.frames(&*pages), 0);
}

#[test]
fn records_find_the_low_frames_of_a_zone_that_goes_beyond_their_reach() {
    // Half of the memory lies below 256 GiB, half above, all of it in zone Normal.
    let memory = [frames(0x100, 0x300), frames(REACH, REACH + 0x200)];
    let pages = PageAllocator::new(Machine::new(memory).with_one_cpu());
    let options = InitOptions { limits: ZoneLimits::NONE, ..InitOptions::DEFAULT };
    let map = memory.map(|frames| Region::from_frames(frames, RegionKind::Usable));
    // SAFETY: the whole machine is the allocator's.
    unsafe { pages.init_with(map, options) }.expect("the map has memory");
    let before = pages.frames_available();
    let mut low = Vec::new();
    let high = loop {
        let taken = pages.alloc(Order::ZERO, AllocFlags::empty()).unwrap();
        if taken >= frame(REACH) {
            break taken;
        }
        low.push(taken);
    };
    low.iter().for_each(|&frame| pages.free(frame, Order::ZERO).unwrap());
    assert!(pages.frames_kept() > 0, "the CPU has high frames ready since low ones ran out");
    let records = Records::new();
    let record = records.take(&pages, GRANULE, AllocFlags::empty()).expect("low frames");
    assert!(frame(record.id as usize >> 6) < frame(0x300));
    // SAFETY: taken above, never used.
    unsafe { records.give(&pages, record.id) };
    pages.free(high, Order::ZERO).unwrap();
    assert!(pages.drain() && records.frames(&pages) == 0);
    assert_eq!(pages.frames_available(), before);
    pages.verify().unwrap();
}

#[test]
fn a_length_that_no_frame_has_is_refused() {
    let (pages, _) = boot(0x300, &[usable(0x100, 0x300)], SMALL);
    let records = Records::new();
    for bytes in [0, MAX_GRANULES * GRANULE + 1] {
        let taken = records.take(&*pages, bytes, AllocFlags::empty());
        assert_eq!(taken.map(|record| record.id), Err(AllocError::TooLarge), "{bytes} bytes");
    }
    assert_eq!(records.frames(&*pages), 0);
}

#[test]
fn where_all_memory_lies_beyond_their_reach_there_are_no_records() {
    let options = InitOptions { limits: ZoneLimits::NONE, cpu_lists: CpuLists::Omit, ..SMALL };
    let pages = beyond_reach(options);
    // The first frame of all is the only one left.
    while pages.alloc(Order::ZERO, AllocFlags::ATOMIC).is_ok() {}
    pages.free(frame(REACH), Order::ZERO).unwrap();
    let records = Records::new();
    let taken = records.take(&pages, GRANULE, AllocFlags::ATOMIC);
    let beyond = AllocError::OutOfReach { frame: frame(REACH) };
    assert_eq!(taken.map(|record| record.id), Err(beyond));
    assert_eq!((records.frames(&pages), pages.frames_available()), (0, 1));
}

/// A source that knows only zones, as other sources than the page allocator may, and what it was
/// asked.
struct ByZone {
    pages: PageAllocator<Machine>,
    asked: spin::Mutex<Vec<AllocFlags>>,
}

// SAFETY: all of it is the page allocator's.
unsafe impl FrameSource for ByZone {
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
        self.asked.lock().push(flags);
        self.pages.take(order, owner, flags)
    }

    unsafe fn give(&self, frame: Frame, order: Order, owner: BlockOwner) -> Result<(), FreeError> {
        // SAFETY: passed on.
        unsafe { self.pages.give(frame, order, owner) }
    }

    fn take_run(
        &self,
        _: usize,
        _: Order,
        _: BlockOwner,
        _: AllocFlags,
    ) -> Result<Frame, AllocError> {
        Err(AllocError::OutOfMemory)
    }

    unsafe fn give_run(&self, _: FrameRange, _: BlockOwner) -> Result<(), FreeError> {
        Err(FreeError::OutOfRange)
    }

    unsafe fn resize_run(
        &self,
        _: FrameRange,
        _: usize,
        _: BlockOwner,
    ) -> Result<FrameRange, ResizeError> {
        Err(ResizeError::OutOfMemory)
    }

    fn owner(&self, frame: Frame) -> Option<&OwnerRecord> {
        self.pages.owner(frame)
    }

    fn run_of(&self, frame: Frame) -> Option<(FrameRange, BlockOwner)> {
        self.pages.run_of(frame)
    }
}

#[test]
fn a_source_that_knows_no_lower_frames_gets_back_what_it_gave() {
    // Low memory, as this source understands it, lies beyond the reach as well.
    let end = PhysAddr::new(((REACH + 0x100) as u64) << 12);
    let limits = ZoneLimits { dma: PhysAddr::new(0x1000), dma32: end };
    let source = ByZone {
        pages: beyond_reach(InitOptions { limits, ..SMALL }),
        asked: spin::Mutex::new(Vec::new()),
    };
    let (before, records) = (source.pages.frames_available(), Records::new());
    let taken = records.take(&source, GRANULE, AllocFlags::ATOMIC);
    let lowest = AllocError::OutOfReach { frame: frame(REACH) };
    assert_eq!(taken.map(|record| record.id), Err(lowest));
    assert_eq!((records.frames(&source), source.pages.frames_available()), (0, before));
    let low = AllocFlags::ATOMIC | AllocFlags::ZONE_DMA32;
    assert_eq!(*source.asked.lock(), [AllocFlags::ATOMIC, low]);
}
