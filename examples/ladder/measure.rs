//! One manager under one workload, from nothing: each run is a process of its own.
//!
//! The lectures time a program that begins with an empty heap. A second run in the same process
//! would find the memory of the first, at least in the heaps that belong to the process and not to
//! a manager. So this program starts itself again for every run; the child prints what it has
//! measured, and the parent keeps the best time of every slice, so that what else the machine did
//! is not held against a manager.

use std::error::Error;
use std::io::{Write, stdout};
use std::process::Command;

use super::arguments::Run;
use super::managers::{LADDER, Ledger, Maker, PEERS};
use super::workloads::{self, Call, Cost, Workload};

/// The first argument of a child; manager, workload, blocks and slice follow.
const CHILD: &str = "--child";

/// Runs of which the best time of every slice counts.
const RUNS: usize = 5;
/// Calls between two looks at the clock where the time of all calls is taken.
const SLICE: usize = 64;

/// Every manager, and what people use instead.
pub(crate) fn managers() -> impl Iterator<Item = &'static Maker> {
    LADDER.iter().chain(&PEERS)
}

/// What `workload`, of which this is the number, costs `manager`; `None` if memory ran out.
pub(crate) fn cost(
    manager: &str,
    number: usize,
    workload: &Workload,
    count: usize,
) -> Result<Option<Cost>, Box<dyn Error>> {
    let Some(Runs { best, mut cost }) = best_of_runs(manager, number, count, SLICE)? else {
        return Ok(None);
    };
    cost.nanoseconds = best.into_iter().sum();
    let Some(of_each) = best_of_runs(manager, number, count, 1)? else {
        return Ok(None);
    };
    cost.worst_nanoseconds = of_each.best.into_iter().max().unwrap_or(0);
    cost.worst_malloc_steps = of_each.cost.worst_malloc_steps;
    cost.worst_free_steps = of_each.cost.worst_free_steps;
    cost.live_peak = workloads::live_peak(workload);
    Ok(Some(cost))
}

/// What the runs of a manager come to.
struct Runs {
    /// Nanoseconds of every slice of calls, in the run in which it was quickest.
    best: Vec<u128>,
    /// What is the same in every run.
    cost: Cost,
}

/// Runs a manager on a workload, with a look at the clock every `slice` calls; nothing if memory
/// ran out.
fn best_of_runs(
    manager: &str,
    workload: usize,
    count: usize,
    slice: usize,
) -> Result<Option<Runs>, Box<dyn Error>> {
    let mut best: Vec<u128> = Vec::new();
    let mut cost = Cost::default();
    for _ in 0..RUNS {
        let child = Command::new(std::env::current_exe()?)
            .args([CHILD, manager])
            .args([workload, count, slice].map(|number| number.to_string()))
            .output()?;
        if !child.status.success() {
            return Err(String::from_utf8_lossy(&child.stderr).into());
        }
        let text = String::from_utf8(child.stdout)?;
        let Some((facts, times)) = text.split_once('\n') else { return Ok(None) };
        let facts: Vec<Option<usize>> = facts.split(' ').map(|word| word.parse().ok()).collect();
        let [system_calls, peak, worst_malloc_steps, worst_free_steps] = facts[..] else {
            return Err("a child's first line has four numbers".into());
        };
        cost.ledger = Ledger { system_calls, peak, steps: None };
        cost.worst_malloc_steps = worst_malloc_steps;
        cost.worst_free_steps = worst_free_steps;
        let times = times.split_whitespace().map(str::parse).collect::<Result<Vec<u128>, _>>()?;
        if best.is_empty() {
            best = times;
        } else {
            best.iter_mut().zip(times).for_each(|(best, time)| *best = time.min(*best));
        }
    }
    Ok(Some(Runs { best, cost }))
}

/// A child's work: one run, and what it cost on the standard output, or nothing if memory ran out.
///
/// # Errors
///
/// There is no such manager or workload.
pub(crate) fn child(
    run: &Run,
    of_all: impl Fn(usize) -> Vec<Workload>,
) -> Result<(), Box<dyn Error>> {
    let workload = of_all(run.blocks).into_iter().nth(run.workload).ok_or("no such workload")?;
    let maker = managers().find(|(name, _)| *name == run.manager);
    let (_, make) = maker.ok_or("no such manager")?;
    let (mut manager, slice) = (make(), run.slice.get());
    let mut times = Vec::with_capacity(workload.calls.len().div_ceil(slice));
    let (mut worst_malloc_steps, mut worst_free_steps, mut steps) = (None, None, 0);
    let done = workloads::run(&mut *manager, &workload, slice, |calls, elapsed, manager| {
        times.push(elapsed.as_nanos());
        if let Some(now) = manager.ledger().steps {
            let worst = match calls {
                [Call::Malloc(..), ..] => &mut worst_malloc_steps,
                _ => &mut worst_free_steps,
            };
            *worst = (*worst).max(Some(now - steps));
            steps = now;
        }
    });
    if done.is_none() {
        return Ok(());
    }
    let Ledger { system_calls, peak, .. } = manager.ledger();
    let word = |number: Option<usize>| number.map_or("-".into(), |number| number.to_string());
    let facts = [system_calls, peak, worst_malloc_steps, worst_free_steps].map(word).join(" ");
    let times: Vec<String> = times.iter().map(u128::to_string).collect();
    writeln!(stdout(), "{facts}\n{}", times.join(" "))?;
    Ok(())
}
