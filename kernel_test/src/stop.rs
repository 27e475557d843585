//! How the kernel stops when something is wrong: one report, then the end of the machine.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::interrupts;

use crate::exit::{Exit, exit};
use crate::serial::emergency;

/// Whether a report has begun.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Prints `report` and ends the machine. A fault while the report is printed ends it at once.
pub(crate) fn stop(report: fmt::Arguments<'_>) -> ! {
    interrupts::disable();
    // Relaxed: the flag guards no other data; any CPU that sees it set ends the same machine.
    if STOPPING.swap(true, Ordering::Relaxed) {
        emergency(format_args!("\n(a second fault, inside the report of the first)\n"));
    } else {
        emergency(format_args!("\nSTOP: {report}\n"));
    }
    exit(Exit::Stopped)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop(format_args!("{info}"))
}
