//! Manager 2, pad: the break moves in larger steps, and requests are cut off the pad below it.
//!
//! Teaches: ask the system seldom, for much. Time is good now; space is as bad as before.

use super::{Ledger, Manager, System, ledger};

/// The break moves by at least this.
pub(crate) const MIN_ALLOC: usize = 8192;

pub(crate) struct Pad {
    system: System,
    /// Where the pad begins and ends, once there is one.
    pad: Option<(usize, usize)>,
}

impl Pad {
    pub(crate) fn new() -> Self {
        Self { system: System::new(), pad: None }
    }
}

impl Manager for Pad {
    /// At any address: nothing is rounded.
    fn malloc(&mut self, len: usize) -> usize {
        let (start, mut end) = match self.pad {
            Some(pad) => pad,
            None => {
                let start = self.system.current_break();
                (start, start)
            }
        };
        if start + len > end {
            let new_end = (start + len).max(end + MIN_ALLOC);
            if !self.system.set_break(new_end) {
                return 0;
            }
            end = new_end;
        }
        self.pad = Some((start + len, end));
        start
    }

    fn free(&mut self, _at: usize) {}

    fn ledger(&self) -> Ledger {
        ledger(&self.system, 0)
    }
}
