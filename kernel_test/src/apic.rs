//! The local interrupt controller, which each CPU has: interrupts between CPUs, and a timer.
//!
//! Every CPU reaches its own controller at the same addresses, which lie in the direct map. The
//! firmware's memory type registers keep them out of the caches.
//!
//! Source: *Intel 64 and IA-32 Architectures Software Developer's Manual*, volume 3, chapter
//! "APIC".

use core::sync::atomic::{AtomicPtr, Ordering};

use kmem::{PhysAddr, Platform};
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags};

use crate::platform::Pc;

/// Vector of the CPU's own timer.
pub(crate) const TIMER_VECTOR: u8 = 48;
/// Vector by which one CPU interrupts another.
pub(crate) const KNOCK_VECTOR: u8 = 49;
/// Vector of interrupts that the controller withdraws; they are not acknowledged.
pub(crate) const SPURIOUS_VECTOR: u8 = 255;

/// Offsets of registers.
mod register {
    pub(super) const ID: usize = 0x20;
    pub(super) const END_OF_INTERRUPT: usize = 0xb0;
    pub(super) const SPURIOUS: usize = 0xf0;
    pub(super) const COMMAND: usize = 0x300;
    pub(super) const COMMAND_TARGET: usize = 0x310;
    pub(super) const TIMER: usize = 0x320;
    pub(super) const TIMER_COUNT: usize = 0x380;
    pub(super) const TIMER_DIVISOR: usize = 0x3e0;
}

/// What a command makes of the CPUs it is sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// They wait for [`Start`](Self::Start).
    Init,
    /// They begin in real mode, at the start of this page below 1 MiB.
    Start { page: u8 },
    /// They take the interrupt of this vector.
    Interrupt { vector: u8 },
}

impl Command {
    const fn bits(self) -> u32 {
        const ASSERT: u32 = 1 << 14;
        match self {
            Self::Init => ASSERT | 5 << 8,
            Self::Start { page } => ASSERT | 6 << 8 | page as u32,
            Self::Interrupt { vector } => ASSERT | vector as u32,
        }
    }
}

/// The controllers' registers; null before [`init`].
static REGISTERS: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

/// Says where the controllers' registers lie.
///
/// # Safety
///
/// At `base`, which lies in the direct map, every CPU finds the registers of its own controller.
/// Called once, before everything else here.
pub(crate) unsafe fn init(base: PhysAddr) {
    let flags = ApicBase::read().1;
    assert!(
        !flags.contains(ApicBaseFlags::X2APIC_ENABLE),
        "the firmware left the controller in x2 mode"
    );
    let registers = Pc.phys_to_virt(base);
    assert_eq!(Pc.virt_to_phys(registers), Some(base), "the direct map spans the registers");
    // Relaxed: one CPU runs.
    REGISTERS.store(registers, Ordering::Relaxed);
}

/// Address of a register.
fn address(register: usize) -> *mut u32 {
    let registers = REGISTERS.load(Ordering::Relaxed);
    assert!(!registers.is_null(), "the interrupt controllers are used before they are found");
    registers.wrapping_add(register).cast()
}

fn read(register: usize) -> u32 {
    // SAFETY: a register of this CPU's controller, by the contract of `init`. Reading has no
    // effect.
    unsafe { address(register).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: a register of this CPU's controller, by the contract of `init`. The callers, all in
    // this module, write what makes the controller send interrupts that have handlers.
    unsafe { address(register).write_volatile(value) };
}

/// Lets the running CPU take interrupts from others and from its own timer.
pub(crate) fn enable() {
    const ENABLE: u32 = 1 << 8;
    write(register::SPURIOUS, ENABLE | u32::from(SPURIOUS_VECTOR));
}

/// What names the running CPU's controller.
pub(crate) fn id() -> u8 {
    (read(register::ID) >> 24) as u8
}

/// Says that the handler of an interrupt from here is at its end.
pub(crate) fn end_of_interrupt() {
    write(register::END_OF_INTERRUPT, 0);
}

/// Sends `command` to the CPU with this controller.
pub(crate) fn send(apic_id: u8, command: Command) {
    // Two registers: a handler that sends something in between would misdirect the command.
    without_interrupts(|| {
        write(register::COMMAND_TARGET, u32::from(apic_id) << 24);
        send_to(command.bits());
    });
}

/// Sends `command` to all CPUs but the running one.
pub(crate) fn send_to_others(command: Command) {
    const ALL_BUT_SELF: u32 = 3 << 18;
    without_interrupts(|| send_to(ALL_BUT_SELF | command.bits()));
}

/// Sends, once the last command has gone.
fn send_to(bits: u32) {
    const PENDING: u32 = 1 << 12;
    while read(register::COMMAND) & PENDING != 0 {
        core::hint::spin_loop();
    }
    write(register::COMMAND, bits);
}

/// Has the running CPU's timer interrupt it once, after `count` ticks of the bus.
pub(crate) fn set_timer(count: u32) {
    const UNDIVIDED: u32 = 0b1011;
    write(register::TIMER_DIVISOR, UNDIVIDED);
    write(register::TIMER, u32::from(TIMER_VECTOR));
    write(register::TIMER_COUNT, count);
}
