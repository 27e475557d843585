//! Manager 6, mapping: one mapping for each request, its size in a header.
//!
//! Teaches: leave it to the system. Fragmentation is its problem and memory really goes back, but
//! each call is a system call and each request takes at least a page: bad for small ones, good for
//! large ones.

use super::system::{PAGE, WORD};
use super::{Ledger, Manager, System, ledger};

pub(crate) struct Mapping {
    system: System,
}

impl Mapping {
    pub(crate) fn new() -> Self {
        Self { system: System::new() }
    }
}

impl Manager for Mapping {
    fn malloc(&mut self, len: usize) -> usize {
        if len == 0 {
            return 0;
        }
        let Some(at) = self.system.map(len + WORD, PAGE) else { return 0 };
        self.system.set_word(at, len + WORD);
        at + WORD
    }

    fn free(&mut self, at: usize) {
        if at != 0 {
            let start = at - WORD;
            self.system.unmap(start, self.system.word(start));
        }
    }

    fn ledger(&self) -> Ledger {
        ledger(&self.system, 0)
    }
}
