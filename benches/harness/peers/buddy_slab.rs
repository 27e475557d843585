//! What `buddy-slab-allocator` wants from the system it is linked into: a lock and a slab pool.

use core::{
    panic::Location,
    sync::atomic::{AtomicBool, Ordering},
};

use ax_sync::interface::{AcquireResult, ContextState, LockMetadata, SpinOps};
use buddy_slab_allocator::{PerCpuSlab, SlabPoolTrait, StaticSlabPool, interface::BuddySlabIf};

use super::cpu;

static SLABS: StaticSlabPool<0x1000, { cpu::CPUS }> =
    StaticSlabPool::new([PerCpuSlab::new(0), PerCpuSlab::new(1)], cpu::current_number);

struct Services;

#[ax_crate_interface::impl_interface]
impl BuddySlabIf for Services {
    fn virt_to_phys(address: usize) -> usize {
        address
    }

    fn slab_pool() -> &'static dyn SlabPoolTrait {
        &SLABS
    }
}

struct SpinLock;

/// The plainest spin lock, without interrupts to mask: the least that any kernel would spend.
#[ax_crate_interface::impl_interface]
impl SpinOps for SpinLock {
    fn acquire(
        locked: &AtomicBool,
        _metadata: &LockMetadata,
        _lock_address: usize,
        _context: u8,
        _subclass: u32,
        _caller: &'static Location<'static>,
    ) -> ContextState {
        // Acquire: pairs with the release of `release`.
        while locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            core::hint::spin_loop();
        }
        ContextState::new(0, 0)
    }

    fn try_acquire(
        locked: &AtomicBool,
        _metadata: &LockMetadata,
        _lock_address: usize,
        _context: u8,
        _subclass: u32,
        _caller: &'static Location<'static>,
    ) -> AcquireResult {
        let acquired =
            locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        AcquireResult::new(acquired, ContextState::new(0, 0))
    }

    fn release(locked: &AtomicBool, _lock_address: usize, _context: u8, _state: ContextState) {
        locked.store(false, Ordering::Release);
    }

    fn force_release(locked: &AtomicBool, _lock_address: usize, _context: u8) {
        locked.store(false, Ordering::Release);
    }

    fn is_locked(locked: &AtomicBool) -> bool {
        locked.load(Ordering::Relaxed)
    }
}
