//! Segments, and the stack for faults that the kernel's own stack cannot take.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// Index of the double fault's stack in the interrupt stack table.
pub(crate) const DOUBLE_FAULT_STACK: u16 = 0;

/// Enough for a report.
const STACK_LEN_BYTES: usize = 16 * 1024;

/// A stack that only the CPU writes to, and only while it handles a fault.
#[repr(align(16))]
struct Stack(#[expect(dead_code, reason = "only its address is used")] [u8; STACK_LEN_BYTES]);

static mut FAULT_STACK: Stack = Stack([0; STACK_LEN_BYTES]);
static TSS: Once<TaskStateSegment> = Once::new();
static GDT: Once<GlobalDescriptorTable> = Once::new();

/// Loads the kernel's own segments. Called once, before interrupts are set up.
pub(crate) fn init() {
    let tss = TSS.call_once(|| {
        let mut tss = TaskStateSegment::new();
        let bottom = VirtAddr::from_ptr(&raw const FAULT_STACK);
        tss.interrupt_stack_table[usize::from(DOUBLE_FAULT_STACK)] =
            bottom + STACK_LEN_BYTES as u64;
        tss
    });
    let mut table = GlobalDescriptorTable::new();
    let code = table.append(Descriptor::kernel_code_segment());
    let data = table.append(Descriptor::kernel_data_segment());
    let task = table.append(Descriptor::tss_segment(tss));
    GDT.call_once(|| table).load();
    // SAFETY: the selectors are those of the table just loaded, which is never changed: a 64-bit
    // code segment that spans everything, a data segment, and a TSS that lives for ever. The TSS
    // is not busy, as this function runs once.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
    }
}
