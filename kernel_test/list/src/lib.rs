//! The list of all kernel tests, and the machines they run on.
//!
//! There is one list, [`kernel_tests!`], and it has two readers. The kernel expands it to a table
//! of names and functions, so that a name without its function does not compile. The host expands it to
//! [`TESTS`], which says on which machines each test boots and how it must end, so that
//! `cargo test` can name every test without building a kernel.

#![no_std]
#![forbid(unsafe_code)]

/// A machine that a test boots on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Its part of the test's name.
    pub name: &'static str,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// What makes its time pass.
    pub clock: Clock,
}

/// What makes a machine's time pass, and its time stamp counter count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// The host's time.
    Host,
    /// Executed instructions, one a nanosecond: the same count in every run, whatever the load.
    /// All CPUs share one host thread.
    Instructions,
}

impl Machine {
    const fn with_memory(name: &'static str, memory_mib: u32) -> Self {
        Self { name, memory_mib, cpus: 1, clock: Clock::Host }
    }
}

/// 16 MiB: everything lies below the limit of old DMA engines, and is soon used up.
pub const M16: Machine = Machine::with_memory("m16", 16);
/// 128 MiB: the common case.
pub const M128: Machine = Machine::with_memory("m128", 128);
/// 5 GiB: the hole for PCI devices below 4 GiB, and memory above it.
pub const M5G: Machine = Machine::with_memory("m5g", 5 * 1024);
/// 128 MiB, with a clock that counts instructions.
pub const COUNTED: Machine = Machine { name: "counted", clock: Clock::Instructions, ..M128 };

const COMMON: &[Machine] = &[M128];
const ALL_SIZES: &[Machine] = &[M16, M128, M5G];

/// How a test must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Its function returns.
    Pass,
    /// The kernel stops with a report that contains this text.
    Stop(&'static str),
}

/// A kernel test: a function `topic::name` of the kernel's `tests` module.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// `topic::name`, which the kernel is told at boot.
    pub name: &'static str,
    /// The machines it runs on, each in a boot of its own.
    pub machines: &'static [Machine],
    /// How each of these boots must end.
    pub ending: Ending,
}

/// Calls the macro `$visit` with the list: for each topic, its tests' names, machines and endings.
#[macro_export]
macro_rules! kernel_tests {
    ($visit:ident) => {
        $visit! {
            machine {
                runs_in_long_mode: COMMON, Pass;
                stack_is_aligned_and_guarded: COMMON, Pass;
                timer_ticks: ALL_SIZES, Pass;
                timer_calls_its_hook: COMMON, Pass;
                timer_waits_while_masked: COMMON, Pass;
                breakpoint_returns: COMMON, Pass;
                clock_counts_instructions: &[COUNTED], Pass;
            }
            memory {
                regions_are_sorted_and_disjoint: ALL_SIZES, Pass;
                usable_memory_is_what_the_machine_has: ALL_SIZES, Pass;
                kernel_is_not_usable_memory: ALL_SIZES, Pass;
                hole_below_4_gib_and_memory_above: &[M5G], Pass;
                every_region_keeps_what_is_written: ALL_SIZES, Pass;
            }
            platform {
                direct_map_is_its_own_inverse: ALL_SIZES, Pass;
                addresses_outside_the_direct_map_have_no_frame: ALL_SIZES, Pass;
                irq_save_nests: COMMON, Pass;
            }
            stop {
                panic_names_its_place: COMMON, Stop("panicked at src/tests/stop.rs:8:5");
                panic_prints_its_message: COMMON, Stop("seven is not eight");
                page_fault_names_its_address: COMMON, Stop("page fault at 0xdeadbeef000, writing");
                general_protection_is_reported: COMMON, Stop("general protection fault");
                invalid_opcode_is_reported: COMMON, Stop("invalid opcode");
                division_by_zero_is_reported: COMMON, Stop("divide error");
                registers_are_printed: COMMON, Stop("rbx 0x1122334455667788");
                stack_overflow_is_reported: COMMON, Stop("double fault");
                unknown_test_is_refused: COMMON, Stop("no such test");
            }
        }
    };
}

macro_rules! table {
    ($($topic:ident { $($name:ident: $machines:expr, $ending:expr;)* })*) => {
        /// Every kernel test.
        pub const TESTS: &[Test] = {
            use Ending::{Pass, Stop};
            &[$($(Test {
                name: concat!(stringify!($topic), "::", stringify!($name)),
                machines: $machines,
                ending: $ending,
            },)*)*]
        };
    };
}

kernel_tests!(table);
