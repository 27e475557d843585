//! Running a function on other CPUs.
//!
//! A CPU with nothing to do sleeps in [`idle`]. Another one leaves a [`Call`] with it and
//! interrupts it; the call runs outside the handler, with interrupts open.

use core::sync::atomic::{AtomicUsize, Ordering};

use kmem::CpuId;
use x86_64::instructions::{hlt, interrupts};

use crate::apic::{self, Command};
use crate::cpu;

/// What some CPUs are to do.
pub(crate) struct Call<'w> {
    work: &'w (dyn Fn(CpuId) + Sync),
    /// CPUs that have not come to its end.
    left: AtomicUsize,
}

/// Runs `work` on every CPU at the same time, and returns when all have come to its end.
///
/// Called on the CPU that booted, outside of handlers, with interrupts open.
pub(crate) fn on_every_cpu(work: &(dyn Fn(CpuId) + Sync)) {
    let others = cpu::count() - 1;
    let call = Call { work, left: AtomicUsize::new(others) };
    assert!(cpu::id() == CpuId::BOOT && interrupts::are_enabled());
    for other in cpu::others() {
        let pointer = (&raw const call).cast_mut().cast::<Call<'static>>();
        // Release pairs with the Acquire in `idle`.
        let before = other.call.swap(pointer, Ordering::Release);
        assert!(before.is_null(), "a CPU has something to do already");
    }
    if others > 0 {
        apic::send_to_others(Command::Interrupt { vector: apic::KNOCK_VECTOR });
    }
    work(cpu::id());
    // Acquire pairs with the Release in `idle`: what the others did is visible. The timer wakes
    // this CPU each millisecond.
    while call.left.load(Ordering::Acquire) > 0 {
        hlt();
    }
}

/// Does what others leave with this CPU, for ever.
pub(crate) fn idle() -> ! {
    let cpu = cpu::current();
    loop {
        interrupts::disable();
        let call = cpu.call.swap(core::ptr::null_mut(), Ordering::Acquire);
        if call.is_null() {
            // An interrupt that comes before the halt ends it: nothing left here is slept through.
            interrupts::enable_and_hlt();
            continue;
        }
        interrupts::enable();
        // SAFETY: `on_every_cpu` keeps the call alive until this CPU has counted itself out, which
        // is the last that it does with it.
        let call = unsafe { &*call };
        (call.work)(cpu.id());
        call.left.fetch_sub(1, Ordering::Release);
    }
}
