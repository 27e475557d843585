//! Short batches of every allocator in turn.

use std::time::{Duration, Instant};

use crate::{Options, Report, Row, Table, stats};

/// Rounds that only warm the caches and predictors.
const WARM_UP_ROUNDS: usize = 2;
/// Fewest rounds that an allocator is measured in, however slow it is.
const MIN_ROUNDS: usize = 11;
/// How many times its share of the time an allocator may take for those.
const PATIENCE: u32 = 8;
/// Most rounds, however fast it is.
const MAX_ROUNDS: usize = 2001;

/// What one batch took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Operations in the batch.
    pub operations: usize,
    /// The time of all of them.
    pub elapsed: Duration,
}

impl Timing {
    /// Nanoseconds an operation, in this batch and another one.
    fn nanoseconds_with(self, other: Option<Self>) -> f64 {
        let other = other.unwrap_or(Self { operations: 0, elapsed: Duration::ZERO });
        let elapsed = self.elapsed + other.elapsed;
        elapsed.as_nanos() as f64 / (self.operations + other.operations) as f64
    }
}

/// Runs `batch` once and says how long its `operations` operations took.
#[inline]
pub fn timed(operations: usize, batch: impl FnOnce()) -> Timing {
    let start = Instant::now();
    batch();
    Timing { operations, elapsed: start.elapsed() }
}

/// One allocator in one case.
pub struct Lane<'a> {
    /// The allocator.
    pub name: &'static str,
    run: Box<dyn FnMut(usize) -> Timing + 'a>,
}

impl<'a> Lane<'a> {
    /// A lane that runs batches, which are given the number of their slice.
    pub fn new(name: &'static str, run: impl FnMut(usize) -> Timing + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// The samples of one lane, in nanoseconds an operation.
#[derive(Clone, Debug)]
pub struct Series {
    /// The allocator.
    pub name: &'static str,
    /// The same number of values a round; a slow lane has fewer, all of them of the first rounds.
    pub samples: Vec<f64>,
}

/// Runs the lanes in rotation until each has had its time, and gives the samples back.
///
/// A round has `slices` batches of each lane: one, or twice as many as samples. Then the batches of
/// the second half undo what those of the first did, and a sample is one of each.
pub fn sample(slices: usize, mut lanes: Vec<Lane<'_>>, options: &Options) -> Vec<Series> {
    let budget = options.time_per_lane();
    let count = lanes.len();
    let mut series: Vec<Series> =
        lanes.iter().map(|lane| Series { name: lane.name, samples: Vec::new() }).collect();
    let mut spent = vec![Duration::ZERO; count];
    let mut rounds = vec![0; count];
    for round in 0..WARM_UP_ROUNDS + MAX_ROUNDS {
        let wants_more = |lane: &usize| match rounds[*lane] {
            0 => true,
            1..MIN_ROUNDS => spent[*lane] < budget * PATIENCE,
            _ => spent[*lane] < budget,
        };
        let running: Vec<usize> = (0..count).filter(wants_more).collect();
        if running.is_empty() {
            break;
        }
        let mut timings = vec![Vec::with_capacity(slices); count];
        for slice in 0..slices {
            for turn in 0..running.len() {
                let lane = running[(turn + round + slice) % running.len()];
                let start = Instant::now();
                timings[lane].push((lanes[lane].run)(slice));
                spent[lane] += start.elapsed();
            }
        }
        if round >= WARM_UP_ROUNDS {
            for lane in running {
                rounds[lane] += 1;
                let (first, second) = timings[lane].split_at(slices / 2);
                let halves = second
                    .iter()
                    .enumerate()
                    .map(|(number, &timing)| timing.nanoseconds_with(first.get(number).copied()));
                series[lane].samples.extend(halves);
            }
        }
    }
    series
}

/// Races the lanes in the case called `case`, and adds its table to the report.
pub fn race(
    case: &str,
    slices: usize,
    lanes: Vec<Lane<'_>>,
    options: &Options,
    report: &mut Report,
) {
    let series = sample(slices, lanes, options);
    report.add(tabulate(case, &series));
}

/// The table of `series`: medians, and ratios to the peer with the lowest one.
pub fn tabulate(case: &str, series: &[Series]) -> Table {
    let best = series
        .iter()
        .filter(|series| !series.name.starts_with("kmem"))
        .min_by(|a, b| stats::median(&a.samples).total_cmp(&stats::median(&b.samples)));
    let rows = series
        .iter()
        .map(|series| Row {
            peer: series.name.to_owned(),
            value: stats::median(&series.samples),
            low: Some(stats::percentile(&series.samples, 5)),
            ratio: best.map(|best| stats::paired_ratio(&series.samples, &best.samples)),
            samples: series.samples.len(),
        })
        .collect();
    Table { case: case.to_owned(), unit: "ns", rows }
}

/// A batch of so many threads at once, on an allocator of its own.
pub type Threads = Box<dyn Fn(usize) -> Timing>;

/// Races batches of one thread and of two, and adds two tables: what an operation costs a thread
/// that is not alone, and how many times as much as when it is.
///
/// Both compare fifth percentiles: a thread that is kept off its CPU for a moment spoils a batch of
/// two far more often than a batch of one, and never shortens it.
pub fn race_threads(
    case: &str,
    allocators: &[(&'static str, Threads)],
    options: &Options,
    report: &mut Report,
) {
    let lanes = allocators
        .iter()
        .flat_map(|(name, run)| [1, 2].map(|count| Lane::new(name, move |_| run(count))))
        .collect();
    let (mut together, mut slowdown) = (Vec::new(), Vec::new());
    for pair in sample(1, lanes, options).chunks_exact(2) {
        let [alone, both] = [0, 1].map(|lane| stats::percentile(&pair[lane].samples, 5));
        together.push((pair[0].name.to_owned(), both));
        slowdown.push((pair[0].name.to_owned(), both / alone));
    }
    report.add(Table::of_values(case, "ns", together));
    report.add(Table::of_values(&format!("{case}: times one alone"), "×", slowdown));
}

/// Races batches of two threads, and adds a table of their fifth percentiles: see
/// [`race_threads`].
pub fn race_pairs_of_threads(
    case: &str,
    lanes: Vec<Lane<'_>>,
    options: &Options,
    report: &mut Report,
) {
    let low = |series: Series| (series.name.to_owned(), stats::percentile(&series.samples, 5));
    let values = sample(1, lanes, options).into_iter().map(low).collect();
    report.add(Table::of_values(case, "ns", values));
}
