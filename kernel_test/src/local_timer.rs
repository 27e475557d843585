//! A timer on each CPU, whose interrupts come at irregular instants and call a hook.
//!
//! It has no particular rate: each interrupt sets the timer again, for some 50 to 1,000
//! microseconds on an emulated machine.

use core::sync::atomic::Ordering;

use spin::Mutex;
use x86_64::instructions::interrupts::without_interrupts;

use crate::{apic, barrier, call, cpu};

static HOOK: Mutex<Option<fn()>> = Mutex::new(None);

/// Starts the timers of all CPUs. Every interrupt calls `hook`, on the CPU that takes it, with
/// interrupts masked. Called on the CPU that booted.
pub(crate) fn start(hook: fn()) {
    without_interrupts(|| *HOOK.lock() = Some(hook));
    call::on_every_cpu(&|_| apic::set_timer(interval()));
}

/// Stops all timers: when this returns, the hook runs nowhere any more.
pub(crate) fn stop() {
    without_interrupts(|| *HOOK.lock() = None);
    // A CPU inside the hook has interrupts masked, and serves this when it has left.
    assert!(barrier::synchronize(), "a CPU hangs in the timer's hook");
}

/// Handles an interrupt of the running CPU's timer.
pub(crate) fn tick() {
    // Relaxed: a count, which orders nothing.
    cpu::current().ticks.fetch_add(1, Ordering::Relaxed);
    // A copy, so that CPUs do not wait for each other's hooks. Nobody on this CPU holds the lock
    // while interrupts are open.
    let hook = *HOOK.lock();
    if let Some(hook) = hook {
        hook();
        // At the end, so that interrupts never follow each other without anything in between.
        apic::set_timer(interval());
    }
}

/// Ticks of the bus until the next interrupt: different on each CPU and each time.
fn interval() -> u32 {
    let cpu = cpu::current();
    let ticks = cpu.ticks.load(Ordering::Relaxed);
    // Fibonacci hashing spreads what follows each other.
    let number = (ticks << 8 | cpu.id().index() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    50_000 + (number >> 32) as u32 % 950_000
}
