//! The steps of the experiment, and what /proc says at each.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

const PAGE_BYTES: usize = 4096;
/// Room for the list of mappings.
const MAPS_BYTES: usize = 64 << 10;

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

/// What the experiment finds.
pub(crate) struct Findings {
    pub(crate) steps: [Step; 5],
    /// The page's first address.
    pub(crate) page: usize,
    /// The lines of /proc/self/maps about the addresses that the page's line has: before there was
    /// a page, while it is mapped, and when it is unmapped again.
    pub(crate) lines: [(&'static str, Vec<String>); 3],
}

/// Maps a page, reads it, writes it and unmaps it. Everything is done twice and only the second
/// time counts: the first brings in the code and the buffers that the experiment itself needs.
pub(crate) fn findings() -> Findings {
    experiment();
    experiment()
}

fn experiment() -> Findings {
    let mut buffers = [[0; MAPS_BYTES]; 3];
    let [maps_before, maps_with, maps_after] = &mut buffers;
    let maps_before = read_into("/proc/self/maps", maps_before);
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
    let maps_with = read_into("/proc/self/maps", maps_with);
    // SAFETY: this is the mapping from above, and nobody uses it any more.
    unsafe { munmap(page.cast(), PAGE_BYTES) }.expect("the page back");
    let unmapped = sizes();
    let maps_after = read_into("/proc/self/maps", maps_after);

    let mut line = maps_with.lines().filter_map(addresses);
    let line = line.find(|range| range.contains(&page.addr())).expect("the page is mapped");
    let about = |maps: &str| {
        let overlaps = |other: Range<usize>| other.start < line.end && line.start < other.end;
        let lines = maps.lines().filter(|text| addresses(text).is_some_and(overlaps));
        lines.map(|line| line.trim_end().to_owned()).collect()
    };
    Findings {
        steps: [
            ("before", "", start),
            ("a page is mapped", "addresses are promised; no memory is behind them yet", mapped),
            (
                "its first byte is read",
                "the kernel's one page of zeros serves; it is not ours",
                read,
            ),
            ("its first byte is written", "a page fault puts a page of memory behind it", written),
            ("it is unmapped", "addresses and memory go back", unmapped),
        ],
        page: page.addr(),
        lines: [
            ("before", about(maps_before)),
            ("with the page", about(maps_with)),
            ("without it", about(maps_after)),
        ],
    }
}

/// The addresses of a line of /proc/self/maps.
pub(crate) fn addresses(line: &str) -> Option<Range<usize>> {
    let (start, rest) = line.split_once('-')?;
    let end = rest.split(' ').next()?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
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
    let mut len = 0;
    loop {
        match file.read(&mut buffer[len..]).expect("a readable file") {
            0 => break,
            more => len += more,
        }
    }
    assert!(len < buffer.len(), "{path} has more than {len} bytes");
    std::str::from_utf8(&buffer[..len]).expect("text")
}
