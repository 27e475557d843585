//! Tests that end in a stop: the list says by which message each is judged.

use alloc::alloc::{alloc, dealloc};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::arch::asm;
use core::hint::black_box;
use core::ptr::with_exposed_provenance_mut;

pub(super) fn panic_names_its_place() {
    panic!("on purpose");
}

pub(super) fn panic_prints_its_message() {
    assert_eq!(black_box(7), 8, "seven is not eight");
}

pub(super) fn page_fault_names_its_address() {
    let unmapped = with_exposed_provenance_mut::<u64>(0x0dea_dbee_f000);
    // SAFETY: none: the address is not mapped. The kernel stops at the fault, which is the test.
    unsafe { unmapped.write_volatile(1) };
}

pub(super) fn general_protection_is_reported() {
    // SAFETY: none: the address is not canonical. The kernel stops at the fault, which is the test.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) 0x8000_0000_0000_0000_u64 => _) };
}

pub(super) fn invalid_opcode_is_reported() {
    // SAFETY: the CPU traps, and the kernel stops.
    unsafe { asm!("ud2") };
}

pub(super) fn division_by_zero_is_reported() {
    // SAFETY: the CPU traps, and the kernel stops.
    unsafe {
        asm!("xor edx, edx", "mov eax, 1", "div {0:e}", in(reg) 0, out("rax") _, out("rdx") _)
    };
}

pub(super) fn registers_are_printed() {
    // SAFETY: the CPU traps, and the kernel stops; `rbx` is never used again.
    unsafe { asm!("mov rbx, {0}", "ud2", in(reg) 0x1122_3344_5566_7788_u64) };
}

pub(super) fn stack_overflow_is_reported() {
    #[expect(unconditional_recursion, reason = "the overflow is what is tested")]
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        deeper(depth + 1) + black_box(frame)[0]
    }
    deeper(0);
}

/// The kernel refuses names that it does not know, so that a misspelt one cannot pass.
pub(super) fn unknown_test_is_refused() {
    super::run("no::such::test");
}

/// A block from Rust's allocator interface, which the compiler cannot leave out.
fn allocate(layout: Layout) -> *mut u8 {
    // SAFETY: the layouts here have bytes.
    black_box(unsafe { alloc(layout) })
}

/// Frees `block` through Rust's allocator interface, as a wrong program would.
fn free(block: *mut u8, layout: Layout) {
    // SAFETY: none: the free is wrong. The kernel stops at it, which is the test.
    unsafe { dealloc(black_box(block), layout) };
}

pub(super) fn double_free() {
    let layout = Layout::new::<[u64; 8]>();
    let block = allocate(layout);
    free(block, layout);
    free(block, layout);
}

pub(super) fn double_free_of_pages() {
    let layout = Layout::new::<[u64; 100_000]>();
    let block = allocate(layout);
    free(block, layout);
    free(block, layout);
}

pub(super) fn free_of_an_interior_address() {
    let layout = Layout::new::<[u64; 8]>();
    free(allocate(layout).wrapping_add(8), layout);
}

pub(super) fn free_of_a_foreign_address() {
    let mut on_stack = [0_u64; 8];
    free((&raw mut on_stack).cast(), Layout::new::<[u64; 8]>());
}

pub(super) fn allocation_that_cannot_be() {
    black_box(Vec::<u8>::with_capacity(1 << 40));
}
