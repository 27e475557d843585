//! Weakens every memory ordering of the files under the model checker, one at a time, and expects
//! the models to fail: `cargo run --release -p kmem-models --bin weaken`.

#[allow(dead_code, reason = "the other user of this file needs the rest")]
#[path = "../../weakenings.rs"]
mod weakenings;

use std::env;
use std::process::{Command, ExitCode, Stdio};

use weakenings::{texts, weakenings};

/// Runs cargo on the models with the weakening of this number, or as they are; whether it succeeds.
fn cargo(arguments: &[&str], number: Option<usize>) -> bool {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--quiet", "-p", "kmem-models", "--lib"]).args(arguments);
    command.env_remove("KMEM_WEAKEN").stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(number) = number {
        command.env("KMEM_WEAKEN", number.to_string());
    }
    command.status().is_ok_and(|status| status.success())
}

fn main() -> ExitCode {
    if !cargo(&[], None) {
        eprintln!("the models fail as they are: cargo test -p kmem-models");
        return ExitCode::FAILURE;
    }
    let mut unnoticed = 0;
    for (number, weakening) in weakenings(&texts()).iter().enumerate() {
        let builds = cargo(&["--no-run"], Some(number));
        let noticed = builds && !cargo(&[], Some(number));
        unnoticed += usize::from(!noticed);
        let verdict = match (builds, noticed) {
            (false, _) => "DOES NOT BUILD",
            (true, false) => "NOT NOTICED",
            (true, true) => "noticed",
        };
        println!("{verdict:<14} {}", weakening.describe());
    }
    match unnoticed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
