//! Looking at an address that may not be mapped.
//!
//! Each function here is one instruction that may fault, and a return. When it faults, the page
//! fault's handler goes on at [`faulted`], which returns to the same caller. Kernels copy from user
//! space like that.

use core::arch::naked_asm;

/// What no byte is.
const FAULTED: u32 = u32::MAX;

/// The byte at `address`; `None` if that is not mapped.
///
/// # Safety
///
/// If something is mapped there, it is memory, not a device.
pub(crate) unsafe fn read(address: *const u8) -> Option<u8> {
    // SAFETY: a fault is caught, and reading memory changes nothing.
    u8::try_from(unsafe { load(address) }).ok()
}

/// Writes `byte` to `address`; whether that is mapped and writable.
///
/// # Safety
///
/// If something is mapped there, it is memory that the caller may write to.
pub(crate) unsafe fn write(address: *mut u8, byte: u8) -> bool {
    // SAFETY: a fault is caught; the rest is for the caller.
    unsafe { store(address, byte) != FAULTED }
}

/// Where to go on after a page fault at the instruction `rip`, if it is one of those here.
pub(crate) fn landing(rip: u64) -> Option<u64> {
    let address_of = |function: *const ()| function.addr() as u64;
    let probes = [address_of(load as *const ()), address_of(store as *const ())];
    probes.contains(&rip).then(|| address_of(faulted as *const ()))
}

#[unsafe(naked)]
unsafe extern "C" fn load(address: *const u8) -> u32 {
    naked_asm!("movzx eax, byte ptr [rdi]", "ret")
}

#[unsafe(naked)]
unsafe extern "C" fn store(address: *mut u8, byte: u8) -> u32 {
    naked_asm!("mov byte ptr [rdi], sil", "xor eax, eax", "ret")
}

#[unsafe(naked)]
unsafe extern "C" fn faulted() -> u32 {
    naked_asm!("mov eax, {}", "ret", const FAULTED)
}
