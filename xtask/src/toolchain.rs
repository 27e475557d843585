//! The Rust toolchain that builds the kernel.
//!
//! A kernel for a target of its own needs `core`'s source, and its boot loader needs LLVM's tools
//! in the toolchain's sysroot. There are two ways to have both:
//!
//! - rustup's components `rust-src` and `llvm-tools`, in the toolchain that runs already;
//! - Debian's packages, which lie in several places. A **private sysroot**, a folder of links under
//!   `target/`, brings them together; `/usr` is left alone.
//!
//! Either is a stable compiler, which `RUSTC_BOOTSTRAP=1` allows to build `core`.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use anyhow::{Context, Result, anyhow, bail};

use crate::kernel_target_dir;

/// The LLVM tool that makes a disk image of the boot loader.
const OBJCOPY: &str = "llvm-objcopy";

/// A toolchain that can build the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Toolchain {
    /// The toolchain of rustup that runs already.
    Rustup,
    /// Debian's packages, in the private sysroot at this path.
    Debian(PathBuf),
}

impl Toolchain {
    /// The toolchain that is ready for use, or `None`.
    pub fn find() -> Option<Self> {
        if rustup_is_complete() {
            return Some(Self::Rustup);
        }
        let sysroot = private_sysroot();
        is_complete(&sysroot).then_some(Self::Debian(sysroot))
    }

    /// Makes the private sysroot from Debian's packages.
    ///
    /// # Errors
    ///
    /// A package is not installed, or the folder cannot be written.
    pub fn link_debian() -> Result<Self> {
        let sysroot = private_sysroot();
        let llvm = debian_llvm().context("no /usr/lib/llvm-*/bin with the LLVM tools")?;
        match fs::remove_dir_all(&sysroot) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                bail!("cannot remove {}: {error}", sysroot.display())
            }
            _ => {}
        }
        let host = "lib/rustlib/x86_64-unknown-linux-gnu";
        let rustc = sysroot.join("bin/rustc");
        write_file(
            &rustc,
            &format!("#!/bin/sh\nexec /usr/bin/rustc --sysroot '{}' \"$@\"\n", sysroot.display()),
        )?;
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755))?;
        link(Path::new("/usr/bin/cargo"), &sysroot.join("bin/cargo"))?;
        link(Path::new("/usr/lib/rustlib/src"), &sysroot.join("lib/rustlib/src"))?;
        link(&Path::new("/usr").join(host).join("lib"), &sysroot.join(host).join("lib"))?;
        for tool in ["llvm-ar", "llvm-nm", OBJCOPY, "llvm-objdump", "llvm-size", "llvm-strip"] {
            link(&llvm.join(tool), &sysroot.join(host).join("bin").join(tool))?;
        }
        link(&llvm.join("ld.lld"), &sysroot.join(host).join("bin/rust-lld"))?;
        Ok(Self::Debian(sysroot))
    }

    /// Goes on in this toolchain's environment: starts the running program over with the same
    /// arguments, unless it runs in that environment already.
    ///
    /// # Errors
    ///
    /// The program cannot be started over.
    pub fn enter(&self) -> Result<()> {
        const ENTERED: &str = "KMEM_KERNEL_TOOLCHAIN";
        let name = format!("{self:?}");
        if env::var_os(ENTERED).is_some_and(|entered| entered == *name) {
            return Ok(());
        }
        let program = env::current_exe().context("this program has no path")?;
        let mut command = Command::new(program);
        command.args(env::args_os().skip(1));
        command.env(ENTERED, name);
        command.env("RUSTC_BOOTSTRAP", "1");
        command.env("CARGO_TARGET_DIR", kernel_target_dir());
        // What the host's build is told does not concern the kernel's.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "LD_LIBRARY_PATH"]
        {
            command.env_remove(variable);
        }
        if let Self::Debian(sysroot) = self {
            let bin = sysroot.join("bin");
            command.env("PATH", path_with(&bin)?).env("CARGO", bin.join("cargo"));
        }
        Err(command.exec()).context("cannot start this program over")
    }
}

/// Whether rustup's toolchain has `rust-src` and `llvm-tools`.
fn rustup_is_complete() -> bool {
    let Ok(answer) = Command::new("rustc").args(["--print", "sysroot"]).output() else {
        return false;
    };
    is_complete(Path::new(String::from_utf8_lossy(&answer.stdout).trim()))
}

/// Whether `sysroot` holds `core`'s source and LLVM's tools.
fn is_complete(sysroot: &Path) -> bool {
    let rustlib = sysroot.join("lib/rustlib");
    let has_tools = fs::read_dir(&rustlib)
        .is_ok_and(|mut hosts| hosts.any(|host| host.is_ok_and(|host| has_objcopy(&host.path()))));
    has_tools && rustlib.join("src/rust/library/core/Cargo.toml").exists()
}

fn has_objcopy(host: &Path) -> bool {
    host.join("bin").join(OBJCOPY).exists()
}

fn private_sysroot() -> PathBuf {
    kernel_target_dir().join("sysroot")
}

/// The newest of Debian's folders of LLVM tools.
fn debian_llvm() -> Option<PathBuf> {
    let version = |entry: io::Result<fs::DirEntry>| {
        entry.ok()?.file_name().to_str()?.strip_prefix("llvm-")?.parse::<u32>().ok()
    };
    let newest = fs::read_dir("/usr/lib").ok()?.filter_map(version).max()?;
    Some(PathBuf::from(format!("/usr/lib/llvm-{newest}/bin")))
}

fn link(to: &Path, at: &Path) -> Result<()> {
    if !to.exists() {
        bail!("{} is missing: is its package installed?", to.display());
    }
    fs::create_dir_all(at.parent().ok_or_else(|| anyhow!("{} has no folder", at.display()))?)?;
    symlink(to, at).with_context(|| format!("cannot link {}", at.display()))
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().ok_or_else(|| anyhow!("{} has no folder", path.display()))?)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The search path with `first` in front.
fn path_with(first: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(first.to_owned()).chain(env::split_paths(&path));
    env::join_paths(all).context("PATH cannot be extended")
}
