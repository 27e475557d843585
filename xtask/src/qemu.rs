//! A machine that boots the image, and how it ended.
//!
//! QEMU emulates the CPU (TCG), which every host can do and which repeats itself best. The
//! environment variable `KMEM_QEMU_ACCEL` names another accelerator, such as `kvm`; a file
//! `/dev/kvm` does not say that it works, so it is never chosen unasked.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result};
use kernel_test_list::{Clock, Machine};

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// How long [`show`] sleeps between two looks at the machine.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How a machine ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The kernel came to its end.
    Success,
    /// The kernel stopped with a report.
    Stopped,
    /// The machine was reset or switched off: a fault that the kernel could not report.
    Reset,
    /// The time limit passed.
    TimedOut,
    /// QEMU itself failed.
    Failed(ExitStatus),
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        // The kernel's `exit` module writes 0x10 and 0x11; the device makes that 2 * code + 1.
        match status.code() {
            Some(33) => Self::Success,
            Some(35) => Self::Stopped,
            Some(0) => Self::Reset,
            _ => Self::Failed(status),
        }
    }
}

/// How a machine ended, and all that it said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What the kernel wrote on the serial port, followed by QEMU's own messages.
    pub serial: String,
}

/// Boots `image` on `machine` for at most `limit`, the kernel's output going where this program's
/// goes.
///
/// # Errors
///
/// QEMU cannot be started or watched.
pub fn show(image: &Path, machine: &Machine, limit: Duration) -> Result<End> {
    let mut child = command(image, machine, None).spawn().with_context(cannot_start)?;
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(status.into());
        }
        thread::sleep(LOOK_AGAIN);
    }
    kill(&mut child)
}

/// Boots `image` on `machine` to run `test`, for at most `limit`.
///
/// # Errors
///
/// QEMU cannot be started or watched.
pub fn run(image: &Path, machine: &Machine, test: &str, limit: Duration) -> Result<Outcome> {
    let mut child = command(image, machine, Some(test))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(cannot_start)?;
    let stdout = child.stdout.take().context("QEMU's output was piped")?;
    let stderr = child.stderr.take().context("QEMU's messages were piped")?;
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let serial = scope.spawn(move || {
            let text = read_all(stdout);
            // The other end waits for this, or has given up.
            let _ = sender.send(());
            text
        });
        let messages = scope.spawn(|| read_all(stderr));
        let in_time = receiver.recv_timeout(limit).is_ok();
        let end = if in_time { child.wait()?.into() } else { kill(&mut child)? };
        let mut text = serial.join().unwrap_or_default();
        text.push_str(&messages.join().unwrap_or_default());
        Ok(Outcome { end, serial: text })
    })
}

fn kill(child: &mut Child) -> Result<End> {
    child.kill()?;
    child.wait()?;
    Ok(End::TimedOut)
}

fn read_all(mut source: impl Read) -> String {
    let mut bytes = Vec::new();
    // What could be read before an error is all there is to show.
    let _ = source.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

fn cannot_start() -> String {
    format!("cannot start {PROGRAM}")
}

fn command(image: &Path, machine: &Machine, test: Option<&str>) -> Command {
    let accelerator = env::var("KMEM_QEMU_ACCEL").unwrap_or_else(|_| "tcg".to_owned());
    let mut command = Command::new(PROGRAM);
    command.stdin(Stdio::null());
    command.args(["-nodefaults", "-no-reboot", "-display", "none", "-vga", "std"]);
    command.args(["-serial", "stdio"]);
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
    command.args(["-accel", &accelerator, "-cpu", "max"]);
    command.args(["-m", &format!("{}M", machine.memory_mib), "-smp", &machine.cpus.to_string()]);
    // Several machines boot from one image, and none writes to it.
    command.args(["-drive", &format!("format=raw,snapshot=on,file={}", image.display())]);
    if machine.clock == Clock::Instructions {
        command.args(["-icount", "shift=0,sleep=off"]);
    }
    if let Some(test) = test {
        command.args(["-fw_cfg", &format!("name=opt/kmem/test,string={test}")]);
    }
    command
}
