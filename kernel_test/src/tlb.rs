//! Making every CPU forget translations that are no longer in the page tables.
//!
//! A CPU remembers translations (in its TLB) and does not notice when a table changes. So changes
//! are counted; who has made one calls every CPU to the [`barrier`], and no CPU passes it before it
//! has forgotten what it remembered when the count was lower. A translation that is added needs
//! none of this: a CPU never remembers that an address was not mapped.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use x86_64::instructions::tlb;

use crate::{barrier, cpu};

/// How often translations have been taken out of the tables.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Makes every CPU forget what was taken out of the tables before this call; whether all have.
pub(crate) fn forget_everywhere() -> bool {
    // Before the call to the barrier: whoever serves that finds this change, too.
    CHANGES.fetch_add(1, SeqCst);
    catch_up();
    barrier::synchronize()
}

/// Makes the running CPU forget what has been taken out of the tables so far.
pub(crate) fn catch_up() {
    let changes = CHANGES.load(SeqCst);
    let caught_up = &cpu::current().translations;
    if caught_up.load(SeqCst) < changes {
        tlb::flush_all();
        // Behind the flush, as a handler that interrupts this here may trust it. The largest, as
        // that handler may have caught up with a later change.
        caught_up.fetch_max(changes, SeqCst);
    }
}
