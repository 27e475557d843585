//! The demonstration: what the machine has, what kmem makes of it, and what a workload does to it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use kmem::Order;

use crate::memory::{HEAP, PAGES};
use crate::{fw_cfg, memory, println, timer};

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
    println!("-- {when} --\n");
    println!("available blocks by order, 0 to {}:", Order::MAX.get());
    for zone in PAGES.zones() {
        println!("{:>8} {:?}", zone.kind, zone.available_blocks);
    }
    println!("\ncaches in use:");
    for cache in HEAP.cache_stats().filter(|cache| cache.slabs_total > 0) {
        println!(
            "{:>12} {:>6} of {:>6} objects of {:>5} bytes, {:>4} slabs of {} frames",
            cache.name,
            cache.objects_active,
            cache.objects_total,
            cache.object_bytes,
            cache.slabs_total,
            cache.frames_per_slab,
        );
    }
    let stats = HEAP.stats();
    println!(
        "\nheap: {} KiB live, {} KiB held, {} page runs\n",
        stats.live_bytes() >> 10,
        stats.held_bytes() >> 10,
        stats.runs
    );
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
