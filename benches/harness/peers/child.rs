//! Measurements that need a process of their own, because they ask how much memory it touched.

use std::{env, process::Command};

/// Runs this very program with `--child request`, and reads the numbers that it prints.
///
/// `None` where the child could not finish, for instance because its heap was exhausted.
pub fn ask(request: &str) -> Option<Vec<f64>> {
    let program = env::current_exe().ok()?;
    let output = Command::new(program).args(["--child", request]).output().ok()?;
    if !output.status.success() {
        eprintln!("{request}: {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().map(|word| word.parse().ok()).collect()
}
