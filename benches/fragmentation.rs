//! What is lost between the blocks? Large blocks that no longer exist, and bytes of rounding.

use harness::{
    Options, Report, Table, for_each_frame_allocator, for_each_heap,
    peers::child,
    work::{
        frames::{FRAMES_PER_GIB, day},
        heaps::{Sizes, density},
    },
};

/// What each heap has to manage.
const BYTES: usize = 256 << 20;

fn main() {
    let options = Options::from_env();
    if let Some(request) = &options.child {
        return answer(request);
    }
    let mut report = Report::new("fragmentation", &options);
    large_blocks(&options, &mut report);
    rounding(&options, &mut report);
    report.finish(&options);
}

fn large_blocks(options: &Options, report: &mut Report) {
    let case = "2 MiB blocks broken by a day's churn in 1 GiB";
    if !options.wants_case(case) {
        return;
    }
    let mut broken = Vec::new();
    let mut least = 0;
    for_each_frame_allocator!(|name, new| if options.wants_peer(name) {
        let evening = day(&mut new(1 << 30), FRAMES_PER_GIB);
        least = FRAMES_PER_GIB / 512 - evening.possible;
        broken.push((name.to_owned(), (FRAMES_PER_GIB / 512 - evening.whole) as f64));
    });
    report.add(Table::of_values(&format!("{case} ({least} cannot be helped)"), "of 512", broken));
}

/// Bytes taken for each byte asked for, each heap and distribution in a process of its own.
///
/// `slab_allocator_rs` is not asked: it divides its memory among the sizes before it knows them.
fn rounding(options: &Options, report: &mut Report) {
    for (number, (_, distribution)) in Sizes::ALL.into_iter().enumerate() {
        let case = format!("bytes resident for 100 asked for, {distribution}");
        if !options.wants_case(&case) {
            continue;
        }
        let mut densities = Vec::new();
        for_each_heap!(|name, _new| if options.wants_peer(name) && name != "slab_allocator_rs" {
            match child::ask(&format!("{number} {name}")).as_deref() {
                Some(&[density]) => densities.push((name.to_owned(), 100.0 * density)),
                _ => eprintln!("{name}: no answer"),
            }
        });
        report.add(Table::of_values(&case, "bytes", densities));
    }
}

/// What the heap that `request` names takes, for the parent process to read.
fn answer(request: &str) {
    let (number, wanted) = request.split_once(' ').expect("a distribution and a name");
    let (sizes, _) = Sizes::ALL[number.parse::<usize>().expect("the number of a distribution")];
    for_each_heap!(|name, new| if name == wanted {
        println!("{}", density(|| new(BYTES), sizes));
    });
}
