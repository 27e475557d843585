use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::buddyinfo;
use super::slabinfo::write_cache;
use super::*;
use crate::frame::{FrameRange, Order};
use crate::memory_map::{Region, RegionKind};
use crate::page::{AllocFlags, CpuLists, InitOptions, PageAllocator};
use crate::slab::CacheStats;
use crate::test_support::{Machine, booted, frame, frames};

/// 16 MiB of which the first is a hole, on a PC: one zone, DMA.
fn pages() -> PageAllocator<Machine> {
    let map = [
        Region::from_frames(frames(0x100, 0x1000), RegionKind::Usable),
        Region::from_frames(frames(0x200, 0x210), RegionKind::Reserved),
    ];
    let options = InitOptions { cpu_lists: CpuLists::Omit, ..InitOptions::DEFAULT };
    booted(frames(0, 0x1000), &map, options)
}

#[test]
fn buddyinfo_is_formatted_as_linux_formats_it() {
    let mut blocks = [0; Order::COUNT];
    blocks[0] = 1;
    blocks[9] = 123_456;
    blocks[10] = 1_234_567;
    let mut line = String::new();
    buddyinfo::write_zone(&mut line, "DMA32", &blocks).unwrap();
    // As of `cat /proc/buddyinfo`: a column is six wide, and every line ends with a space.
    let eleven = "     1      0      0      0      0      0      0      0      0 123456 1234567 ";
    let further = "     0 ".repeat(Order::COUNT - 11);
    assert_eq!(line, format!("Node 0, zone    DMA32 {eleven}{further}\n"));
}

#[test]
fn buddyinfo_counts_what_is_available() {
    let pages = pages();
    let counts = |pages: &PageAllocator<Machine>| -> Vec<usize> {
        let text = Buddyinfo(pages).to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line = text.strip_prefix("Node 0, zone      DMA ").unwrap();
        line.split_whitespace().map(|count| count.parse().unwrap()).collect()
    };
    let frames_in = |counts: &[usize]| -> usize {
        counts.iter().enumerate().map(|(order, count)| count << order).sum()
    };
    let before = counts(&pages);
    assert_eq!(before.len(), Order::COUNT);
    assert_eq!(frames_in(&before), pages.frames_available());
    pages.alloc(Order::new(3).unwrap(), AllocFlags::empty()).unwrap();
    assert_eq!(frames_in(&counts(&pages)), frames_in(&before) - 8);
}

#[test]
fn slabinfo_is_formatted_as_linux_formats_it() {
    let cache = CacheStats {
        name: "dentry",
        objects_active: 1234,
        objects_total: 1323,
        object_bytes: 190,
        stride_bytes: 192,
        objects_per_slab: 21,
        frames_per_slab: 1,
        slabs_active: 60,
        slabs_total: 63,
        ..CacheStats::default()
    };
    let mut line = String::new();
    write_cache(&mut line, &cache).unwrap();
    assert_eq!(
        line,
        "dentry              1234   1323    192   21    1 : tunables    0    0    0 \
         : slabdata     60     63      0\n"
    );
    let text = Slabinfo([cache]).to_string();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("slabinfo - version: 2.1"));
    assert_eq!(
        lines.next(),
        Some(
            "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
             : tunables <limit> <batchcount> <sharedfactor> \
             : slabdata <active_slabs> <num_slabs> <sharedavail>"
        )
    );
    assert_eq!(lines.next(), Some(line.trim_end_matches('\n')));
    assert_eq!(lines.next(), None);
}

#[test]
fn a_zone_is_summed_up_in_a_line() {
    let pages = pages();
    let stats = pages.zones().next().unwrap();
    let text = ZoneSummary(&pages).to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    let words: Vec<_> = lines[1].split_whitespace().collect();
    let marks = stats.watermarks;
    let (managed, available) = (stats.managed_frames, stats.available_frames);
    let expected = [managed, available, 0, 0, marks.min, marks.low, marks.high, 10];
    assert_eq!(words[0], "DMA");
    assert_eq!(words[1..9], expected.map(|number| number.to_string()));
    assert_eq!(words[10], "%");
    // Everything above frame 0x400 but the metadata at the top lies in blocks of 2 MiB.
    let small: usize = (0..9).map(|order| stats.available_blocks[order] << order).sum();
    assert_eq!(words[9], (small * 100).div_ceil(stats.available_frames).to_string());
    assert_eq!(
        lines[0].find("managed").map(|at| at + 7),
        lines[1].find(words[1]).map(|at| at + words[1].len())
    );
}

#[test]
fn a_zone_with_nothing_available_has_no_largest_block() {
    let pages = pages();
    while pages.alloc(Order::ZERO, AllocFlags::ATOMIC).is_ok() {}
    let text = ZoneSummary(&pages).to_string();
    let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[8..], ["-", "0", "%"], "{text}");
}

#[test]
fn what_cpus_keep_ready_is_neither_available_nor_used() {
    let map = [Region::from_frames(frames(0x400, 0x2000), RegionKind::Usable)];
    let pages = booted(frames(0, 0x2000), &map, InitOptions::DEFAULT);
    let block = pages.alloc(Order::ZERO, AllocFlags::empty()).unwrap();
    let [other, zone] = pages.zones().collect::<Vec<_>>()[..] else { panic!("two zones") };
    assert_eq!((other.kept_frames, zone.kept_frames), (0, pages.frames_kept()));
    assert!(zone.kept_frames > 0, "a refill takes more than one");
    let text = ZoneSummary(&pages).to_string();
    let words: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(words[3..5], [zone.kept_frames, 1].map(|number| number.to_string()), "{text}");
    pages.free(block, Order::ZERO).unwrap();
    pages.drain_local();
    assert_eq!(pages.zones().last().unwrap().kept_frames, 0);
}

#[test]
fn a_map_shows_what_a_cpu_keeps_ready() {
    let map = [Region::from_frames(frames(0x400, 0x2000), RegionKind::Usable)];
    let pages = booted(frames(0, 0x2000), &map, InitOptions::DEFAULT);
    let block = pages.alloc(Order::ZERO, AllocFlags::empty()).unwrap();
    pages.free(block, Order::ZERO).unwrap();
    let map = HeapMap::new(&pages, FrameRange::from_len(block, 1).unwrap(), 1).to_string();
    assert!(map.ends_with("|c|\n"), "{map}");
}

#[test]
fn a_map_shows_what_each_stretch_is_used_for() {
    let pages = pages();
    pages.claim(frames(0x300, 0x310)).unwrap();
    pages.claim(frames(0x340, 0x342)).unwrap();
    pages.claim(frames(0x350, 0x35c)).unwrap();
    pages.claim(frames(0x370, 0x378)).unwrap();
    let range = FrameRange::new(frame(0xe0), frame(0x400)).unwrap();
    let text = HeapMap::new(&pages, range, 50).to_string();
    // Sixteen frames a character: two of the hole, sixteen available, one reserved ...
    let cells = "  ................R...............F...:+.:........";
    assert_eq!(text, format!("0x0000000e0000 |{cells}|\n"));
}

#[test]
fn a_map_breaks_its_lines_and_bears_any_size() {
    let pages = pages();
    let all = frames(0, 0x1000);
    assert_eq!(HeapMap::new(&pages, all, 256).to_string().lines().count(), 4);
    assert_eq!(HeapMap::new(&pages, all, 0).to_string().lines().count(), 1);
    assert_eq!(HeapMap::new(&pages, frames(5, 5), 10).to_string(), "");
    let beyond = FrameRange::new(frame(0xfff), frame(0x1003)).unwrap();
    assert_eq!(HeapMap::new(&pages, beyond, 4).to_string(), "0x000000fff000 |R   |\n");
}
