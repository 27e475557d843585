//! The chores of kmem, for `cargo xtask` and for the harness that boots the kernel tests.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`toolchain`] | the Rust toolchain that builds the kernel, and its environment |
//! | [`qemu`] | a machine that boots an image, and how it ended |
//! | [`setup`] | finds the tools that a bare-metal build and QEMU need, and installs what is missing |
//! | [`image`] | the kernel and its boot loader, as a disk image |
//! | [`counts`] | how many instructions operations may take |
//!
//! Each uses only those above it.

#![forbid(unsafe_code)]

pub mod counts;
pub mod image;
pub mod qemu;
pub mod setup;
pub mod toolchain;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the whole project.
pub fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the project's folder")
}

/// The cargo that runs this, in the project's folder.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(project_root());
    command
}

/// The folder of everything that is built for the kernel. It lies apart from what the host's cargo
/// builds, so that neither waits for the other's lock.
fn kernel_target_dir() -> PathBuf {
    project_root().join("target").join("kernel")
}

/// Says what is being done.
fn say(what: &str) {
    eprintln!("xtask: {what}");
}
