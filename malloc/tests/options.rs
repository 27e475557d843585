//! What the environment can ask for, and the functions beyond the standards.

#[allow(dead_code, reason = "each test program uses its own part")]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{build, library, preloaded, run, stderr, stdout};

#[test]
fn help_lists_every_variable() {
    let output = run(preloaded("/bin/echo").env("KMEM_HELP", "1"));
    for name in [
        "KMEM_HELP",
        "KMEM_ENGINE",
        "KMEM_STATS",
        "KMEM_LEAKS",
        "KMEM_TRACK",
        "KMEM_LOG",
        "KMEM_SCRIBBLE",
        "KMEM_ZERO_ON_FREE",
        "KMEM_RED_ZONES",
        "KMEM_QUARANTINE",
        "KMEM_ON_ERROR",
        "KMEM_LIMIT",
        "KMEM_PURGE_DELAY",
        "KMEM_HUGE_PAGES",
        "ALLOCATOR_ALGORITHM",
        "ALLOCATOR_SCRIBBLE",
    ] {
        assert!(stderr(&output).contains(name), "{name}: {}", stderr(&output));
    }
    // What each does stands in one column.
    let usage = stderr(&output);
    let variables: Vec<_> = usage.lines().filter(|line| line.starts_with("  ")).collect();
    let width = variables.iter().map(|line| line[2..].find(' ').expect("a space")).max();
    let column = 2 + width.expect("a variable") + 1;
    for line in variables {
        assert!(line[..column].ends_with(' ') && !line[column..].starts_with(' '), "{line}");
    }
}

#[test]
fn numbers_of_bytes_may_have_a_unit() {
    for value in ["1000000", "1000k", "900M", "1G"] {
        let output = run(preloaded("/bin/echo").arg("fine").env("KMEM_LIMIT", value));
        assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("fine\n", ""), "{value}");
    }
    let output = run(preloaded("/bin/echo").env("KMEM_LIMIT", "1T"));
    assert!(stderr(&output).contains("KMEM_LIMIT takes BYTES[K|M|G], not \"1T\""));
}

#[test]
fn what_is_asked_for_holds_also_where_the_program_clears_its_environment_first() {
    let log = log_path("cleared");
    let program = build("cleared.c", &[]);
    let output = run(preloaded(program).env("KMEM_STATS", "1").env("KMEM_LOG", &log));
    let message = format!("statistics of process {}", stdout(&output));
    assert!(stderr(&output).contains(&message), "{}", stderr(&output));
    let lines = fs::read_to_string(log).expect("a log");
    assert!(lines.lines().any(|line| line.starts_with("malloc 100 ")), "{lines}");
}

#[test]
fn a_wrong_value_gets_one_line_and_the_default() {
    for (name, value) in [
        ("KMEM_STATS", "maybe"),
        ("KMEM_QUARANTINE", "-5"),
        ("KMEM_QUARANTINE", "99999999999999999999G"),
        ("KMEM_ON_ERROR", ""),
        ("KMEM_PURGE_DELAY", "soon"),
        ("KMEM_ENGINE", "fastest"),
        ("ALLOCATOR_ALGORITHM", "first"),
        ("ALLOCATOR_SCRIBBLE", "2"),
    ] {
        let output = run(preloaded("/bin/echo").arg("fine").env(name, value));
        assert_eq!(stdout(&output), "fine\n");
        let message = stderr(&output);
        // Once for `timeout`, once for `echo`.
        assert_eq!(message.matches(name).count(), 2, "{message}");
        assert!(message.contains("the default stays in force"), "{message}");
    }
    let output = run(preloaded("/bin/echo").env("KMEM_NONSENSE", "1"));
    assert!(stderr(&output).contains("there is no KMEM_NONSENSE"));
}

#[test]
fn huge_pages_are_asked_for_where_they_are_wanted() {
    if !Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        eprintln!("this kernel has no huge pages, so they are not tested");
        return;
    }
    let program = build("huge_pages.c", &[]);
    for (wanted, expected) in [("0", "small\n"), ("1", "huge\n")] {
        for engine in ["slab", "first"] {
            let mut command = preloaded(&program);
            command.env("KMEM_HUGE_PAGES", wanted).env("KMEM_ENGINE", engine);
            assert_eq!(stdout(&run(&mut command)), expected, "{engine}");
        }
    }
}

#[test]
fn live_blocks_are_printed_with_their_names() {
    for track in ["0", "1"] {
        let output = run(preloaded(build("names.c", &[])).env("KMEM_TRACK", track));
        let text = stdout(&output);
        let (before, after) = text.split_once("after\n").expect("both lists");
        for name in ["\"the first block\"", "\"second\"", "\"grows\""] {
            assert!(before.contains(name) && !after.contains(name), "{text}");
        }
        assert_eq!(after.matches("\"leaked\"").count(), 3, "{text}");
        assert!(!before.contains("freed and gone"), "{text}");
    }
}

#[test]
fn leaks_are_grouped_by_name_and_size() {
    let output = run(preloaded(build("names.c", &[])).env("KMEM_LEAKS", "1"));
    let line = stderr(&output).lines().find(|line| line.contains("\"leaked\"")).map(String::from);
    let words: Vec<String> = line.expect("a group").split_whitespace().map(String::from).collect();
    assert_eq!(words[..3], ["231", "3", "77"], "three blocks of 77 bytes");
}

#[test]
fn the_end_is_reported_where_the_program_has_closed_its_standard_error() {
    let mut command = preloaded(build("closed.c", &[]));
    let message = stderr(&run(command.arg("stderr").env("KMEM_LEAKS", "1").env("KMEM_STATS", "1")));
    assert!(message.contains("1 blocks, 1000 bytes not freed"), "{message}");
    assert!(message.contains("peak asked for"), "{message}");
}

#[test]
fn the_log_is_not_written_to_the_programs_own_files() {
    let (log, file) = (log_path("closed"), log_path("closed-own"));
    let mut command = preloaded(build("closed.c", &[]));
    let output = run(command.arg("all").arg(&file).env("KMEM_LOG", &log));
    assert_eq!(stdout(&output), "ok\n");
    assert!(stderr(&output).contains("kmem: the program has closed the log"), "{output:?}");
    for path in [log, file] {
        fs::remove_file(path).expect("it was written");
    }
}

#[test]
fn nothing_stays_open_where_the_system_does_not_say_which_file_it_is() {
    let mut command = preloaded(build("no_fstat.c", &["-rdynamic"]));
    command.env("KMEM_STATS", "1").env("KMEM_LOG", log_path("no-fstat"));
    let output = run(&mut command);
    assert_eq!(stdout(&output), "ok\n");
    assert!(stderr(&output).contains("cannot write the log"), "{}", stderr(&output));
}

#[test]
fn the_log_has_a_line_for_every_call() {
    let path = log_path("calls.log");
    run(preloaded(build("names.c", &[])).env("KMEM_LOG", &path));
    let log = fs::read_to_string(&path).expect("the log");
    assert_eq!(log.matches("malloc_named 77 0x").count(), 3);
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words.len(), 4, "{line}");
        assert!(words[1].parse::<usize>().is_ok() && words[3].parse::<u32>().is_ok(), "{line}");
        assert!(words[2].starts_with("0x"), "{line}");
    }
}

#[test]
fn statistics_come_at_the_end() {
    let output = run(preloaded(build("names.c", &[])).env("KMEM_STATS", "1"));
    assert!(stderr(&output).contains("kmem: statistics of process"));
    assert!(stderr(&output).contains("allocations"));
}

#[test]
fn real_programs_run_under_every_observer_at_once() {
    let output = run(preloaded("/bin/sort")
        .arg(support::root().join("src/c.rs"))
        .env("KMEM_SCRIBBLE", "1")
        .env("KMEM_RED_ZONES", "1")
        .env("KMEM_ZERO_ON_FREE", "1")
        .env("KMEM_QUARANTINE", "1M")
        .env("KMEM_LIMIT", "1G"));
    assert!(stdout(&output).contains("malloc"));
}

#[test]
fn a_signal_handler_may_interrupt_the_books_anywhere() {
    let program = build("handlers.c", &[]);
    for option in ["KMEM_RED_ZONES", "KMEM_ZERO_ON_FREE", "KMEM_LEAKS", "KMEM_SCRIBBLE"] {
        let output = run(preloaded(&program).arg("books").env(option, "1"));
        assert_eq!(stdout(&output), "ok\n", "{option}");
    }
    let mut both = preloaded(&program);
    both.arg("books").env("KMEM_QUARANTINE", "100K").env("KMEM_RED_ZONES", "1");
    assert_eq!(stdout(&run(&mut both)), "ok\n");
}

#[test]
fn a_quarantine_survives_that_the_system_has_no_memory_for_its_books() {
    let output = run(preloaded(build("quarantine.c", &[])).env("KMEM_QUARANTINE", "500000"));
    assert_eq!(stdout(&output), "ok\n");
}

#[test]
fn a_quarantine_is_emptied_before_a_request_fails() {
    let script = "ulimit -v 2000000; exec $0 25 100";
    let mut limited = preloaded("sh");
    limited.args(["-c", script]).arg(build("rounds.c", &[])).env("KMEM_QUARANTINE", "10G");
    assert_eq!(stdout(&run(&mut limited)), "ok\n");
}

#[test]
fn a_limit_holds_for_threads_at_once_and_lets_blocks_shrink() {
    let mut command = preloaded(build("limit.c", &[]));
    command.env("KMEM_LIMIT", "100M").env("KMEM_SCRIBBLE", "1").env("KMEM_ZERO_ON_FREE", "1");
    assert_eq!(stdout(&run(&mut command)), "ok\n");
}

#[test]
fn a_limit_does_not_drift_where_the_books_cannot_grow() {
    let mut limited = preloaded("sh");
    limited.args(["-c", "ulimit -v 100000; exec $0"]).arg(build("drift.c", &[]));
    assert_eq!(stdout(&run(limited.env("KMEM_LIMIT", "10M"))), "ok\n");
}

#[test]
fn a_limit_holds_in_a_copy_of_the_process_as_if_the_other_threads_had_not_been() {
    let mut command = preloaded(build("limit_forks.c", &[]));
    command.env("KMEM_LIMIT", "300M").env("KMEM_SCRIBBLE", "1");
    assert_eq!(stdout(&run(&mut command)), "ok\n");
}

#[test]
fn of_a_name_that_is_there_twice_the_first_value_counts() {
    let [first, second] = ["twice-first", "twice-second"].map(log_path);
    let mut command = Command::new(build("environment.c", &[]));
    command.arg(format!("LD_PRELOAD={}", library().display()));
    for variable in ["KMEM_STATS=1", "KMEM_STATS=0", "KMEM_LIMIT=nonsense", "KMEM_LIMIT=10"] {
        command.arg(variable);
    }
    for path in [&first, &second] {
        command.arg(format!("KMEM_LOG={}", path.display()));
    }
    let output = run(command.args(["--", "/bin/echo", "fine"]));
    let message = stderr(&output);
    assert_eq!(stdout(&output), "fine\n");
    assert!(message.contains("statistics") && message.contains("KMEM_LIMIT takes"), "{message}");
    assert!(first.exists() && !second.exists(), "one log");
}

#[test]
fn what_no_block_can_have_is_not_counted() {
    let program = build("too_large.c", &[]);
    let mut command = preloaded(program);
    let message = stderr(&run(command.env("KMEM_LEAKS", "1").env("KMEM_STATS", "1")));
    assert!(message.contains("1 blocks, 1000 bytes not freed"), "{message}");
    let peak = message.lines().find(|line| line.contains("peak asked for")).expect("a peak");
    assert!(peak.split_whitespace().nth(3).is_some_and(|kib| kib.len() < 4), "{message}");
}

/// Where a program writes its log.
fn log_path(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

/// Reads a log, as far as it is by one thread if that is named: each address is freed before it is
/// allocated again.
#[track_caller]
fn assert_no_address_twice(path: &Path, thread: Option<&str>) {
    let mut live = BTreeSet::new();
    for line in fs::read_to_string(path).expect("the log").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            _ if thread.is_some_and(|thread| thread != words[3]) || words[2] == "0x0" => {}
            "free" => assert!(live.remove(words[2]), "{line}"),
            _ => assert!(live.insert(String::from(words[2])), "{line}"),
        }
    }
}

#[test]
fn who_reads_the_log_sees_no_address_allocated_twice() {
    let program = build("moves.c", &[]);
    for engine in ["slab", "best"] {
        let path = log_path(&format!("moves-{engine}.log"));
        run(preloaded(&program).env("KMEM_LOG", &path).env("KMEM_ENGINE", engine));
        assert_no_address_twice(&path, None);
    }
}

#[test]
fn what_is_logged_while_a_process_forks_is_written_once() {
    let path = log_path("forks.log");
    let output = run(preloaded(build("log_forks.c", &[])).env("KMEM_LOG", &path));
    let thread = stdout(&output);
    assert!(thread.trim().parse::<u32>().is_ok(), "one thread, not {thread:?}");
    assert_no_address_twice(&path, Some(thread.trim()));
}
