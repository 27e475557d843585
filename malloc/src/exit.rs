//! What happens when the program ends.

use crate::mode::{self, Mode};
use crate::report;

/// Runs after the program's own handlers: the library is loaded first and so ends last.
extern "C" fn at_exit() {
    if let Mode::Observed(options) = mode::mode() {
        report::at_exit(options);
    }
}

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;
