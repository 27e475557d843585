//! Memory maps, however untidy, against a table with a line for every frame.

use arbitrary::Arbitrary;
use kmem::frame::{Frame, PhysAddr};
use kmem::memory_map::{MemoryMap, Region, RegionKind};

/// One entry. Positions are in eighths of a frame, so that ends fall inside frames as well.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Entry {
    start: u8,
    end: u8,
    kind: u8,
}

const KINDS: [RegionKind; 7] = [
    RegionKind::Usable,
    RegionKind::Bootloader,
    RegionKind::AcpiReclaimable,
    RegionKind::Kernel,
    RegionKind::AcpiNvs,
    RegionKind::Reserved,
    RegionKind::Bad,
];

const EIGHTH_BYTES: u64 = 512;

/// The most entries in a map: the sweep is quadratic.
const MOST_ENTRIES: usize = 24;

/// What one eighth of a frame is: usable if it is and nothing else, or the strongest of what it is.
fn eighth(regions: &[Region], at: u64) -> Option<RegionKind> {
    let covers = |region: &&Region| region.start.as_u64() <= at && at < region.end.as_u64();
    regions.iter().filter(covers).map(|region| region.kind).max()
}

/// What the frame is, from its eighths.
fn frame_kind(regions: &[Region], frame: u64) -> Option<RegionKind> {
    let eighths = (0..8).map(|i| eighth(regions, frame * 8 * EIGHTH_BYTES + i * EIGHTH_BYTES));
    let kinds: Vec<_> = eighths.collect();
    let strongest = kinds.iter().copied().flatten().max()?;
    let is_whole = kinds.iter().all(Option::is_some);
    (strongest != RegionKind::Usable || is_whole).then_some(strongest)
}

/// Makes a map of the entries, and compares each frame.
pub fn run(bytes: &[u8]) {
    let address = |eighths: u8| PhysAddr::new(u64::from(eighths) * EIGHTH_BYTES);
    let regions: Vec<_> = super::decode::<Entry>(bytes)
        .take(MOST_ENTRIES)
        .map(|entry| {
            let kind = KINDS[usize::from(entry.kind) % KINDS.len()];
            Region::new(address(entry.start), address(entry.end), kind)
        })
        .collect();
    let mut found = [None; 33];
    let mut end = Frame::ZERO;
    let mut last = None;
    for range in MemoryMap::new(regions.iter().copied()) {
        assert!(!range.frames.is_empty(), "an empty range");
        assert!(range.frames.start() >= end, "{} after {end}", range.frames);
        let joins = last == Some(range.kind) && range.frames.start() == end;
        assert!(!joins, "two ranges that should be one at {end}");
        (end, last) = (range.frames.end(), Some(range.kind));
        range.frames.iter().for_each(|frame| found[frame.number()] = Some(range.kind));
    }
    for (number, kind) in found.into_iter().enumerate() {
        assert_eq!(kind, frame_kind(&regions, number as u64), "frame {number} of {regions:?}");
    }
}
