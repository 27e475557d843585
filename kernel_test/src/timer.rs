//! The timer: the PC's interval timer, a thousand interrupts a second through the old interrupt
//! controllers.

use core::sync::atomic::{AtomicU64, Ordering};

use pic8259::ChainedPics;
use spin::Mutex;
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::instructions::port::Port;

/// Vector of the timer's interrupt: the first behind those of the CPU's exceptions.
pub(crate) const VECTOR: u8 = 32;

/// Interrupts a second.
pub(crate) const HERTZ: u32 = 1000;

/// Frequency of the interval timer's input, the same in every PC since 1981.
const INPUT_HERTZ: u32 = 1_193_182;

// SAFETY: the sixteen vectors from `VECTOR` on are free of exceptions.
static CONTROLLERS: Mutex<ChainedPics> = Mutex::new(unsafe { ChainedPics::new_contiguous(VECTOR) });
static TICKS: AtomicU64 = AtomicU64::new(0);
static HOOK: Mutex<Option<fn()>> = Mutex::new(None);

/// Starts the timer. Called once, after `interrupts::init`, with interrupts masked.
pub(crate) fn init() {
    let mut controllers = CONTROLLERS.lock();
    // SAFETY: every interrupt that is let through, the timer's alone, has a handler.
    unsafe {
        controllers.initialize();
        controllers.write_masks(!1, !0);
    }
    let divisor = (INPUT_HERTZ / HERTZ) as u16;
    let [low, high] = divisor.to_le_bytes();
    // SAFETY: channel 0 of the interval timer is the kernel's own: a rate generator, low byte
    // first.
    unsafe {
        Port::<u8>::new(0x43).write(0x34);
        Port::<u8>::new(0x40).write(low);
        Port::<u8>::new(0x40).write(high);
    }
}

/// How many interrupts the timer has sent.
pub(crate) fn ticks() -> u64 {
    // Relaxed: a count, which orders nothing.
    TICKS.load(Ordering::Relaxed)
}

/// Calls `hook` from every further interrupt of the timer, with interrupts masked.
pub(crate) fn set_hook(hook: Option<fn()>) {
    without_interrupts(|| *HOOK.lock() = hook);
}

/// Handles the timer's interrupt.
pub(crate) fn tick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
    // Nobody on this CPU holds the lock while interrupts are open.
    let hook = *HOOK.lock();
    if let Some(hook) = hook {
        hook();
    }
    // SAFETY: this is the end of the handler of just this interrupt.
    unsafe { CONTROLLERS.lock().notify_end_of_interrupt(VECTOR) };
}
