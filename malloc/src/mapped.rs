//! Growing arrays in memory mapped for them alone: the books of an allocator cannot live in what
//! they are about.

use core::ptr::{self, NonNull};
use core::slice;

/// Zeroed memory of `bytes` bytes from the system.
pub(crate) fn map(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: a new mapping that replaces no other.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) }
}

/// An array that grows at its end.
///
/// `T` is plain data: it is moved by the system and never dropped.
pub(crate) struct Mapped<T: Copy> {
    start: NonNull<T>,
    len: usize,
    capacity: usize,
}

// SAFETY: it owns its mapping, as a `Vec` does its memory.
unsafe impl<T: Copy + Send> Send for Mapped<T> {}

impl<T: Copy> Mapped<T> {
    pub(crate) const fn new() -> Self {
        Self { start: NonNull::dangling(), len: 0, capacity: 0 }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: the first `len` elements have been written.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above; the borrow is exclusive.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Adds an element; `false` if there is no memory for it.
    pub(crate) fn push(&mut self, value: T) -> bool {
        if self.len == self.capacity && !self.grow() {
            return false;
        }
        // SAFETY: `len < capacity`, so the element lies in the mapping.
        unsafe { self.start.add(self.len).write(value) };
        self.len += 1;
        true
    }

    /// Adds elements; `false` if there is no memory for all of them.
    pub(crate) fn extend(&mut self, values: &[T]) -> bool {
        values.iter().all(|&value| self.push(value))
    }

    /// Makes it `len` elements of zero bytes; `false`, and nothing has changed, if there is no
    /// memory for them.
    ///
    /// # Safety
    ///
    /// An element whose bytes are all zero is valid.
    pub(crate) unsafe fn fill_zeroed(&mut self, len: usize) -> bool {
        let Some(bytes) = len.checked_mul(size_of::<T>()) else { return false };
        let Some(start) = map(bytes) else { return false };
        self.release();
        *self = Self { start: start.cast(), len, capacity: len };
        true
    }

    /// Forgets the elements from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let capacity = (self.capacity * 2).max(4096 / size_of::<T>().max(1));
        let Some(bytes) = capacity.checked_mul(size_of::<T>()) else { return false };
        let Some(start) = map(bytes) else { return false };
        let start = start.cast::<T>();
        // SAFETY: both are mappings of at least `len` elements, and they are different ones.
        unsafe { start.copy_from_nonoverlapping(self.start, self.len) };
        let len = self.len;
        self.release();
        *self = Self { start, len, capacity };
        true
    }

    fn release(&mut self) {
        if self.capacity > 0 {
            // SAFETY: `map` made this mapping with so many bytes, and nothing refers to it any
            // more.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.capacity * size_of::<T>()) };
        }
        self.capacity = 0;
        self.len = 0;
    }
}

impl<T: Copy> Drop for Mapped<T> {
    fn drop(&mut self) {
        self.release();
    }
}
