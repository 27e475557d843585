//! The work that allocators are given, one batch at a time.

use std::{
    hint::spin_loop,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::peers::cpu;

pub mod frames;
pub mod heaps;

/// Pairs in a batch.
const PAIRS: usize = 2048;
/// Pairs before a batch of them, which only warm the caches that the other allocators just used.
const WARM_UP_PAIRS: usize = 256;

/// Whether a batch counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// It only warms the caches, and makes the thread known to the allocator.
    WarmUp,
    /// It is measured.
    Measured,
    /// It gives back what the thread still has.
    CleanUp,
}

/// Runs one measured batch in each of `threads` threads at once, each made by `worker`: the time
/// from the first start to the last end.
pub fn at_once<W: FnMut(Batch)>(threads: usize, worker: &(impl Fn() -> W + Sync)) -> Duration {
    let ready = AtomicUsize::new(0);
    let run = &|number: usize| {
        cpu::become_cpu(number);
        let mut batch = worker();
        batch(Batch::WarmUp);
        ready.fetch_add(1, Ordering::Release);
        while ready.load(Ordering::Acquire) < threads {
            spin_loop();
        }
        let start = Instant::now();
        batch(Batch::Measured);
        let end = Instant::now();
        batch(Batch::CleanUp);
        (start, end)
    };
    let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let first = spans.iter().map(|span| span.0).min();
    let last = spans.iter().map(|span| span.1).max();
    first.zip(last).map_or(Duration::ZERO, |(first, last)| last - first)
}
