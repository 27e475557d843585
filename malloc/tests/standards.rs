//! What the standards say of the functions, and what programs do to an allocator: threads, forks,
//! signals, libraries.

#[allow(dead_code, reason = "each test program uses its own part")]
mod support;

use std::process::Command;

use support::{build, library, preloaded, run, stderr, stdout};

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
fn handlers_of_forks_may_be_registered_before_anything_is_allocated() {
    assert_eq!(stdout(&run(&mut preloaded(build("atfork.c", &[])))), "ok\n");
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
fn a_fork_and_the_c_librarys_streams_do_not_wait_for_each_other() {
    assert_eq!(stdout(&run(&mut preloaded(build("streams.c", &[])))), "ok\n");
}

#[test]
fn no_thread_is_cancelled_in_the_allocator() {
    let log = std::env::temp_dir().join(format!("kmem-cancelled-{}", std::process::id()));
    let output = run(preloaded(build("cancelled.c", &[])).env("KMEM_LOG", &log));
    assert_eq!(stdout(&output), "ok\n");
    std::fs::remove_file(log).expect("a log");
}

#[test]
fn a_thread_may_end_after_the_library_was_closed() {
    let output = run(Command::new(build("closer.c", &["-Wl,--as-needed"])).arg(library()));
    assert_eq!(stdout(&output), "ok\n");
}

#[test]
fn requests_that_fail_cost_no_addresses() {
    assert_eq!(stdout(&run(&mut preloaded(build("exhausted.c", &[])))), "ok\n");
}

#[test]
fn little_that_may_be_written_to_is_the_programs() {
    for limit_mib in ["20", "60", "200"] {
        let output = run(preloaded(build("little_data.c", &[])).arg(limit_mib));
        assert_eq!(stdout(&output), "ok\n");
    }
}

#[test]
fn what_few_programs_run_is_not_in_the_memory_of_others() {
    let last = build("last_maps.c", &["-shared", "-fPIC"]);
    let preload = format!("{} {}", library().display(), last.display());
    // Forks are not rare; the child has no destructors that print.
    let script = "kill KILL => $$ unless fork; wait";
    let text = stdout(&run(Command::new("perl").args(["-e", script]).env("LD_PRELOAD", preload)));
    let is_head = |line: &str| line.split(' ').next().is_some_and(|word| word.contains('-'));
    let mut in_code = false;
    let mut resident = Vec::new();
    for line in text.lines() {
        if is_head(line) {
            in_code = line.contains(" r-xp ") && line.ends_with("libkmem_malloc.so");
        } else if in_code && let Some(size) = line.strip_prefix("Rss:") {
            resident.push(size.trim());
        }
    }
    assert_eq!(resident.len(), 2, "`rare.ld` makes two mappings of code\n{text}");
    assert!(resident.contains(&"0 kB"), "of both mappings of code some is there: {resident:?}");
}

#[test]
fn a_backtrace_goes_through_the_library() {
    let output = run(&mut preloaded(build("backtrace.c", &[])));
    assert_eq!(stdout(&output), "ok\n", "{}", stderr(&output));
}

#[test]
fn a_limit_below_what_is_there_already_costs_no_content() {
    let program = build("late_limit.c", &[]);
    for resource in ["0", "1"] {
        assert_eq!(stdout(&run(preloaded(&program).arg(resource))), "ok\n");
    }
}

#[test]
fn a_block_may_grow_beyond_the_largest_that_can_be_asked_for() {
    let program = build("grown.c", &[]);
    for track in ["0", "1"] {
        let text = stdout(&run(preloaded(&program).env("KMEM_TRACK", track)));
        // Last what was asked for, before it what is listed: that, or the frames it is in.
        let asked: usize = text.lines().last().expect("bytes").parse().expect("a number");
        let frames = asked.next_multiple_of(4096);
        let listed = if track == "1" { asked } else { frames };
        let is_it = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[1..3] == [listed.to_string(), frames.to_string()]
        };
        assert_eq!(text.lines().filter(|line| line.starts_with("0x") && is_it(line)).count(), 1);
    }
}

#[test]
fn a_program_that_locks_its_memory_has_no_more_of_it_for_what_is_reserved() {
    match stdout(&run(&mut preloaded(build("locked.c", &[])))).as_str() {
        "ok\n" => {}
        "refused\n" => eprintln!("this process may not lock memory, so that is not tested"),
        other => panic!("{other}"),
    }
}

#[test]
fn blocks_keep_their_contents_where_the_system_has_no_mapping_left() {
    let program = build("many_mappings.c", &[]);
    for spare in 0..12 {
        let output = run(preloaded(&program).arg(spare.to_string()));
        assert_eq!(stdout(&output), "ok\n", "{spare}");
    }
}

#[test]
fn what_signal_handlers_free_is_freed_however_much_it_is_and_whatever_the_program_does() {
    for what in ["many", "wave"] {
        assert_eq!(stdout(&run(preloaded(build("handlers.c", &[])).arg(what))), "ok\n");
    }
}

#[test]
fn a_signal_handler_may_ask_for_a_trim_and_a_recount() {
    assert_eq!(stdout(&run(preloaded(build("handlers.c", &[])).arg("trim"))), "ok\n");
}

#[test]
fn a_signal_handler_may_ask_how_full_the_heap_is() {
    assert_eq!(stdout(&run(preloaded(build("handlers.c", &[])).arg("look"))), "ok\n");
}

#[test]
fn a_program_may_have_its_own_malloc_on_top() {
    assert_eq!(stdout(&run(&mut preloaded(build("own_names.c", &[])))), "ok\n");
}

#[test]
fn threads_may_be_stopped_by_signals_while_one_forks() {
    for track in ["0", "1"] {
        let output = run(preloaded(build("stopped.c", &[])).env("KMEM_TRACK", track));
        assert_eq!(stdout(&output), "ok\n");
    }
}

#[test]
fn a_limit_that_is_none_is_no_limit() {
    let program = build("rounds.c", &[]);
    for limit in ["35184372088832", "70368744177664", "1152921504606846976"] {
        let mut limited = preloaded("prlimit");
        let output = run(limited.arg(format!("--as={limit}")).arg(&program).args(["3", "100"]));
        assert_eq!(stdout(&output), "ok\n", "{limit}");
    }
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
fn a_filter_may_refuse_what_the_allocator_asks_of_the_system() {
    let [launcher, standards, torture] =
        ["refused.c", "standards.c", "torture.c"].map(|source| build(source, &[]));
    for call in ["madvise", "membarrier", "mremap", "nanosleep", "prlimit64", "sched_yield"] {
        let output = run(preloaded(&launcher).arg(call).arg(&standards));
        assert_eq!(stdout(&output), "ok\n", "{call}");
    }
    // What threads wait by.
    for call in ["membarrier", "nanosleep", "sched_yield"] {
        for what in ["threads", "fork"] {
            run(preloaded(&launcher).arg(call).arg(&torture).arg(what));
        }
    }
}

/// Runs a program that prints the KiB that were resident at the most and that are at last: of those
/// at most so many percent may be left.
#[track_caller]
fn goes_back(program: &mut Command, percent: i64) {
    let output = run(program);
    let numbers = stdout(&output);
    let (peak, rest) = numbers.trim().split_once(' ').expect("two numbers");
    let (peak, rest): (i64, i64) = (peak.parse().expect("KiB"), rest.parse().expect("KiB"));
    assert!(rest * 100 <= peak * percent, "{rest} KiB of {peak} stay\n{}", stderr(&output));
}

#[test]
fn a_freed_gigabyte_goes_back_to_the_system() {
    goes_back(&mut preloaded(build("mixed_gigabyte.c", &[])), 5);
}

#[test]
fn a_gigabyte_freed_in_no_order_goes_back_to_the_system() {
    let program = build("shuffled_gigabyte.c", &[]);
    for sizes in [["16", "300"], ["16", "2000"], ["2000", "20000"], ["20000", "120000"]] {
        goes_back(preloaded(&program).args(sizes), 5);
    }
}

#[test]
fn under_a_limit_on_addresses_a_gigabyte_goes_back_as_well() {
    let mut limited = preloaded("sh");
    let program = build("shuffled_gigabyte.c", &[]);
    goes_back(limited.args(["-c", "ulimit -v 2000000; exec $0 1000 20000"]).arg(program), 5);
}

#[test]
fn a_small_address_space_gives_null_and_no_crash() {
    for limit_mib in ["64", "200", "1000"] {
        run(preloaded(build("limits.c", &[])).arg(limit_mib));
    }
}
