//! Segments, and the stack for faults that a CPU's own stack cannot take. Each CPU has its own.

use core::cell::UnsafeCell;

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
struct Stack(UnsafeCell<[u8; STACK_LEN_BYTES]>);

// SAFETY: the kernel takes its address, once, and never follows it.
unsafe impl Sync for Stack {}

/// What the segment registers and the task register of one CPU lead to.
pub(crate) struct Segments {
    fault_stack: Stack,
    task: Once<TaskStateSegment>,
    table: Once<GlobalDescriptorTable>,
}

/// Those of the CPU that boots.
pub(crate) static BOOT: Segments = Segments::new();

impl Segments {
    pub(crate) const fn new() -> Self {
        let fault_stack = Stack(UnsafeCell::new([0; STACK_LEN_BYTES]));
        Self { fault_stack, task: Once::new(), table: Once::new() }
    }

    /// Makes them the running CPU's. Called once, before interrupts are set up.
    pub(crate) fn load(&'static self) {
        let task = self.task.call_once(|| {
            let mut task = TaskStateSegment::new();
            task.interrupt_stack_table[usize::from(DOUBLE_FAULT_STACK)] =
                VirtAddr::from_ptr(self.fault_stack.0.get()) + STACK_LEN_BYTES as u64;
            task
        });
        let mut table = GlobalDescriptorTable::new();
        let code = table.append(Descriptor::kernel_code_segment());
        let data = table.append(Descriptor::kernel_data_segment());
        let task = table.append(Descriptor::tss_segment(task));
        self.table.call_once(|| table).load();
        // SAFETY: the selectors are those of the table just loaded, which is never changed: a
        // 64-bit code segment that spans everything, a data segment, and a TSS that lives
        // for ever. The TSS is not busy, as this is called once.
        unsafe {
            CS::set_reg(code);
            SS::set_reg(data);
            DS::set_reg(data);
            ES::set_reg(data);
            load_tss(task);
        }
    }
}
