//! Text for people, put together without allocating and written without the C library's buffers.

use core::fmt::{self, Write};

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// A file descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Descriptor(pub(crate) libc::c_int);

/// Where messages go.
pub(crate) const STDERR: Descriptor = Descriptor(2);

/// Text of bounded length; what is beyond is cut off.
pub(crate) struct Text<const CAPACITY: usize> {
    bytes: [u8; CAPACITY],
    len: usize,
}

/// A line as people read it.
pub(crate) type Line = Text<512>;

impl<const CAPACITY: usize> Text<CAPACITY> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; CAPACITY], len: 0 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(CAPACITY - self.len);
        self.bytes[self.len..self.len + len].copy_from_slice(&bytes[..len]);
        self.len += len;
    }

    /// Bytes that it still has room for.
    pub(crate) fn room(&self) -> usize {
        CAPACITY - self.len
    }
}

impl<const CAPACITY: usize> Write for Text<CAPACITY> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// A line of text that ends in a newline and a zero, as C wants it.
pub(crate) fn line(message: fmt::Arguments<'_>) -> Line {
    let mut text = Line::new();
    // Writing to `Text` cannot fail.
    let _ = text.write_fmt(message);
    text.len = text.len.min(text.bytes.len() - 2);
    text.push(b"\n");
    text.bytes[text.len] = 0;
    text
}

/// Writes one line.
pub(crate) fn say(to: Descriptor, message: fmt::Arguments<'_>) {
    write(to, line(message).as_bytes());
}

/// Writes all of `bytes`, or gives up at the first error: there is nobody to tell. By the system
/// call itself: the C library's function is a point where a thread can be cancelled, which `malloc`
/// and `free` are not.
pub(crate) fn write(to: Descriptor, mut bytes: &[u8]) {
    // SAFETY: whether the descriptor is open is the system's to say.
    let file = unsafe { BorrowedFd::borrow_raw(to.0) };
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(written) if written > 0 => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}
