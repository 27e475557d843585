//! The two C libraries of `examples/`, built as their documentation says, linked by `cc` and by
//! `g++` with the tests that lie beside them, and run. The tests check every promise of the
//! headers, the process's virtual size, and that nothing calls the C library's heap.

#![cfg(feature = "mmap")]

#[path = "support/example.rs"]
mod example;

use std::path::Path;
use std::process::Command;

/// All ways into the C library's heap that `check.h` guards.
const GUARDED: [&str; 9] = [
    "malloc",
    "calloc",
    "realloc",
    "aligned_alloc",
    "posix_memalign",
    "memalign",
    "free",
    "sbrk",
    "brk",
];

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
}

/// A compiler and its options: the language of the test.
const C: &[&str] = &["cc", "-std=gnu11"];
const CPP: &[&str] = &["g++", "-std=gnu++17", "-x", "c++"];

/// Builds the example, links it with its test and runs that, in C and in C++.
fn test_in_c_and_cpp(example: &str, test: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = example::build(example, &format!("lib{example}.a"));

    let guards: Vec<String> = GUARDED.iter().map(|name| format!("-Wl,--wrap={name}")).collect();
    for language in [C, CPP] {
        if Command::new(language[0]).arg("--version").output().is_err() {
            println!("{} is not installed, and left out", language[0]);
            continue;
        }
        let program = scratch.join(format!("{test}-{}", language[0]));
        run(Command::new(language[0])
            .args(["-O1", "-Wall", "-Wextra", "-Werror"])
            .args(&guards)
            .arg("-o")
            .arg(&program)
            .args(&language[1..])
            .arg(root.join("examples").join(example).join(test).with_extension("c"))
            .args(["-x", "none"])
            .arg(&library));
        run(&mut Command::new(program));
    }
}

#[test]
fn the_page_manager_keeps_its_header_s_promises() {
    test_in_c_and_cpp("lab_page", "test_alloc");
}

#[test]
fn the_elastic_manager_keeps_its_header_s_promises() {
    test_in_c_and_cpp("lab_elastic", "test_ealloc");
}
