//! The tests that run in the kernel: one boot, one test.
//!
//! A test is a function without arguments that panics if it fails. Its name, its machines and how
//! it must end stand in the list of the crate `kernel_test_list`.

mod gates;
mod heap;
mod machine;
mod memory;
mod page;
mod platform;
mod process_ids;
mod random;
mod slab;
mod smp;
mod stop;
mod stress;
mod vmalloc;

use crate::memory::PAGES;
use crate::println;
use crate::stop::stop;

macro_rules! functions {
    ($($topic:ident { $($name:ident: $machines:expr, $ending:expr;)* })*) => {
        /// Every test's name and function.
        static FUNCTIONS: &[(&str, fn())] =
            &[$($((concat!(stringify!($topic), "::", stringify!($name)), $topic::$name),)*)*];
    };
}

kernel_test_list::kernel_tests!(functions);

/// Runs the test `name`.
pub(crate) fn run(name: &str) {
    let Some((_, test)) = FUNCTIONS.iter().find(|(listed, _)| *listed == name) else {
        stop(format_args!("no such test: {name}"));
    };
    println!("test {name}");
    test();
    println!("passed");
}

/// How many frames are available when CPUs keep none of them ready.
fn available() -> usize {
    PAGES.drain();
    PAGES.frames_available()
}
