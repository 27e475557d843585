//! Boots the test kernel: every test of `kernel_test` is a test of `cargo test`, once for each
//! machine it runs on, in a boot of its own.
//!
//! `kernel::m128::machine::timer_ticks` is the test `machine::timer_ticks` on the machine `m128`.
//! The image is built when the first test that was asked for starts, so listing, and running
//! other tests, costs nothing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use kernel_test_list::{Clock, Ending, Machine, TESTS, Test};
use libtest_mimic::{Arguments, Failed, Trial};
use xtask::image::Kernel;
use xtask::qemu::{self, End, Outcome};
use xtask::{counts, image, setup};

/// No test takes a tenth of it on an idle machine.
const LIMIT: Duration = Duration::from_secs(120);

/// An image, or the compiler's messages, which the first test to fail shows.
type Image = LazyLock<Result<PathBuf, String>>;

static CHECKED: Image = LazyLock::new(|| build(Kernel::Checked));
static MEASURED: Image = LazyLock::new(|| build(Kernel::Measured));

fn build(kernel: Kernel) -> Result<PathBuf, String> {
    image::build(kernel).map_err(|error| format!("{error:#}"))
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let mut trials = all_tests();
    let asked_for = |trial: &Trial| match &arguments.filter {
        Some(filter) if arguments.exact => trial.name() == filter,
        Some(filter) => trial.name().contains(filter),
        None => true,
    };
    if !arguments.list
        && trials.iter().any(asked_for)
        && let Err(reason) = prepare()
    {
        // One failure, which no filter hides, instead of the same one for every test.
        arguments.filter = None;
        trials = vec![Trial::test("kernel::tools_are_installed", || Err(reason.into()))];
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Finds the tools, and goes on where they work; installs nothing.
fn prepare() -> Result<(), String> {
    let toolchain = setup::find().map_err(|missing| missing.to_string())?;
    toolchain.enter().map_err(|error| format!("{error:#}"))
}

fn all_tests() -> Vec<Trial> {
    let on_machines = |test: &'static Test| {
        test.machines.iter().map(move |machine| {
            let name = format!("kernel::{}::{}", machine.name, test.name);
            Trial::test(name, move || boot(test, machine))
        })
    };
    TESTS.iter().flat_map(on_machines).collect()
}

/// Boots `machine` with `test`, and judges how it ends.
fn boot(test: &Test, machine: &Machine) -> Result<(), Failed> {
    let image = match machine.clock {
        Clock::Host => &*CHECKED,
        Clock::Instructions => &*MEASURED,
    };
    let image = image.as_ref().map_err(|reason| format!("there is no image to boot: {reason}"))?;
    let outcome =
        qemu::run(image, machine, test.name, LIMIT).map_err(|error| format!("{error:#}"))?;
    judge(test, &outcome)
        .map_err(|reason| format!("{reason}; serial output:\n\n{}", outcome.serial).into())
}

fn judge(test: &Test, outcome: &Outcome) -> Result<(), String> {
    match (test.ending, outcome.end) {
        (Ending::Pass, End::Success) => Ok(()),
        (Ending::Counted, End::Success) => {
            let mut lines = outcome.serial.lines();
            let counted = lines.find_map(|line| line.strip_prefix("instructions ")?.parse().ok());
            let counted = counted.ok_or("the test does not say what it has counted")?;
            let (_, name) = test.name.split_once("::").ok_or("the test has no topic")?;
            counts::judge(name, counted).map_err(|error| format!("{error:#}"))
        }
        (Ending::Stop(message), End::Stopped) if outcome.serial.contains(message) => Ok(()),
        (Ending::Stop(message), End::Stopped) => {
            Err(format!("expected a stop that says {message:?}, found another"))
        }
        (_, End::TimedOut) => Err(format!("no end within {} s", LIMIT.as_secs())),
        (expected, found) => Err(format!("expected {expected:?}, found {found:?}")),
    }
}
