//! A line for every block that is allocated or freed, gathered in a buffer and written when that is
//! full, when the program ends and when it is stopped: a system call in a few hundred lines.
//!
//! ```text
//! malloc 24 0x7f3a5c001040 4711
//! free 24 0x7f3a5c001040 4711
//! ```
//!
//! The call, the bytes asked for, the address, and the thread as the system numbers it. A block is
//! logged as freed before another thread can have its address: `realloc` writes that its old block
//! is freed, and then what came of it.

use core::ffi::CStr;
use core::fmt;

use crate::lock::{Lock, OWNERS};
use crate::text::{Descriptor, STDERR, Text, line, say, write};

const BUFFER_BYTES: usize = 32 << 10;

struct Log {
    file: Option<Descriptor>,
    /// Apart from the rest, which does not begin as zero: so it takes no room in the library's
    /// file, nor in the memory of programs without a log.
    buffer: &'static mut Text<BUFFER_BYTES>,
}

static LOG: Lock<Log> = {
    static mut BUFFER: Text<BUFFER_BYTES> = Text::new();
    let buffer = &raw mut BUFFER;
    // SAFETY: nothing else names it.
    let buffer = unsafe { &mut *buffer };
    // SAFETY: the owner is the log's.
    unsafe { Lock::new(&OWNERS.log, Log { file: None, buffer }) }
};

/// Begins the log.
pub(crate) fn open(path: &CStr) {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
    // SAFETY: the path is a string.
    let file = unsafe { libc::open(path.as_ptr(), flags, 0o644) };
    if file < 0 {
        let shown = path.to_str().unwrap_or("KMEM_LOG");
        return say(STDERR, format_args!("kmem: cannot write the log {shown:?}; there is none"));
    }
    LOG.with(|log| log.file = Some(Descriptor(above_standard(file))));
}

/// Moves a descriptor out of the way of programs that count on low ones.
fn above_standard(file: libc::c_int) -> libc::c_int {
    const FIRST: libc::c_int = 1000;
    // SAFETY: it duplicates a descriptor of ours.
    let moved = unsafe { libc::fcntl(file, libc::F_DUPFD_CLOEXEC, FIRST) };
    if moved < 0 {
        return file;
    }
    // SAFETY: the descriptor is ours and not used any more.
    unsafe { libc::close(file) };
    moved
}

/// Adds a line.
pub(crate) fn record(message: fmt::Arguments<'_>) {
    LOG.with(|log| {
        let Some(file) = log.file else { return };
        let line = line(message);
        if log.buffer.room() < line.as_bytes().len() {
            write(file, log.buffer.as_bytes());
            log.buffer.clear();
        }
        log.buffer.push(line.as_bytes());
    });
}

/// Forgets what has gathered.
pub(crate) fn forget() {
    LOG.with(|log| log.buffer.clear());
}

/// Writes what has gathered. Inlined because every fork begins with it, and the rest of this module
/// few programs run (`rare.ld`).
#[inline(always)]
pub(crate) fn flush() {
    LOG.with(|log| {
        if let Some(file) = log.file {
            write(file, log.buffer.as_bytes());
        }
        log.buffer.clear();
    });
}
