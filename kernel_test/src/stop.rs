//! How the kernel stops when something is wrong: one report, then the end of the machine.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use x86_64::instructions::{hlt, interrupts};

use crate::cpu;
use crate::exit::{Exit, exit};
use crate::serial::emergency;

/// The CPU whose report has begun, or [`NOBODY`].
static REPORTER: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = usize::MAX;

/// Prints `report` and ends the machine. A fault while the report is printed ends it at once;
/// another CPU that has something to report meanwhile stands still.
pub(crate) fn stop(report: fmt::Arguments<'_>) -> ! {
    interrupts::disable();
    let this = cpu::id().index();
    // Relaxed: it guards no other data.
    match REPORTER.compare_exchange(NOBODY, this, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => emergency(format_args!("\nSTOP: {report}\n(on CPU {this})\n")),
        Err(reporter) if reporter == this => {
            emergency(format_args!("\n(a second fault, inside the report of the first)\n"));
        }
        Err(_) => loop {
            hlt();
        },
    }
    exit(Exit::Stopped)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop(format_args!("{info}"))
}
