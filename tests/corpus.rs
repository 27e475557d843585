//! Replays what fuzzing has found worth keeping: `fuzz/corpus` holds for each target the inputs
//! that, together, reach everything that its fuzzer has reached.
//!
//! docs/testing.md says how to fuzz, and how the corpus is made.

#[allow(unreachable_pub, reason = "public for the fuzzers, which are crates of their own")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::path::Path;

/// Runs the target on each of its inputs. A failure names the input.
#[track_caller]
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is part of the repository") {
        let path = entry.expect("readable").path();
        let input = fs::read(&path).expect("readable");
        if std::panic::catch_unwind(|| run(&input)).is_err() {
            panic!("{} fails", path.display());
        }
        inputs += 1;
    }
    assert!(inputs >= 20, "{inputs} inputs in {}", folder.display());
}

#[test]
fn memory_maps_are_read_as_before() {
    replay("memory_map", fuzz::memory_map::run);
}

#[test]
fn page_calls_do_as_before() {
    replay("pages", fuzz::pages::run);
}

#[test]
fn object_calls_do_as_before() {
    replay("objects", fuzz::objects::run);
}

#[test]
fn heap_calls_do_as_before() {
    replay("heap", fuzz::heap::run);
}

#[test]
fn arena_calls_do_as_before() {
    replay("arena", fuzz::arena::run);
}

#[test]
fn damage_is_met_as_before() {
    replay("corruption", fuzz::corruption::run);
}
