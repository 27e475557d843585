//! The kernel and its boot loader, as a disk image.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;
use std::{fs, process};

use anyhow::{Context, Result, anyhow, bail};
use bootimage::builder::Builder;
use bootimage::builder::error::{BuildKernelError, CreateBootimageError};

use crate::{kernel_target_dir, project_root, say};

/// How the kernel is compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// Optimised, with all assertions: for tests.
    Checked,
    /// As it ships: for counting instructions.
    Measured,
}

impl Kernel {
    const fn profile(self) -> &'static str {
        match self {
            Self::Checked => "release",
            Self::Measured => "measured",
        }
    }
}

/// Builds what has changed since the last time, and returns the image's path.
///
/// The running program must have entered the kernel's toolchain
/// ([`Toolchain::enter`](crate::toolchain::Toolchain::enter)).
///
/// # Errors
///
/// The kernel or the boot loader does not build; the error holds the compiler's messages.
pub fn build(kernel: Kernel) -> Result<PathBuf> {
    // One at a time: both kernels' boot loaders are built in the same place.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = BUILDING.lock();
    let manifest = project_root().join("kernel_test/Cargo.toml");
    let mut builder = Builder::new(Some(manifest.clone())).map_err(|error| anyhow!("{error}"))?;
    let started = Instant::now();

    say("building the test kernel (half a minute the first time) ...");
    let profile = kernel.profile();
    let arguments = [
        format!("--profile={profile}"),
        format!("--manifest-path={}", manifest.display()),
        format!("--target={}", project_root().join("x86_64-target.json").display()),
        "-Zjson-target-spec".to_owned(),
        "-Zbuild-std=core,alloc,compiler_builtins".to_owned(),
        "-Zbuild-std-features=compiler-builtins-mem".to_owned(),
    ];
    let config = bootimage::config::read_config(&manifest)?;
    let kernels = builder.build_kernel(&arguments, &config, true).map_err(|error| match error {
        BuildKernelError::BuildFailed { stderr } => compiler_failed("the test kernel", &stderr),
        other => anyhow!("cannot build the test kernel: {other}"),
    })?;
    let [kernel] = &kernels[..] else {
        bail!("expected one kernel, found {}", kernels.len());
    };

    let image = kernel_target_dir().join(format!("{profile}.img"));
    if is_newer(&image, &[kernel, &manifest]) {
        return Ok(image);
    }
    say("building the boot image (half a minute the first time) ...");
    // Another process may be booting the old image, or building this one.
    let fresh = image.with_extension(format!("{}.img", process::id()));
    builder.create_bootimage(&manifest, kernel, &fresh, true).map_err(|error| match error {
        CreateBootimageError::BootloaderBuildFailed { stderr } => {
            compiler_failed("the boot loader", &stderr)
        }
        other => anyhow!("cannot build the boot image: {other}"),
    })?;
    fs::rename(&fresh, &image).with_context(|| format!("cannot replace {}", image.display()))?;
    say(&format!("built in {:.1} s", started.elapsed().as_secs_f32()));
    Ok(image)
}

/// Whether the file `image` is there, and newer than all of `sources`.
fn is_newer(image: &Path, sources: &[&Path]) -> bool {
    let written = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let image = written(image);
    image.is_some() && sources.iter().all(|source| written(source) < image)
}

fn compiler_failed(what: &str, messages: &[u8]) -> anyhow::Error {
    anyhow!("{what} does not build:\n{}", String::from_utf8_lossy(messages))
}
