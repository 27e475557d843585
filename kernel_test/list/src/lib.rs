//! The list of all kernel tests, and the machines they run on.
//!
//! There is one list, [`kernel_tests!`], and it has two readers. The kernel expands it to a table
//! of names and functions, so that a name without its function does not compile. The host expands
//! it to [`TESTS`], which says on which machines each test boots and how it must end, so that
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
/// 5 GiB, with a clock that counts instructions: there are blocks of gigabytes.
pub const COUNTED_5G: Machine = Machine { name: "counted5g", clock: Clock::Instructions, ..M5G };

/// So many CPUs, which all run at the same time, with 256 MiB.
const fn with_cpus(name: &'static str, cpus: u32) -> Machine {
    Machine { cpus, ..Machine::with_memory(name, 256) }
}

/// One CPU, for what must work with any number.
pub const CPUS1: Machine = with_cpus("cpus1", 1);
/// Two CPUs.
pub const CPUS2: Machine = with_cpus("cpus2", 2);
/// Four CPUs.
pub const CPUS4: Machine = with_cpus("cpus4", 4);
/// Eight CPUs: more than most hosts have, so that any of them may stand still at any time.
pub const CPUS8: Machine = with_cpus("cpus8", 8);

const COMMON: &[Machine] = &[M128];
const ALL_SIZES: &[Machine] = &[M16, M128, M5G];
const ALL_CPUS: &[Machine] = &[CPUS1, CPUS2, CPUS4, CPUS8];

/// How a test must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Its function returns.
    Pass,
    /// Its function returns, and has said how many instructions an operation took: at most as many
    /// as `kernel_test/instructions.txt` allows.
    Counted,
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
                stack_is_aligned_and_large: COMMON, Pass;
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
                kmem_manages_what_is_usable: ALL_SIZES, Pass;
                metadata_take_little: &[M128, M5G], Pass;
                memory_cannot_be_given_twice: COMMON, Pass;
            }
            platform {
                direct_map_is_its_own_inverse: ALL_SIZES, Pass;
                addresses_outside_the_direct_map_have_no_frame: ALL_SIZES, Pass;
                irq_save_nests: COMMON, Pass;
            }
            smp {
                firmware_names_every_cpu: ALL_CPUS, Pass;
                broken_firmware_tables_are_refused: COMMON, Pass;
                every_cpu_runs_on_a_stack_of_its_own: ALL_CPUS, Pass;
                calls_follow_each_other: ALL_CPUS, Pass;
                timers_interrupt_every_cpu: ALL_CPUS, Pass;
                stopped_timers_stay_silent: ALL_CPUS, Pass;
                barrier_waits_for_cpus_that_mask_interrupts: ALL_CPUS, Pass;
                barriers_at_once_do_not_wait_for_each_other: ALL_CPUS, Pass;
                who_waits_for_another_cpu_serves_barriers: ALL_CPUS, Pass;
                panic_on_another_cpu_is_reported: &[CPUS2], Stop("panicked at src/tests/smp.rs:");
                stack_overflow_on_another_cpu_is_reported: &[CPUS2], Stop("double fault");
            }
            stress {
                blocks_of_every_order: ALL_CPUS, Pass;
                large_blocks_under_contention: ALL_CPUS, Pass;
                single_frames_on_all_cpus: ALL_CPUS, Pass;
                every_size_class: ALL_CPUS, Pass;
                heap_memory_of_any_size: ALL_CPUS, Pass;
                one_cache_for_all_cpus: ALL_CPUS, Pass;
                remote_frees_from_every_cpu_to_every_cpu: ALL_CPUS, Pass;
                exhaustion_and_recovery_on_all_cpus_at_once: ALL_CPUS, Pass;
                timers_allocate_on_every_cpu: ALL_CPUS, Pass;
                drain_while_others_allocate: ALL_CPUS, Pass;
                frame_lists_are_drained_while_others_use_them: ALL_CPUS, Pass;
                cpus_come_and_go: ALL_CPUS, Pass;
                ten_million_operations: &[CPUS4], Pass;
            }
            page {
                single_frames_to_the_last_and_back: &[M16, M128], Pass;
                largest_blocks_take_everything: ALL_SIZES, Pass;
                blocks_are_aligned_disjoint_and_usable: ALL_SIZES, Pass;
                blocks_coalesce_to_what_they_were: ALL_SIZES, Pass;
                blocks_keep_what_is_written: ALL_SIZES, Pass;
                zones_follow_the_address_limits: ALL_SIZES, Pass;
                dma_requests_stay_below_16_mib: ALL_SIZES, Pass;
                dma32_requests_stay_below_4_gib: &[M128, M5G], Pass;
                ordinary_requests_prefer_high_memory: &[M5G], Pass;
                exhausted_zone_falls_back_to_the_one_below: &[M128, M5G], Pass;
                ordinary_requests_leave_a_reserve: ALL_SIZES, Pass;
                zeroed_blocks_are_zero: COMMON, Pass;
                every_bad_free_has_its_own_error: ALL_SIZES, Pass;
                the_kernels_own_frames_cannot_be_had: ALL_SIZES, Pass;
                claimed_frames_are_these_very_ones: COMMON, Pass;
                exact_counts_waste_nothing: ALL_SIZES, Pass;
                device_buffers_lie_within_reach: &[M128, M5G], Pass;
                allocations_are_resized_in_place: COMMON, Pass;
                random_calls_keep_every_invariant: ALL_SIZES, Pass;
                timer_allocates_while_the_kernel_does: COMMON, Pass;
            }
            slab {
                values_live_in_a_cache_and_are_dropped: COMMON, Pass;
                objects_are_aligned_disjoint_and_whole: ALL_SIZES, Pass;
                destroyed_cache_returns_every_frame: COMMON, Pass;
                constructor_runs_once_per_object: COMMON, Pass;
                double_free_is_refused: COMMON, Pass;
                address_inside_an_object_is_refused: COMMON, Pass;
                object_of_another_cache_is_refused: COMMON, Pass;
                address_outside_memory_is_refused: COMMON, Pass;
                cache_with_live_objects_is_not_destroyed: COMMON, Pass;
                cache_takes_all_memory_and_gives_it_back: &[M16, M128], Pass;
                timer_allocates_objects_while_the_kernel_does: COMMON, Pass;
            }
            heap {
                vec: ALL_SIZES, Pass;
                btreemap: ALL_SIZES, Pass;
                arc: COMMON, Pass;
                string: COMMON, Pass;
                other_collections: COMMON, Pass;
                every_size_class_serves_its_sizes: ALL_SIZES, Pass;
                alignments_up_to_megabytes: ALL_SIZES, Pass;
                zeroed_memory_is_zero: COMMON, Pass;
                reallocation_keeps_contents: COMMON, Pass;
                no_memory_is_an_error_and_no_stop: ALL_SIZES, Pass;
                memory_to_the_last_object_and_back: ALL_SIZES, Pass;
                gigabytes_in_one_piece: &[M5G], Pass;
                empty_slabs_are_reclaimed_before_a_request_fails: COMMON, Pass;
                bad_frees_are_refused: COMMON, Pass;
                random_blocks_keep_their_contents: ALL_SIZES, Pass;
                timer_allocates_boxes_while_the_kernel_does: COMMON, Pass;
            }
            vmalloc {
                buffers_are_contiguous_where_frames_are_not: &[M16, M128], Pass;
                what_is_not_allocated_is_not_mapped: COMMON, Pass;
                guard_pages_fault_on_both_sides: ALL_SIZES, Pass;
                running_over_the_end_is_reported: COMMON, Stop("page fault at 0xffffe00000004000, writing");
                dropped_buffers_are_unmapped_and_gone: ALL_SIZES, Pass;
                failure_at_any_frame_gives_everything_back: ALL_SIZES, Pass;
                exhausted_addresses_are_an_error: &[M128, M5G], Pass;
                random_buffers_keep_contents_and_lose_nothing: ALL_SIZES, Pass;
                no_cpu_remembers_a_dropped_buffer: ALL_CPUS, Pass;
                buffers_on_every_cpu_at_once: ALL_CPUS, Pass;
            }
            process_ids {
                ids_ascend_and_are_reused_last: COMMON, Pass;
                all_ids_are_handed_out_once: COMMON, Pass;
                wrong_ids_are_refused: COMMON, Pass;
                random_calls_follow_next_fit: COMMON, Pass;
            }
            gates {
                frame_alloc_hit: &[COUNTED], Counted;
                frame_free_hit: &[COUNTED], Counted;
                frame_refill: &[COUNTED], Counted;
                frame_spill: &[COUNTED], Counted;
                frame_2_mib_alloc_hit: &[COUNTED], Counted;
                frame_2_mib_free_hit: &[COUNTED], Counted;
                frame_2_mib_refill: &[COUNTED], Counted;
                split_of_the_largest_block: &[COUNTED_5G], Counted;
                merge_to_the_largest_block: &[COUNTED_5G], Counted;
                worst_take_of_256_gib: &[COUNTED_5G], Counted;
                worst_give_of_256_gib: &[COUNTED_5G], Counted;
                give_2_mib_amid_taken_ones_of_256_gib: &[COUNTED_5G], Counted;
                object_alloc_hit: &[COUNTED], Counted;
                object_free_hit: &[COUNTED], Counted;
                object_refill: &[COUNTED], Counted;
                object_alloc_worst_of_1000: &[COUNTED], Counted;
                object_free_worst_of_1000: &[COUNTED], Counted;
                small_object_alloc_worst_of_1000: &[COUNTED], Counted;
                small_object_free_worst_of_1000: &[COUNTED], Counted;
                heap_alloc_hit: &[COUNTED], Counted;
                heap_free_hit: &[COUNTED], Counted;
                heap_run_pair: &[COUNTED], Counted;
            }
            stop {
                panic_names_its_place: COMMON, Stop("panicked at src/tests/stop.rs:");
                panic_prints_its_message: COMMON, Stop("seven is not eight");
                page_fault_names_its_address: COMMON, Stop("page fault at 0xdeadbeef000, writing");
                general_protection_is_reported: COMMON, Stop("general protection fault");
                invalid_opcode_is_reported: COMMON, Stop("invalid opcode");
                division_by_zero_is_reported: COMMON, Stop("divide error");
                registers_are_printed: COMMON, Stop("rbx 0x1122334455667788");
                stack_overflow_is_reported: COMMON, Stop("double fault");
                double_free: COMMON, Stop("freed, but not allocated");
                double_free_of_pages: COMMON, Stop("freed, but not allocated");
                free_of_an_interior_address: COMMON, Stop("not an object's start");
                free_of_a_foreign_address: COMMON, Stop("freed, but not kmem's");
                allocation_that_cannot_be: COMMON, Stop("memory allocation of 1099511627776");
                unknown_test_is_refused: COMMON, Stop("no such test");
            }
        }
    };
}

macro_rules! table {
    ($($topic:ident { $($name:ident: $machines:expr, $ending:expr;)* })*) => {
        /// Every kernel test.
        pub const TESTS: &[Test] = {
            use Ending::{Counted, Pass, Stop};
            &[$($(Test {
                name: concat!(stringify!($topic), "::", stringify!($name)),
                machines: $machines,
                ending: $ending,
            },)*)*]
        };
    };
}

kernel_tests!(table);
