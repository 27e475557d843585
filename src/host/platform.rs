//! The Platform: a window of addresses is the physical memory, threads are CPUs.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{locks, slot, system};
use crate::frame::{Frame, FrameRange, Order, PhysAddr};
use crate::platform::{CpuId, IrqState, Mapping, Platform};

/// Physical addresses from here on name addresses of the process: none is low memory, for which
/// page keeps zones and reserves of its own.
const WINDOW_START: u64 = 4 << 30;

/// Physical addresses end here: slabs name their records by 32 bits, which reach so far.
const WINDOW_END: u64 = 256 << 30;

/// Where in the window the first range of addresses lies: high, since the system places mappings
/// downwards.
const FIRST: u64 = 188 << 30;

/// The most that all ranges of addresses have together, in bytes,
pub(super) const MAX_BYTES: usize = (WINDOW_END - WINDOW_START) as usize;

/// and the most that one has.
pub(super) const MAX_SPAN_BYTES: usize = 64 << 30;

const _: () = assert!(FIRST + Order::MAX.len_bytes() + MAX_SPAN_BYTES as u64 <= WINDOW_END);

/// A Linux process as kmem sees it: a window of its addresses is the physical memory.
///
/// A physical address is an address of the process less the window's origin, a multiple of the
/// largest block there is. So what is aligned to the buddy's eye is aligned to the program's.
#[derive(Debug)]
pub struct HostPlatform {
    /// The address that physical address 0 would have; 0 until the first range of addresses is
    /// known.
    origin: AtomicUsize,
}

impl HostPlatform {
    /// A process of which kmem knows no memory yet.
    pub const fn new() -> Self {
        Self { origin: AtomicUsize::new(0) }
    }

    /// Places the window around the first range of addresses, which starts at `start`.
    pub(super) fn place_around(&self, start: usize) {
        let block = Order::MAX.len_bytes() as usize;
        let origin = (start & !(block - 1)).wrapping_sub(FIRST as usize);
        // Relaxed: a pointer or a frame reaches another thread only by means that order this before
        // it.
        self.origin.store(origin, Ordering::Relaxed);
    }

    /// How much of the window lies below an address, in bytes.
    pub(super) fn room_below(&self, address: usize) -> usize {
        (address.wrapping_sub(self.origin()) as u64).saturating_sub(WINDOW_START) as usize
    }

    /// The frames of the addresses from `start` up to `end`; `None` if the window does not have
    /// them all.
    pub(super) fn frames(&self, start: usize, end: usize) -> Option<FrameRange> {
        let phys = |address: usize| address.wrapping_sub(self.origin()) as u64;
        if start > end || phys(start) < WINDOW_START || phys(end) > WINDOW_END {
            return None;
        }
        let frame = |address| Frame::containing(PhysAddr::new(phys(address)));
        FrameRange::new(frame(start)?, frame(end)?)
    }

    #[inline]
    fn origin(&self) -> usize {
        self.origin.load(Ordering::Relaxed)
    }
}

impl Default for HostPlatform {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: by number of the trait's list:
// 1. physical and virtual addresses differ by a constant once there are any; what kmem is given is
//    mapped readable and writable by `Span` for as long as the process lives, and address 0 is not
//    among it.
// 2. the inverse. An address in the window that was never given to kmem is answered too; to page it
//    is a hole or out of range.
// 3. a slot belongs to one thread (slot, invariant 1); those that share the last one act one at a
//    time, inside `pin` or `irq_save` (slot, invariant 2).
// 4. nothing calls kmem on this thread but the thread itself; a signal handler that does is no
//    interrupt that could be masked cheaply: see the module's docs. On the shared slot the lock
//    keeps others away.
// 5. as 3; a thread never changes its slot inside.
// 6. CPUs are threads of this process, and `membarrier(2)` says so of all of them.
// 7. none of these functions allocates through kmem or panics.
// 8. as 1.
unsafe impl Platform for HostPlatform {
    const MAPPING: Mapping = Mapping::Linear;

    #[inline]
    fn phys_to_virt(&self, phys: PhysAddr) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.origin().wrapping_add(phys.as_u64() as usize))
    }

    #[inline]
    fn virt_to_phys(&self, virt: *const u8) -> Option<PhysAddr> {
        let phys = virt.addr().wrapping_sub(self.origin()) as u64;
        (phys < WINDOW_END).then_some(PhysAddr::new(phys))
    }

    /// Masks nothing: a process has no interrupts, and blocking its signals would cost two system
    /// calls a lock. Instead the thread is marked, so that a signal handler can see what it
    /// interrupted, and whoever forks can wait. A thread of the shared slot keeps the others of
    /// that slot away.
    #[inline]
    fn irq_save(&self) -> IrqState {
        locks::enter();
        IrqState(0)
    }

    #[inline]
    unsafe fn irq_restore(&self, _state: IrqState) {
        locks::leave();
    }

    #[inline]
    fn cpu_id(&self) -> CpuId {
        slot::current()
    }

    #[inline]
    fn cpu_count(&self) -> usize {
        slot::SLOTS
    }

    /// Whoever holds the lock may be waiting for this very processor.
    fn relax(&self) {
        system::yield_now();
    }

    #[inline]
    fn pin(&self) {
        slot::enter();
    }

    #[inline]
    fn unpin(&self) {
        slot::leave();
    }

    #[inline(always)]
    fn pin_here(&self) -> CpuId {
        slot::enter_here()
    }

    #[inline(always)]
    fn unpin_from(&self, cpu: CpuId) {
        slot::leave_from(cpu);
    }

    /// A system call.
    fn synchronize(&self) -> bool {
        locks::send_barriers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_alignment_and_come_back() {
        let platform = HostPlatform::new();
        let start = 0x7f12_3460_0000;
        platform.place_around(start);
        for offset in [0, 1, 0x20_0000, 0xfff, MAX_SPAN_BYTES - 1] {
            let virt = ptr::without_provenance_mut::<u8>(start + offset);
            let phys = platform.virt_to_phys(virt).expect("in the window");
            assert_eq!(platform.phys_to_virt(phys).addr(), virt.addr());
            assert!(WINDOW_START <= phys.as_u64() && phys.as_u64() < WINDOW_END);
            let block = Order::MAX.len_bytes();
            assert_eq!(phys.as_u64() % block, virt.addr() as u64 % block);
        }
    }

    #[test]
    fn ranges_outside_the_window_have_no_frames() {
        let platform = HostPlatform::new();
        let start = 0x7f12_3460_0000;
        platform.place_around(start);
        let end = start + MAX_SPAN_BYTES;
        assert_eq!(platform.frames(start, end).map(FrameRange::frames), Some(MAX_SPAN_BYTES >> 12));
        assert_eq!(platform.frames(end, start), None);
        assert_eq!(platform.frames(0x40_0000, 0x60_0000), None);
        assert_eq!(platform.frames(start, start + WINDOW_END as usize), None);
        assert_eq!(platform.virt_to_phys(ptr::without_provenance(0x40_0000)), None);
        assert_eq!(platform.virt_to_phys(ptr::null()), None);
    }
}
