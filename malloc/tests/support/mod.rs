//! Builds C and C++ programs, and runs programs with kmem preloaded.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Where this package lies.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The optimised library, built if it is not up to date.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target =
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp").to_owned();
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--release", "-p", "kmem-malloc", "--target-dir"])
            .arg(&target)
            .current_dir(root())
            .status()
            .expect("cargo runs");
        assert!(status.success(), "kmem-malloc does not build");
        target.join("release/libkmem_malloc.so")
    })
}

/// Builds `tests/c/SOURCE` and says where the program lies.
#[track_caller]
pub(crate) fn build(source: &str, arguments: &[&str]) -> PathBuf {
    let compiler = if source.ends_with(".cc") { "g++" } else { "gcc" };
    // Tests run at the same time, and some build the same program: each writes its own.
    let unique = std::thread::current().name().unwrap_or("main").replace("::", "-");
    let product = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{source}-{unique}"));
    let library = library();
    let status = Command::new(compiler)
        .args(["-O1", "-g", "-Wall", "-Wextra", "-fno-builtin", "-pthread", "-I"])
        .arg(root().join("include"))
        .arg(root().join("tests/c").join(source))
        .arg("-o")
        .arg(&product)
        .args(arguments)
        .arg(library)
        .arg("-ldl")
        .status()
        .unwrap_or_else(|_| panic!("{compiler} is needed: apt-get install {compiler}"));
    assert!(status.success(), "{source} does not build");
    product
}

/// A program to be run with kmem preloaded.
pub(crate) fn preloaded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--signal=KILL").arg("100").arg(program).env("LD_PRELOAD", library());
    command
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs to the end, which must be a good one.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}\n{}",
        output.status,
        stdout(&output),
        stderr(&output)
    );
    output
}
