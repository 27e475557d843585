//! `cargo xtask`: the chores of kmem.

mod preload;
mod programs;

use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use kernel_test_list::{Clock, Machine};
use lexopt::prelude::*;
use xtask::image::Kernel;
use xtask::qemu::End;
use xtask::{counts, image, qemu, setup};

const HELP: &str = "\
cargo xtask setup                    install what kernel and tests need, or name it
cargo xtask run [-m MIB] [--smp N] [--icount]
                                     boot the demonstration in QEMU (128 MiB, 1 CPU; by --icount
                                     on a clock that counts instructions)
cargo xtask test [ARGUMENTS]         run all tests; ARGUMENTS go to `cargo test`
cargo xtask accept                   record how many instructions operations take now
cargo xtask preload PROGRAM [ARGUMENTS]
                                     run a program on kmem's malloc, and compare it with the system's
cargo xtask programs [--rounds N] [NAME...]
                                     run real programs on both, interleaved (5 rounds, all programs)
";

/// Least memory that the boot loader and the demonstration get by with.
const LEAST_MEMORY_MIB: u32 = 8;
/// Most CPUs that the kernel has room for.
const MOST_CPUS: u32 = 16;
/// A demonstration that takes longer has come to a stop: it takes a second or two.
const SHOW_LIMIT: Duration = Duration::from_secs(120);

/// A chore.
#[derive(Debug)]
enum Chore {
    Help,
    Setup,
    Run(Machine),
    Test(Vec<OsString>),
    Accept,
    Preload(OsString, Vec<OsString>),
    Programs(programs::Request),
}

fn main() -> ExitCode {
    // SAFETY: no handler of ours runs: the system ends the process once nobody reads what it
    // prints, as it ends `cat`.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    match parse(lexopt::Parser::from_env()).and_then(perform) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: lexopt::Parser) -> Result<Chore> {
    let Some(first) = arguments.next()? else {
        return Ok(Chore::Help);
    };
    let chore = match first {
        Value(name) if name == "setup" => Chore::Setup,
        Value(name) if name == "run" => parse_machine(&mut arguments)?,
        Value(name) if name == "test" => Chore::Test(arguments.raw_args()?.collect()),
        Value(name) if name == "accept" => Chore::Accept,
        Value(name) if name == "preload" => parse_preload(&mut arguments)?,
        Value(name) if name == "programs" => parse_programs(&mut arguments)?,
        other => help_or_refuse(other)?,
    };
    if let Chore::Setup | Chore::Accept = chore
        && let Some(rest) = arguments.next()?
    {
        return help_or_refuse(rest);
    }
    Ok(chore)
}

/// What becomes of an argument that the chore does not know: help, or a refusal with the usage.
fn help_or_refuse(argument: lexopt::Arg<'_>) -> Result<Chore> {
    match argument {
        Short('h') | Long("help") => Ok(Chore::Help),
        other => bail!("{}\n\n{HELP}", other.unexpected()),
    }
}

/// The number that an option takes.
fn number<T: FromStr>(arguments: &mut lexopt::Parser, takes: &str) -> Result<T> {
    let value = arguments.value()?.string()?;
    value.parse().map_err(|_| anyhow!("{takes}, not {value:?}"))
}

fn parse_machine(arguments: &mut lexopt::Parser) -> Result<Chore> {
    let mut machine = kernel_test_list::M128;
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('m') | Long("memory") => {
                machine.memory_mib = number(arguments, "-m takes a number of MiB")?;
            }
            Long("smp") => {
                machine.cpus = number(arguments, "--smp takes a number of CPUs")?;
            }
            Long("icount") => machine.clock = Clock::Instructions,
            other => return help_or_refuse(other),
        }
    }
    let (memory_mib, cpus) = (machine.memory_mib, machine.cpus);
    ensure!(
        memory_mib >= LEAST_MEMORY_MIB,
        "-m takes at least {LEAST_MEMORY_MIB} MiB, not {memory_mib}"
    );
    ensure!((1..=MOST_CPUS).contains(&cpus), "--smp takes 1 to {MOST_CPUS} CPUs, not {cpus}");
    Ok(Chore::Run(machine))
}

/// A program, behind which every argument is its own.
fn parse_preload(arguments: &mut lexopt::Parser) -> Result<Chore> {
    match arguments.next()? {
        Some(Value(program)) => Ok(Chore::Preload(program, arguments.raw_args()?.collect())),
        Some(other) => help_or_refuse(other),
        None => bail!("preload takes a program\n\n{HELP}"),
    }
}

fn parse_programs(arguments: &mut lexopt::Parser) -> Result<Chore> {
    let mut request = programs::Request { rounds: 5, only: Vec::new() };
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("rounds") => {
                request.rounds = number(arguments, "--rounds takes a number")?;
                ensure!(request.rounds > 0, "--rounds takes at least 1");
            }
            Value(name) => request.only.push(name.string()?),
            other => return help_or_refuse(other),
        }
    }
    Ok(Chore::Programs(request))
}

fn perform(chore: Chore) -> Result<ExitCode> {
    match chore {
        Chore::Help => print!("{HELP}"),
        Chore::Setup => {
            setup::ensure()?;
            setup::ensure_compared();
            eprintln!("xtask: everything is there");
        }
        Chore::Run(machine) => {
            setup::ensure()?.enter()?;
            let image = image::build(Kernel::Checked)?;
            eprintln!(
                "xtask: booting with {} MiB of memory and {} CPU(s)",
                machine.memory_mib, machine.cpus
            );
            match qemu::show(&image, &machine, SHOW_LIMIT)? {
                End::Success => {}
                End::TimedOut => {
                    bail!("the kernel did not come to its end in {} s", SHOW_LIMIT.as_secs())
                }
                other => bail!("the kernel did not come to its end: {other:?}"),
            }
        }
        Chore::Preload(program, arguments) => {
            return preload::run(&program, &arguments);
        }
        Chore::Programs(request) => return programs::run(&request),
        Chore::Test(arguments) => {
            setup::ensure()?;
            setup::ensure_compared();
            return test(
                xtask::cargo().args(["test", "--workspace", "--all-features"]).args(arguments),
            );
        }
        Chore::Accept => {
            setup::ensure()?;
            let gates = ["test", "--test", "kernel", "::gates::"];
            return test(xtask::cargo().args(gates).env(counts::ACCEPT, "1"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `cargo test`; fails as it does.
fn test(cargo: &mut Command) -> Result<ExitCode> {
    let status = cargo.status().context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `cargo xtask` makes of its arguments.
    fn parsed(line: &str) -> Result<Chore> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[track_caller]
    fn refusal(line: &str) -> String {
        parsed(line).expect_err("makes no sense").to_string()
    }

    #[test]
    fn machines_that_cannot_boot_are_refused() {
        for line in ["run", "run -m 8", "run -m 5120 --smp 16", "run --smp 1"] {
            assert!(matches!(parsed(line), Ok(Chore::Run(_))), "{line}");
        }
        for memory in ["0", "1", "7"] {
            let expected = format!("-m takes at least 8 MiB, not {memory}");
            assert_eq!(refusal(&format!("run -m {memory}")), expected);
        }
        for cpus in ["0", "17", "9999"] {
            let expected = format!("--smp takes 1 to 16 CPUs, not {cpus}");
            assert_eq!(refusal(&format!("run --smp {cpus}")), expected);
        }
        assert_eq!(refusal("run -m much"), "-m takes a number of MiB, not \"much\"");
        assert_eq!(refusal("run --smp=-1"), "--smp takes a number of CPUs, not \"-1\"");
    }

    #[test]
    fn help_is_had_behind_every_chore_of_ours() {
        for line in ["", "--help", "setup -h", "run --help", "preload --help", "programs -h"] {
            assert!(matches!(parsed(line), Ok(Chore::Help)), "{line}");
        }
        // What stands behind the program belongs to it.
        assert!(matches!(parsed("preload ls --help"), Ok(Chore::Preload(..))));
    }

    #[test]
    fn refusals_show_the_usage() {
        for line in
            ["nonsense", "preload", "preload --fast", "run twice", "setup all", "programs -x"]
        {
            assert!(refusal(line).ends_with(HELP), "{line}: {}", refusal(line));
        }
    }

    #[test]
    fn programs_run_at_least_once() {
        assert_eq!(refusal("programs --rounds 0"), "--rounds takes at least 1");
        assert!(matches!(parsed("programs --rounds 1 jq"), Ok(Chore::Programs(_))));
    }
}
