//! Records: they never overlap, keep to their frames, and leave nothing behind.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::page::Records;
use crate::page::records::{GRANULE, MAX_GRANULES, Record, names_record};
use crate::test_support::frame;

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
    const REACH: usize = 1 << 26;
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
