//! Manager 8, chunks: boundary tags as dlmalloc lays them out, and `view_chunk`.
//!
//! ```text
//! size of the previous chunk
//! size of this chunk, header included; lowest bit: previous in use
//! next free chunk       | payload ...
//! previous free chunk   |
//! ```
//!
//! Teaches: the tags take 16 bytes, and the links lie where the payload will be. A freed chunk
//! merges with the one *below* it if that is free, and otherwise goes to the front of the list;
//! only the forward link is used, so that what is printed of the other is whatever lay there.

use std::fmt::Write;

use super::system::WORD;
use super::{Ledger, Manager, System, ledger};

/// The heap at the start, and the least it grows by.
pub(crate) const HEAP: usize = 1024;

const SIZE: usize = WORD;
const FORWARD: usize = 2 * WORD;
const BACKWARD: usize = 3 * WORD;
const HEADER: usize = 2 * WORD;
/// A header and one link.
const LEAST: usize = 3 * WORD;

pub(crate) struct Chunks {
    system: System,
    /// First free chunk, or 0.
    head: usize,
    /// The chunk that ends the heap.
    last: usize,
    steps: usize,
}

impl Chunks {
    pub(crate) fn new() -> Self {
        let mut chunks = Self { system: System::new(), head: 0, last: 0, steps: 0 };
        let start = chunks.system.current_break();
        if chunks.system.set_break(start + HEAP) {
            chunks.set_size(start, HEAP, true);
            (chunks.head, chunks.last) = (start, start);
        }
        chunks
    }

    fn size(&self, chunk: usize) -> usize {
        self.system.word(chunk + SIZE) & !1
    }

    fn previous_in_use(&self, chunk: usize) -> bool {
        self.system.word(chunk + SIZE) & 1 == 1
    }

    fn set_size(&mut self, chunk: usize, size: usize, previous_in_use: bool) {
        self.system.set_word(chunk + SIZE, size | usize::from(previous_in_use));
    }

    /// The chunk above, unless `chunk` ends the heap.
    fn above(&self, chunk: usize) -> Option<usize> {
        (chunk != self.last).then(|| chunk + self.size(chunk))
    }

    /// Tells the chunk above `chunk` how long that is, and whether it is in use.
    fn tell_above(&mut self, chunk: usize, in_use: bool) {
        if let Some(above) = self.above(chunk) {
            self.system.set_word(above, self.size(chunk));
            self.set_size(above, self.size(above), in_use);
        }
    }

    /// Makes `next` follow `chunk`; 0 is the head of the list.
    fn set_next(&mut self, chunk: usize, next: usize) {
        if chunk == 0 {
            self.head = next;
        } else {
            self.system.set_word(chunk + FORWARD, next);
        }
    }

    /// The first free chunk of at least `size`, and the one before it in the list.
    fn find(&mut self, size: usize) -> (usize, usize) {
        let (mut previous, mut chunk) = (0, self.head);
        while chunk != 0 {
            self.steps += 1;
            if self.size(chunk) >= size {
                break;
            }
            previous = chunk;
            chunk = self.system.word(chunk + FORWARD);
        }
        (previous, chunk)
    }

    /// Extends the heap by a chunk of at least `size` that is in use.
    fn grow(&mut self, size: usize) -> Option<usize> {
        let (chunk, below) = (self.system.heap().end, self.last);
        let size = size.max(HEAP);
        if !self.system.set_break(chunk + size) {
            return None;
        }
        // The chunk below keeps its own size as a tag here only while it is free.
        let below_in_use = !self.is_free(below);
        self.system.set_word(chunk, self.size(below));
        self.set_size(chunk, size, below_in_use);
        self.last = chunk;
        Some(chunk)
    }

    /// Whether the last chunk is free: no chunk above says so.
    fn is_free(&mut self, last: usize) -> bool {
        let mut chunk = self.head;
        while chunk != 0 && chunk != last {
            self.steps += 1;
            chunk = self.system.word(chunk + FORWARD);
        }
        chunk == last
    }

    /// Every chunk from the start of the heap, as the lecture's toy prints them.
    pub(crate) fn view_chunk(&self, base: usize) -> String {
        let pointer = |at: usize| if at == 0 { "(nil)".into() } else { format!("{at:#x}") };
        // Chunks are shown as if the heap began at `base`; what merely looks like a link is not.
        let shown = |at: usize| {
            if self.system.heap().contains(&at) { at - self.system.heap().start + base } else { at }
        };
        let mut text = String::from("=====trunk view begin=====\n");
        let mut next = Some(self.system.heap().start);
        while let Some(chunk) = next {
            let word = |offset: usize| pointer(shown(self.system.word(chunk + offset)));
            let (address, size) = (pointer(shown(chunk)), self.size(chunk));
            let in_use = u8::from(self.previous_in_use(chunk));
            let previous = self.system.word(chunk);
            let (forward, backward) = (word(FORWARD), word(BACKWARD));
            let _ = writeln!(
                text,
                "chunk addr = {address}, prev size = {previous}, size: {size}, \
                 prev inuse: {in_use}, fd = {forward}, bk = {backward}"
            );
            next = self.above(chunk);
        }
        text + "=====trunk view end=====\n"
    }
}

impl Manager for Chunks {
    fn malloc(&mut self, len: usize) -> usize {
        let size = HEADER + len.next_multiple_of(WORD).max(WORD);
        let (mut previous, mut chunk) = self.find(size);
        if chunk == 0 {
            let Some(new) = self.grow(size) else { return 0 };
            self.free(new + HEADER);
            (previous, chunk) = self.find(size);
        }
        let next = self.system.word(chunk + FORWARD);
        let rest = self.size(chunk) - size;
        if rest < LEAST {
            self.set_next(previous, next);
            self.tell_above(chunk, true);
        } else {
            // The front goes out; what is left takes its place in the list.
            let tail = chunk + size;
            if chunk == self.last {
                self.last = tail;
            }
            self.set_size(chunk, size, self.previous_in_use(chunk));
            self.system.set_word(tail, size);
            self.set_size(tail, rest, true);
            self.set_next(previous, tail);
            self.set_next(tail, next);
            self.tell_above(tail, false);
        }
        chunk + HEADER
    }

    fn free(&mut self, at: usize) {
        let mut chunk = at - HEADER;
        if self.previous_in_use(chunk) {
            self.system.set_word(chunk + FORWARD, self.head);
            self.head = chunk;
        } else {
            let below = chunk - self.system.word(chunk);
            let size = self.size(below) + self.size(chunk);
            self.set_size(below, size, self.previous_in_use(below));
            if chunk == self.last {
                self.last = below;
            }
            chunk = below;
        }
        self.tell_above(chunk, false);
    }

    fn ledger(&self) -> Ledger {
        ledger(&self.system, self.steps)
    }
}
