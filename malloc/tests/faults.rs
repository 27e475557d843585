//! Wrong calls stop the program with one line that names the object.

#[allow(dead_code, reason = "each test program uses its own part")]
mod support;

use std::process::Output;

use support::{SIGABRT, build, is_ended_by, preloaded, stderr, stdout};

/// A block of a slab, one of a slab of several frames, and a run of frames.
const SIZES: [usize; 3] = [24, 5000, 200_000];

fn provoke(what: &str, size: usize, environment: &[(&str, &str)]) -> Output {
    let mut command = preloaded(build("wrong.c", &[]));
    command.arg(what).arg(size.to_string()).envs(environment.iter().copied());
    command.output().expect("the program starts")
}

/// The program stops by SIGABRT after one line with these words and, unless the address is foreign,
/// the block's address.
#[track_caller]
fn assert_stops(what: &str, size: usize, environment: &[(&str, &str)], words: &str) {
    let output = provoke(what, size, environment);
    let message = stderr(&output);
    let status = output.status;
    assert!(is_ended_by(&output, SIGABRT), "{what} of {size} bytes ended with {status}: {message}");
    let lines: Vec<&str> = message.lines().filter(|line| line.starts_with("kmem:")).collect();
    assert_eq!(lines.len(), 1, "{what} of {size} bytes: {message}");
    assert!(lines[0].contains(words), "{what} of {size} bytes: {message}");
    assert!(!stdout(&output).contains("went on"));
}

#[test]
fn a_second_free_stops() {
    for what in ["twice", "twice-later", "twice-elsewhere", "realloc-freed"] {
        for size in SIZES {
            assert_stops(what, size, &[], "not allocated");
        }
    }
}

#[test]
fn a_free_inside_a_block_stops_and_names_the_block() {
    for what in ["inside", "deep-inside", "misaligned"] {
        for size in SIZES {
            let output = provoke(what, size, &[]);
            let block = stdout(&output).lines().next().map(String::from).expect("the address");
            assert_stops(what, size, &[], "not an object's start");
            assert!(stderr(&output).contains(&block), "{what}: {}", stderr(&output));
        }
    }
}

#[test]
fn a_free_of_foreign_memory_stops() {
    for what in ["stack", "data", "wild", "realloc-foreign"] {
        assert_stops(what, 24, &[], "not kmem's");
    }
}

#[test]
fn writing_past_the_end_is_found_with_red_zones() {
    for size in SIZES {
        assert_stops("overrun", size, &[("KMEM_RED_ZONES", "1")], "beyond its ends");
    }
}

#[test]
fn writing_after_free_is_found_in_quarantine() {
    for size in [24, 5000] {
        let environment = [("KMEM_QUARANTINE", "100K")];
        assert_stops("write-after-free", size, &environment, "written after it was freed");
        assert_stops("twice", size, &environment, "not allocated");
    }
}

#[test]
fn what_was_written_wrongly_is_found_when_the_program_ends_or_asks() {
    for size in SIZES {
        for what in ["overrun-kept", "overrun-verified"] {
            assert_stops(what, size, &[("KMEM_RED_ZONES", "1")], "beyond its ends");
        }
        let quarantine = [("KMEM_QUARANTINE", "10M")];
        assert_stops("write-after-free-kept", size, &quarantine, "written after it was freed");
    }
}

#[test]
fn a_recount_on_top_of_one_says_that_it_is_none() {
    let output = provoke("verified-on-top", 24, &[("KMEM_RED_ZONES", "1")]);
    let message = stderr(&output);
    assert!(output.status.success() && message.ends_with("no recount\n"), "{message}");
}

#[test]
fn a_block_in_quarantine_is_nobodys() {
    for what in ["realloc-freed", "usable-freed", "name-freed"] {
        assert_stops(what, 24, &[("KMEM_QUARANTINE", "10M")], "not allocated");
    }
}

#[test]
fn a_second_free_stops_while_the_first_is_at_work() {
    for option in [("KMEM_ZERO_ON_FREE", "1"), ("KMEM_QUARANTINE", "1G"), ("KMEM_QUARANTINE", "1")]
    {
        assert_stops("twice-at-once", 256 << 20, &[option], "not allocated");
    }
}

#[test]
fn wrong_frees_of_what_a_signal_handler_was_given_stop() {
    for (what, words) in [("inside", "not an object's start"), ("twice", "not allocated")] {
        let output = preloaded(build("handlers.c", &[])).arg(what).output().expect("it starts");
        let message = stderr(&output);
        assert!(is_ended_by(&output, SIGABRT) && message.contains(words), "{what}: {message}");
    }
}

#[test]
fn a_sized_free_is_held_to_its_word_where_blocks_are_tracked() {
    for what in ["wrong-size", "wrong-alignment"] {
        assert_stops(what, 24, &[("KMEM_TRACK", "1")], "wrong size");
    }
}

#[test]
fn the_program_goes_on_if_it_is_to() {
    for what in ["twice", "inside", "stack"] {
        let output = provoke(what, 24, &[("KMEM_ON_ERROR", "report")]);
        assert!(output.status.success(), "{what}: {}", stderr(&output));
        assert!(stdout(&output).contains("went on"));
        assert_eq!(stderr(&output).matches("kmem:").count(), 1, "{}", stderr(&output));
    }
}

#[test]
fn a_realloc_whose_block_another_thread_frees_meanwhile_keeps_nothing() {
    for leaks in ["0", "1"] {
        // An arena copies where the heap would move pages.
        let environment =
            [("KMEM_ON_ERROR", "report"), ("KMEM_ENGINE", "first"), ("KMEM_LEAKS", leaks)];
        let output = provoke("realloc-freed-at-once", 128 << 20, &environment);
        let message = stderr(&output);
        assert!(output.status.success(), "{message}");
        assert_eq!(message.matches("not allocated").count(), 1, "{message}");
        assert_eq!(message.contains("not freed"), leaks == "1", "{message}");
        assert!(
            !message.contains(&(128 << 20).to_string()),
            "neither of the two is there: {message}"
        );
    }
}
