//! Magazines: arrays of free objects, so that a CPU can take and give objects without anybody's
//! lock.
//!
//! A magazine is a record of [`Entry`]s behind a link. It is loaded in a CPU's slot, or lies in
//! the depot, or is part of a stock; its owner there says how many rounds it holds.

use core::slice;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::descriptor::Entry;
use crate::page::records::{GRANULE, NONE, Record, address};
use crate::platform::Platform;

/// What a magazine's record begins with.
#[repr(C, align(16))]
struct Header {
    /// The next magazine of its list.
    next: AtomicU32,
    /// Rounds in it, where it lies in a list.
    rounds: AtomicU32,
}

/// Most rounds of any cache's magazines.
pub(super) const MAX_ROUNDS: u32 = rounds_for(0);

/// How many rounds the magazines of a cache of such objects have: fewer the larger the objects, so
/// that what lies idle in a CPU stays small.
pub(super) const fn rounds_for(object_bytes: usize) -> u32 {
    let granules = match object_bytes {
        0..=32 => 31,
        33..=64 => 15,
        65..=256 => 8,
        257..=1024 => 4,
        1025..=4096 => 2,
        _ => 1,
    };
    ((granules * GRANULE - size_of::<Header>()) / size_of::<Entry>()) as u32
}

/// Bytes in the record of a magazine of so many rounds.
pub(super) const fn magazine_bytes(rounds: u32) -> usize {
    size_of::<Header>() + rounds as usize * size_of::<Entry>()
}

/// A magazine, by the id of its record, and how many rounds it holds. Whoever has the value owns
/// the magazine: it lies in one slot, one list or one variable, and so many of its entries have
/// been written. The empty value is no magazine.
#[derive(Debug)]
pub(super) struct Magazine {
    id: u32,
    rounds: u32,
}

impl Magazine {
    /// Makes a record into a magazine without rounds.
    ///
    /// # Safety
    ///
    /// The record belongs to the caller alone and has [`magazine_bytes`] for the cache's rounds.
    pub(super) unsafe fn create(record: Record) -> Self {
        let header = Header { next: AtomicU32::new(NONE), rounds: AtomicU32::new(0) };
        // SAFETY: the caller's promise; records are aligned to granules.
        unsafe { record.address.cast::<Header>().write(header) };
        Self { id: record.id, rounds: 0 }
    }

    /// The magazine that [`into_id`](Self::into_id) made a number of, with so many rounds.
    ///
    /// # Safety
    ///
    /// Each number is used once, and so many entries have been written.
    pub(super) unsafe fn from_id(id: u32, rounds: u32) -> Self {
        Self { id, rounds }
    }

    /// The same magazine with other rounds.
    ///
    /// # Safety
    ///
    /// So many entries have been written.
    pub(super) unsafe fn with_rounds(self, rounds: u32) -> Self {
        Self { rounds, ..self }
    }

    /// The same magazine without rounds: they are somewhere else now.
    pub(super) fn emptied(self) -> Self {
        Self { rounds: 0, ..self }
    }

    pub(super) fn into_id(self) -> u32 {
        self.id
    }

    pub(super) fn is_none(&self) -> bool {
        self.id == NONE
    }

    /// How many rounds it holds.
    pub(super) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Where its entries lie.
    pub(super) fn entries<P: Platform>(&self, platform: &P) -> *mut Entry {
        entries(platform, self.id)
    }

    /// Its rounds.
    pub(super) fn as_slice<P: Platform>(&self, platform: &P) -> &[Entry] {
        if self.is_none() {
            return &[];
        }
        // SAFETY: so many entries have been written, and are not written again while the owner
        // lends the magazine.
        unsafe { slice::from_raw_parts(self.entries(platform), self.rounds as usize) }
    }

    /// Takes the last round.
    pub(super) fn pop<P: Platform>(&mut self, platform: &P) -> Option<Entry> {
        let entry = self.as_slice(platform).last().copied()?;
        self.rounds -= 1;
        Some(entry)
    }
}

/// The header of a magazine.
///
/// # Safety
///
/// It is the number of a magazine's record, which lives as long as the answer is used.
unsafe fn header<P: Platform>(platform: &P, id: u32) -> &Header {
    // SAFETY: the caller's promise: `Magazine::create` wrote a header there, and its fields are
    // atomic.
    unsafe { &*address(platform, id).cast::<Header>() }
}

/// Where the entries of a magazine lie.
pub(super) fn entries<P: Platform>(platform: &P, id: u32) -> *mut Entry {
    address(platform, id).cast::<Header>().wrapping_add(1).cast()
}

/// A list of magazines.
pub(super) struct Magazines {
    head: u32,
    len: u32,
    /// Fewest magazines since the last reaping: those have not been needed.
    idle: u32,
}

impl Magazines {
    pub(super) const fn new() -> Self {
        Self { head: NONE, len: 0, idle: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// How many have not been needed since the last reaping.
    pub(super) fn idle(&self) -> usize {
        self.idle as usize
    }

    pub(super) fn push<P: Platform>(&mut self, platform: &P, magazine: Magazine) {
        // SAFETY: the magazine is here, and goes into the list.
        let Header { next, rounds } = unsafe { header(platform, magazine.id) };
        next.store(self.head, Relaxed);
        rounds.store(magazine.rounds, Relaxed);
        self.head = magazine.into_id();
        self.len += 1;
    }

    /// The magazine that was put here last.
    pub(super) fn pop<P: Platform>(&mut self, platform: &P) -> Option<Magazine> {
        let id = self.head;
        if id == NONE {
            return None;
        }
        // SAFETY: the magazine is in the list.
        let Header { next, rounds } = unsafe { header(platform, id) };
        self.head = next.load(Relaxed);
        self.len -= 1;
        self.idle = self.idle.min(self.len);
        // SAFETY: `push` made the number, and noted the rounds; the magazine left the list here.
        Some(unsafe { Magazine::from_id(id, rounds.load(Relaxed)) })
    }

    /// Begins a new interval for `idle`.
    pub(super) fn settle(&mut self) {
        self.idle = self.len;
    }

    /// The rounds in all magazines.
    pub(super) fn total_rounds<P: Platform>(&self, platform: &P) -> usize {
        let (mut total, mut id) = (0, self.head);
        for _ in 0..self.len {
            // SAFETY: the magazine is in the list, which stays as it is meanwhile.
            let Header { next, rounds } = unsafe { header(platform, id) };
            total += rounds.load(Relaxed) as usize;
            id = next.load(Relaxed);
        }
        total
    }
}
