//! From a memory map to frames: nothing is lost, nothing is invented.

use std::collections::BTreeSet;
use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// The metadata of frames alone, not those of the 256 CPUs of the test's machine.
const WITHOUT_LISTS: InitOptions =
    InitOptions { cpu_lists: CpuLists::Omit, ..InitOptions::DEFAULT };
use crate::memory_map::MemoryMap;
use crate::memory_map::RegionKind::{
    AcpiNvs, AcpiReclaimable, Bad, Bootloader, Kernel, Reserved, Usable,
};
use crate::page::{AddMemoryError, Contents, FrameSource, FrameState, Owners};

/// Boots on `regions` and checks that exactly the usable frames without those of the metadata can
/// be allocated.
#[track_caller]
fn boot_and_exhaust(top: usize, regions: &[Region], options: InitOptions) -> BootReport {
    let (pages, report) = boot(top, regions, options);
    let map = MemoryMap::new(regions.iter().copied());
    let usable: BTreeSet<Frame> = map.usable().flat_map(FrameRange::iter).collect();
    let found = exhaust(&pages);
    assert!(found.is_subset(&usable));
    assert_eq!(report.usable_frames, usable.len());
    assert_eq!(report.managed_frames, found.len());
    assert_eq!(report.usable_frames, report.managed_frames + report.metadata_frames);
    assert_eq!(report.zone_frames.iter().sum::<usize>(), report.managed_frames);
    for kind in ZoneKind::ALL {
        assert_eq!(pages.stats(kind).managed_frames, report.zone_frames[kind.index()]);
    }
    report
}

#[test]
fn every_weirdness_of_boot_maps_leaves_exactly_the_usable_frames() {
    let at =
        |start: u64, end: u64, kind| Region::new(PhysAddr::new(start), PhysAddr::new(end), kind);
    let huge = at(0xfd_0000_0000, 0x100_0000_0000, Reserved);
    let table: [(&str, Vec<Region>); 16] = [
        ("one range", [usable(0x40, 0x200)].into()),
        ("from frame 1", [usable(1, 0x200)].into()),
        ("in three zones", [usable(0x10, 0x800)].into()),
        ("out of order", [usable(0x300, 0x500), usable(0x40, 0x80), usable(0x100, 0x200)].into()),
        ("overlapping", [usable(0x40, 0x200), usable(0x100, 0x300), usable(0x80, 0x90)].into()),
        ("repeated", [usable(0x40, 0x200); 5].into()),
        ("touching", [usable(0x40, 0x80), usable(0x80, 0x140), usable(0x140, 0x141)].into()),
        ("a huge reserved range far above", [usable(0x40, 0x200), huge].into()),
        (
            "everything above reserved",
            [usable(0x40, 0x200), Region::from_len(PhysAddr::new(0x20_0000), u64::MAX, Reserved)]
                .into(),
        ),
        (
            "reserved inside usable",
            [
                usable(0x40, 0x700),
                reserved(0x50, 0x51),
                reserved(0xf0, 0x110),
                reserved(0x6ff, 0x700),
            ]
            .into(),
        ),
        (
            "usable inside reserved",
            [usable(0x40, 0x200), reserved(0x300, 0x400), usable(0x310, 0x320)].into(),
        ),
        ("unaligned", [at(0x4_0123, 0x20_0fff, Usable), at(0x10_0001, 0x10_0002, Bad)].into()),
        (
            "void entries",
            [
                at(0x4_0000, 0x4_0000, Usable),
                at(0x20_0000, 0x4_0000, Usable),
                usable(0x40, 0x200),
                at(0x8_0000, 0x5_0000, Reserved),
                Region::from_len(PhysAddr::new(0x1000), u64::MAX, Usable),
            ]
            .into(),
        ),
        (
            "kinds",
            [
                usable(0x40, 0x700),
                Region::from_frames(frames(0x60, 0x80), Kernel),
                Region::from_frames(frames(0x90, 0xa0), Bootloader),
                Region::from_frames(frames(0x1a0, 0x1b0), AcpiReclaimable),
                Region::from_frames(frames(0x1b0, 0x1b4), AcpiNvs),
            ]
            .into(),
        ),
        (
            "three hundred entries",
            (0..300)
                .map(|i| usable(0x10 + i * 6, 0x14 + i * 6))
                .chain([usable(0x720, 0x7ff)])
                .collect(),
        ),
        (
            "holes larger than the memory around them",
            [usable(0x40, 0x48), usable(0x180, 0x190), usable(0x3f0, 0x410), usable(0x7f0, 0x7ff)]
                .into(),
        ),
    ];
    for (what, regions) in table {
        for owners in [Owners::Keep, Owners::Omit] {
            let options = InitOptions { owners, ..SMALL };
            let report = boot_and_exhaust(0x800, &regions, options);
            assert!(report.carve_outs >= 1, "{what}");
            let backwards: Vec<Region> = regions.iter().rev().copied().collect();
            assert_eq!(boot_and_exhaust(0x800, &backwards, options), report, "{what}, backwards");
        }
    }
}

#[test]
fn metadata_that_fit_nowhere_in_one_piece_are_spread() {
    // Each zone's needs fit in one of these ranges, all of them together in none.
    let regions = [usable(0x40, 0x43), usable(0x200, 0x203), usable(0x500, 0x503)];
    let options = InitOptions { owners: Owners::Omit, ..SMALL };
    let report = boot_and_exhaust(0x800, &regions, options);
    assert_eq!((report.spans, report.carve_outs), (3, 1));

    let regions = [usable(0x40, 0x42), usable(0x200, 0x202), usable(0x500, 0x502)];
    let report = boot_and_exhaust(0x800, &regions, SMALL);
    assert_eq!(report.spans, 3);
}

#[test]
fn a_map_without_memory_is_refused_and_another_call_may_succeed() {
    let (pages, report) = try_boot(0x200, &[reserved(0x10, 0x200)], SMALL);
    assert_eq!(report, Err(InitError::NoMemory));
    // SAFETY: the whole machine is the allocator's.
    let report = unsafe { pages.init_with([], SMALL) };
    assert_eq!(report, Err(InitError::NoMemory));
    // SAFETY: as above.
    let report = unsafe { pages.init_with([usable(0x10, 0x200)], SMALL) };
    assert!(report.is_ok());
    exercise(&pages);
}

#[test]
fn metadata_that_do_not_fit_are_refused_and_the_need_is_named() {
    // One usable frame at each end of a span that is provided for.
    let provision = frames(0x400, 0x10000);
    let options = InitOptions { provision, ..SMALL };
    let (pages, report) = try_boot(0x500, &[usable(0x400, 0x420)], options);
    let Err(InitError::MetadataTooSmall { need, largest }) = report else {
        panic!("{report:?}");
    };
    assert_eq!(largest, 0x20);
    assert!(need > 0xf000 * 5 / 0x1000, "{need}");
    // SAFETY: the whole machine is the allocator's.
    let report = unsafe { pages.init_with([usable(0x400, 0x420)], SMALL) };
    assert!(report.is_ok());
    exhaust(&pages);
}

#[test]
fn memory_that_metadata_would_use_up_is_refused() {
    for cpu_lists in [CpuLists::Keep, CpuLists::Omit] {
        let options = InitOptions { cpu_lists, ..SMALL };
        for usable_frames in 1..40 {
            let map = [usable(0x10, 0x10 + usable_frames)];
            let pages = PageAllocator::new(Machine::new([frames(0, 0x100)]).with_one_cpu());
            // SAFETY: the whole machine is the allocator's.
            let report = unsafe { pages.init_with(map, options) };
            if usable_frames == 1 {
                assert_eq!(report, Err(InitError::MetadataTooSmall { need: 2, largest: 1 }));
                assert_eq!((pages.frames_managed(), pages.zones().count()), (0, 0));
                continue;
            }
            let report = report.unwrap_or_else(|error| panic!("{usable_frames} frames: {error}"));
            assert!(report.managed_frames + 1 >= report.metadata_frames, "{report}");
            assert!(pages.alloc(Order::ZERO, AllocFlags::ATOMIC).is_ok());
        }
    }
}

#[test]
fn a_second_initialisation_is_refused_and_changes_nothing() {
    let (pages, _) = boot(0x200, &[usable(0x10, 0x100)], SMALL);
    let before = pages.frames_available();
    // SAFETY: the whole machine is the allocator's.
    let again = unsafe { pages.init([usable(0x100, 0x200)]) };
    assert_eq!(again, Err(InitError::AlreadyInitialized));
    assert_eq!(pages.frames_available(), before);
    exercise(&pages);
}

#[test]
fn memory_that_is_not_mapped_is_refused() {
    let (pages, report) = try_boot(0x100, &[usable(0x100, 0x200)], SMALL);
    assert!(matches!(report, Err(InitError::Unmapped { .. })), "{report:?}");
    assert_eq!(pages.frames_managed(), 0);
    assert!(pages.owners.room() > 0);
}

#[test]
fn memory_of_which_a_part_is_not_mapped_is_refused_as_a_whole() {
    // The metadata of the lower zones go to the highest range, those of zone Normal are too long
    // for what is left there.
    let normal = (0..16).map(|nth| usable(0x400 + nth * 0x100, 0x405 + nth * 0x100));
    let map = [usable(0x40, 0x45), usable(0x200, 0x205)].into_iter().chain(normal);
    let mapped = frames(0x1300, 0x1305);
    let pages = PageAllocator::new(Machine::new([mapped]));
    // SAFETY: the whole machine is the allocator's.
    let report = unsafe { pages.init_with(map, SMALL) };
    let Err(InitError::Unmapped { frame }) = report else { panic!("{report:?}") };
    assert!(frame >= crate::test_support::frame(0x400));
    assert_eq!((pages.frames_managed(), pages.zones().count()), (0, 0));
    // Nothing of the first is in the way of another call.
    // SAFETY: as above.
    let report = unsafe { pages.init_with([usable(0x1300, 0x1305)], SMALL) };
    assert_eq!(report.map(|report| report.usable_frames), Ok(5));
    exhaust(&pages);
}

#[test]
fn the_owner_records_at_hand_are_those_of_the_longest_span() {
    let (pages, _) = boot(0x800, &[usable(0x10, 0x80), usable(0x400, 0x800)], SMALL);
    let (first, records) = pages.owners_at_hand().expect("there are records");
    assert_eq!((first.number(), records.len()), (0x400, 0x400));
}

#[test]
fn holes_cut_spans_and_touching_regions_are_one() {
    let spans = |regions: &[Region]| boot(0x3000, regions, SMALL).1.spans;
    assert_eq!(spans(&[usable(0x400, 0x500), usable(0x500, 0x600)]), 1);
    assert_eq!(spans(&[usable(0x400, 0x500), usable(0x580, 0x600)]), 1);
    assert_eq!(spans(&[usable(0x400, 0x500), usable(0x1000, 0x1100)]), 2);
    // More holes than a zone has spans: only the largest cut.
    let scattered: Vec<Region> =
        (0..20).map(|i| usable(0x400 + 0x210 * i, 0x418 + 0x210 * i)).collect();
    assert!(spans(&scattered) <= crate::page::MAX_SPANS);
}

#[test]
fn metadata_stay_within_their_share_of_memory() {
    // 5 GiB with the hole of a PC below 4 GiB. Only the top, where metadata go, has to be there.
    let top = 0x18_0000;
    let regions = [
        Region::new(PhysAddr::ZERO, PhysAddr::new(0x9_fc00), Usable),
        usable(0x100, 0xb_ffe0),
        usable(0x10_0000, top),
        reserved(0xf_effc, 0xf_f000),
        reserved(0xfd0_0000, 0x1000_0000),
    ];
    let pages = PageAllocator::new(Machine::new([frames(top - 0x1000, top)]));
    // SAFETY: the metadata find their place at the top, and nothing is zeroed.
    let report = unsafe { pages.init_with(regions, WITHOUT_LISTS) }.unwrap();
    assert_eq!(report.spans, 3);
    assert_eq!(report.carve_outs, 1);
    assert!(report.buddy_milli_percent() <= 30, "{report}");
    assert!(report.metadata_milli_percent() <= 130, "{report}");
    assert!((report.metadata_frames << 12) < report.buddy_bytes + report.owner_bytes + 0x2000);
    assert!(report.to_string().contains("carve-outs: 1;"), "{report}");
    assert_eq!(pages.largest(), Some(order(18)));
    pages.verify().unwrap();
    let low = pages.alloc(Order::ZERO, AllocFlags::ZONE_DMA).unwrap();
    assert!(low.number() < 0x1000);
    // The metadata themselves are reserved.
    let metadata = crate::test_support::frame(top - 1);
    assert_eq!(pages.free(metadata, Order::ZERO), Err(crate::page::FreeError::Reserved));
}

#[test]
fn small_machines_stay_within_a_frame_of_their_share() {
    for frames in [0x1000, 0x8000] {
        let pages_top = frames;
        let (_pages, report) = boot(pages_top, &[usable(1, pages_top)], WITHOUT_LISTS);
        assert!(report.metadata_frames <= frames * 130 / 100_000 + 1, "{report}");
    }
}

#[test]
fn zeroed_memory_is_not_touched_before_it_is_used() {
    // The provision is large; its metadata lie in memory that says it is zero, and stays so.
    let options =
        InitOptions { contents: Contents::Zeroed, provision: frames(0x400, 0x8000), ..SMALL };
    let (pages, report) = boot(0x800, &[usable(0x400, 0x800)], options);
    assert_eq!(report.managed_frames + report.metadata_frames, 0x400);
    assert_eq!(pages.stats(ZoneKind::Normal).spanned_frames, 0x7c00);
    // So do the states of the metadata's own frames, which are nobody's all the same.
    let metadata = frames(0x800 - report.metadata_frames, 0x800);
    for frame in metadata.iter() {
        assert_eq!(pages.lookup(frame), FrameState::Hole);
        assert!(pages.free(frame, Order::ZERO).is_err());
    }
    // SAFETY: it is refused.
    let added = unsafe { pages.add(metadata) };
    assert_eq!(added, Err(AddMemoryError::Overlap { frame: metadata.start() }));
    exercise(&pages);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_map_leaves_exactly_the_usable_frames(
        entries in prop::collection::vec((1_u64..0x600, 1_u64..0x200, 0_u64..0x1000, 0..4), 1..20)
    ) {
        let regions: Vec<Region> = entries
            .iter()
            .map(|&(start, len, ragged, kind)| {
                let start = (start << 12) + if kind == 3 { ragged } else { 0 };
                let kind = if kind == 0 { Reserved } else { Usable };
                Region::from_len(PhysAddr::new(start), (len << 12) + ragged, kind)
            })
            .collect();
        let (pages, report) = try_boot(0x900, &regions, SMALL);
        match report {
            Ok(report) => prop_assert_eq!(boot_and_exhaust(0x900, &regions, SMALL), report),
            Err(InitError::NoMemory | InitError::MetadataTooSmall { .. }) => {
                prop_assert_eq!(pages.frames_managed(), 0);
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
