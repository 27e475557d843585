//! The steps of the experiment, and what /proc says at each.

use std::fs::File;
use std::io::Read;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

const PAGE_BYTES: usize = 4096;

/// A process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Addresses that are mapped (VSZ).
    pub(crate) virtual_bytes: u64,
    /// Pages behind them that are in memory (RSS).
    pub(crate) resident_bytes: u64,
}

/// A step, why the sizes change at it as they do, and what they are after it.
pub(crate) type Step = (&'static str, &'static str, Sizes);

/// Maps a page, reads it, writes it and unmaps it. Everything is done twice and only the second
/// time counts: the first brings in the code and the buffers that the experiment itself needs.
pub(crate) fn steps() -> [Step; 5] {
    experiment();
    experiment()
}

fn experiment() -> [Step; 5] {
    let start = sizes();
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), PAGE_BYTES, protection, flags) };
    let page = page.expect("a page").cast::<u8>();
    let mapped = sizes();
    // SAFETY: the page was mapped above, readable, and is ours.
    unsafe { page.read_volatile() };
    let read = sizes();
    // SAFETY: the page was mapped above, writable, and is ours.
    unsafe { page.write_volatile(1) };
    let written = sizes();
    // SAFETY: this is the mapping from above, and nobody uses it any more.
    unsafe { munmap(page.cast(), PAGE_BYTES) }.expect("the page back");
    [
        ("before", "", start),
        ("a page is mapped", "addresses are promised; no memory is behind them yet", mapped),
        ("its first byte is read", "the kernel's one page of zeros serves; it is not ours", read),
        ("its first byte is written", "a page fault puts a page of memory behind it", written),
        ("it is unmapped", "addresses and memory go back", sizes()),
    ]
}

/// Virtual size from the first number of statm, in pages; resident size from smaps_rollup, which
/// counts pages one by one (the number in statm may lag behind).
fn sizes() -> Sizes {
    let mut buffer = [0; 2048];
    let statm = read_into("/proc/self/statm", &mut buffer);
    let virtual_pages: u64 = number(statm).expect("statm starts with the virtual size");
    let rollup = read_into("/proc/self/smaps_rollup", &mut buffer);
    let resident = rollup.split("Rss:").nth(1).and_then(number).expect("smaps_rollup has Rss");
    Sizes { virtual_bytes: virtual_pages * PAGE_BYTES as u64, resident_bytes: resident * 1024 }
}

fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Reads without allocating, so as not to change what is being measured.
fn read_into<'b>(path: &str, buffer: &'b mut [u8]) -> &'b str {
    let mut file = File::open(path).expect("a /proc");
    let len = file.read(buffer).expect("a readable file");
    std::str::from_utf8(&buffer[..len]).expect("text")
}
