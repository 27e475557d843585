//! Exceptions, which are reported, and the interrupts of timers and of other CPUs.
//!
//! Every vector has a stub of a few instructions that completes what the CPU pushed to a
//! [`Context`], the same for all vectors, and calls [`handle`]. So a report can show every
//! register, and no unstable calling convention is needed. The kernel has no floating point, so
//! there are no further registers to keep.

use core::arch::naked_asm;
use core::fmt;

use spin::Once;
use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;
use x86_64::structures::idt::{InterruptDescriptorTable, PageFaultErrorCode};

use crate::gdt::DOUBLE_FAULT_STACK;
use crate::stop::stop;
use crate::{apic, barrier, local_timer, probe, timer};

/// What ran when the CPU took an interrupt, in the order in which it lies on the stack.
#[derive(Debug)]
#[repr(C)]
struct Context {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    /// Zero for vectors that have none.
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, rip, rflags, .. } = self;
        let Self { r8, r9, r10, r11, r12, r13, r14, r15, cs, ss, error_code, .. } = self;
        writeln!(f, "  rip {rip:#018x}  rsp {rsp:#018x}  rbp {rbp:#018x}  rflags {rflags:#x}")?;
        writeln!(f, "  rax {rax:#018x}  rbx {rbx:#018x}  rcx {rcx:#018x}  rdx {rdx:#018x}")?;
        writeln!(f, "  rsi {rsi:#018x}  rdi {rdi:#018x}  r8  {r8:#018x}  r9  {r9:#018x}")?;
        writeln!(f, "  r10 {r10:#018x}  r11 {r11:#018x}  r12 {r12:#018x}  r13 {r13:#018x}")?;
        writeln!(f, "  r14 {r14:#018x}  r15 {r15:#018x}  cs {cs:#x}  ss {ss:#x}")?;
        write!(f, "  error code {error_code:#x}")
    }
}

/// Pushes the registers that the CPU did not, calls [`handle`], and returns to what ran before.
#[unsafe(naked)]
unsafe extern "C" fn common() {
    naked_asm!(
        "push rax", "push rbx", "push rcx", "push rdx", "push rsi", "push rdi", "push rbp",
        "push r8", "push r9", "push r10", "push r11", "push r12", "push r13", "push r14", "push r15",
        "cld",
        // The CPU aligned the stack to 16 bytes and 22 words were pushed since: it still is.
        "mov rdi, rsp",
        "call {handle}",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop r11", "pop r10", "pop r9", "pop r8",
        "pop rbp", "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop rbx", "pop rax",
        "add rsp, 16", // vector and error code
        "iretq",
        handle = sym handle,
    )
}

/// The stub of one vector; `with_code` where the CPU pushes an error code itself.
macro_rules! stub {
    ($vector:expr, with_code) => {
        stub!(@ $vector, "")
    };
    ($vector:expr) => {
        stub!(@ $vector, "push 0")
    };
    (@ $vector:expr, $error_code:literal) => {{
        #[unsafe(naked)]
        unsafe extern "C" fn stub() {
            naked_asm!(
                $error_code,
                "push {vector}",
                "jmp {common}",
                vector = const $vector,
                common = sym common,
            )
        }
        VirtAddr::from_ptr(stub as *const ())
    }};
}

static IDT: Once<InterruptDescriptorTable> = Once::new();

/// Sets up the handlers of all exceptions and interrupts, the same ones on each CPU. Called once on
/// each, after its segments are loaded.
pub(crate) fn init() {
    let idt = IDT.call_once(|| {
        let mut idt = InterruptDescriptorTable::new();
        // SAFETY: each stub fits its vector: it pushes an error code exactly where the CPU does
        // not, keeps all registers and ends with `iretq`. The stack of the interrupt stack table
        // is one that `gdt` has set up.
        unsafe {
            idt.divide_error.set_handler_addr(stub!(0));
            idt.debug.set_handler_addr(stub!(1));
            idt.non_maskable_interrupt.set_handler_addr(stub!(2));
            idt.breakpoint.set_handler_addr(stub!(3));
            idt.overflow.set_handler_addr(stub!(4));
            idt.bound_range_exceeded.set_handler_addr(stub!(5));
            idt.invalid_opcode.set_handler_addr(stub!(6));
            idt.device_not_available.set_handler_addr(stub!(7));
            idt.double_fault
                .set_handler_addr(stub!(8, with_code))
                .set_stack_index(DOUBLE_FAULT_STACK);
            idt.invalid_tss.set_handler_addr(stub!(10, with_code));
            idt.segment_not_present.set_handler_addr(stub!(11, with_code));
            idt.stack_segment_fault.set_handler_addr(stub!(12, with_code));
            idt.general_protection_fault.set_handler_addr(stub!(13, with_code));
            idt.page_fault.set_handler_addr(stub!(14, with_code));
            idt.x87_floating_point.set_handler_addr(stub!(16));
            idt.alignment_check.set_handler_addr(stub!(17, with_code));
            idt.machine_check.set_handler_addr(stub!(18));
            idt.simd_floating_point.set_handler_addr(stub!(19));
            idt[timer::VECTOR].set_handler_addr(stub!(timer::VECTOR));
            idt[apic::TIMER_VECTOR].set_handler_addr(stub!(apic::TIMER_VECTOR));
            idt[apic::KNOCK_VECTOR].set_handler_addr(stub!(apic::KNOCK_VECTOR));
            idt[apic::SPURIOUS_VECTOR].set_handler_addr(stub!(apic::SPURIOUS_VECTOR));
        }
        idt
    });
    idt.load();
}

/// Called by every stub, with interrupts masked.
extern "C" fn handle(context: &mut Context) {
    const BREAKPOINT: u64 = 3;
    const PAGE_FAULT: u64 = 14;
    const TIMER: u64 = timer::VECTOR as u64;
    const LOCAL_TIMER: u64 = apic::TIMER_VECTOR as u64;
    const KNOCK: u64 = apic::KNOCK_VECTOR as u64;
    const SPURIOUS: u64 = apic::SPURIOUS_VECTOR as u64;
    match context.vector {
        TIMER => timer::tick(),
        LOCAL_TIMER => {
            local_timer::tick();
            apic::end_of_interrupt();
        }
        // Wakes a CPU that has been left a call; all the rest is done outside the handler.
        KNOCK => {
            barrier::serve();
            apic::end_of_interrupt();
        }
        SPURIOUS => {}
        // Returns behind the instruction, so that a debugger's trap does no harm.
        BREAKPOINT => {}
        PAGE_FAULT => match probe::landing(context.rip) {
            Some(landing) => context.rip = landing,
            None => report(context),
        },
        _ => report(context),
    }
}

fn report(context: &Context) -> ! {
    stop(format_args!("{}\n{context}", Exception(context)))
}

/// The first line of an exception's report.
struct Exception<'c>(&'c Context);

impl fmt::Display for Exception<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0.vector {
            0 => "divide error",
            1 => "debug exception",
            2 => "non-maskable interrupt",
            4 => "overflow",
            5 => "bound range exceeded",
            6 => "invalid opcode",
            7 => "device not available",
            8 => "double fault",
            10 => "invalid TSS",
            11 => "segment not present",
            12 => "stack segment fault",
            13 => "general protection fault",
            14 => "page fault",
            16 => "x87 floating point",
            17 => "alignment check",
            18 => "machine check",
            19 => "SIMD floating point",
            vector => return write!(f, "unexpected interrupt {vector}"),
        };
        f.write_str(name)?;
        match self.0.vector {
            8 => write!(f, ", last faulting address {:#x} (stack overflow?)", Cr2::read_raw()),
            14 => {
                let code = PageFaultErrorCode::from_bits_truncate(self.0.error_code);
                let access = if code.contains(PageFaultErrorCode::INSTRUCTION_FETCH) {
                    "executing"
                } else if code.contains(PageFaultErrorCode::CAUSED_BY_WRITE) {
                    "writing"
                } else {
                    "reading"
                };
                write!(f, " at {:#x}, {access}", Cr2::read_raw())
            }
            _ => Ok(()),
        }
    }
}
