//! The promises of [`Platform`], kept by this machine.

use kmem::{PhysAddr, Platform};
use x86_64::instructions::interrupts;

use crate::memory;
use crate::platform::Pc;

pub(super) fn direct_map_is_its_own_inverse() {
    for region in memory::regions().filter(memory::Region::is_usable) {
        let start = region.frames.start().start();
        let len_bytes = region.frames.len_bytes();
        for offset in [0, 1, len_bytes / 2, len_bytes - 1] {
            let phys = start.checked_add(offset).expect("inside the region");
            let virt = Pc.phys_to_virt(phys);
            assert!(!virt.is_null());
            assert_eq!(Pc.virt_to_phys(virt), Some(phys));
        }
    }
}

pub(super) fn addresses_outside_the_direct_map_have_no_frame() {
    let on_stack = 0_u8;
    let before = Pc.phys_to_virt(PhysAddr::ZERO).wrapping_sub(1).cast_const();
    let end = memory::regions().map(|region| region.frames.end()).max().expect("memory");
    let behind = Pc.phys_to_virt(end.start()).cast_const();
    for outside in [core::ptr::null(), &raw const on_stack, before, behind] {
        assert_eq!(Pc.virt_to_phys(outside), None, "{outside:p}");
    }
}

pub(super) fn irq_save_nests() {
    assert!(interrupts::are_enabled());
    let outer = Pc.irq_save();
    assert!(!interrupts::are_enabled());
    let inner = Pc.irq_save();
    // SAFETY: `inner` is what the matching save on this CPU returned.
    unsafe { Pc.irq_restore(inner) };
    assert!(!interrupts::are_enabled());
    // SAFETY: as above, for `outer`.
    unsafe { Pc.irq_restore(outer) };
    assert!(interrupts::are_enabled());
}
