//! Tests of the page layer. The memory maps in them are small machines with small zones.

mod boot;
mod bulk;
mod cpus;
mod faults;
mod growth;
mod inject;
mod model;
mod records;
mod remotes;
mod requests;
mod threads;

use std::boxed::Box;
use std::collections::BTreeSet;
use std::vec::Vec;

use super::{
    AllocFlags, BootReport, CpuLists, InitError, InitOptions, PageAllocator, ZoneKind, ZoneLimits,
};
use crate::frame::{Frame, FrameRange, Order, PhysAddr};
use crate::memory_map::{Region, RegionKind};
use crate::test_support::{Machine, frames};

/// Zones of the small machines: DMA below frame 0x100 (1 MiB), DMA32 below frame 0x400 (4 MiB).
const SMALL: InitOptions = InitOptions {
    limits: ZoneLimits { dma: PhysAddr::new(0x100 << 12), dma32: PhysAddr::new(0x400 << 12) },
    cpu_lists: CpuLists::Omit,
    ..InitOptions::DEFAULT
};

/// The small machine with lists.
const LISTED: InitOptions = InitOptions { cpu_lists: CpuLists::Keep, ..SMALL };

const fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

fn usable(start: usize, end: usize) -> Region {
    Region::from_frames(frames(start, end), RegionKind::Usable)
}

fn reserved(start: usize, end: usize) -> Region {
    Region::from_frames(frames(start, end), RegionKind::Reserved)
}

/// An allocator over `regions`, on a machine with all memory below `top`.
fn try_boot(
    top: usize,
    regions: &[Region],
    options: InitOptions,
) -> (Box<PageAllocator<Machine>>, Result<BootReport, InitError>) {
    // The first frame is no memory of the machine: its pointer might be null in a kernel.
    let pages = Box::new(PageAllocator::new(Machine::new([frames(0, top)])));
    // SAFETY: the whole machine is the allocator's.
    let report = unsafe { pages.init_with(regions.iter().copied(), options) };
    (pages, report)
}

#[track_caller]
fn boot(
    top: usize,
    regions: &[Region],
    options: InitOptions,
) -> (Box<PageAllocator<Machine>>, BootReport) {
    let (pages, report) = try_boot(top, regions, options);
    let report = report.expect("the map has memory");
    pages.verify().expect("a fresh allocator is sound");
    (pages, report)
}

/// 1 MiB of DMA, 3 MiB of DMA32 and 4 MiB of Normal memory.
fn three_zones() -> Box<PageAllocator<Machine>> {
    boot(0x800, &[usable(0x10, 0x800)], SMALL).0
}

/// Memory for the slots of the test's 256 CPUs, and as much again.
fn listed() -> Box<PageAllocator<Machine>> {
    boot(0x2000, &[usable(0x400, 0x2000)], LISTED).0
}

#[track_caller]
fn take(pages: &PageAllocator<Machine>, of: u8) -> Frame {
    pages.alloc(order(of), AllocFlags::empty()).unwrap()
}

/// Takes every frame there is, one by one, checks that all differ, gives them back, and says which
/// they were.
#[track_caller]
fn exhaust(pages: &PageAllocator<Machine>) -> BTreeSet<Frame> {
    let before = pages.frames_available();
    let mut taken = BTreeSet::new();
    while let Ok(frame) = pages.alloc(Order::ZERO, AllocFlags::ATOMIC) {
        assert!(taken.insert(frame), "{frame} was handed out twice");
    }
    assert_eq!(taken.len(), before);
    assert_eq!(pages.frames_available(), 0);
    pages.verify().expect("an exhausted allocator is sound");
    for &frame in &taken {
        pages.free(frame, Order::ZERO).expect("it was allocated");
    }
    assert_eq!(pages.frames_available(), before);
    pages.verify().expect("a refilled allocator is sound");
    taken
}

/// A few thousand ordinary operations: the allocator still works.
#[track_caller]
fn exercise(pages: &PageAllocator<Machine>) {
    let before = pages.frames_available();
    let mut held: Vec<(FrameRange, usize)> = Vec::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for step in 0..3000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let frames = 1 + (state >> 32) as usize % 12;
        if state.is_multiple_of(2)
            && let Ok(range) = pages.alloc_exact(frames, AllocFlags::empty())
        {
            assert!(held.iter().all(|(other, _)| !other.overlaps(range)));
            held.push((range, step));
        } else if !held.is_empty() {
            let (range, _) = held.swap_remove((state >> 16) as usize % held.len());
            pages.free_exact(range).expect("it was allocated");
        }
    }
    pages.verify().expect("an exercised allocator is sound");
    for (range, _) in held {
        pages.free_exact(range).expect("it was allocated");
    }
    assert_eq!(pages.frames_available(), before);
    pages.verify().expect("a refilled allocator is sound");
}
