//! Memory that comes and goes after boot.

use core::sync::atomic::Ordering;

use super::*;
use crate::frame::FRAME_SIZE;
use crate::memory_map::RegionKind::Bootloader;
use crate::page::{AddMemoryError, FrameSource, FrameState, MAX_SPANS, Owners, ZoneStats};
use crate::test_support::frame;

/// Adds memory of the machine that nobody uses.
fn add(pages: &PageAllocator<Machine>, range: FrameRange) -> Result<(), AddMemoryError> {
    // SAFETY: the whole machine is the allocator's, and what it manages already is refused.
    let added = unsafe { pages.add(range) };
    pages.verify().expect("adding leaves the allocator sound");
    added
}

/// Checks that all frames of `range` but `metadata` of them can be allocated now, and have owner
/// records.
#[track_caller]
fn check_added(pages: &PageAllocator<Machine>, range: FrameRange, metadata: usize) {
    let found = exhaust(pages);
    let inside = found.iter().filter(|&&frame| range.contains(frame)).count();
    assert_eq!(inside + metadata, range.frames(), "{range}");
    assert!(found.iter().all(|&frame| pages.owner(frame).is_some()));
    let records: BTreeSet<*const _> =
        found.iter().map(|&frame| core::ptr::from_ref(pages.owner(frame).unwrap())).collect();
    assert_eq!(records.len(), found.len(), "every frame has a record of its own");
}

#[test]
fn memory_behind_a_span_joins_it_and_coalesces() {
    // The metadata lie in the upper span, away from the seam.
    let (pages, _) = boot(0x4000, &[usable(0x400, 0xfff), usable(0x3000, 0x3100)], SMALL);
    let before = pages.frames_available();
    let held = frames(0x500, 0x510);
    pages.claim(held).unwrap();
    let record = pages.owner(held.start()).unwrap();
    // SAFETY: the frames were claimed by this test.
    unsafe { record.store(77, Ordering::Relaxed) };

    let added = frames(0xfff, 0x2000);
    add(&pages, added).unwrap();
    let normal = pages.stats(ZoneKind::Normal);
    assert_eq!((normal.spans, normal.cover), (2, frames(0x400, 0x3100)));
    let run = FrameState::Allocated {
        head: held.start(),
        order: order(4),
        owner: crate::page::BlockOwner::Caller,
    };
    assert_eq!(pages.lookup(held.start()), run);
    let moved = pages.owner(held.start()).unwrap();
    assert!(core::ptr::eq(record, moved) && moved.load(Ordering::Relaxed) == 77);
    // A block across what was the end.
    let across = pages.alloc(order(11), AllocFlags::empty()).unwrap();
    assert_eq!(across, frame(0x800));
    pages.free(across, order(11)).unwrap();
    pages.free_exact(held).unwrap();
    // The outgrown metadata are available again, but for frames that hold owner records as well.
    let lost = before + added.frames() - pages.frames_available();
    let records = added.frames() * 4 / 0x1000;
    assert!(lost <= records + 1 + 3, "{lost}");
    check_added(&pages, added, records + 3);
    exercise(&pages);
}

#[test]
fn new_metadata_lie_in_reserved_frames_of_the_memory_that_brought_them() {
    let (pages, _) = boot(0x1000, &[usable(0x400, 0x800)], SMALL);
    let added = frames(0x800, 0x1000);
    add(&pages, added).unwrap();
    let found = exhaust(&pages);
    let metadata: Vec<Frame> = added.iter().filter(|frame| !found.contains(frame)).collect();
    assert!(!metadata.is_empty());
    for frame in metadata {
        assert_eq!(pages.lookup(frame), FrameState::Reserved);
    }
}

#[test]
fn of_metadata_that_spans_have_outgrown_exactly_the_frames_that_hold_nothing_else_come_back() {
    let regions = [usable(0x400, 0x2400), usable(0x4000, 0x6000)];
    let (pages, report) = boot(0x7000, &regions, SMALL);
    assert_eq!((report.spans, report.carve_outs), (2, 1));
    let metadata = frames(0x6000 - report.metadata_frames, 0x6000);
    add(&pages, frames(0x2400, 0x2500)).unwrap();
    add(&pages, frames(0x6000, 0x6100)).unwrap();
    // Of each span first what has moved, then the owner records, which stay.
    let (moved, records) = (report.buddy_bytes / 2, report.owner_bytes / 2);
    let outgrown = [0, moved + records].map(|start| start..start + moved);
    assert!(!outgrown[1].start.is_multiple_of(FRAME_SIZE), "it begins amid records");
    let found = exhaust(&pages);
    for (nth, frame) in metadata.iter().enumerate() {
        let (start, end) = (nth * FRAME_SIZE, (nth + 1) * FRAME_SIZE);
        let is_outgrown = outgrown.iter().any(|bytes| bytes.start <= start && end <= bytes.end);
        assert_eq!(found.contains(&frame), is_outgrown, "frame {nth} of the metadata");
    }
}

#[test]
fn memory_before_a_span_joins_it_too() {
    let (pages, _) = boot(0x2000, &[usable(0x1800, 0x2000)], SMALL);
    add(&pages, frames(0x1000, 0x1800)).unwrap();
    let normal = pages.stats(ZoneKind::Normal);
    assert_eq!((normal.spans, normal.cover), (1, frames(0x1000, 0x2000)));
    exercise(&pages);
    exhaust(&pages);
}

#[test]
fn memory_far_from_every_span_is_a_span_of_its_own_until_there_are_too_many() {
    let (pages, _) = boot(0x8000, &[usable(0x400, 0x600)], SMALL);
    for i in 1..MAX_SPANS {
        let range = frames(0x400 + 0x400 * i, 0x600 + 0x400 * i);
        add(&pages, range).unwrap();
        assert_eq!(pages.stats(ZoneKind::Normal).spans, i + 1);
    }
    let before = pages.frames_available();
    let full = AddMemoryError::TooManySpans { limit: MAX_SPANS };
    assert_eq!(add(&pages, frames(0x6000, 0x6200)), Err(full));
    assert_eq!(pages.frames_available(), before);
    add(&pages, frames(0x600, 0x700)).unwrap();
    exercise(&pages);
    exhaust(&pages);
}

#[test]
fn memory_in_several_zones_is_cut_at_their_limits() {
    let (pages, _) = boot(0x800, &[usable(0x80, 0xc0)], SMALL);
    let range = frames(0xc0, 0x600);
    add(&pages, range).unwrap();
    let spans = ZoneKind::ALL.map(|kind| pages.stats(kind).spans);
    assert_eq!(spans, [1, 1, 1]);
    let covers = ZoneKind::ALL.map(|kind| pages.stats(kind).cover);
    assert_eq!(covers, [frames(0x80, 0x100), frames(0x100, 0x400), frames(0x400, 0x600)]);
    exercise(&pages);
    exhaust(&pages);
    assert!(pages.alloc(order(8), AllocFlags::NO_FALLBACK).is_ok(), "Normal has memory now");
}

#[test]
fn memory_that_fills_holes_and_reserved_ranges_needs_no_metadata() {
    let loader = Region::from_frames(frames(0x500, 0x540), Bootloader);
    let (pages, _) = boot(0x800, &[usable(0x400, 0x800), loader, reserved(0x600, 0x610)], SMALL);
    let before = pages.frames_available();
    add(&pages, frames(0x500, 0x540)).unwrap();
    add(&pages, frames(0x600, 0x610)).unwrap();
    assert_eq!(pages.frames_available(), before + 0x50);
    check_added(&pages, frames(0x500, 0x540), 0);
    assert_eq!(pages.stats(ZoneKind::Normal).spans, 1);
    exercise(&pages);
}

#[test]
fn memory_over_the_ends_of_spans_and_the_gap_between_them_is_added_at_once() {
    // Two spans, each with reserved frames at the end that faces the other.
    let regions = [
        usable(0x400, 0x600),
        usable(0x1800, 0x1a00),
        reserved(0x5f0, 0x600),
        reserved(0x5f8, 0x610),
        reserved(0x17ff, 0x1810),
    ];
    let (pages, _) = boot(0x2000, &regions, SMALL);
    assert_eq!(pages.stats(ZoneKind::Normal).spans, 2);
    add(&pages, frames(0x5f0, 0x1810)).unwrap();
    let normal = pages.stats(ZoneKind::Normal);
    assert_eq!(normal.cover, frames(0x400, 0x1a00));
    assert_eq!((normal.spans, normal.spanned_frames), (1, 0x1600));
    exercise(&pages);
    exhaust(&pages);
}

#[test]
fn spans_that_share_a_group_of_frames_join_with_all_they_hold() {
    // The gap lies within one group of 512 frames; a third span keeps the metadata away.
    let regions = [usable(0x400, 0x840), usable(0x9a0, 0x1000), usable(0x3000, 0x3200)];
    let (pages, _) = boot(0x4000, &regions, SMALL);
    assert_eq!(pages.stats(ZoneKind::Normal).spans, 3);
    let held =
        [frames(0x800, 0x801), frames(0x83f, 0x840), frames(0x9a0, 0x9b3), frames(0xc00, 0xe00)];
    for range in held {
        pages.claim(range).unwrap();
    }
    add(&pages, frames(0x840, 0x9a0)).unwrap();
    let normal = pages.stats(ZoneKind::Normal);
    assert_eq!((normal.spans, normal.cover), (2, frames(0x400, 0x3200)));
    for range in held {
        assert_eq!(pages.run_of(range.start()).map(|(run, _)| run), Some(range));
    }
    exercise(&pages);
    for range in held {
        pages.free_exact(range).unwrap();
        pages.verify().unwrap();
    }
    // Everything but the new metadata, at the top of the gap, coalesces across both seams.
    pages.claim(frames(0x400, 0x998)).unwrap();
    pages.claim(frames(0x9a0, 0x1000)).unwrap();
    pages.free_exact(frames(0x400, 0x998)).unwrap();
    pages.free_exact(frames(0x9a0, 0x1000)).unwrap();
    let block = pages.alloc(order(10), AllocFlags::empty()).unwrap();
    assert!(block == frame(0x400) || block == frame(0xc00), "{block}");
    pages.free(block, order(10)).unwrap();
    exhaust(&pages);
}

#[test]
fn memory_too_small_for_its_metadata_uses_what_is_available() {
    let (pages, _) = boot(0x4000, &[usable(0x400, 0x3000)], SMALL);
    let before = pages.frames_available();
    // One frame: its span's new metadata take more than that.
    add(&pages, frames(0x3000, 0x3001)).unwrap();
    let cost = before + 1 - pages.frames_available();
    assert!(cost <= 16 + 3, "{cost}");
    assert_eq!(pages.stats(ZoneKind::Normal).cover, frames(0x400, 0x3001));
    assert!(exhaust(&pages).contains(&frame(0x3000)));
    exercise(&pages);

    // With nothing available but the reserve there is no room.
    while pages.alloc(Order::ZERO, AllocFlags::empty()).is_ok() {}
    let found = add(&pages, frames(0x3001, 0x3002));
    assert!(matches!(found, Err(AddMemoryError::MetadataTooSmall { .. })), "{found:?}");
    assert_eq!(pages.stats(ZoneKind::Normal).cover, frames(0x400, 0x3001));
    // More memory brings its own.
    add(&pages, frames(0x3001, 0x3801)).unwrap();
    exercise(&pages);
}

#[test]
fn a_zone_that_gives_frames_for_metadata_keeps_less_in_reserve() {
    // The reserve is the root of the frames: of one of these numbers, a frame less makes it
    // smaller.
    for top in 0x840..0x860 {
        let (pages, _) = boot(top, &[usable(0x400, top)], SMALL);
        // One frame, in a zone without memory: its span's metadata come from the other.
        add(&pages, frames(0x200, 0x201)).unwrap();
    }
}

#[test]
fn an_addition_that_fails_half_way_changes_nothing() {
    let (pages, _) = boot(0x800, &[usable(0x400, 0x500)], SMALL);
    while pages.alloc(Order::ZERO, AllocFlags::ATOMIC).is_ok() {}
    // The part in DMA32 brings room enough for its metadata, the one in Normal does not.
    let found = add(&pages, frames(0x3ff, 0x400));
    assert!(matches!(found, Err(AddMemoryError::MetadataTooSmall { .. })), "{found:?}");
    let found = add(&pages, frames(0x2f0, 0x400));
    assert_eq!(found, Ok(()));
    pages.remove(frames(0x2f0, 0x300)).unwrap();
    let before: Vec<_> = pages.zones().collect();
    while pages.alloc(Order::ZERO, AllocFlags::ATOMIC).is_ok() {}
    let found = add(&pages, frames(0x2f0, 0x2f0));
    assert_eq!(found, Ok(()));
    let found = add(&pages, frames(0x4ff, 0x501));
    assert!(matches!(found, Err(AddMemoryError::Overlap { .. })), "{found:?}");
    let found = add(&pages, frames(0x500, 0x501));
    assert!(matches!(found, Err(AddMemoryError::MetadataTooSmall { .. })), "{found:?}");
    let after: Vec<_> = pages.zones().collect();
    assert_eq!(before.len(), after.len());
    assert!(before.iter().zip(&after).all(|(a, b)| a.cover == b.cover));
}

#[test]
fn metadata_of_one_part_go_back_where_another_finds_no_room() {
    // The frame below the limit of zones is a small span; the one above joins a large one.
    let (pages, _) = boot(0x3000, &[usable(0x401, 0x3000)], SMALL);
    let range = frames(0x3ff, 0x401);
    while pages.alloc(Order::ZERO, AllocFlags::empty()).is_ok() {}
    for number in [0x800, 0x900] {
        pages.free(frame(number), Order::ZERO).unwrap();
    }
    let before: Vec<_> = pages.zones().collect();
    let found = add(&pages, range);
    assert!(matches!(found, Err(AddMemoryError::MetadataTooSmall { .. })), "{found:?}");
    let after: Vec<_> = pages.zones().collect();
    let available = |zones: &[ZoneStats]| Vec::from_iter(zones.iter().map(|z| z.available_frames));
    assert_eq!(available(&before), available(&after));
    // The part below alone has room.
    add(&pages, frames(0x3ff, 0x400)).unwrap();
}

#[test]
fn of_frames_that_are_managed_already_the_first_is_named() {
    let (pages, _) = boot(0x800, &[usable(0x80, 0x800)], SMALL);
    let first = AddMemoryError::Overlap { frame: frame(0x80) };
    assert_eq!(add(&pages, frames(0x40, 0x500)), Err(first));
}

#[test]
fn a_zone_whose_memory_is_gone_is_no_more_the_highest_that_has_some() {
    // What is in zone Normal is too little for the metadata.
    let (pages, _) = boot(0x401, &[usable(0x10, 0x3f0), usable(0x400, 0x401)], SMALL);
    let highest = || pages.alloc(Order::ZERO, AllocFlags::NO_FALLBACK | AllocFlags::ATOMIC);
    assert_eq!(highest(), Ok(frame(0x400)));
    pages.free(frame(0x400), Order::ZERO).unwrap();
    pages.remove(frames(0x400, 0x401)).unwrap();
    let below = highest().expect("zone DMA32 has memory");
    assert!(below < frame(0x400));
    add(&pages, frames(0x400, 0x401)).unwrap();
    assert_eq!(highest(), Ok(frame(0x400)));
}

#[test]
fn memory_that_is_not_mapped_is_not_added() {
    let (pages, _) = boot(0x800, &[usable(0x400, 0x800)], SMALL);
    let before = pages.frames_available();
    let found = add(&pages, frames(0x800, 0x1000));
    assert!(matches!(found, Err(AddMemoryError::Unmapped { .. })), "{found:?}");
    assert_eq!(pages.frames_available(), before);
    exercise(&pages);
}

#[test]
fn a_balloon_takes_memory_and_brings_it_back() {
    let (pages, _) = boot(0x800, &[usable(0x10, 0x800)], SMALL);
    let before = pages.frames_managed();
    let watermarks = pages.stats(ZoneKind::Normal).watermarks;
    let range = frames(0x80, 0x600);
    pages.remove(range).unwrap();
    assert_eq!(pages.frames_managed(), before - range.frames());
    assert!(pages.stats(ZoneKind::Normal).watermarks.min < watermarks.min);
    assert!(exhaust(&pages).iter().all(|&frame| !range.contains(frame)));
    assert_eq!(pages.lookup(frame(0x300)), FrameState::Hole);
    add(&pages, range).unwrap();
    assert_eq!(pages.frames_managed(), before);
    assert_eq!(pages.stats(ZoneKind::Normal).watermarks, watermarks);
    exercise(&pages);
    exhaust(&pages);
}

#[test]
fn provided_memory_is_added_without_moving_anything() {
    let options = InitOptions { provision: frames(0x400, 0x2000), ..SMALL };
    let (pages, _) = boot(0x2000, &[usable(0x400, 0x600)], options);
    let before = pages.frames_managed();
    for start in [0x1000, 0x600, 0x1f00] {
        add(&pages, frames(start, start + 0x100)).unwrap();
    }
    assert_eq!(pages.frames_managed(), before + 0x300);
    assert_eq!(pages.stats(ZoneKind::Normal).spans, 1);
    exercise(&pages);
    exhaust(&pages);
}

#[test]
fn growing_step_by_step_loses_little() {
    let (pages, _) = boot(0x4000, &[usable(0x400, 0x500)], SMALL);
    for step in 5..0x30 {
        add(&pages, frames(step << 8, (step + 1) << 8)).unwrap();
    }
    let normal = pages.stats(ZoneKind::Normal);
    assert_eq!((normal.spans, normal.spanned_frames), (1, 0x2c00));
    let lost = normal.spanned_frames - normal.managed_frames;
    // Owner records take 11 frames and the last metadata 4; each step leaves a frame that holds
    // both kinds.
    assert!(lost <= 11 + 4 + 2 * 0x2c, "{lost}");
    exercise(&pages);
    exhaust(&pages);
}

/// Grows a span a piece at a time until that is refused. What was carved stays known.
fn grow_to_the_limit(owners: Owners) {
    let options = InitOptions { owners, ..SMALL };
    // Two spans at boot: they have their metadata in one place, and two tables of owner records.
    let (pages, _) = boot(0x9000, &[usable(0x400, 0x500), usable(0x8800, 0x8900)], options);
    let piece = |nth: usize| frames(0x500 + nth * 0x80, 0x500 + (nth + 1) * 0x80);
    let grown = (0..0xe0).find(|&nth| match add(&pages, piece(nth)) {
        Ok(()) => false,
        Err(error) => {
            assert!(matches!(error, AddMemoryError::TooManyGrowths { limit: 64 }), "{error}");
            true
        }
    });
    let grown = grown.expect("there is a limit");
    assert!(grown > 50, "{grown}");
    for nth in 0..grown {
        let found = add(&pages, piece(nth));
        let first = AddMemoryError::Overlap { frame: piece(nth).start() };
        assert!(matches!(found, Err(AddMemoryError::Overlap { .. })), "{nth}: {found:?}");
        if nth + 1 < grown {
            assert_eq!(found, Err(first));
        }
    }
    // Metadata and memory: every frame is one or the other, and neither can be added again.
    for frame in frames(0x500, piece(grown).start().number()).iter() {
        let alone = FrameRange::from_len(frame, 1).unwrap();
        assert_eq!(add(&pages, alone), Err(AddMemoryError::Overlap { frame }));
    }
    exercise(&pages);
    exhaust(&pages);
}

#[test]
fn a_span_grows_as_often_as_there_is_room_for_what_is_left_behind() {
    grow_to_the_limit(Owners::Keep);
}

#[test]
fn a_span_without_owner_records_grows_too() {
    grow_to_the_limit(Owners::Omit);
}
