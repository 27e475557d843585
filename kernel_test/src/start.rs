//! Finding and starting the other CPUs.
//!
//! A CPU that is started begins in real mode, at a page below 1 MiB. The page is one of the boot
//! loader, which nobody needs any more and which is mapped at its own address. The trampoline
//! copied there takes it straight to long mode, with the page tables and control registers of the
//! CPU that boots, and to [`enter`], on a stack of its own. CPUs are started one after the other.

use alloc::boxed::Box;
use core::arch::global_asm;
use core::hint::spin_loop;
use core::mem::offset_of;

use kmem::{PhysAddr, Platform};
use x86_64::registers::control::{Cr0, Cr3, Cr4};
use x86_64::registers::model_specific::{Efer, EferFlags};

use crate::apic::{self, Command};
use crate::cpu::{self, Cpu};
use crate::gdt::Segments;
use crate::platform::Pc;
use crate::{acpi, call, interrupts, memory, paging, platform, println, timer};

/// Milliseconds that a CPU gets to reset itself, as Intel's manual says.
const RESET_MS: u64 = 10;
/// Milliseconds after which a CPU that has not begun is told once more.
const REPEAT_MS: u64 = 100;
/// Milliseconds after which a CPU that has not begun never will.
const LIMIT_MS: u64 = 20_000;

/// What the trampoline is told, in the page that it runs in.
#[repr(C)]
struct Parameters {
    unused: u16,
    /// Last byte of the table of segments, and where it lies: an operand of `lgdt`.
    table_limit: u16,
    table: u32,
    /// The first instruction in long mode: an operand of `ljmp`.
    long_mode: u32,
    long_mode_segment: u32,
    cr0: u32,
    cr3: u32,
    cr4: u32,
    efer: u32,
    stack: u64,
    starter: u64,
    entry: u64,
}

// It runs at the start of a segment, so its addresses are offsets from its first byte; those of
// `table` and `long_mode` are completed when it is copied.
global_asm!(
    ".pushsection .rodata.trampoline, \"a\"",
    ".balign 8",
    "trampoline:",
    ".code16",
    "cli",
    "cld",
    "movw %cs, %ax",
    "movw %ax, %ds",
    "lgdtl (trampoline_parameters - trampoline + {table_limit})",
    "movl (trampoline_parameters - trampoline + {cr4}), %eax",
    "movl %eax, %cr4",
    "movl (trampoline_parameters - trampoline + {cr3}), %eax",
    "movl %eax, %cr3",
    "movl (trampoline_parameters - trampoline + {efer}), %eax",
    "xorl %edx, %edx",
    "movl $0xc0000080, %ecx",
    "wrmsr",
    // Protected mode and paging at once: with EFER.LME, that is long mode.
    "movl (trampoline_parameters - trampoline + {cr0}), %eax",
    "movl %eax, %cr0",
    "ljmpl *(trampoline_parameters - trampoline + {long_mode})",
    ".code64",
    "trampoline_long_mode:",
    "xorl %eax, %eax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "movw %ax, %fs",
    "movw %ax, %gs",
    "movq trampoline_parameters + {stack}(%rip), %rsp",
    "movq trampoline_parameters + {starter}(%rip), %rdi",
    // A call, so that the stack is as at the entry of any function.
    "callq *trampoline_parameters + {entry}(%rip)",
    "ud2",
    ".balign 8",
    "trampoline_segments:",
    ".quad 0, 0x00af9b000000ffff", // none, and 64-bit code
    "trampoline_parameters:",
    ".word 0, 15",
    ".long trampoline_segments - trampoline",
    ".long trampoline_long_mode - trampoline, 8",
    ".zero {rest}",
    "trampoline_end:",
    ".popsection",
    table_limit = const offset_of!(Parameters, table_limit),
    long_mode = const offset_of!(Parameters, long_mode),
    cr0 = const offset_of!(Parameters, cr0),
    cr3 = const offset_of!(Parameters, cr3),
    cr4 = const offset_of!(Parameters, cr4),
    efer = const offset_of!(Parameters, efer),
    stack = const offset_of!(Parameters, stack),
    starter = const offset_of!(Parameters, starter),
    entry = const offset_of!(Parameters, entry),
    rest = const size_of::<Parameters>() - offset_of!(Parameters, cr0),
    options(att_syntax)
);

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_parameters: u8;
    static trampoline_end: u8;
}

/// What a CPU begins with.
struct Starter {
    cpu: &'static Cpu,
    segments: &'static Segments,
}

/// Finds out which CPUs there are. Called once, before kmem is given memory.
pub(crate) fn find() {
    // SAFETY: nobody writes to memory that kmem has not been given, but this CPU to its stack and
    // to the kernel's own data, which are no tables.
    let memory = |start, len_bytes| unsafe { platform::physical_bytes(start, len_bytes) };
    match acpi::processors(&memory) {
        Ok(processors) => {
            // SAFETY: the firmware says so.
            unsafe { apic::init(PhysAddr::new(processors.local_apic)) };
            apic::enable();
            cpu::init(&processors, apic::id());
        }
        Err(error) => println!("only one CPU is known: {error}"),
    }
}

/// Starts all CPUs but the running one. Called once, with interrupts open.
pub(crate) fn start_others() {
    if cpu::count() == 1 {
        return;
    }
    let page = memory::boot_loader_frame().expect("the boot loader lay below 1 MiB");
    assert!(paging::is_identity_mapped(page), "the boot loader ran at its physical addresses");
    let parameters = copy_trampoline(page.start());

    cpu::others().for_each(|cpu| apic::send(cpu.apic_id(), Command::Init));
    wait_ms(RESET_MS, || false);
    for cpu in cpu::others() {
        let segments = Box::leak(Box::new(Segments::new()));
        let starter = Starter { cpu, segments };
        let stack = paging::map_stack(cpu.id().index()).expect("memory for a stack");
        // SAFETY: the trampoline's page is this module's, and no CPU is in it.
        unsafe {
            (*parameters).stack = stack.as_u64();
            (*parameters).starter = (&raw const starter).addr() as u64;
        }
        let start = Command::Start { page: page.number() as u8 };
        apic::send(cpu.apic_id(), start);
        // Some need to be told twice.
        if !wait_ms(REPEAT_MS, || cpu.is_online()) {
            apic::send(cpu.apic_id(), start);
        }
        let has_begun = wait_ms(LIMIT_MS, || cpu.is_online());
        assert!(has_begun, "CPU {} does not start", cpu.id().index());
    }
}

/// Waits until `is_done`, for so many milliseconds at most; whether it is.
fn wait_ms(limit: u64, is_done: impl Fn() -> bool) -> bool {
    let end = timer::ticks() + limit * u64::from(timer::HERTZ) / 1000;
    while timer::ticks() < end && !is_done() {
        spin_loop();
    }
    is_done()
}

/// Copies the trampoline to `page`, which is below 1 MiB, and tells it all but what differs between
/// CPUs; answers where its parameters are.
fn copy_trampoline(page: PhysAddr) -> *mut Parameters {
    let start = &raw const trampoline;
    let len_bytes = (&raw const trampoline_end).addr() - start.addr();
    let parameters_at = (&raw const trampoline_parameters).addr() - start.addr();
    assert!(len_bytes <= kmem::frame::FRAME_SIZE, "the trampoline fits a page");
    let copy = Pc.phys_to_virt(page);
    let parameters = copy.wrapping_add(parameters_at).cast::<Parameters>();
    let low_half = |value: u64| u32::try_from(value).expect("below 4 GiB");
    // SAFETY: the page is this module's and so long; the parameters lie in it, aligned, as
    // `len_bytes` counts them and the page and the trampoline are aligned.
    unsafe {
        copy.copy_from_nonoverlapping(start, len_bytes);
        (*parameters).table += low_half(page.as_u64());
        (*parameters).long_mode += low_half(page.as_u64());
        (*parameters).cr0 = low_half(Cr0::read_raw());
        (*parameters).cr3 = low_half(Cr3::read_raw().0.start_address().as_u64());
        (*parameters).cr4 = low_half(Cr4::read_raw());
        // That it is in long mode is for the CPU to say.
        let efer = Efer::read() - EferFlags::LONG_MODE_ACTIVE;
        (*parameters).efer = low_half(efer.bits());
        (*parameters).entry = (enter as *const ()).addr() as u64;
    }
    parameters
}

/// Where a started CPU enters the kernel.
extern "C" fn enter(starter: &Starter) -> ! {
    let cpu = starter.cpu;
    cpu.become_current();
    starter.segments.load();
    interrupts::init();
    apic::enable();
    // The starter is gone from here on.
    cpu.go_online();
    x86_64::instructions::interrupts::enable();
    call::idle()
}
