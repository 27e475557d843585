//! The little that the host asks the C library for: Rust's `std` would bring more than the rest of
//! an allocator.

use core::ffi::c_int;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use core::time::Duration;

use rustix::fd::BorrowedFd;
use rustix::thread;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

const CLOCK_MONOTONIC_COARSE: c_int = 6;

/// What the system may limit, as Linux numbers it.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    /// What the process may write to.
    Data = 2,
    /// Its addresses.
    Addresses = 9,
}

/// No limit.
const UNLIMITED: u64 = u64::MAX;

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn getrlimit(resource: c_int, limits: *mut [u64; 2]) -> c_int;
    #[link_name = "abort"]
    fn c_abort() -> !;
}

/// Lets another thread run. Now and then one of lower priority, which the system does not let run
/// for a thread that merely yields.
pub(super) fn yield_now() {
    static YIELDS: AtomicU32 = AtomicU32::new(0);
    if YIELDS.fetch_add(1, Relaxed) % YIELDS_A_NAP == YIELDS_A_NAP - 1 {
        nap();
    } else {
        thread::sched_yield();
    }
}

/// Of so many yields one is a nap,
const YIELDS_A_NAP: u32 = 64;

/// so short.
const NAP: thread::Timespec = thread::Timespec { tv_sec: 0, tv_nsec: 50_000 };

/// Lets a moment pass.
pub(super) fn nap() {
    // By the system call itself: the C library's function is a point of cancellation.
    let _ = thread::nanosleep(&NAP);
}

/// Ends the process, with one line on standard error.
pub(super) fn stop(message: fmt::Arguments<'_>) -> ! {
    let line = Line::of(message);
    // SAFETY: whether standard error is open is the system's to say.
    let standard_error = unsafe { BorrowedFd::borrow_raw(2) };
    // By the system call itself: in the C library's function a thread can be cancelled, and then
    // the process would go on.
    let _ = rustix::io::write(standard_error, &line.bytes[..line.len]);
    // SAFETY: it has no preconditions.
    unsafe { c_abort() }
}

/// A line for standard error; what does not fit is cut off.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    fn of(message: fmt::Arguments<'_>) -> Self {
        let mut line = Self { bytes: [0; 256], len: 0 };
        // Writing to a line cannot fail.
        let _ = fmt::write(&mut line, message);
        line.len = line.len.min(line.bytes.len() - 1);
        line.bytes[line.len] = b'\n';
        line.len += 1;
        line
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let len = text.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// A limit that the process has, in bytes; `None` where there is none, and where the system does
/// not say. `rustix` takes it that it does.
pub(super) fn limit(of: Limit) -> Option<usize> {
    let mut soft_and_hard = [UNLIMITED; 2];
    // SAFETY: the call fills both, or leaves them.
    let is_told = unsafe { getrlimit(of as c_int, &mut soft_and_hard) } == 0;
    let bytes = soft_and_hard[0];
    (is_told && bytes != UNLIMITED).then_some(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Time since some moment, cheaply: to within a tick of the system.
pub(super) fn now() -> Duration {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the call fills the structure, or leaves it.
    unsafe { clock_gettime(CLOCK_MONOTONIC_COARSE, &mut time) };
    Duration::new(time.seconds.unsigned_abs(), time.nanoseconds.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_however_long_the_message_is() {
        for (len, lines_len) in [(0, 1), (10, 11), (255, 256), (256, 256), (1000, 256)] {
            let line = Line::of(format_args!("{:len$}", ""));
            assert_eq!((line.len, line.bytes[line.len - 1]), (lines_len, b'\n'), "{len} bytes");
        }
    }
}
