//! What the standards say of the functions, and what programs do to an allocator: threads, forks, signals, libraries.

#[allow(dead_code, reason = "each test program uses its own part")]
mod support;

use support::{build, preloaded, run, stderr, stdout};

#[test]
fn every_edge_case_is_as_the_standards_say() {
    assert_eq!(stdout(&run(&mut preloaded(build("standards.c", &[])))), "ok\n");
}

#[track_caller]
fn torture(what: &str) {
    run(preloaded(build("torture.c", &[])).arg(what));
}

#[test]
fn threads_free_each_others_blocks() {
    torture("threads");
}

#[test]
fn children_of_a_process_with_busy_threads_can_allocate() {
    torture("fork");
}

#[test]
fn vfork_and_exec_work() {
    torture("vfork");
}

#[test]
fn a_signal_handler_may_interrupt_the_allocator_anywhere() {
    torture("signal");
}

#[test]
fn ten_thousand_threads_leave_nothing() {
    torture("churn");
}

#[test]
fn more_threads_than_slots_share() {
    torture("crowd");
}

#[test]
fn exceptions_cross_threads() {
    let program = build("exceptions.cc", &[]);
    let with_kmem = run(&mut preloaded(&program));
    assert_eq!(stdout(&with_kmem).lines().count(), 6);
}

#[test]
fn libraries_come_and_go() {
    let plugin = build("plugin.c", &["-shared", "-fPIC"]);
    let output = run(preloaded(build("loader.c", &[])).arg(plugin));
    assert_eq!(stdout(&output), "ok\n");
}

#[test]
fn a_freed_gigabyte_goes_back_to_the_system() {
    let output = run(&mut preloaded(build("mixed_gigabyte.c", &[])));
    let numbers = stdout(&output);
    let (peak, rest) = numbers.trim().split_once(' ').expect("two numbers");
    let (peak, rest): (u64, u64) = (peak.parse().expect("KiB"), rest.parse().expect("KiB"));
    assert!(rest * 20 <= peak, "{rest} KiB of {peak} stay\n{}", stderr(&output));
}

#[test]
fn a_small_address_space_gives_null_and_no_crash() {
    for limit_mib in ["64", "200", "1000"] {
        run(preloaded(build("limits.c", &[])).arg(limit_mib));
    }
}
