//! What people look at: live blocks, leaks, statistics.

use core::fmt;

use crate::arenas::{self, Picture};
use crate::blocks::{BOOKS, Block};
use crate::engine::{self, Fault};
use crate::log;
use crate::mapped::Mapped;
use crate::mode;
use crate::names::Name;
use crate::observed;
use crate::options::Options;
use crate::table::{Record, Table};
use crate::text::{STDERR, line, say};
use kmem::arena::{SegmentInfo, SegmentState};

/// The GNU C library's `struct mallinfo2`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Info {
    /// Bytes taken from the system, apart from those in `hblkhd`.
    pub arena: usize,
    /// Blocks that are free.
    pub ordblks: usize,
    /// Always 0.
    pub smblks: usize,
    /// Large blocks.
    pub hblks: usize,
    /// Bytes in large blocks.
    pub hblkhd: usize,
    /// Always 0.
    pub usmblks: usize,
    /// Always 0.
    pub fsmblks: usize,
    /// Bytes in live blocks that are not large.
    pub uordblks: usize,
    /// Bytes taken from the system that are in no live block.
    pub fordblks: usize,
    /// Bytes that `malloc_trim` could give back at most.
    pub keepcost: usize,
}

/// For `mallinfo2`.
pub(crate) fn info() -> Info {
    let usage = engine::usage().unwrap_or_default();
    let small = usage.live_bytes.saturating_sub(usage.large_bytes);
    let arena = usage.held_bytes.saturating_sub(usage.large_bytes);
    Info {
        arena,
        hblks: usage.large_blocks,
        hblkhd: usage.large_bytes,
        uordblks: small,
        fordblks: arena.saturating_sub(small),
        keepcost: arena.saturating_sub(small),
        ..Info::default()
    }
}

/// Writes one line to a C stream.
///
/// # Safety
///
/// `file` is an open stream.
unsafe fn put(file: *mut libc::FILE, message: fmt::Arguments<'_>) {
    // SAFETY: the caller's promise; lines end in a zero.
    unsafe { libc::fputs(line(message).as_bytes().as_ptr().cast(), file) };
}

/// For `malloc_info`.
///
/// # Safety
///
/// `file` is an open stream.
pub(crate) unsafe fn xml(file: *mut libc::FILE) {
    let info = info();
    // SAFETY: the caller's promise.
    unsafe {
        put(file, format_args!("<malloc version=\"kmem-1\">"));
        let (bytes, large) = (info.uordblks, info.hblkhd);
        put(file, format_args!("<total type=\"live\" size=\"{bytes}\"/>"));
        put(file, format_args!("<total type=\"mmap\" count=\"{}\" size=\"{large}\"/>", info.hblks));
        put(file, format_args!("<system type=\"current\" size=\"{}\"/>", info.arena + large));
        put(file, format_args!("</malloc>"));
    }
}

/// To standard error.
pub(crate) fn statistics() {
    let Some(usage) = engine::usage() else {
        return say(STDERR, format_args!("kmem: a signal handler came amid a call: no statistics"));
    };
    say(STDERR, format_args!("kmem: statistics of process {}", process()));
    let (kib, mib) = (1usize << 10, 1usize << 20);
    say(STDERR, format_args!("  live           {:>12} KiB", usage.live_bytes / kib));
    say(STDERR, format_args!("  from system    {:>12} KiB", usage.held_bytes / kib));
    let (blocks, large) = (usage.large_blocks, usage.large_bytes / mib);
    say(STDERR, format_args!("  large blocks   {blocks:>12} ({large} MiB)"));
    if let Some(picture) = arenas::picture() {
        fragmentation(&picture);
    }
    BOOKS.with(|books| {
        if books.allocations == 0 {
            return;
        }
        say(STDERR, format_args!("  allocations    {:>12}", books.allocations));
        say(STDERR, format_args!("  frees          {:>12}", books.frees));
        say(STDERR, format_args!("  peak asked for {:>12} KiB", books.peak_bytes / kib));
    });
}

/// What a fit has made of the memory.
fn fragmentation(picture: &Picture) {
    let kib = |bytes: usize| bytes.div_ceil(1 << 10);
    let percent = |part: usize, whole: usize| part * 100 / whole.max(1);
    say(STDERR, format_args!("  engine         {:>12?} fit", picture.fit));
    let Picture { spans, live_segments, available_segments, .. } = picture;
    let held = kib(picture.held_bytes);
    say(STDERR, format_args!("  spans          {spans:>12} ({held} KiB)"));
    say(
        STDERR,
        format_args!("  segments       {live_segments:>12} live, {available_segments} available"),
    );
    let (available, largest) = (picture.available_bytes, picture.largest_available_bytes);
    let scattered = percent(available - largest, available);
    let (available, largest) = (kib(available), kib(largest));
    say(
        STDERR,
        format_args!(
            "  available      {available:>12} KiB, largest {largest} KiB: {scattered} % lies elsewhere"
        ),
    );
    BOOKS.with(|books| {
        if books.allocations == 0 {
            return;
        }
        let lost = picture.live_bytes.saturating_sub(books.live_bytes);
        say(STDERR, format_args!("  lost in blocks {lost:>12} bytes beyond what was asked for"));
    });
    let (live, held) = (picture.peak_live_bytes, picture.held_at_peak_bytes);
    let lost = percent(held.saturating_sub(live), held);
    let (live, held, most) = (kib(live), kib(held), kib(picture.peak_held_bytes));
    say(
        STDERR,
        format_args!(
            "  peak live      {live:>12} KiB of {held} KiB held ({lost} % lost); held at most {most} KiB"
        ),
    );
    say(STDERR, format_args!("  records        {:>12} KiB", kib(picture.record_bytes)));
}

/// For `kmem_verify`.
pub(crate) fn verify() -> libc::c_int {
    let wrong = engine::verify().and_then(|()| observed::check_all().ok_or(Fault::Interrupted));
    match wrong {
        Ok(wrong) => libc::c_int::from(wrong > 0),
        Err(fault) => {
            say(STDERR, format_args!("kmem: {fault}"));
            1
        }
    }
}

/// A block's name between quotes; a dash where it has none.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            fmt::Display::fmt(&chunk.valid().escape_debug(), f)?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_str("\"")
    }
}

/// For `print_memory`.
///
/// # Safety
///
/// `file` is an open stream.
pub(crate) unsafe fn print_memory(file: *mut libc::FILE) {
    // Gathered first: the stream may allocate a buffer.
    let blocks = live_blocks();
    let mut classes = Mapped::new();
    engine::for_each_live(&mut |address, bytes| _ = classes.push((address, bytes)));
    classes.as_mut_slice().sort_unstable();
    let class_of = |block: &Block| {
        let found =
            classes.as_slice().binary_search_by_key(&block.address, |&(address, _)| address);
        found.map_or(block.bytes, |at| classes.as_slice()[at].1)
    };
    // SAFETY: the caller's promise.
    unsafe {
        put(file, format_args!("address                 bytes        class    thread  name"));
        for block in blocks.as_slice() {
            let mut name = crate::text::Line::new();
            BOOKS.with(|books| {
                let text = Quoted(books.names.text(block.name));
                let _ = fmt::write(&mut name, format_args!("{text}"));
            });
            let name = core::str::from_utf8(name.as_bytes()).unwrap_or("-");
            let (address, bytes, class) = (block.address, block.bytes, class_of(block));
            if block.thread == 0 {
                put(
                    file,
                    format_args!("{address:<#16x} {bytes:>12} {class:>12}         -  {name}"),
                );
            } else {
                let thread = block.thread;
                put(
                    file,
                    format_args!("{address:<#16x} {bytes:>12} {class:>12} {thread:>9}  {name}"),
                );
            }
        }
        let bytes: usize = blocks.as_slice().iter().map(|block| block.bytes).sum();
        put(file, format_args!("{} blocks, {bytes} bytes", blocks.as_slice().len()));
        print_spans(file);
    }
}

/// The spans of an arena, and what in them is available.
///
/// # Safety
///
/// `file` is an open stream.
unsafe fn print_spans(file: *mut libc::FILE) {
    let mut segments = Mapped::new();
    arenas::for_each_segment(&mut |SegmentInfo { range, state }| {
        if state != SegmentState::Allocated {
            _ = segments.push((range.start, range.end));
        }
    });
    for &(start, end) in segments.as_slice() {
        // SAFETY: the caller's promise.
        unsafe {
            if start == end {
                put(file, format_args!("span {start:#x}"));
            } else {
                let len = end - start;
                put(file, format_args!("  {start:#x}-{end:#x} {len:>12} available"));
            }
        }
    }
}

/// Every live block, the lowest address first.
fn live_blocks() -> Mapped<Block> {
    if let mode::Mode::Observed(_) = mode::mode() {
        return BOOKS.with(|books| books.sorted()).unwrap_or(Mapped::new());
    }
    let mut blocks = Mapped::new();
    engine::for_each_live(&mut |address, bytes| {
        _ = blocks.push(Block { address, bytes, thread: 0, name: Name::NONE });
    });
    blocks.as_mut_slice().sort_unstable_by_key(|block| block.address);
    BOOKS.with(|books| {
        for block in blocks.as_mut_slice() {
            if let Some(named) = books.blocks.get(block.address) {
                *block = Block { bytes: block.bytes, ..*named };
            }
        }
    });
    blocks
}

/// Leaks that have the same name and size.
#[derive(Clone, Copy)]
struct Group {
    key: usize,
    name: Name,
    bytes: usize,
    count: usize,
}

// SAFETY: integers; the key of one that is all zero is 0.
unsafe impl Record for Group {
    fn key(&self) -> usize {
        self.key
    }
}

/// How many groups of leaks are shown.
const GROUPS_SHOWN: usize = 40;

/// What was not freed, by name and size, the most bytes first.
pub(crate) fn leaks() {
    let mut groups = Table::<Group>::new();
    let (blocks, bytes) = BOOKS
        .with(|books| {
            for block in books.blocks.iter() {
                gather(&mut groups, block);
            }
            (books.blocks.len(), books.live_bytes)
        })
        .unwrap_or_default();
    let process = process();
    if blocks == 0 {
        return say(STDERR, format_args!("kmem: no leaks in process {process}"));
    }
    let mut sorted = Mapped::new();
    groups.iter().all(|&group| sorted.push(group));
    let total = |group: &Group| (group.bytes * group.count, group.bytes, group.name);
    sorted.as_mut_slice().sort_unstable_by_key(|group| core::cmp::Reverse(total(group)));
    say(
        STDERR,
        format_args!("kmem: {blocks} blocks, {bytes} bytes not freed in process {process}"),
    );
    say(STDERR, format_args!("       bytes    blocks      each  name"));
    let all = sorted.as_slice();
    for group in &all[..all.len().min(GROUPS_SHOWN)] {
        let Group { name, bytes, count, .. } = *group;
        BOOKS.with(|books| {
            let (name, all) = (Quoted(books.names.text(name)), bytes * count);
            say(STDERR, format_args!("{all:>12} {count:>9} {bytes:>9}  {name}"));
        });
    }
    if all.len() > GROUPS_SHOWN {
        say(STDERR, format_args!("  and {} more sizes", all.len() - GROUPS_SHOWN));
    }
}

fn gather(groups: &mut Table<Group>, block: &Block) {
    // Sizes are below 2^47 and names few: the key is exact for all that programs do, and at worst
    // two groups of different names are shown as one.
    let key = (block.bytes << 16 | (block.name.0 as usize & 0xffff)).wrapping_add(1).max(1);
    if let Some(group) = groups.get_mut(key) {
        group.count += 1;
    } else {
        groups.insert(Group { key, name: block.name, bytes: block.bytes, count: 1 });
    }
}

fn process() -> libc::pid_t {
    // SAFETY: it has no preconditions.
    unsafe { libc::getpid() }
}

/// What was asked for when the program ends.
#[inline(never)]
pub(crate) fn at_exit(options: &Options) {
    log::flush();
    match options.stderr {
        Some(file) => file.stand_in_for_stderr(|| report_end(options)),
        None => report_end(options),
    }
}

fn report_end(options: &Options) {
    if options.leaks.is_yes() {
        leaks();
    }
    if options.statistics.is_yes() {
        statistics();
    }
    observed::check_all();
}
