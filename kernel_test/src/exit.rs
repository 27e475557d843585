//! The end of the kernel: QEMU's `isa-debug-exit` device turns a written byte into an exit status.

use x86_64::instructions::{hlt, interrupts, port::Port};

/// How the kernel ended. QEMU exits with status `2 * code + 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Exit {
    /// The demonstration or the test came to its end: status 33.
    Success = 0x10,
    /// The kernel stopped with a report: status 35.
    Stopped = 0x11,
}

/// Port of the device, as `xtask` configures it.
const DEBUG_EXIT_PORT: u16 = 0xf4;

/// Ends the machine; where there is no such device, halts it.
pub(crate) fn exit(how: Exit) -> ! {
    interrupts::disable();
    // SAFETY: no device of a PC but QEMU's exit device listens at this port, and that one only
    // ends the machine.
    unsafe { Port::new(DEBUG_EXIT_PORT).write(how as u32) };
    loop {
        hlt();
    }
}
