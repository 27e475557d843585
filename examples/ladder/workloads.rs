//! The workloads that the lectures publish: sequences of calls, the same for every manager.

use std::ptr;
use std::time::{Duration, Instant};

use super::managers::{Ledger, Manager};

/// One call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    /// Allocates this many bytes into this slot.
    Malloc(usize, usize),
    /// Frees what is in this slot.
    Free(usize),
}

/// A named sequence of calls.
pub(crate) struct Workload {
    pub name: &'static str,
    pub slots: usize,
    pub calls: Vec<Call>,
}

/// Marsaglia's xorshift, so that every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Every workload, with `count` blocks of up to `most` bytes each.
pub(crate) fn published(count: usize, most: usize) -> Vec<Workload> {
    vec![
        stack("LIFO, fixed size", count, |_| most),
        stack("LIFO, random sizes", count, |random| 1 + random.below(most)),
        queue("FIFO, fixed size", count, |_| most),
        queue("FIFO, random sizes", count, |random| 1 + random.below(most)),
        shuffled("random order, fixed size", count, |_| most),
        shuffled("random order, random sizes", count, |random| 1 + random.below(most)),
        worst(count, most),
    ]
}

/// `n` ints, and the array of pointers to them, as the comparison of `mymalloc` has it.
pub(crate) fn ints(n: usize) -> Workload {
    let name = match n {
        100 => "100 ints",
        1_000 => "1,000 ints",
        10_000 => "10,000 ints",
        _ => "100,000 ints",
    };
    let mut calls = vec![Call::Malloc(n, n * size_of::<usize>())];
    calls.extend((0..n).map(|slot| Call::Malloc(slot, size_of::<i32>())));
    calls.extend((0..=n).map(Call::Free));
    Workload { name, slots: n + 1, calls }
}

fn fill(count: usize, len: impl Fn(&mut Random) -> usize) -> Vec<Call> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    (0..count).map(|slot| Call::Malloc(slot, len(&mut random))).collect()
}

fn stack(name: &'static str, count: usize, len: impl Fn(&mut Random) -> usize) -> Workload {
    let mut calls = fill(count, len);
    calls.extend((0..count).rev().map(Call::Free));
    Workload { name, slots: count, calls }
}

fn queue(name: &'static str, count: usize, len: impl Fn(&mut Random) -> usize) -> Workload {
    let mut calls = fill(count, len);
    calls.extend((0..count).map(Call::Free));
    Workload { name, slots: count, calls }
}

/// Slots are filled and emptied in random order, then emptied.
fn shuffled(name: &'static str, count: usize, len: impl Fn(&mut Random) -> usize) -> Workload {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let slots = (count / 4).max(1);
    let mut full = vec![false; slots];
    let mut calls = Vec::new();
    for _ in 0..2 * count {
        let slot = random.below(slots);
        calls.push(if full[slot] {
            Call::Free(slot)
        } else {
            Call::Malloc(slot, len(&mut random))
        });
        full[slot] = !full[slot];
    }
    calls.extend((0..slots).filter(|&slot| full[slot]).map(Call::Free));
    Workload { name, slots, calls }
}

/// No two neighbours are ever free together, so nothing coalesces; and the last chunks freed are
/// the longest of a list that holds none of the length asked for next.
fn worst(count: usize, most: usize) -> Workload {
    let mut calls: Vec<Call> = (0..count).map(|slot| Call::Malloc(slot, most / 2)).collect();
    calls.extend((0..count).step_by(2).map(Call::Free));
    calls.extend((0..count).step_by(2).map(|slot| Call::Malloc(slot, most)));
    calls.extend((0..count).map(Call::Free));
    Workload { name: "worst case for a list", slots: count, calls }
}

/// What one workload cost one manager.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// All calls together.
    pub nanoseconds: u128,
    /// The longest single call, with the clock around each.
    pub worst_nanoseconds: u128,
    /// Most steps of a single `malloc`.
    pub worst_malloc_steps: Option<usize>,
    /// Most steps of a single `free`.
    pub worst_free_steps: Option<usize>,
    /// Most bytes in the caller's hands at any time.
    pub live_peak: usize,
    /// What the manager had cost at the end.
    pub ledger: Ledger,
}

/// Runs `workload` on `manager`, and tells `each` what every `slice` calls took; `None` if memory
/// ran out.
pub(crate) fn run(
    manager: &mut dyn Manager,
    workload: &Workload,
    slice: usize,
    mut each: impl FnMut(&[Call], Duration, &dyn Manager),
) -> Option<()> {
    let mut slots = vec![0; workload.slots];
    for calls in workload.calls.chunks(slice) {
        let start = Instant::now();
        for call in calls {
            match *call {
                Call::Malloc(slot, len) => {
                    slots[slot] = manager.malloc(len);
                    if slots[slot] == 0 {
                        return None;
                    }
                    touch(slots[slot], len);
                }
                Call::Free(slot) => manager.free(slots[slot]),
            }
        }
        each(calls, start.elapsed(), manager);
    }
    Some(())
}

/// Writes to both ends of a block, as whoever asks for memory does: a manager that never hands out
/// the same memory twice has its caller wait for new pages.
fn touch(at: usize, len: usize) {
    let first: *mut u8 = ptr::with_exposed_provenance_mut(at);
    // SAFETY: the manager has just handed out these `len` bytes, of which there is at least one.
    unsafe {
        first.write_volatile(1);
        first.add(len - 1).write_volatile(1);
    }
}

/// Most bytes that `workload` ever holds.
pub(crate) fn live_peak(workload: &Workload) -> usize {
    let mut lens = vec![0; workload.slots];
    let (mut live, mut peak) = (0, 0);
    for call in &workload.calls {
        match *call {
            Call::Malloc(slot, len) => {
                lens[slot] = len;
                live += len;
                peak = peak.max(live);
            }
            Call::Free(slot) => live -= lens[slot],
        }
    }
    peak
}
