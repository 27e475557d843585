//! The CPUs, and what each has for itself.
//!
//! The segment register GS of every CPU points to its [`Cpu`], so a CPU finds out which one it is
//! by one load.

use core::arch::asm;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use kmem::CpuId;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

use crate::acpi::{MOST_CPUS, Processors};
use crate::call::Call;

/// What a CPU has for itself, in cache lines of its own.
#[repr(C, align(64))]
pub(crate) struct Cpu {
    /// First, where GS points.
    number: u8,
    /// What names its interrupt controller.
    apic_id: AtomicU8,
    /// Whether it runs in the kernel.
    is_online: AtomicBool,
    /// The last call of [`barrier::synchronize`](crate::barrier::synchronize) that it has served.
    pub(crate) barrier: AtomicU64,
    /// The last change of [`tlb`](crate::tlb) that it has caught up with.
    pub(crate) translations: AtomicU64,
    /// What it is to do, or null.
    pub(crate) call: AtomicPtr<Call<'static>>,
    /// Interrupts of its own timer.
    pub(crate) ticks: AtomicU64,
}

/// Every CPU that there can be.
static CPUS: [Cpu; MOST_CPUS] = {
    let mut cpus = [const { Cpu::new() }; MOST_CPUS];
    let mut number = 0;
    while number < MOST_CPUS {
        cpus[number].number = number as u8;
        number += 1;
    }
    cpus
};

/// How many there are.
static COUNT: AtomicUsize = AtomicUsize::new(1);

impl Cpu {
    const fn new() -> Self {
        Self {
            number: 0,
            apic_id: AtomicU8::new(0),
            is_online: AtomicBool::new(false),
            barrier: AtomicU64::new(0),
            translations: AtomicU64::new(0),
            call: AtomicPtr::new(core::ptr::null_mut()),
            ticks: AtomicU64::new(0),
        }
    }

    /// Its number.
    pub(crate) fn id(&self) -> CpuId {
        CpuId::new(usize::from(self.number)).unwrap_or(CpuId::BOOT)
    }

    /// What names its interrupt controller.
    pub(crate) fn apic_id(&self) -> u8 {
        // Relaxed: written before the CPU is started.
        self.apic_id.load(Ordering::Relaxed)
    }

    /// Whether it runs in the kernel.
    pub(crate) fn is_online(&self) -> bool {
        // SeqCst: see `go_online`.
        self.is_online.load(Ordering::SeqCst)
    }

    /// Makes the running CPU this one. Called first of all, as a report of a stop says on which CPU
    /// it is.
    pub(crate) fn become_current(&'static self) {
        GsBase::write(VirtAddr::from_ptr(self));
    }

    /// Says that it runs in the kernel. Called before it uses kmem.
    pub(crate) fn go_online(&self) {
        // SeqCst, and a barrier: who finds the CPU not online yet need not wait for it, as all it
        // does from here on comes after what that CPU did before.
        self.is_online.store(true, Ordering::SeqCst);
        core::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// Which CPU runs this code. One load: the number fits a byte, so the check of its range is none.
#[inline(always)]
pub(crate) fn id() -> CpuId {
    let number: usize;
    // SAFETY: GS points to this CPU's `Cpu` since `become_current`, which begins with its number.
    // That never changes, and neither does the CPU that a thread of this kernel runs on. The
    // byte is extended by zeros.
    unsafe {
        asm!("movzx {:e}, byte ptr gs:[0]", out(reg) number, options(pure, readonly, nostack, preserves_flags));
        hint::assert_unchecked(number <= usize::from(u8::MAX));
    }
    CpuId::new(number).unwrap_or(CpuId::BOOT)
}

/// The CPU that runs this code.
pub(crate) fn current() -> &'static Cpu {
    &CPUS[id().index()]
}

/// The CPU that booted.
pub(crate) fn boot() -> &'static Cpu {
    &CPUS[0]
}

/// How many CPUs there are, running or not.
pub(crate) fn count() -> usize {
    // Relaxed: written while one CPU runs.
    COUNT.load(Ordering::Relaxed)
}

/// All CPUs.
pub(crate) fn all() -> impl Iterator<Item = &'static Cpu> {
    CPUS[..count()].iter()
}

/// All CPUs but the running one.
pub(crate) fn others() -> impl Iterator<Item = &'static Cpu> {
    let this = id();
    all().filter(move |cpu| cpu.id() != this)
}

/// Numbers the CPUs of `processors`: the running one, whose controller is `boot_apic_id`, is the
/// first. Called once, while no other CPU runs.
pub(crate) fn init(processors: &Processors, boot_apic_id: u8) {
    let others = processors.apic_ids().iter().filter(|&&id| id != boot_apic_id);
    let mut count = 0;
    for (cpu, &apic_id) in CPUS.iter().zip(core::iter::once(&boot_apic_id).chain(others)) {
        cpu.apic_id.store(apic_id, Ordering::Relaxed);
        count += 1;
    }
    COUNT.store(count, Ordering::Relaxed);
}
