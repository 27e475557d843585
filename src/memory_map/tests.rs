use std::vec::Vec;

use proptest::prelude::*;

use super::RegionKind::{
    AcpiNvs, AcpiReclaimable, Bad, Bootloader, Kernel, Reserved as R, Usable as U,
};
use super::{MemoryMap, Region, RegionKind, TypedRange};
use crate::frame::{Frame, FrameRange, PhysAddr};

/// Byte addresses of a region.
type Entry = (u64, u64, RegionKind);
/// Frame numbers of a range.
type Row = (usize, usize, RegionKind);

fn region((start, end, kind): Entry) -> Region {
    Region::new(PhysAddr::new(start), PhysAddr::new(end), kind)
}

/// What `entries`, in bytes, come out as, in frame numbers.
fn tidy(entries: &[Entry]) -> Vec<Row> {
    MemoryMap::new(entries.iter().copied().map(region))
        .map(|TypedRange { frames, kind }| (frames.start().number(), frames.end().number(), kind))
        .collect()
}

/// The same with entries in whole frames.
fn tidy_frames(entries: &[Row]) -> Vec<Row> {
    let bytes: Vec<Entry> = entries
        .iter()
        .map(|&(start, end, kind)| (start as u64 * F, end as u64 * F, kind))
        .collect();
    tidy(&bytes)
}

/// Bytes in a frame.
const F: u64 = 0x1000;

#[test]
fn the_thirteen_relations_of_a_usable_and_a_reserved_region() {
    // Each row: the usable region, the reserved one, and what comes out.
    type Relation = (&'static str, [usize; 2], [usize; 2], &'static [Row]);
    let table: [Relation; 13] = [
        ("before", [1, 3], [5, 7], &[(1, 3, U), (5, 7, R)]),
        ("meets", [1, 3], [3, 7], &[(1, 3, U), (3, 7, R)]),
        ("overlaps", [1, 5], [3, 7], &[(1, 3, U), (3, 7, R)]),
        ("is finished by", [1, 7], [3, 7], &[(1, 3, U), (3, 7, R)]),
        ("contains", [1, 9], [3, 7], &[(1, 3, U), (3, 7, R), (7, 9, U)]),
        ("starts", [3, 5], [3, 7], &[(3, 7, R)]),
        ("equals", [3, 7], [3, 7], &[(3, 7, R)]),
        ("is started by", [3, 9], [3, 7], &[(3, 7, R), (7, 9, U)]),
        ("during", [4, 6], [3, 7], &[(3, 7, R)]),
        ("finishes", [5, 7], [3, 7], &[(3, 7, R)]),
        ("is overlapped by", [5, 9], [3, 7], &[(3, 7, R), (7, 9, U)]),
        ("is met by", [7, 9], [3, 7], &[(3, 7, R), (7, 9, U)]),
        ("after", [9, 11], [3, 7], &[(3, 7, R), (9, 11, U)]),
    ];
    for (relation, [a, b], [c, d], expected) in table {
        assert_eq!(tidy_frames(&[(a, b, U), (c, d, R)]), expected, "usable {relation} reserved");
        assert_eq!(tidy_frames(&[(c, d, R), (a, b, U)]), expected, "listed the other way round");
    }
}

#[test]
fn the_thirteen_relations_of_two_usable_regions_give_their_union() {
    let relations =
        [[1, 2], [1, 3], [1, 5], [1, 7], [1, 9], [3, 5], [3, 7], [3, 9], [4, 6], [5, 7], [5, 9]];
    for [a, b] in relations.into_iter().chain([[7, 9], [9, 11]]) {
        let union: &[Row] = match (b < 3, a > 7) {
            (true, _) => &[(a, b, U), (3, 7, U)],
            (_, true) => &[(3, 7, U), (a, b, U)],
            _ => &[(a.min(3), b.max(7), U)],
        };
        assert_eq!(tidy_frames(&[(a, b, U), (3, 7, U)]), union, "{a}..{b} with 3..7");
        assert_eq!(tidy_frames(&[(3, 7, U), (a, b, U)]), union, "3..7 with {a}..{b}");
    }
}

#[test]
fn regions_are_joined_cut_and_sorted() {
    // Entries in frames, in the order given, and what comes out.
    let table: [(&str, &[Row], &[Row]); 26] = [
        ("nothing", &[], &[]),
        ("one usable", &[(2, 4, U)], &[(2, 4, U)]),
        ("one reserved", &[(2, 4, R)], &[(2, 4, R)]),
        ("frame zero", &[(0, 1, U)], &[(0, 1, U)]),
        ("empty", &[(2, 2, U)], &[]),
        ("empty and reserved", &[(2, 2, R)], &[]),
        ("empty inside usable", &[(1, 5, U), (3, 3, R)], &[(1, 5, U)]),
        ("reversed", &[(4, 2, U)], &[]),
        ("reversed inside usable", &[(1, 9, U), (6, 4, R)], &[(1, 9, U)]),
        ("repeated", &[(1, 3, U), (1, 3, U), (1, 3, U)], &[(1, 3, U)]),
        ("repeated and reserved", &[(1, 3, R), (1, 3, R)], &[(1, 3, R)]),
        ("out of order", &[(7, 9, U), (1, 3, U), (4, 5, U)], &[(1, 3, U), (4, 5, U), (7, 9, U)]),
        ("a chain that touches", &[(5, 7, U), (1, 3, U), (3, 5, U)], &[(1, 7, U)]),
        ("a bridge over a gap", &[(1, 3, U), (6, 8, U), (2, 7, U)], &[(1, 8, U)]),
        ("a gap of one frame", &[(1, 3, U), (4, 8, U)], &[(1, 3, U), (4, 8, U)]),
        ("swallowed at the top", &[(1, 9, U), (8, 9, U)], &[(1, 9, U)]),
        ("swallowed many", &[(3, 4, U), (5, 6, U), (1, 9, U), (7, 8, U)], &[(1, 9, U)]),
        ("a hole punched", &[(1, 9, U), (4, 5, R)], &[(1, 4, U), (4, 5, R), (5, 9, U)]),
        (
            "two holes punched",
            &[(6, 7, R), (1, 9, U), (3, 4, R)],
            &[(1, 3, U), (3, 4, R), (4, 6, U), (6, 7, R), (7, 9, U)],
        ),
        (
            "holes that touch",
            &[(1, 9, U), (3, 5, R), (5, 6, R)],
            &[(1, 3, U), (3, 6, R), (6, 9, U)],
        ),
        (
            "a hole across a seam",
            &[(1, 5, U), (5, 9, U), (4, 6, R)],
            &[(1, 4, U), (4, 6, R), (6, 9, U)],
        ),
        ("all reserved", &[(2, 4, U), (5, 6, U), (1, 9, R)], &[(1, 9, R)]),
        (
            "reserved over a gap",
            &[(1, 3, U), (6, 8, U), (2, 7, R)],
            &[(1, 2, U), (2, 7, R), (7, 8, U)],
        ),
        (
            "kinds side by side",
            &[(1, 2, U), (2, 3, Bootloader), (3, 4, Kernel), (4, 5, Bad)],
            &[(1, 2, U), (2, 3, Bootloader), (3, 4, Kernel), (4, 5, Bad)],
        ),
        (
            "a strong kind inside a weak one",
            &[(1, 9, AcpiReclaimable), (4, 5, AcpiNvs)],
            &[(1, 4, AcpiReclaimable), (4, 5, AcpiNvs), (5, 9, AcpiReclaimable)],
        ),
        ("a weak kind inside a strong one", &[(4, 5, Bootloader), (1, 9, R)], &[(1, 9, R)]),
    ];
    for (what, entries, expected) in table {
        assert_eq!(tidy_frames(entries), expected, "{what}");
        let reversed: Vec<Row> = entries.iter().rev().copied().collect();
        assert_eq!(tidy_frames(&reversed), expected, "{what}, listed backwards");
    }
}

#[test]
fn usable_is_rounded_inwards_and_the_rest_outwards() {
    // Entries in bytes; what comes out in frames.
    let table: [(&str, &[Entry], &[Row]); 19] = [
        ("usable from within a frame", &[(0x1001, 0x4000, U)], &[(2, 4, U)]),
        ("usable into a frame", &[(0x1000, 0x3fff, U)], &[(1, 3, U)]),
        ("usable within one frame", &[(0x1001, 0x1fff, U)], &[]),
        ("usable across two frames, neither whole", &[(0x1800, 0x2800, U)], &[]),
        ("reserved from within a frame", &[(0x1fff, 0x4000, R)], &[(1, 4, R)]),
        ("reserved into a frame", &[(0x1000, 0x3001, R)], &[(1, 4, R)]),
        ("one reserved byte", &[(0x1234, 0x1235, R)], &[(1, 2, R)]),
        ("empty within a frame", &[(0x1234, 0x1234, R), (0x1000, 0x2000, U)], &[(1, 2, U)]),
        (
            "reserved byte in usable",
            &[(0x1000, 0x4000, U), (0x2800, 0x2801, R)],
            &[(1, 2, U), (2, 3, R), (3, 4, U)],
        ),
        ("a frame of two usable halves", &[(0x1000, 0x2800, U), (0x2800, 0x4000, U)], &[(1, 4, U)]),
        ("halves that overlap", &[(0x2400, 0x4000, U), (0x1000, 0x2c00, U)], &[(1, 4, U)]),
        (
            "halves that miss each other by a byte",
            &[(0x1000, 0x2800, U), (0x2801, 0x4000, U)],
            &[(1, 2, U), (3, 4, U)],
        ),
        (
            "a frame of four quarters",
            &[(0x1c00, 0x2000, U), (0x1400, 0x1800, U), (0x1000, 0x1400, U), (0x1800, 0x1c00, U)],
            &[(1, 2, U)],
        ),
        ("three quarters", &[(0x1c00, 0x2000, U), (0x1400, 0x1800, U), (0x1000, 0x1400, U)], &[]),
        (
            "a frame half usable, half reserved",
            &[(0x1000, 0x2800, U), (0x2800, 0x4000, R)],
            &[(1, 2, U), (2, 4, R)],
        ),
        (
            "the base memory of a PC",
            &[(0, 0x9_fc00, U), (0x9_fc00, 0xa_0000, R), (0xf_0000, 0x10_0000, R)],
            &[(0, 0x9f, U), (0x9f, 0xa0, R), (0xf0, 0x100, R)],
        ),
        (
            "two kinds in one frame",
            &[(0x1000, 0x1800, Bootloader), (0x1800, 0x2000, AcpiNvs)],
            &[(1, 2, AcpiNvs)],
        ),
        (
            "a stronger kind reaches into the last frame",
            &[(0x1000, 0x3000, Kernel), (0x2fff, 0x3000, Bad)],
            &[(1, 2, Kernel), (2, 3, Bad)],
        ),
        ("two of one kind in one frame", &[(0x1000, 0x1800, R), (0x1801, 0x2000, R)], &[(1, 2, R)]),
    ];
    for (what, entries, expected) in table {
        assert_eq!(tidy(entries), expected, "{what}");
        let reversed: Vec<Entry> = entries.iter().rev().copied().collect();
        assert_eq!(tidy(&reversed), expected, "{what}, listed backwards");
    }
}

#[test]
fn entries_at_the_end_of_the_address_space() {
    let top = u64::MAX >> 12;
    let last = Frame::MAX.number();
    let at = PhysAddr::new;
    let table: [(&str, Region, Option<Row>); 7] = [
        ("reserved that wraps ends there", Region::from_len(at(!0xfff), 0x5000, R), None),
        (
            "and takes what lies below",
            Region::from_len(at(!0x1fff), 0x5000, R),
            Some((last - 1, last, R)),
        ),
        ("usable that wraps is void", Region::from_len(at(!0x1fff), 0x5000, U), None),
        ("usable of all bytes is void", Region::from_len(at(0x1000), u64::MAX, U), None),
        ("reserved of all bytes", Region::from_len(at(0x1000), u64::MAX, R), Some((1, last, R))),
        ("usable to the last byte", Region::new(at(0), PhysAddr::MAX, U), Some((0, last, U))),
        ("up to the last frame", Region::from_len(at(0), top << 12, U), Some((0, last, U))),
    ];
    for (what, region, expected) in table {
        let found: Vec<Row> = MemoryMap::new([region])
            .map(|range| (range.frames.start().number(), range.frames.end().number(), range.kind))
            .collect();
        assert_eq!(found, Vec::from_iter(expected), "{what}");
    }
}

#[test]
fn a_pc_with_the_hole_below_4_gib_and_a_reserved_range_at_1_tib() {
    let entries = [
        (0x0, 0x9_fc00, U),
        (0x9_fc00, 0xa_0000, R),
        (0xf_0000, 0x10_0000, R),
        (0x10_0000, 0xbffe_0000, U),
        (0xbffe_0000, 0xc000_0000, R),
        (0xfeff_c000, 0xff00_0000, R),
        (0xfffc_0000, 0x1_0000_0000, R),
        (0x1_0000_0000, 0x1_8000_0000, U),
        (0xfd_0000_0000, 0x100_0000_0000, R),
        (0x10_0000, 0x34_5678, Kernel),
    ];
    let map = MemoryMap::new(entries.map(region));
    let usable: Vec<FrameRange> = map.clone().usable().collect();
    let range =
        |start, end| FrameRange::new(Frame::new(start).unwrap(), Frame::new(end).unwrap()).unwrap();
    assert_eq!(usable, [range(0, 0x9f), range(0x346, 0xbffe0), range(0x10_0000, 0x18_0000)]);
    assert_eq!(map.clone().frames(U), 0x9f + (0xbffe0 - 0x346) + 0x8_0000);
    assert_eq!(map.clone().frames(Kernel), 0x246);
    assert_eq!(map.clone().frames(R), 1 + 0x10 + 0x20 + 4 + 0x40 + 0x30_0000);
    assert_eq!(map.frames(Bad), 0);
}

#[test]
fn hundreds_of_entries_need_no_buffer() {
    // Firmware that lists every other 64 KiB, backwards, each of them twice.
    let entries: Vec<Region> = (0..1000_u64)
        .rev()
        .flat_map(|i| [region((i * 0x2_0000, i * 0x2_0000 + 0x1_0000, U)); 2])
        .collect();
    let map = MemoryMap::new(entries.iter().copied());
    assert_eq!(map.clone().count(), 1000);
    assert_eq!(map.frames(U), 16_000);
}

const KINDS: [RegionKind; 7] = [U, Bootloader, AcpiReclaimable, Kernel, AcpiNvs, R, Bad];

/// What each of the first `frames` frames is, asked byte by byte of units that every edge in the
/// test is a multiple of.
fn model(entries: &[Entry], frames: usize, unit: u64) -> Vec<Option<RegionKind>> {
    (0..frames as u64)
        .map(|frame| {
            let kinds = (frame * F..(frame + 1) * F).step_by(unit as usize).map(|byte| {
                let here = entries.iter().filter(|(start, end, _)| (*start..*end).contains(&byte));
                here.map(|&(_, _, kind)| kind).max()
            });
            let strongest = kinds.clone().flatten().max();
            if strongest == Some(U) && kinds.clone().any(|kind| kind.is_none()) {
                None
            } else {
                strongest
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_map_comes_out_as_its_frames_say(
        entries in prop::collection::vec((0_u64..64, 0_u64..64, 0_usize..KINDS.len() * 2), 0..24)
    ) {
        // Edges at multiples of a quarter of a frame; half of the regions are usable.
        let unit = F / 4;
        let entries: Vec<Entry> = entries
            .into_iter()
            .map(|(start, end, kind)| {
                (start * unit, end * unit, KINDS.get(kind).copied().unwrap_or(U))
            })
            .collect();
        let model = model(&entries, 17, unit);
        let rows = tidy(&entries);
        let mut frames = std::vec![None; model.len()];
        for (i, &(start, end, kind)) in rows.iter().enumerate() {
            prop_assert!(start < end);
            if let Some(&(_, before, kind_before)) = i.checked_sub(1).map(|i| &rows[i]) {
                prop_assert!(before < start || (before == start && kind_before != kind));
            }
            frames[start..end].fill(Some(kind));
        }
        prop_assert_eq!(frames, model);
    }
}
