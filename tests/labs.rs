//! The two C libraries of `examples/`, built as their documentation says, linked by `cc` with the
//! C tests that lie beside them, and run. The tests check every promise of the headers, the
//! process's virtual size, and that nothing calls the C library's heap.

#![cfg(feature = "mmap")]

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

/// The profile that these tests are built with, so that nothing is built anew, and its folder.
const PROFILE: (&str, &str) =
    if cfg!(debug_assertions) { ("dev", "debug") } else { ("release", "release") };

/// Builds the example, links it with its C test and runs that.
fn test_in_c(example: &str, test: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = scratch.parent().expect("a target directory");
    run(Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["build", "--profile", PROFILE.0, "--features", "mmap", "--example", example])
        .arg("--target-dir")
        .arg(target));

    let program = scratch.join(test);
    let guards = GUARDED.iter().map(|name| format!("-Wl,--wrap={name}"));
    run(Command::new("cc")
        .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"])
        .args(guards)
        .arg("-o")
        .arg(&program)
        .arg(root.join("examples").join(example).join(test).with_extension("c"))
        .arg(target.join(PROFILE.1).join("examples").join(format!("lib{example}.a"))));
    run(&mut Command::new(program));
}

#[test]
fn the_page_manager_keeps_its_header_s_promises() {
    test_in_c("lab_page", "test_alloc");
}

#[test]
fn the_elastic_manager_keeps_its_header_s_promises() {
    test_in_c("lab_elastic", "test_ealloc");
}
