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

use crate::file::File;
use crate::lock::{Lock, OWNERS};
use crate::text::{Descriptor, STDERR, Text, line, say, write};

const BUFFER_BYTES: usize = 32 << 10;

struct Log {
    file: Option<File>,
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
    let opened = unsafe { libc::open(path.as_ptr(), flags, 0o644) };
    let file = if opened < 0 { None } else { File::take(Descriptor(opened)) };
    if file.is_none() {
        let shown = path.to_str().unwrap_or("KMEM_LOG");
        say(STDERR, format_args!("kmem: cannot write the log {shown:?}; there is none"));
    }
    LOG.with(|log| log.file = file);
}

impl Log {
    /// Writes what has gathered. If the program has closed the file the log ends: its descriptor
    /// may be one of the program's own by now.
    fn write_out(&mut self, file: File) {
        match file.descriptor() {
            Some(open) => write(open, self.buffer.as_bytes()),
            None if self.buffer.as_bytes().is_empty() => {}
            None => {
                self.file = None;
                say(STDERR, format_args!("kmem: the program has closed the log; it ends here"));
            }
        }
        self.buffer.clear();
    }
}

/// Adds a line.
pub(crate) fn record(message: fmt::Arguments<'_>) {
    LOG.with(|log| {
        let Some(file) = log.file else { return };
        let line = line(message);
        if log.buffer.room() < line.as_bytes().len() {
            log.write_out(file);
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
            log.write_out(file);
        }
    });
}
