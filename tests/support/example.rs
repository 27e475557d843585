//! Builds an example, for tests that use what comes of it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The profile that the tests are built with, so that nothing is built anew, and its folder.
const PROFILE: (&str, &str) =
    if cfg!(debug_assertions) { ("dev", "debug") } else { ("release", "release") };

/// Builds the example `name`, and says where the file `product` lies that comes of it.
#[track_caller]
pub(crate) fn build(name: &str, product: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target directory");
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--profile", PROFILE.0, "--features", "mmap", "--example", name])
        .arg("--target-dir")
        .arg(target)
        .output()
        .expect("cargo runs");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{message}", output.status);
    target.join(PROFILE.1).join("examples").join(product)
}
