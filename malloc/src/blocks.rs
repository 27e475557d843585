//! What is known of blocks beyond what the heap knows: the size asked for, the thread, the name.
//!
//! Where calls are observed from the program's start on, every block is here. Otherwise only those
//! with names are.

use crate::lock::{Lock, OWNERS};
use crate::mapped::Mapped;
use crate::names::{Name, Names};
use crate::table::{Record, Table};
use kmem::check::{Rule, Violation};

/// One block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) address: usize,
    pub(crate) bytes: usize,
    pub(crate) thread: u32,
    pub(crate) name: Name,
}

// SAFETY: integers; the key of one that is all zero is 0.
unsafe impl Record for Block {
    fn key(&self) -> usize {
        self.address
    }
}

/// A block that was freed and has not gone back to the engine yet.
#[derive(Clone, Copy)]
struct Held {
    address: usize,
    bytes: usize,
}

// SAFETY: as above.
unsafe impl Record for Held {
    fn key(&self) -> usize {
        self.address
    }
}

/// The books.
pub(crate) struct Books {
    pub(crate) blocks: Table<Block>,
    pub(crate) names: Names,
    /// Blocks on their way back to the engine: a second free finds them here.
    held: Table<Held>,
    /// The quarantine, all of it held, in order of time, from `first` on; what lies before has
    /// left it.
    queue: Mapped<Held>,
    first: usize,
    held_bytes: usize,
    /// Set aside for blocks that are not entered yet.
    aside_bytes: usize,
    pub(crate) live_bytes: usize,
    pub(crate) peak_bytes: usize,
    pub(crate) allocations: usize,
    pub(crate) frees: usize,
}

// SAFETY: the owner is the books'.
pub(crate) static BOOKS: Lock<Books> = unsafe {
    Lock::new(
        &OWNERS.books,
        Books {
            blocks: Table::new(),
            names: Names::new(),
            held: Table::new(),
            queue: Mapped::new(),
            first: 0,
            held_bytes: 0,
            aside_bytes: 0,
            live_bytes: 0,
            peak_bytes: 0,
            allocations: 0,
            frees: 0,
        },
    )
};

impl Books {
    /// Sets so many bytes aside for a new block that takes the place of one of `replaced` bytes;
    /// `false` if the limit leaves no room for them.
    pub(crate) fn set_aside(&mut self, bytes: usize, replaced: usize, limit_bytes: usize) -> bool {
        let taken_bytes = (self.live_bytes + self.aside_bytes).checked_add(bytes);
        let has_room =
            taken_bytes.is_some_and(|taken| taken.saturating_sub(replaced) <= limit_bytes);
        if has_room {
            self.aside_bytes += bytes;
        }
        has_room
    }

    /// Takes back that bytes were set aside.
    pub(crate) fn put_back(&mut self, bytes: usize) {
        // Less may be there in the copy that a signal handler made of a process on top of a call.
        self.aside_bytes = self.aside_bytes.saturating_sub(bytes);
    }

    /// Takes back all that was set aside, by threads that are not there any more.
    pub(crate) fn put_all_back(&mut self) {
        self.aside_bytes = 0;
    }

    /// Notes a new block, whose bytes were set aside.
    pub(crate) fn enter(&mut self, block: Block) {
        self.put_back(block.bytes);
        self.insert(block);
        self.allocations += 1;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
    }

    /// Without memory for it a block is not known: its free finds nothing to count either.
    fn insert(&mut self, block: Block) {
        if self.blocks.insert(block) {
            self.live_bytes += block.bytes;
        }
    }

    /// Forgets a block; what was known of it.
    pub(crate) fn leave(&mut self, address: usize) -> Option<Block> {
        let block = self.blocks.remove(address)?;
        self.frees += 1;
        self.live_bytes = self.live_bytes.saturating_sub(block.bytes);
        Some(block)
    }

    /// As [`leave`](Self::leave), and holds the block until it goes back to the engine; `Err` if it
    /// is held already.
    pub(crate) fn begin_free(
        &mut self,
        address: usize,
    ) -> Result<Option<Block>, Violation<'static>> {
        if self.holds(address) {
            return Err(Violation::new(Rule::NotAllocated, address));
        }
        let known = self.leave(address);
        if let Some(Block { bytes, .. }) = known {
            // Without memory for this a second free at this very time goes to the engine.
            self.held.insert(Held { address, bytes });
        }
        Ok(known)
    }

    /// A block that was held goes back to the engine.
    pub(crate) fn end_free(&mut self, address: usize) {
        self.held.remove(address);
    }

    /// Takes back that a block was forgotten.
    pub(crate) fn reenter(&mut self, block: Block) {
        self.insert(block);
        self.frees -= 1;
    }

    /// Gives a block a name, if it is known, or if `bytes` says how many it has.
    pub(crate) fn name(&mut self, address: usize, bytes: Option<usize>, thread: u32, text: &[u8]) {
        let name = self.names.intern(text);
        match (self.blocks.get_mut(address), bytes) {
            (Some(block), _) => block.name = name,
            (None, Some(bytes)) => _ = self.blocks.insert(Block { address, bytes, thread, name }),
            (None, None) => {}
        }
    }

    /// Puts a block that is held into quarantine; `false` if there is no memory for that.
    pub(crate) fn keep_back(&mut self, address: usize, bytes: usize) -> bool {
        let is_kept = self.holds(address) && self.queue.push(Held { address, bytes });
        if is_kept {
            self.held_bytes += bytes.max(16);
        }
        is_kept
    }

    /// Address and bytes of the blocks in quarantine.
    pub(crate) fn kept_back(&self) -> impl Iterator<Item = (usize, usize)> {
        let kept = self.queue.as_slice().get(self.first..).unwrap_or(&[]);
        kept.iter().map(|held| (held.address, held.bytes))
    }

    /// Whether a block was freed and has not gone back to the engine.
    pub(crate) fn holds(&self, address: usize) -> bool {
        self.held.get(address).is_some()
    }

    /// The block that has been in quarantine longest, if more than `limit_bytes` are; it leaves,
    /// and is still held.
    pub(crate) fn let_go(&mut self, limit_bytes: usize) -> Option<(usize, usize)> {
        if self.held_bytes <= limit_bytes {
            return None;
        }
        let Held { address, bytes } = *self.queue.as_slice().get(self.first)?;
        self.first += 1;
        self.held_bytes -= bytes.max(16);
        if self.first * 2 > self.queue.as_slice().len() {
            let rest = self.queue.as_slice().len() - self.first;
            let first = self.first;
            self.queue.as_mut_slice().copy_within(first.., 0);
            self.queue.truncate(rest);
            self.first = 0;
        }
        Some((address, bytes))
    }

    /// All blocks, the lowest address first.
    pub(crate) fn sorted(&self) -> Mapped<Block> {
        let mut all = Mapped::new();
        for &block in self.blocks.iter() {
            if !all.push(block) {
                break;
            }
        }
        all.as_mut_slice().sort_unstable_by_key(|block| block.address);
        all
    }
}
