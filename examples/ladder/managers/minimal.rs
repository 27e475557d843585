//! Manager 1, minimal: one word of state, the program break.
//!
//! Teaches: the smallest thing that works. Every request moves the break, so every request is a
//! system call; nothing is ever reused, so the heap grows by the sum of all requests.

use super::{Ledger, Manager, System, ledger};

pub(crate) struct Minimal {
    system: System,
    current_break: Option<usize>,
}

impl Minimal {
    pub(crate) fn new() -> Self {
        Self { system: System::new(), current_break: None }
    }
}

impl Manager for Minimal {
    /// At any address: nothing is rounded.
    fn malloc(&mut self, len: usize) -> usize {
        let start = match self.current_break {
            Some(start) => start,
            None => self.system.current_break(),
        };
        if !self.system.set_break(start + len) {
            return 0;
        }
        self.current_break = Some(start + len);
        start
    }

    fn free(&mut self, _at: usize) {}

    fn ledger(&self) -> Ledger {
        ledger(&self.system, 0)
    }
}
