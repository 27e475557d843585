//! Names that programs give their blocks, each kept once.

use crate::mapped::Mapped;
use crate::table::{Record, Table};

/// A name, by number; 0 is no name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Name(pub(crate) u32);

impl Name {
    pub(crate) const NONE: Self = Self(0);
}

/// Longest name that is kept; longer ones are cut off.
const LONGEST: usize = 64;

#[derive(Clone, Copy)]
struct Entry {
    hash: usize,
    offset: u32,
    len: u32,
    name: Name,
}

// SAFETY: integers; the key of one that is all zero is 0.
unsafe impl Record for Entry {
    fn key(&self) -> usize {
        self.hash
    }
}

/// All names of the program.
pub(crate) struct Names {
    by_hash: Table<Entry>,
    entries: Mapped<Entry>,
    text: Mapped<u8>,
}

impl Names {
    pub(crate) const fn new() -> Self {
        Self { by_hash: Table::new(), entries: Mapped::new(), text: Mapped::new() }
    }

    /// The number of a name; `NONE` if there is no memory to keep it.
    pub(crate) fn intern(&mut self, text: &[u8]) -> Name {
        let text = &text[..text.len().min(LONGEST)];
        let mut hash = fingerprint(text);
        while let Some(entry) = self.by_hash.get(hash) {
            if self.text_of(entry) == text {
                return entry.name;
            }
            hash = hash.wrapping_add(1).max(1);
        }
        let entry = Entry {
            hash,
            offset: self.text.as_slice().len() as u32,
            len: text.len() as u32,
            name: Name(self.entries.as_slice().len() as u32 + 1),
        };
        let is_kept =
            self.text.extend(text) && self.entries.push(entry) && self.by_hash.insert(entry);
        if is_kept { entry.name } else { Name::NONE }
    }

    /// A name's text; empty for no name.
    pub(crate) fn text(&self, name: Name) -> &[u8] {
        let entry = (name.0 as usize).checked_sub(1).and_then(|at| self.entries.as_slice().get(at));
        entry.map_or(&[], |entry| self.text_of(entry))
    }

    fn text_of(&self, entry: &Entry) -> &[u8] {
        let offset = entry.offset as usize;
        self.text.as_slice().get(offset..offset + entry.len as usize).unwrap_or_default()
    }
}

/// FNV-1a, never 0.
fn fingerprint(text: &[u8]) -> usize {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in text {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    (hash as usize).max(1)
}
