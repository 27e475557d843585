//! Every manager of the lectures, behind one trait.
//!
//! | file | what it adds | `malloc` | `free` | reuse |
//! | --- | --- | --- | --- | --- |
//! | [`minimal`] | a program break | a system call | nothing | none |
//! | [`pad`] | a pad above it | O(1), few system calls | nothing | none |
//! | [`unsorted`] | headers, a stack of free chunks | O(n) | O(1) | splits, no coalescing |
//! | [`list`] | a free list by address | O(n) | O(n) | coalesces |
//! | [`doubly`] | footers and backward links | O(n) | O(1) | coalesces |
//! | [`bins`] | one list for each size | O(1) | O(1) | coalesces |
//! | [`mapping`] | mappings instead of a heap | a system call | a system call | by the system |
//! | [`segregated`] | no headers: page number to size | O(1) | O(1) | by size, no coalescing |
//! | [`chunks`] | tags in the words of the neighbour | O(n) | O(1) | coalesces backwards |
//! | [`buddies`] | power-of-two buddies in bins | O(1) | O(1) | coalesces buddies |
//! | [`spaced`] | dlmalloc's bins: a best fit for every size | O(1) | O(1) if short | coalesces |
//! | [`fastbins`] | stacks of short chunks, an unsorted bin | O(1) mostly | O(1) | coalesces when it must |

pub(crate) mod bins;
pub(crate) mod buddies;
pub(crate) mod chunks;
pub(crate) mod doubly;
pub(crate) mod fastbins;
pub(crate) mod lea;
pub(crate) mod list;
pub(crate) mod mapping;
pub(crate) mod minimal;
pub(crate) mod pad;
pub(crate) mod peers;
pub(crate) mod segregated;
pub(crate) mod spaced;
pub(crate) mod system;
pub(crate) mod tags;
pub(crate) mod unsorted;

pub(crate) use system::System;

/// What a manager has asked for and looked at so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ledger {
    /// System calls; `None` where they cannot be counted.
    pub system_calls: Option<usize>,
    /// Chunks and bins looked at, halvings and joins of buddies; `None` where they cannot be
    /// counted.
    pub steps: Option<usize>,
    /// Most bytes held from the system at any time; `None` where it cannot be told.
    pub peak: Option<usize>,
}

/// A dynamic memory manager. Addresses are numbers: 0 is none.
pub(crate) trait Manager {
    /// `len` bytes, at a multiple of 8 unless the manager says otherwise; 0 if there are none.
    fn malloc(&mut self, len: usize) -> usize;

    /// Takes back what [`malloc`](Self::malloc) returned.
    fn free(&mut self, at: usize);

    /// What it has cost so far.
    fn ledger(&self) -> Ledger;
}

/// The ledger of a manager of the lectures.
pub(crate) fn ledger(system: &System, steps: usize) -> Ledger {
    Ledger { system_calls: Some(system.calls), steps: Some(steps), peak: Some(system.peak) }
}

/// A name, and how to make one.
pub(crate) type Maker = (&'static str, fn() -> Box<dyn Manager>);

/// The managers of the lectures in their order.
pub(crate) const LADDER: [Maker; 12] = [
    ("minimal", || Box::new(minimal::Minimal::new())),
    ("pad", || Box::new(pad::Pad::new())),
    ("unsorted list", || Box::new(unsorted::Unsorted::new())),
    ("list", || Box::new(list::List::new())),
    ("doubly linked", || Box::new(doubly::Doubly::new())),
    ("bins", || Box::new(bins::Bins::new())),
    ("mapping", || Box::new(mapping::Mapping::new())),
    ("segregated", || Box::new(segregated::Segregated::new())),
    ("chunks", || Box::new(chunks::Chunks::new())),
    ("buddies", || Box::new(buddies::Buddies::new())),
    ("spaced bins", || Box::new(spaced::Spaced::new())),
    ("fastbins", || Box::new(fastbins::Fastbins::new())),
];

/// What people use instead.
pub(crate) const PEERS: [Maker; 3] = [
    ("libc", || Box::new(peers::Libc)),
    ("kmem", || Box::new(peers::Kmem::new())),
    ("kmem arena", || Box::new(peers::ByteArena::new())),
];
