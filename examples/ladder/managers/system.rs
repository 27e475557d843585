//! What the managers know of the operating system: a heap section whose end can be moved, and
//! mappings.
//!
//! Each manager gets a reserve of addresses of its own. The heap section lies in its lower half and
//! follows the rules of `brk`; it is private, because the C library moves the real program break
//! under everybody's feet. Mappings lie in the upper half. Every call here is one system call, and
//! is counted. All of a manager's memory is read and written through [`System::word`] and
//! [`System::set_word`]: this file holds all the `unsafe` of the ladder's own managers.

use std::ops::Range;
use std::ptr;

use kmem::arena::{AllocError, Arena, Config, Constraint, Fit, Segment};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

pub(crate) const PAGE: usize = 4096;
pub(crate) const WORD: usize = 8;

const RESERVE: usize = 8 << 30;
/// Records of mappings to begin with: enough for the 10,000 blocks of the ladder's table to be
/// mappings each.
const RECORDS: usize = 1 << 15;

/// So many records. They are never given back: few ladders need more than they begin with.
fn records(count: usize) -> &'static mut [Segment] {
    vec![Segment::SPARE; count].leak()
}

/// The system as one manager sees it, and what it has asked of it.
pub(crate) struct System {
    /// The heap section: its start never moves.
    heap: Range<usize>,
    reserve: Range<usize>,
    mappings: Arena<'static>,
    mapped: usize,
    /// System calls so far.
    pub calls: usize,
    /// Most bytes in heap section and mappings at any time.
    pub peak: usize,
}

impl System {
    pub(crate) fn new() -> Self {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let reserve =
            unsafe { mmap_anonymous(ptr::null_mut(), RESERVE, ProtFlags::empty(), flags) };
        let base = reserve.expect("addresses to reserve").expose_provenance();
        let middle = base + RESERVE / 2;
        let config = Config::new("mappings", PAGE as u64, Fit::First);
        let mut mappings = Arena::new(config, records(RECORDS)).expect("a sound configuration");
        mappings.add(middle as u64..(base + RESERVE) as u64).expect("an empty arena");
        let reserve = base..base + RESERVE;
        Self { heap: base..base, reserve, mappings, mapped: 0, calls: 0, peak: 0 }
    }

    /// `sbrk(0)`: where the heap section ends.
    pub(crate) fn current_break(&mut self) -> usize {
        self.calls += 1;
        self.heap.end
    }

    /// `brk(end)`: moves the end of the heap section up. What is new is zero.
    pub(crate) fn set_break(&mut self, end: usize) -> bool {
        self.calls += 1;
        let middle = self.reserve.start + RESERVE / 2;
        if end < self.heap.end || end > middle {
            return false;
        }
        let page = self.heap.end / PAGE * PAGE;
        let len = end.next_multiple_of(PAGE) - page;
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the pages lie in the lower half of our reserve.
        let moved =
            unsafe { mprotect(ptr::with_exposed_provenance_mut(page), len.max(PAGE), flags) };
        if moved.is_ok() {
            self.heap.end = end;
            self.note_use();
        }
        moved.is_ok()
    }

    /// `mmap`: `len` bytes rounded up to pages, zero, at a multiple of `align`.
    pub(crate) fn map(&mut self, len: usize, align: usize) -> Option<usize> {
        self.calls += 1;
        let constraint = Constraint { align: align as u64, ..Constraint::NONE };
        let mut at = self.mappings.alloc_constrained(len as u64, &constraint);
        if let Err(AllocError::NoSegments { pool }) = at {
            self.mappings.grow_pool(records(2 * pool)).expect("a larger pool");
            at = self.mappings.alloc_constrained(len as u64, &constraint);
        }
        let at = at.ok()? as usize;
        let len = len.next_multiple_of(PAGE);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: the arena hands out pages of our reserve that nobody uses.
        let mapped =
            unsafe { mmap_anonymous(ptr::with_exposed_provenance_mut(at), len, protection, flags) };
        mapped.ok()?;
        self.mapped += len;
        self.note_use();
        Some(at)
    }

    /// `munmap`.
    pub(crate) fn unmap(&mut self, at: usize, len: usize) {
        self.calls += 1;
        let len = len.next_multiple_of(PAGE);
        self.mappings.free(at as u64, len as u64).expect("a mapping of this system");
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // The addresses stay reserved: mapping nothing over the pages drops them.
        // SAFETY: the arena has just taken back exactly these pages of our reserve.
        let dropped = unsafe {
            mmap_anonymous(ptr::with_exposed_provenance_mut(at), len, ProtFlags::empty(), flags)
        };
        dropped.expect("pages to be dropped");
        self.mapped -= len;
    }

    /// Bytes in heap section and mappings now.
    pub(crate) fn in_use(&self) -> usize {
        self.heap.len() + self.mapped
    }

    /// The heap section.
    pub(crate) fn heap(&self) -> Range<usize> {
        self.heap.clone()
    }

    /// The word at `at`.
    #[inline]
    pub(crate) fn word(&self, at: usize) -> usize {
        // SAFETY: see `check`; a page of the reserve that is not mapped faults.
        unsafe { ptr::with_exposed_provenance::<usize>(self.check(at)).read_volatile() }
    }

    /// Writes the word at `at`.
    #[inline]
    pub(crate) fn set_word(&mut self, at: usize, word: usize) {
        // SAFETY: see `check`; a page of the reserve that is not mapped faults.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(self.check(at)).write_volatile(word) }
    }

    /// The reserve is ours alone, and no reference into it exists, so any aligned word of it may be
    /// read and written.
    #[inline]
    fn check(&self, at: usize) -> usize {
        assert!(at.is_multiple_of(WORD) && self.reserve.contains(&at), "a wild address: {at:#x}");
        at
    }

    fn note_use(&mut self) {
        self.peak = self.peak.max(self.in_use());
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let base = ptr::with_exposed_provenance_mut(self.reserve.start);
        // SAFETY: the whole reserve is ours, and ends with its system.
        let _ = unsafe { munmap(base, RESERVE) };
    }
}
