//! Every manager of the lectures under every published workload, in one run.
//!
//! ```sh
//! cargo run --release --features mmap --example ladder            # the table, and target/ladder.svg
//! cargo run --release --features mmap --example ladder -- 2000    # with 2,000 blocks
//! ```

mod arguments;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the ladder reads its command line by itself")]
mod common;
#[expect(dead_code, reason = "examples/traces views the chunks")]
mod managers;
mod measure;
mod plot;
mod workloads;

use std::error::Error;
use std::process::ExitCode;

use arguments::{Request, USAGE};
use workloads::{Call, Cost, Workload};

/// Most bytes of a block.
const MOST: usize = 512;
/// Where the plot goes.
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/ladder.svg");

fn main() -> ExitCode {
    common::end_with_the_reader();
    let done = match arguments::parse(lexopt::Parser::from_env()) {
        Ok(Request::Help) => {
            println!("{USAGE}");
            Ok(())
        }
        Ok(Request::Child(run)) => measure::child(&run, workloads),
        Ok(Request::Climb(count)) => climb(count),
        Err(error) => Err(format!("{error}\n{USAGE}").into()),
    };
    common::end("ladder", done)
}

/// Prints the tables and draws the plot.
fn climb(count: usize) -> Result<(), Box<dyn Error>> {
    let workloads = workloads(count);

    println!(
        "{count} blocks of up to {MOST} bytes, each written to at both ends; every run in a process of \
         its own.\nSteps are chunks and bins looked at; of buddies, halvings and joins too.\n"
    );
    let mut results = Vec::new();
    for (number, workload) in workloads.iter().enumerate() {
        println!("{}: {} calls", workload.name, workload.calls.len());
        println!(
            "  {:<14} {:>10} {:>10} {:>8} {:>10} {:>14} {:>12} {:>11}",
            "manager",
            "ns a call",
            "heap KiB",
            "of live",
            "worst µs",
            "steps, malloc",
            "steps, free",
            "sys. calls"
        );
        for (name, _) in measure::managers() {
            let cost = measure::cost(name, number, workload, count)?;
            print_row(name, workload, cost);
            results.push((*name, workload.name, cost));
        }
        println!();
    }
    print_verdicts(&results, &workloads);
    common::make_folder_of(PLOT)?;
    plot::draw(PLOT, &results, &workloads)?;
    println!("drawn: {PLOT}");
    Ok(())
}

/// Every workload, with `count` blocks.
fn workloads(count: usize) -> Vec<Workload> {
    let mut all = workloads::published(count, MOST);
    all.extend([100, 1_000, 10_000, 100_000].map(workloads::ints));
    all
}

fn known(value: Option<usize>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

fn print_row(name: &str, workload: &Workload, cost: Option<Cost>) {
    let Some(cost) = cost else {
        println!("  {name:<14} out of memory");
        return;
    };
    let peak = cost.ledger.peak;
    println!(
        "  {:<14} {:>10.1} {:>10} {:>8} {:>10.1} {:>14} {:>12} {:>11}",
        name,
        cost.nanoseconds as f64 / workload.calls.len() as f64,
        known(peak.map(|bytes| bytes / 1024)),
        peak.map_or("-".into(), |peak| format!("{:.2}", peak as f64 / cost.live_peak as f64)),
        cost.worst_nanoseconds as f64 / 1000.0,
        known(cost.worst_malloc_steps),
        known(cost.worst_free_steps),
        known(cost.ledger.system_calls),
    );
}

/// All workloads together: what the lectures say of each manager, in figures of this run.
fn print_verdicts(results: &[(&str, &str, Option<Cost>)], workloads: &[Workload]) {
    let is_malloc = |call: &&Call| matches!(call, Call::Malloc(..));
    let mallocs = workloads.iter().flat_map(|w| &w.calls).filter(is_malloc).count();
    println!("all workloads: {mallocs} mallocs, as many frees");
    println!(
        "  {:<14} {:>10} {:>14} {:>12} {:>22}",
        "manager", "ms", "steps, malloc", "steps, free", "sys. calls a malloc"
    );
    let mut totals: Vec<(u128, &str)> = Vec::new();
    for (name, _) in measure::managers() {
        let of_manager = results.iter().filter(|(manager, ..)| manager == name);
        let Some(costs) = of_manager.map(|&(.., cost)| cost).collect::<Option<Vec<Cost>>>() else {
            println!("  {name:<14} out of memory");
            continue;
        };
        let nanoseconds: u128 = costs.iter().map(|cost| cost.nanoseconds).sum();
        let calls: Option<usize> = costs.iter().map(|cost| cost.ledger.system_calls).sum();
        println!(
            "  {:<14} {:>10.2} {:>14} {:>12} {:>22}",
            name,
            nanoseconds as f64 / 1e6,
            known(costs.iter().filter_map(|cost| cost.worst_malloc_steps).max()),
            known(costs.iter().filter_map(|cost| cost.worst_free_steps).max()),
            calls.map_or("-".into(), |calls| format!("{:.3}", calls as f64 / mallocs as f64)),
        );
        totals.push((nanoseconds, name));
    }
    totals.sort_unstable();
    if let [(first, fastest), (second, next), ..] = totals[..] {
        let times = second as f64 / first as f64;
        println!("  fastest: {fastest}; the next, {next}, takes {times:.2} times as long\n");
    }
}
