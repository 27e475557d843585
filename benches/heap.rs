//! What does memory by `Layout` cost, in time and in memory? kmem's heap beside other heaps.

use harness::{
    Lane, Options, Report, Table, Threads, for_each_heap, for_each_shared_heap,
    peers::{child, heaps::SharedHeap},
    race, race_pairs_of_threads, race_threads,
    work::heaps::{Footprint, Mix, footprint, pair, private_mix, producer_consumer},
};

/// What each heap has to manage. `slab_allocator_rs` gives an eighth of it to each size.
const BYTES: usize = 256 << 20;

/// Blocks of the random mix: about 10 MiB, more than the nearer caches hold.
const LIVE: usize = 10_000;

fn main() {
    let options = Options::from_env();
    if let Some(request) = &options.child {
        return answer(request);
    }
    let mut report = Report::new("heap", &options);
    time(&options, &mut report);
    threads(&options, &mut report);
    memory(&options, &mut report);
    report.finish(&options);
}

fn time(options: &Options, report: &mut Report) {
    heap_pair::<24>(options, report);
    heap_pair::<200>(options, report);
    heap_pair::<1500>(options, report);
    let case = "8 to 2048 bytes, 10,000 live: one replaced";
    if options.wants_case(case) {
        let mut lanes = Vec::new();
        for_each_heap!(|name, new| if options.wants_peer(name) {
            let steps = if name == "linked_list_allocator" { 500 } else { 2048 };
            let mut mix = Mix::new(new(BYTES), LIVE);
            lanes.push(Lane::new(name, move |_| mix.run(steps)));
        });
        race(case, 1, lanes, options, report);
    }
}

fn heap_pair<const SIZE: usize>(options: &Options, report: &mut Report) {
    let case = format!("heap pair, {SIZE} bytes");
    if !options.wants_case(&case) {
        return;
    }
    let mut lanes = Vec::new();
    for_each_heap!(|name, new| if options.wants_peer(name) {
        let mut heap = new(BYTES);
        lanes.push(Lane::new(name, move |_| pair::<SIZE, _>(&mut heap)));
    });
    race(&case, 1, lanes, options, report);
}

fn threads(options: &Options, report: &mut Report) {
    let case = "8 to 2048 bytes, 1,000 live in each of two threads";
    if options.wants_case(case) {
        let mut heaps: Vec<(&'static str, Threads)> = Vec::new();
        for_each_shared_heap!(|name, new| if options.wants_peer(name) {
            heaps.push((name, private(new(BYTES))));
        });
        race_threads(case, &heaps, options, report);
    }
    let case = "objects of 64 to 512 bytes, taken by one thread, given back by another";
    if options.wants_case(case) {
        let mut lanes = Vec::new();
        for_each_shared_heap!(|name, new| if options.wants_peer(name) {
            let heap = new(BYTES);
            lanes.push(Lane::new(name, move |_| producer_consumer(&heap)));
        });
        race_pairs_of_threads(case, lanes, options, report);
    }
}

fn private(heap: impl SharedHeap + 'static) -> Threads {
    Box::new(move |count| private_mix(&heap, count))
}

/// How much memory that mix takes, each heap in a process of its own.
fn memory(options: &Options, report: &mut Report) {
    let case = "memory after a million operations of the mix";
    if !options.wants_case(case) {
        return;
    }
    let steps = options.scaled(500_000);
    let (mut resident, mut handed_out) = (Vec::new(), Vec::new());
    for_each_heap!(|name, _new| if options.wants_peer(name) {
        // A heap that is slow is not short of memory sooner: it need not run as long.
        let steps = if name == "linked_list_allocator" { steps / 10 } else { steps };
        match child::ask(&format!("{steps} {name}")).as_deref() {
            Some(&[first, second]) => {
                resident.push((name.to_owned(), first));
                handed_out.push((name.to_owned(), second));
            }
            _ => eprintln!("{name}: no footprint"),
        }
    });
    report.add(Table::of_values(&format!("{case}, resident"), "× live", resident));
    report.add(Table::of_values(&format!("{case}, pages handed out"), "× live", handed_out));
}

/// The footprint of the heap that `request` names, for the parent process to read.
fn answer(request: &str) {
    let (steps, wanted) = request.split_once(' ').expect("steps and a name");
    let steps = steps.parse().expect("a number of steps");
    for_each_heap!(|name, new| if name == wanted {
        let Footprint { resident, handed_out } = footprint(|| new(BYTES), steps);
        println!("{resident} {handed_out}");
    });
}
