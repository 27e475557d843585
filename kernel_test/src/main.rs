//! A kernel that boots on kmem.
//!
//! The boot loader enters long mode, maps all physical memory and calls [`kernel`]. The kernel sets
//! up serial output, exceptions and a timer, gives the memory that the boot loader reports to
//! kmem, starts all other CPUs, and then runs the test that the host names (file `opt/kmem/test` of
//! QEMU's configuration device), or, if it names none, the [`demo`].
//!
//! | module | what it does |
//! | --- | --- |
//! | [`serial`], [`stop`], [`exit`] | what the host sees: text, a report, an exit status |
//! | [`gdt`], [`interrupts`], [`timer`] | the CPU: segments, exceptions, a tick |
//! | [`acpi`], [`cpu`], [`start`], [`paging`] | the other CPUs: which there are, and how they begin |
//! | [`apic`], [`barrier`], [`call`], [`local_timer`] | what CPUs do to each other, and a tick on each |
//! | [`fw_cfg`] | what the host says |
//! | [`memory`], [`platform`] | what kmem is told: the memory map, and the machine |
//! | [`vmalloc`], [`tlb`], [`probe`] | contiguous addresses for scattered frames; who remembers them; what is mapped |
//! | [`process_ids`] | small integers from an arena |
//! | [`demo`], [`tests`] | what runs |

#![no_std]
#![no_main]
// Closures that are compiled into the place where their instructions are counted.
#![feature(stmt_expr_attributes)]

extern crate alloc;

mod acpi;
mod apic;
mod barrier;
mod call;
mod cpu;
mod demo;
mod exit;
mod fw_cfg;
mod gdt;
mod interrupts;
mod local_timer;
mod memory;
mod paging;
mod platform;
mod probe;
mod process_ids;
mod serial;
mod start;
mod stop;
mod tests;
mod timer;
mod tlb;
mod vmalloc;

use bootloader::BootInfo;

use exit::{Exit, exit};

/// Where the boot loader jumps to, on a stack of its own with a guard page below.
// SAFETY: nothing else is linked that has a symbol of this name.
#[unsafe(export_name = "_start")]
extern "C" fn kernel(boot: &'static BootInfo) -> ! {
    cpu::boot().become_current();
    cpu::boot().go_online();
    serial::init();
    gdt::BOOT.load();
    interrupts::init();
    timer::init();
    memory::map(boot);
    start::find();
    memory::init(boot);
    x86_64::instructions::interrupts::enable();
    start::start_others();

    let mut name = [0; 128];
    match fw_cfg::read_text("opt/kmem/test", &mut name) {
        Some(name) => tests::run(name),
        None => demo::run(),
    }
    exit(Exit::Success)
}
