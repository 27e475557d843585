//! Quantum caches: short segments given back, kept whole for the next request of their length.
//!
//! A cached segment stays in every structure as if it were allocated, so taking and giving one
//! touches its record and the head of a list, and nothing else.

use core::iter::successors;

use super::segment::{BY_POLICY, Kind, Pool, Slot};

/// Multiples of the quantum that can be cached.
pub const MAX_CACHED_QUANTA: usize = 16;

/// Segments that one quantum cache holds at most.
pub const CACHE_DEPTH: u32 = 32;

#[derive(Clone, Copy, Debug)]
struct Stack {
    top: Slot,
    len: u32,
}

#[derive(Debug)]
pub(super) struct QuantumCaches {
    stacks: [Stack; MAX_CACHED_QUANTA],
    /// The largest multiple that is cached.
    enabled: usize,
}

impl QuantumCaches {
    pub(super) const fn new(enabled: usize) -> Self {
        Self { stacks: [Stack { top: Slot::NIL, len: 0 }; MAX_CACHED_QUANTA], enabled }
    }

    /// Takes a segment of exactly `quanta` quanta.
    #[inline]
    pub(super) fn pop(&mut self, pool: &mut Pool<'_>, quanta: u64) -> Option<Slot> {
        let stack = self.stack(quanta)?;
        let slot = stack.top;
        if slot.is_nil() {
            return None;
        }
        stack.top = pool[slot].links[BY_POLICY].parent;
        stack.len -= 1;
        pool[slot].kind = Kind::Allocated;
        Some(slot)
    }

    /// Keeps an allocated segment, if its length is cached and its cache is not full.
    #[inline]
    pub(super) fn push(&mut self, pool: &mut Pool<'_>, slot: Slot, quanta: u64) -> bool {
        match self.stack(quanta) {
            Some(stack) if stack.len < CACHE_DEPTH => {
                pool[slot].links[BY_POLICY].parent = stack.top;
                pool[slot].kind = Kind::Cached;
                stack.top = slot;
                stack.len += 1;
                true
            }
            _ => false,
        }
    }

    /// Segments that the cache of `quanta` (from 1 up) counts.
    pub(super) fn kept(&self, quanta: u64) -> usize {
        self.stacks[quanta as usize - 1].len as usize
    }

    /// The segments in the cache of `quanta` (from 1 up), the one last given back first.
    pub(super) fn stack_of(&self, pool: &Pool<'_>, quanta: u64) -> impl Iterator<Item = Slot> {
        let top = self.stacks[quanta as usize - 1].top;
        let some = |slot: Slot| (!slot.is_nil()).then_some(slot);
        successors(some(top), move |&slot| some(pool[slot].links[BY_POLICY].parent))
    }

    #[inline]
    fn stack(&mut self, quanta: u64) -> Option<&mut Stack> {
        let at = usize::try_from(quanta).ok()?.checked_sub(1)?;
        if at < self.enabled { self.stacks.get_mut(at) } else { None }
    }
}
