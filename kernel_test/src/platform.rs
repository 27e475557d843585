//! What kmem must be told about this machine: the PC's [`Platform`].

use core::sync::atomic::{AtomicU64, Ordering};

use kmem::{CpuId, IrqState, Mapping, PhysAddr, Platform};
use x86_64::instructions::interrupts;

use crate::{barrier, cpu};

/// A PC in long mode, whose boot loader has mapped all physical memory at one offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pc;

/// Virtual address of physical address 0. Written once, before kmem is given memory.
static DIRECT_MAP_BASE: AtomicU64 = AtomicU64::new(0);
/// Bytes of physical memory that the direct map spans.
static DIRECT_MAP_LEN_BYTES: AtomicU64 = AtomicU64::new(0);

/// Says where physical memory is mapped, and how much of it.
///
/// # Safety
///
/// The `len_bytes` bytes from `base` on map the physical memory from address 0 on, readable and
/// writable, for ever. Called once.
pub(crate) unsafe fn init(base: u64, len_bytes: u64) {
    // Relaxed: this CPU is the only one that runs, and others are started later.
    DIRECT_MAP_BASE.store(base, Ordering::Relaxed);
    DIRECT_MAP_LEN_BYTES.store(len_bytes, Ordering::Relaxed);
}

// SAFETY: by number of the promise.
// 1, 2: the direct map is linear, fixed and the same for all frames, by the contract of `init`; the
//    boot loader puts it far above address 0.
// 3: each CPU's GS points to another `Cpu`, with another number below their count, which is known
//    before kmem is used.
// 4: interrupts are masked by `cli`, and nothing but interrupts interrupts a thread.
// 5: the kernel has one thread a CPU.
// 6: `barrier` waits for every CPU that is online. One that comes online passes a barrier then,
//    before it uses kmem.
// 7: nothing here calls kmem; what panics, stops the machine.
// 8: as 1.
unsafe impl Platform for Pc {
    const MAPPING: Mapping = Mapping::Linear;

    #[inline]
    fn phys_to_virt(&self, phys: PhysAddr) -> *mut u8 {
        let base = DIRECT_MAP_BASE.load(Ordering::Relaxed);
        core::ptr::with_exposed_provenance_mut(base.wrapping_add(phys.as_u64()) as usize)
    }

    #[inline]
    fn virt_to_phys(&self, virt: *const u8) -> Option<PhysAddr> {
        let base = DIRECT_MAP_BASE.load(Ordering::Relaxed);
        let offset = (virt.addr() as u64).checked_sub(base)?;
        (offset < DIRECT_MAP_LEN_BYTES.load(Ordering::Relaxed)).then_some(PhysAddr::new(offset))
    }

    #[inline]
    fn irq_save(&self) -> IrqState {
        let enabled = interrupts::are_enabled();
        interrupts::disable();
        IrqState(usize::from(enabled))
    }

    #[inline]
    unsafe fn irq_restore(&self, state: IrqState) {
        if state != IrqState(0) {
            interrupts::enable();
        }
    }

    #[inline]
    fn cpu_id(&self) -> CpuId {
        cpu::id()
    }

    #[inline]
    fn cpu_count(&self) -> usize {
        cpu::count()
    }

    fn relax(&self) {
        // Who is waited for may be waiting for this CPU's barrier, and interrupts may be masked.
        barrier::serve();
        core::hint::spin_loop();
    }

    fn synchronize(&self) -> bool {
        barrier::synchronize()
    }
}

/// So many bytes of physical memory from `start` on, if the direct map has them.
///
/// # Safety
///
/// While the answer lives, nobody writes to them.
pub(crate) unsafe fn physical_bytes(start: u64, len_bytes: usize) -> Option<&'static [u8]> {
    let end = start.checked_add(len_bytes as u64)?;
    if end > DIRECT_MAP_LEN_BYTES.load(Ordering::Relaxed) {
        return None;
    }
    let bytes = Pc.phys_to_virt(PhysAddr::new(start));
    // SAFETY: mapped and readable, by the contract of `init`; not written to, by that of this
    // function.
    Some(unsafe { core::slice::from_raw_parts(bytes, len_bytes) })
}
