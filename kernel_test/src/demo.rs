//! The demonstration: what the machine has, and what kmem makes of it.

use crate::{fw_cfg, memory, println, timer};

/// Shows it all on the serial port.
pub(crate) fn run() {
    println!("kmem test kernel");
    println!();
    memory_map();
    println!();
    println!("{} ticks of the timer, {} a second", timer::ticks(), timer::HERTZ);
}

/// The boot loader's memory map.
fn memory_map() {
    println!("Memory map ({} MiB of memory):", fw_cfg::memory_len_bytes() >> 20);
    for region in memory::regions() {
        let start = region.frames.start().start();
        let end = region.frames.end().start();
        let kib = region.frames.len_bytes() >> 10;
        println!(
            "  {:#014x}..{:#014x} {kib:>9} KiB  {:?}",
            start.as_u64(),
            end.as_u64(),
            region.kind
        );
    }
}
