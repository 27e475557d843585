//! The chores of kmem, for `cargo xtask` and for the harness that boots the kernel tests.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`setup`] | finds the tools that a bare-metal build and QEMU need, and installs what is missing |
//! | [`toolchain`] | the Rust toolchain that builds the kernel, and its environment |
//! | [`image`] | the kernel and its boot loader, as a disk image |
//! | [`qemu`] | a machine that boots the image, and how it ended |
//! | [`counts`] | how many instructions operations may take |
//!
//! Each uses only those above it.

#![forbid(unsafe_code)]

pub mod counts;
pub mod image;
pub mod qemu;
pub mod setup;
pub mod toolchain;

use std::path::{Path, PathBuf};

/// The folder of the whole project.
pub fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the project's folder")
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
