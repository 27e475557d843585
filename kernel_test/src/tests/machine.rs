//! The machine itself: without it, no other test means anything.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::{hlt, interrupts, interrupts::without_interrupts};
use x86_64::registers::control::{Cr0, Cr0Flags, Efer, EferFlags};

use crate::timer;

pub(super) fn runs_in_long_mode() {
    assert!(Efer::read().contains(EferFlags::LONG_MODE_ACTIVE));
    assert!(Cr0::read().contains(Cr0Flags::PAGING | Cr0Flags::PROTECTED_MODE_ENABLE));
    assert!(interrupts::are_enabled());
}

pub(super) fn stack_is_aligned_and_large() {
    #[repr(align(64))]
    struct Line([u8; 64]);
    let line = black_box(Line([7; 64]));
    assert!((&raw const line).is_aligned());
    assert_eq!(line.0.iter().map(|&byte| u32::from(byte)).sum::<u32>(), 7 * 64);
    // A quarter of a mebibyte of it can be used.
    let large = black_box([1_u8; 256 * 1024]);
    assert_eq!(large.iter().map(|&byte| u32::from(byte)).sum::<u32>(), 256 * 1024);
}

pub(super) fn timer_ticks() {
    let before = timer::ticks();
    while timer::ticks() < before + 20 {
        hlt();
    }
}

pub(super) fn timer_calls_its_hook() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    timer::set_hook(Some(|| {
        assert!(!interrupts::are_enabled());
        CALLS.fetch_add(1, Ordering::Relaxed);
    }));
    while CALLS.load(Ordering::Relaxed) < 10 {
        hlt();
    }
    timer::set_hook(None);
    let calls = CALLS.load(Ordering::Relaxed);
    timer_ticks();
    assert_eq!(CALLS.load(Ordering::Relaxed), calls);
}

pub(super) fn timer_waits_while_masked() {
    without_interrupts(|| {
        let before = timer::ticks();
        for step in 0..2_000_000_u64 {
            black_box(step);
        }
        assert_eq!(timer::ticks(), before);
    });
    timer_ticks();
}

pub(super) fn breakpoint_returns() {
    let kept = black_box(0x0123_4567_89ab_cdef_u64);
    interrupts::int3();
    assert_eq!(black_box(kept), 0x0123_4567_89ab_cdef);
}

pub(super) fn clock_counts_instructions() {
    /// Instructions of a loop of two instructions a round, and of reading the counter.
    fn count(rounds: u64) -> u64 {
        let start = time_stamp();
        // SAFETY: counts a register down; memory and stack are left alone.
        unsafe {
            core::arch::asm!(
                "2: dec {rounds}", "jnz 2b",
                rounds = inout(reg) rounds => _, options(nomem, nostack),
            );
        }
        time_stamp() - start
    }
    without_interrupts(|| {
        // The first call settles what the second does.
        count(100);
        let short = count(1_000);
        let long = count(11_000);
        assert_eq!(long - short, 20_000, "10,000 rounds of 2 instructions");
        assert_eq!(count(1_000), short);
    });
}

fn time_stamp() -> u64 {
    // SAFETY: reads a counter that every x86-64 CPU has.
    unsafe { core::arch::x86_64::_rdtsc() }
}
