//! Memory to manage, and how much of it has been touched.

use std::{fs, ptr, ptr::NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

const ALIGN: usize = 2 << 20;

/// A range of fresh, zeroed, untouched memory that starts at a multiple of 2 MiB.
///
/// Only pages that somebody touches cost anything, so 256 GiB are as good as 1.
#[derive(Debug)]
pub struct Region {
    mapping: NonNull<u8>,
    mapping_bytes: usize,
    start: NonNull<u8>,
    bytes: usize,
}

impl Region {
    /// Maps `bytes` bytes.
    ///
    /// # Panics
    ///
    /// If the operating system refuses.
    pub fn new(bytes: usize) -> Self {
        let mapping_bytes = bytes + ALIGN;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let mapping = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                mapping_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        };
        let mapping = NonNull::new(mapping.expect("mmap").cast::<u8>()).expect("not null");
        let skip = mapping.as_ptr().align_offset(ALIGN);
        // SAFETY: `skip` is below ALIGN, and the mapping is that much longer than `bytes`.
        let start = unsafe { mapping.add(skip) };
        Self { mapping, mapping_bytes, start, bytes }
    }

    /// The first byte.
    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The length.
    pub fn len_bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping of `new`; whoever used it does not outlive it.
        let unmapped = unsafe { munmap(self.mapping.as_ptr().cast(), self.mapping_bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: a region is plain memory; it owns its mapping, wherever it is dropped.
unsafe impl Send for Region {}
// SAFETY: a shared region gives out nothing but two numbers.
unsafe impl Sync for Region {}

/// Bytes of anonymous memory that this process has resident.
pub fn resident_bytes() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<usize>().ok())
        .map_or(0, |kib| kib << 10)
}
