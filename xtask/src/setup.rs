//! Finds the tools that the kernel tests need, and installs what is missing.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, anyhow, bail};

use crate::qemu;
use crate::say;
use crate::toolchain::Toolchain;

/// Debian's matching set of a Rust compiler, its source and LLVM's tools.
const DEBIAN_TOOLCHAIN: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "llvm-22", "lld-22"];

/// Programs that the tests of kmem's malloc compare, and Debian's packages of them, as far as these
/// are small. Where one is missing and cannot be installed its test says so and is left out.
const COMPARED: &[(&str, &str)] = &[
    ("g++", "g++"),
    ("git", "git"),
    ("make", "make"),
    ("gawk", "gawk"),
    ("perl", "perl"),
    ("python3", "python3"),
    ("xz", "xz-utils"),
    ("sqlite3", "sqlite3"),
    ("redis-benchmark", "redis-tools"),
];

/// How the package managers name QEMU for x86-64, and how it is installed by hand.
const QEMU_PACKAGES: &[(&str, &str)] = &[
    ("apt-get", "apt-get install qemu-system-x86"),
    ("dnf", "dnf install qemu-system-x86-core"),
    ("pacman", "pacman -S qemu-system-x86"),
    ("zypper", "zypper install qemu-x86"),
    ("apk", "apk add qemu-system-x86_64"),
    ("brew", "brew install qemu"),
];

/// What is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missing {
    toolchain: bool,
    qemu: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let toolchain = "a Rust toolchain with core's source and LLVM's tools";
        match (self.toolchain, self.qemu) {
            (true, true) => write!(f, "{toolchain}, and {}", qemu::PROGRAM),
            (true, false) => f.write_str(toolchain),
            (false, _) => f.write_str(qemu::PROGRAM),
        }?;
        f.write_str(" cannot be found; install with\n\n    cargo xtask setup\n")
    }
}

impl std::error::Error for Missing {}

/// Looks for everything, and installs nothing.
///
/// # Errors
///
/// Says what is missing, and the command that installs it.
pub fn find() -> Result<Toolchain, Missing> {
    let qemu = !is_program(qemu::PROGRAM);
    match Toolchain::find() {
        Some(toolchain) if !qemu => Ok(toolchain),
        toolchain => Err(Missing { toolchain: toolchain.is_none(), qemu }),
    }
}

/// Looks for everything, and installs what is missing; quick where nothing is.
///
/// # Errors
///
/// Something cannot be installed; says what to do by hand.
pub fn ensure() -> Result<Toolchain> {
    let missing = match find() {
        Ok(toolchain) => return Ok(toolchain),
        Err(missing) => missing,
    };
    let by_rustup = missing.toolchain && rustup_may_download();
    let by_debian = missing.toolchain && !by_rustup;
    if by_rustup {
        run("rustup", &["component", "add", "rust-src", "llvm-tools"])?;
    }
    let mut packages = Vec::new();
    if by_debian {
        if !is_program("apt-get") {
            bail!(
                "core's source and LLVM's tools are missing; install rustup (https://rustup.rs) and run\n\n    \
                 rustup component add rust-src llvm-tools\n"
            );
        }
        packages.extend(DEBIAN_TOOLCHAIN);
    }
    if missing.qemu {
        if !is_program("apt-get") {
            bail!("{} is missing; install it with\n\n    {}\n", qemu::PROGRAM, qemu_by_hand());
        }
        packages.push("qemu-system-x86");
    }
    if !packages.is_empty() {
        apt_install(&packages)?;
    }
    if by_debian {
        say("linking Debian's Rust and LLVM to a private sysroot in target/kernel/sysroot");
        Toolchain::link_debian()?;
    }
    Ok(find()?)
}

/// Installs those of the programs that kmem's malloc is compared on that are missing, where
/// Debian's packages can be installed; quick where nothing is missing. Otherwise says what is left
/// out.
pub fn ensure_compared() {
    let missing = COMPARED.iter().filter(|(program, _)| !is_program(program));
    let packages: Vec<_> = missing.map(|&(_, package)| package).collect();
    if packages.is_empty() {
        return;
    }
    let installed = if is_program("apt-get") {
        apt_install(&packages)
    } else {
        Err(anyhow!("there is no apt-get"))
    };
    if let Err(error) = installed {
        say(&format!("tests with {} are left out: {error:#}", packages.join(", ")));
    }
}

/// Whether there is a rustup that is not told to leave its downloads alone.
fn rustup_may_download() -> bool {
    is_program("rustup") && env::var_os("RUSTUP_AUTO_INSTALL").is_none_or(|value| value != "0")
}

/// The command that installs QEMU on this machine.
fn qemu_by_hand() -> &'static str {
    QEMU_PACKAGES
        .iter()
        .find(|(manager, _)| is_program(manager))
        .map_or("your system's package manager", |(_, command)| command)
}

/// Installs those of Debian's `packages` that are missing.
fn apt_install(packages: &[&str]) -> Result<()> {
    let mut command = if is_root() {
        vec!["apt-get"]
    } else if Command::new("sudo")
        .args(["-n", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        vec!["sudo", "apt-get"]
    } else {
        bail!(
            "packages are missing; install them with\n\n    sudo apt-get install {}\n",
            packages.join(" ")
        );
    };
    let installed = |package: &&str| {
        let answer = Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).output();
        answer.is_ok_and(|answer| answer.stdout.ends_with(b"ok installed"))
    };
    let wanted: Vec<_> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let program = command.remove(0);
    let update: Vec<_> = command.iter().copied().chain(["update", "-qq"]).collect();
    run(program, &update)?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    let install: Vec<_> = command.into_iter().chain(install).chain(wanted).collect();
    run(program, &install)
}

fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").output();
    answer.is_ok_and(|answer| answer.stdout == b"0\n")
}

/// Whether `name` is a program on the search path.
pub fn is_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| fs::metadata(folder.join(Path::new(name))).is_ok())
}

/// Runs a command, which it shows, to its successful end.
fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let shown = format!("{program} {}", arguments.join(" "));
    say(&shown);
    let status = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}
