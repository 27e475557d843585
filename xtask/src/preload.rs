//! `cargo xtask preload PROGRAM ARGS…`: a program on kmem's malloc, beside the system's.
//!
//! The program runs on the system's malloc first and then on kmem's, each time with this terminal;
//! a comparison of time, CPU time and peak memory follows on standard error.

use std::ffi::OsString;
use std::io;
use std::mem;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use xtask::project_root;

/// What one run took.
pub(crate) struct Cost {
    wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_kib: u64,
}

/// Runs `program` on both allocators and compares.
///
/// # Errors
///
/// If the library cannot be built or the program cannot be started.
pub(crate) fn run(program: &OsString, arguments: &[OsString]) -> Result<ExitCode> {
    let library = build()?;
    let (system_status, system) = measure(program, arguments, None)?;
    let (status, kmem) = measure(program, arguments, Some(&library))?;
    eprintln!("\n{:<14}{:>12}{:>12}{:>10}", "", "system", "kmem", "ratio");
    let row = |what: &str, system: f64, kmem: f64, unit: &str| {
        let ratio = kmem / system.max(f64::MIN_POSITIVE);
        eprintln!("{what:<14}{system:>9.0} {unit}{kmem:>9.0} {unit}{ratio:>10.2}");
    };
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    row("time", ms(system.wall), ms(kmem.wall), "ms");
    row("CPU time", ms(system.cpu), ms(kmem.cpu), "ms");
    row("peak memory", system.peak_kib as f64, kmem.peak_kib as f64, "K ");
    if let Some(difference) = difference(system_status, status) {
        eprintln!("{difference}");
    }
    let code = status.code().unwrap_or(128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(code as u8))
}

/// A line where the program did not end on kmem as it did on the system's malloc.
fn difference(system: ExitStatus, kmem: ExitStatus) -> Option<String> {
    (system != kmem).then(|| format!("the program ended differently: {system}; on kmem, {kmem}"))
}

/// Builds the library, and says where it lies.
pub(crate) fn build() -> Result<PathBuf> {
    let build = ["build", "--quiet", "--release", "-p", "kmem-malloc"];
    let status = xtask::cargo().args(build).status().context("cannot run cargo")?;
    ensure!(status.success(), "kmem-malloc does not build");
    Ok(project_root().join("target/release/libkmem_malloc.so"))
}

fn measure(
    program: &OsString,
    arguments: &[OsString],
    library: Option<&Path>,
) -> Result<(ExitStatus, Cost)> {
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(library) = library {
        command.env("LD_PRELOAD", library);
    }
    measure_command(&mut command)
}

/// Runs a command to its end; how it ended, and what it and the processes that it waited for took.
pub(crate) fn measure_command(command: &mut Command) -> Result<(ExitStatus, Cost)> {
    // Without a hook the child shares this process's memory until it executes the program, and the
    // kernel then counts the peak of that memory as the child's. With one it is a copy of what
    // is in use now.
    // SAFETY: the hook does nothing at all, so it may run between fork and exec.
    unsafe { command.pre_exec(|| Ok(())) };
    let start = Instant::now();
    let program = command.get_program().to_owned();
    let child = command.spawn().with_context(|| format!("{} does not start", program.display()))?;
    let (status, usage) = wait(child.id())?;
    let cpu = [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|time| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000))
        .sum();
    Ok((status, Cost { wall: start.elapsed(), cpu, peak_kib: usage.ru_maxrss as u64 }))
}

/// Waits for a child; how it ended and what it and its own children used.
fn wait(child: u32) -> Result<(ExitStatus, libc::rusage)> {
    // SAFETY: integers, for which zero bytes are valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let mut status = 0;
    loop {
        // SAFETY: the call fills both variables.
        let ended = unsafe { libc::wait4(child as libc::pid_t, &mut status, 0, &mut usage) };
        if ended >= 0 {
            return Ok((ExitStatus::from_raw(status), usage));
        }
        let error = io::Error::last_os_error();
        ensure!(error.kind() == io::ErrorKind::Interrupted, "waiting for the program: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_the_program_s_own() {
        // This process's peak: far above what the program needs.
        let large = vec![1_u8; 256 << 20];
        drop(std::hint::black_box(large));
        let (status, cost) = measure_command(&mut Command::new("true")).expect("it runs");
        assert!(status.success());
        assert!(cost.peak_kib < 64 << 10, "{} KiB", cost.peak_kib);
    }

    #[test]
    fn endings_are_compared() {
        let [well, badly] = [0, 1].map(|code| ExitStatus::from_raw(code << 8));
        let killed = ExitStatus::from_raw(libc::SIGABRT);
        assert_eq!(difference(well, well), None);
        assert_eq!(difference(badly, badly), None);
        let line = difference(well, killed).expect("they differ");
        assert!(line.contains(&well.to_string()) && line.contains(&killed.to_string()), "{line}");
    }
}
