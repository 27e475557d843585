//! Builds C and C++ programs, and runs programs with kmem preloaded.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The engines that are arenas, as `KMEM_ENGINE` names them.
pub(crate) const ARENA_ENGINES: &[&str] = &["first", "best", "worst", "next", "instant"];

pub(crate) const SIGABRT: i32 = 6;

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

/// Seconds after which a program is taken to hang: a busy machine may be many times slower than an
/// idle one, on which these take a few.
const LIMIT: &str = "300";

/// A program to be run with kmem preloaded.
pub(crate) fn preloaded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--signal=KILL").arg(LIMIT).arg(program).env("LD_PRELOAD", library());
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

/// Whether a program was ended by a signal. `timeout` ends by the same signal, or says so by a
/// status.
pub(crate) fn is_ended_by(output: &Output, signal: i32) -> bool {
    output.status.signal() == Some(signal) || output.status.code() == Some(128 + signal)
}

/// Runs a shell script on the system's allocator and in each of the named environments, in a folder
/// of its own each; what it prints must be the same. If `program` is not installed, this says how
/// it is, and runs nothing.
#[track_caller]
pub(crate) fn assert_same_output(
    program: &str,
    package: &str,
    script: &str,
    environments: &[(String, Vec<(&str, PathBuf)>)],
) {
    if Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|output| !output.status.success())
    {
        eprintln!("{program} is not installed, so it is not tested: apt-get install {package}");
        return;
    }
    let print = |name: &str, environment: &[(&str, PathBuf)]| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{program}-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", LIMIT, "sh", "-ec", script]).current_dir(&folder);
        command.env("SOURCES", root().join("..")).env("LC_ALL", "C").env("TMPDIR", &folder);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let output = command.output().expect("sh starts");
        let (status, message) = (output.status, stderr(&output));
        assert!(status.success(), "{program} {name}: {status}: {message}");
        assert!(!message.contains("kmem:"), "{program} {name}: {message}");
        output.stdout
    };
    let expected = print("system", &[]);
    assert!(!expected.is_empty(), "{program} prints nothing");
    for (name, environment) in environments {
        let found = print(name, environment);
        assert!(expected == found, "{program} prints something else {name}");
    }
}
