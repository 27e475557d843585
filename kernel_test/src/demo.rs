//! The demonstration: what the machine has, what kmem makes of it, and what a workload does to it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use kmem::report::{Buddyinfo, HeapMap, Slabinfo, ZoneSummary};
use kmem::{FrameRange, Order};

use crate::memory::{HEAP, PAGES};
use crate::{fw_cfg, memory, println, timer};

/// Characters of a heap map: eight lines, so that map and tables fit a screen.
const MAP_CELLS: usize = 512;

/// Shows it all on the serial port.
pub(crate) fn run() {
    println!("kmem test kernel\n");
    memory_map();
    println!("\nkmem after boot:\n\n{}\n", memory::report());
    allocators("before the workload");
    let library = Library::with_words(20_000);
    allocators("with the workload's data");
    println!("{}", library.summary());
    drop(library);
    let frames = HEAP.reclaim();
    println!("everything dropped; empty slabs gave {frames} frames back\n");
    allocators("after the workload");
    PAGES.verify().expect("the page allocator is sound");
    HEAP.verify().expect("the heap is sound");
    println!("every invariant recounted: sound; {} ticks of the timer", timer::ticks());
}

/// The boot loader's memory map.
fn memory_map() {
    println!("Memory map ({} MiB of memory):\n", fw_cfg::memory_len_bytes() >> 20);
    for region in memory::regions() {
        let start = region.frames.start().start().as_u64();
        let end = region.frames.end().start().as_u64();
        let kib = region.frames.len_bytes() >> 10;
        println!("  {start:#014x}..{end:#014x} {kib:>11} KiB  {:?}", region.kind);
    }
}

/// What the allocators hold.
fn allocators(when: &str) {
    let slabs = Slabinfo(HEAP.cache_stats().filter(|cache| cache.slabs_total > 0));
    println!("-- {when} --\n");
    println!("buddyinfo, orders 0 to {}:\n{}", Order::MAX.get(), Buddyinfo(&PAGES));
    println!("slabinfo:\n{slabs}");
    println!("zones:\n{}", ZoneSummary(&PAGES));
    let range = highest_zone();
    let mib = range.len_bytes() >> 20;
    println!(
        "{mib} MiB: . available, c on a CPU, S slabs, H page runs, R reserved, F frames in use,"
    );
    println!(": several of these, at least half of it available, + less; a blank is no memory:");
    println!("{}", HeapMap::new(&PAGES, range, MAP_CELLS));
    let stats = HEAP.stats();
    println!(
        "heap: {} KiB live, {} KiB held, {} page runs\n",
        stats.live_bytes() >> 10,
        stats.held_bytes() >> 10,
        stats.runs
    );
}

/// The whole zone that requests without limits are served from first.
fn highest_zone() -> FrameRange {
    PAGES.zones().last().map_or(FrameRange::EMPTY, |zone| zone.cover)
}

/// A workload: words, an index of them, and readers that share it.
struct Library {
    index: Arc<BTreeMap<String, Vec<usize>>>,
    readers: Vec<Arc<BTreeMap<String, Vec<usize>>>>,
}

impl Library {
    fn with_words(count: usize) -> Self {
        let mut index: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for place in 0..count {
            index.entry(format!("word-{}", place * 7919 % 4001)).or_default().push(place);
        }
        let index = Arc::new(index);
        Self { readers: (0..8).map(|_| Arc::clone(&index)).collect(), index }
    }

    fn summary(&self) -> String {
        let places: usize = self.index.values().map(Vec::len).sum();
        let readers = self.readers.len();
        format!("{} words at {places} places, shared by {readers} readers", self.index.len())
    }
}
