//! Threads in the place of CPUs.

use std::{cell::Cell, thread};

use kmem::CpuId;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Most threads that one benchmark runs.
pub const CPUS: usize = 2;

thread_local! {
    static CPU: Cell<CpuId> = const { Cell::new(CpuId::BOOT) };
}

/// The CPU that this thread stands for: one load, as a kernel's CPU-local data is.
#[inline]
pub fn current() -> CpuId {
    CPU.with(Cell::get)
}

/// The same, as a number.
#[inline]
pub fn current_number() -> usize {
    current().index()
}

/// Makes this thread stand for `cpu`, and tries to run it on one of the machine's CPUs alone: two
/// threads that share one run after each other, and would seem never to be in each other's way.
///
/// No two threads that run at once may have the same number.
pub fn become_cpu(cpu: usize) {
    assert!(cpu < CPUS);
    CPU.with(|current| current.set(CpuId::new(cpu).unwrap_or(CpuId::BOOT)));
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if let Some(core) = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).nth(cpu % cores) {
        let mut alone = CpuSet::new();
        alone.set(core);
        // Refused, for instance by a container, the thread stays where it is.
        let _ = sched_setaffinity(None, &alone);
    }
}
