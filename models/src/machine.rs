//! Machines for the models: they know no memory, only how CPUs keep out of each other's way.

use kmem::{CpuId, IrqState, PhysAddr, Pinning, Platform};

macro_rules! machine {
    ($(#[$doc:meta])* $name:ident, $pinning:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;

        // SAFETY: no memory is ever given to kmem here, a CPU of the models is a thread that never
        // changes, and `synchronize` is paired with `light_barrier`, which is a full one here.
        unsafe impl Platform for $name {
            const PINNING: Pinning = $pinning;

            fn phys_to_virt(&self, _: PhysAddr) -> *mut u8 {
                core::ptr::null_mut()
            }

            fn virt_to_phys(&self, _: *const u8) -> Option<PhysAddr> {
                None
            }

            fn irq_save(&self) -> IrqState {
                IrqState(0)
            }

            unsafe fn irq_restore(&self, _: IrqState) {}

            /// As remotes ask: theirs is none of those that have gates.
            fn cpu_id(&self) -> CpuId {
                CpuId::new(1).expect("a small number")
            }

            fn cpu_count(&self) -> usize {
                2
            }

            fn relax(&self) {
                crate::sync::spin_wait();
            }

            fn synchronize(&self) -> bool {
                crate::sync::full_barrier();
                true
            }
        }
    };
}

machine!(
    /// Threads stay on their CPU.
    PinnedMachine,
    Pinning::Pinned
);
machine!(
    /// Threads move between CPUs at any time.
    MigratingMachine,
    Pinning::Migrating
);
