//! What is known of blocks beyond what the heap knows: the size asked for, the thread, the name.
//!
//! Where calls are observed from the program's start on, every block is here. Otherwise only those with names are.

use crate::lock::{Lock, OWNERS};
use crate::mapped::Mapped;
use crate::names::{Name, Names};
use crate::table::{Record, Table};

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

/// A block that was freed and is kept back.
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
    /// The addresses in quarantine.
    held: Table<Held>,
    /// The quarantine in order of time, from `first` on; what lies before has left it.
    queue: Mapped<Held>,
    first: usize,
    held_bytes: usize,
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
            live_bytes: 0,
            peak_bytes: 0,
            allocations: 0,
            frees: 0,
        },
    )
};

impl Books {
    /// Notes a new block.
    pub(crate) fn enter(&mut self, block: Block) {
        self.blocks.insert(block);
        self.allocations += 1;
        self.live_bytes += block.bytes;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
    }

    /// Forgets a block; what was known of it.
    pub(crate) fn leave(&mut self, address: usize) -> Option<Block> {
        let block = self.blocks.remove(address)?;
        self.frees += 1;
        self.live_bytes = self.live_bytes.saturating_sub(block.bytes);
        Some(block)
    }

    /// Takes back that a block was forgotten.
    pub(crate) fn reenter(&mut self, block: Block) {
        self.blocks.insert(block);
        self.frees -= 1;
        self.live_bytes += block.bytes;
    }

    /// Gives a block a name.
    pub(crate) fn name(&mut self, address: usize, bytes: usize, thread: u32, text: &[u8]) {
        let name = self.names.intern(text);
        match self.blocks.get_mut(address) {
            Some(block) => block.name = name,
            None => _ = self.blocks.insert(Block { address, bytes, thread, name }),
        }
    }

    /// Keeps a freed block back.
    pub(crate) fn hold(&mut self, address: usize, bytes: usize) -> bool {
        let held = Held { address, bytes };
        let is_held = self.queue.push(held) && self.held.insert(held);
        if is_held {
            self.held_bytes += bytes.max(16);
        }
        is_held
    }

    /// Whether an address is in quarantine.
    pub(crate) fn holds(&self, address: usize) -> bool {
        self.held.get(address).is_some()
    }

    /// The block that has been in quarantine longest, if more than `limit_bytes` are; it leaves.
    pub(crate) fn unhold(&mut self, limit_bytes: usize) -> Option<(usize, usize)> {
        if self.held_bytes <= limit_bytes {
            return None;
        }
        let Held { address, bytes } = *self.queue.as_slice().get(self.first)?;
        self.first += 1;
        self.held_bytes -= bytes.max(16);
        self.held.remove(address);
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
