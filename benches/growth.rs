//! Does an operation cost more when there is more memory? It must not.
//!
//! The memory is simulated: addresses that nobody touches, apart from the metadata that some
//! allocators keep in it.

use harness::{
    Lane, Options, Report, Table, for_each_frame_allocator,
    race::{Series, sample, tabulate},
    stats,
    work::frames::{FRAMES_PER_GIB, Mixed, pair},
};

/// Sizes of memory, in GiB.
const SIZES: [usize; 3] = [1, 16, 256];

/// Lanes for all sizes of each allocator that is wanted and that has `$condition`.
macro_rules! lanes {
    ($options:expr, $condition:expr, |$allocator:ident, $gib:ident| $run:expr) => {{
        let mut lanes: Vec<Lane<'_>> = Vec::new();
        for_each_frame_allocator!(|name, new| if $options.wants_peer(name) && $condition(name) {
            for $gib in SIZES {
                #[allow(unused_mut, reason = "not every case uses the allocator in place")]
                let mut $allocator = new($gib << 30);
                lanes.push(Lane::new(name, $run));
            }
        });
        lanes
    }};
}

fn main() {
    let options = Options::from_env();
    let mut report = Report::new("growth", &options);
    let everyone = |_: &str| true;
    let case = "frame pair, order 0";
    if options.wants_case(case) {
        let lanes = lanes!(options, everyone, |frames, gib| move |_| pair::<0, _>(&mut frames));
        compare(case, lanes, &options, &mut report);
    }
    let case = "orders 0 to 6 in 768 MiB";
    // A search for a block would take seconds.
    let has_orders = |name: &str| name != "bitmap-allocator";
    if options.wants_case(case) {
        let lanes = lanes!(options, has_orders, |frames, gib| {
            let mut mixed = Mixed::new(frames, 0..7, FRAMES_PER_GIB * 3 / 4);
            move |_| mixed.run(512)
        });
        compare(case, lanes, &options, &mut report);
    }
    let case = "2 MiB blocks in half of the memory";
    if options.wants_case(case) {
        let lanes = lanes!(options, has_orders, |frames, gib| {
            let mut mixed = Mixed::new(frames, 9..10, FRAMES_PER_GIB * gib / 2);
            move |_| mixed.run(200)
        });
        compare(case, lanes, &options, &mut report);
    }
    report.finish(&options);
}

/// One table a size, and one of what the largest costs as a multiple of the smallest.
fn compare(case: &str, lanes: Vec<Lane<'_>>, options: &Options, report: &mut Report) {
    let series = sample(1, lanes, options);
    for (number, gib) in SIZES.into_iter().enumerate() {
        let of_size: Vec<Series> =
            series.iter().skip(number).step_by(SIZES.len()).cloned().collect();
        report.add(tabulate(&format!("{case}, {gib} GiB"), &of_size));
    }
    let growth = series
        .chunks_exact(SIZES.len())
        .map(|sizes| {
            let (small, large) = (&sizes[0], &sizes[SIZES.len() - 1]);
            (small.name.to_owned(), stats::paired_ratio(&large.samples, &small.samples))
        })
        .collect();
    report.add(Table::of_values(&format!("{case}: 256 GiB as a multiple of 1 GiB"), "×", growth));
}
