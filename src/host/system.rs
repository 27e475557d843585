//! The little that the host asks the C library for: Rust's `std` would bring more than the rest of an allocator.

use core::ffi::{c_int, c_void};
use core::fmt;
use core::time::Duration;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

const CLOCK_MONOTONIC_COARSE: c_int = 6;

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn sched_yield() -> c_int;
    #[link_name = "abort"]
    fn c_abort() -> !;
    fn write(file: c_int, bytes: *const c_void, len: usize) -> isize;
}

/// Lets another thread run.
pub(super) fn yield_now() {
    // SAFETY: it has no preconditions.
    unsafe { sched_yield() };
}

/// Ends the process.
pub(super) fn abort() -> ! {
    // SAFETY: it has no preconditions.
    unsafe { c_abort() }
}

/// A line for standard error; what does not fit is cut off.
pub(super) struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { bytes: [0; 256], len: 0 }
    }

    /// Writes it.
    pub(super) fn say(&self) {
        // SAFETY: so many bytes have been filled.
        unsafe { write(2, self.bytes.as_ptr().cast(), self.len) };
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

/// Time since some moment, cheaply: to within a tick of the system.
pub(super) fn now() -> Duration {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the call fills the structure, or leaves it.
    unsafe { clock_gettime(CLOCK_MONOTONIC_COARSE, &mut time) };
    Duration::new(time.seconds.unsigned_abs(), time.nanoseconds.unsigned_abs() as u32)
}
