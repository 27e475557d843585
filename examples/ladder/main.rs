//! Every manager of the lectures under every published workload, in one run.
//!
//! ```sh
//! cargo run --release --features mmap --example ladder            # the table, and target/ladder.svg
//! cargo run --release --features mmap --example ladder -- 2000    # with 2,000 blocks
//! ```

#[expect(dead_code, reason = "examples/traces views the chunks")]
mod managers;
mod plot;
mod workloads;

use std::time::Instant;

use managers::{LADDER, Maker, PEERS};
use workloads::{Cost, Workload};

/// Blocks of a workload, unless the command line says otherwise.
const COUNT: usize = 10_000;
/// Most bytes of a block.
const MOST: usize = 512;
/// Where the plot goes.
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/ladder.svg");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => COUNT,
    };
    let mut workloads = workloads::published(count, MOST);
    workloads.extend([100, 1_000, 10_000, 100_000].map(workloads::ints));

    println!("{count} blocks of up to {MOST} bytes; steps are chunks and bins looked at\n");
    let mut results = Vec::new();
    for workload in &workloads {
        println!("{}: {} calls", workload.name, workload.calls.len());
        println!(
            "  {:<14} {:>11} {:>11} {:>8} {:>11} {:>11} {:>11}",
            "manager", "ns a call", "heap KiB", "of live", "worst µs", "worst steps", "sys. calls"
        );
        for maker in LADDER.iter().chain(&PEERS) {
            let cost = measure(maker, workload);
            print_row(maker.0, workload, cost);
            results.push((maker.0, workload.name, cost));
        }
        println!();
    }
    plot::draw(PLOT, &results, &workloads)?;
    println!("drawn: {PLOT}");
    Ok(())
}

/// Calls between two looks at the clock where the time of all calls is taken.
const SLICE: usize = 64;
/// Runs, each of a fresh manager. The best time of every slice, and of every call, counts, so that
/// what else the machine did is not held against a manager.
const RUNS: usize = 3;

fn measure((_, make): &Maker, workload: &Workload) -> Option<Cost> {
    let mut cost = Cost::default();
    let mut of_slices = vec![u128::MAX; workload.calls.len().div_ceil(SLICE)];
    for _ in 0..RUNS {
        let mut manager = make();
        let (mut calls, mut start) = (0, Instant::now());
        workloads::run(&mut *manager, workload, |manager, call| {
            call(manager);
            calls += 1;
            if calls % SLICE == 0 || calls == workload.calls.len() {
                let now = Instant::now();
                let best = &mut of_slices[(calls - 1) / SLICE];
                *best = (now - start).as_nanos().min(*best);
                start = now;
            }
        })?;
        cost.ledger = manager.ledger();
    }
    cost.nanoseconds = of_slices.into_iter().sum();
    let mut of_each = vec![u128::MAX; workload.calls.len()];
    for _ in 0..RUNS {
        let mut manager = make();
        let mut best = of_each.iter_mut();
        let mut steps = 0;
        workloads::run(&mut *manager, workload, |manager, call| {
            let start = Instant::now();
            call(manager);
            let elapsed = start.elapsed().as_nanos();
            best.next().into_iter().for_each(|best| *best = elapsed.min(*best));
            if let Some(now) = manager.ledger().steps {
                cost.worst_steps = cost.worst_steps.max(Some(now - steps));
                steps = now;
            }
        })?;
    }
    cost.worst_nanoseconds = of_each.into_iter().max().unwrap_or(0);
    cost.live_peak = workloads::live_peak(workload);
    Some(cost)
}

fn print_row(name: &str, workload: &Workload, cost: Option<Cost>) {
    let Some(cost) = cost else {
        println!("  {name:<14} out of memory");
        return;
    };
    let known = |value: Option<usize>| value.map_or("-".into(), |value| value.to_string());
    let peak = cost.ledger.peak;
    println!(
        "  {:<14} {:>11.1} {:>11} {:>8} {:>11.1} {:>11} {:>11}",
        name,
        cost.nanoseconds as f64 / workload.calls.len() as f64,
        known(peak.map(|bytes| bytes / 1024)),
        peak.map_or("-".into(), |peak| format!("{:.2}", peak as f64 / cost.live_peak as f64)),
        cost.worst_nanoseconds as f64 / 1000.0,
        known(cost.worst_steps),
        known(cost.ledger.system_calls),
    );
}
