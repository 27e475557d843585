//! `cargo xtask`: the chores of kmem.

mod preload;
mod programs;

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use kernel_test_list::{Clock, Machine};
use lexopt::prelude::*;
use xtask::image::Kernel;
use xtask::qemu::End;
use xtask::{counts, image, project_root, qemu, setup};

const HELP: &str = "\
cargo xtask setup                    install what kernel and tests need, or name it
cargo xtask run [-m MIB] [--smp N]   boot the demonstration in QEMU (128 MiB, 1 CPU)
cargo xtask test [ARGUMENTS]         run all tests; ARGUMENTS go to `cargo test`
cargo xtask accept                   record how many instructions operations take now
cargo xtask preload PROGRAM [ARGUMENTS]
                                     run a program on kmem's malloc, and compare it with the system's
cargo xtask programs [--rounds N] [NAME...]
                                     run real programs on both, interleaved (5 rounds, all programs)
";

/// A chore.
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
        Short('h') | Long("help") => Chore::Help,
        Value(name) if name == "setup" => Chore::Setup,
        Value(name) if name == "run" => Chore::Run(parse_machine(&mut arguments)?),
        Value(name) if name == "test" => Chore::Test(arguments.raw_args()?.collect()),
        Value(name) if name == "accept" => Chore::Accept,
        Value(name) if name == "preload" => {
            let program = arguments.value().context("preload takes a program")?;
            Chore::Preload(program, arguments.raw_args()?.collect())
        }
        Value(name) if name == "programs" => Chore::Programs(parse_programs(&mut arguments)?),
        other => bail!("{}\n\n{HELP}", other.unexpected()),
    };
    if let Chore::Help | Chore::Setup | Chore::Accept = chore
        && let Some(rest) = arguments.next()?
    {
        bail!("{}\n\n{HELP}", rest.unexpected());
    }
    Ok(chore)
}

fn parse_machine(arguments: &mut lexopt::Parser) -> Result<Machine> {
    let mut machine = kernel_test_list::M128;
    while let Some(argument) = arguments.next()? {
        match argument {
            Short('m') | Long("memory") => {
                machine.memory_mib =
                    arguments.value()?.parse().context("-m takes a number of MiB")?;
            }
            Long("smp") => {
                machine.cpus =
                    arguments.value()?.parse().context("--smp takes a number of CPUs")?;
            }
            Long("icount") => machine.clock = Clock::Instructions,
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    Ok(machine)
}

fn parse_programs(arguments: &mut lexopt::Parser) -> Result<programs::Request> {
    let mut request = programs::Request { rounds: 5, only: Vec::new() };
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("rounds") => {
                request.rounds = arguments.value()?.parse().context("--rounds takes a number")?;
            }
            Value(name) => request.only.push(name.string()?),
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    Ok(request)
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
            match qemu::show(&image, &machine)? {
                End::Success => {}
                other => bail!("the kernel did not come to its end: {other:?}"),
            }
        }
        Chore::Preload(program, arguments) => {
            return preload::run(project_root(), &program, &arguments);
        }
        Chore::Programs(request) => return programs::run(project_root(), &request),
        Chore::Test(arguments) => {
            setup::ensure()?;
            setup::ensure_compared();
            return cargo(cargo_test().args(["--workspace", "--all-features"]).args(arguments));
        }
        Chore::Accept => {
            setup::ensure()?;
            let gates = ["--test", "kernel", "::gates::"];
            return cargo(cargo_test().args(gates).env(counts::ACCEPT, "1"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `cargo test`, in the project's folder.
fn cargo_test() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg("test").current_dir(project_root());
    command
}

/// Runs cargo; fails as it does.
fn cargo(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
