//! What does a page frame cost? kmem beside the page-frame allocators of other kernels.

use harness::{
    Lane, Options, Report, Threads, for_each_frame_allocator,
    peers::frames::{
        Bitmap, BuddyAlloc, BuddySlab, BuddySystemFrames, BuddySystemHeap, FrameAlloc, Frames,
        SharedFrames,
    },
    peers::kmem::Pages,
    race,
    work::frames::{self as work, Bulk, FRAMES_PER_GIB, Mixed, Return},
};
use spin::Mutex;

const GIB: usize = 1 << 30;

/// One lane for each allocator that is wanted: `$run` gets a fresh allocator of 1 GiB and makes
/// the closure that runs a batch.
macro_rules! lanes {
    ($options:expr, |$allocator:ident| $run:expr) => {{
        let mut lanes: Vec<Lane<'_>> = Vec::new();
        for_each_frame_allocator!(|name, new| if $options.wants_peer(name) {
            #[allow(unused_mut, reason = "not every case uses the allocator in place")]
            let mut $allocator = new(GIB);
            lanes.push(Lane::new(name, $run));
        });
        lanes
    }};
}

fn main() {
    let options = Options::from_env();
    let mut report = Report::new("frames", &options);
    single_thread(&options, &mut report);
    two_threads(&options, &mut report);
    report.finish(&options);
}

fn single_thread(options: &Options, report: &mut Report) {
    let case = "frame pair, order 0";
    if options.wants_case(case) {
        let mut lanes = lanes!(options, |frames| move |_| work::pair::<0, _>(&mut frames));
        lanes.extend(list_heap(options, |_| ()));
        race(case, 1, lanes, options, report);
    }
    let case = "frame pair, order 0, no two neighbours free in 64 MiB";
    if options.wants_case(case) {
        let mut lanes = lanes!(options, |frames| {
            work::fragment(&mut frames, FRAMES_PER_GIB / 16);
            move |_| work::pair::<0, _>(&mut frames)
        });
        lanes.extend(list_heap(options, |heap| work::fragment(heap, FRAMES_PER_GIB / 16)));
        race(case, 1, lanes, options, report);
    }
    for (case, back) in [
        ("65,536 frames taken, freed in order", Return::InOrder),
        ("65,536 frames taken, freed at random", Return::AtRandom),
    ] {
        if options.wants_case(case) {
            let slices = Bulk::<BuddyAlloc>::SLICES;
            let lanes = lanes!(options, |frames| {
                let mut bulk = Bulk::new(frames, back);
                move |slice| bulk.run(slice)
            });
            race(case, slices, lanes, options, report);
        }
    }
    let case = "orders 0 to 6 at 75 % of 1 GiB";
    if options.wants_case(case) {
        let lanes = lanes!(options, |frames| {
            let blocks = blocks_of(&frames);
            let mut mixed = Mixed::new(frames, 0..7, FRAMES_PER_GIB * 3 / 4);
            move |_| mixed.run(blocks)
        });
        race(case, 1, lanes, options, report);
    }
    let case = "2 MiB pair";
    if options.wants_case(case) {
        let lanes = lanes!(options, |frames| move |_| work::pair::<9, _>(&mut frames));
        race(case, 1, lanes, options, report);
    }
}

/// `buddy_system_allocator`'s heap in the cases of single pairs: its frees walk a list, and with
/// tens of thousands of free frames a batch would take minutes.
fn list_heap(
    options: &Options,
    prepare: impl FnOnce(&mut BuddySystemHeap),
) -> Option<Lane<'static>> {
    let name = "buddy_system_allocator, heap";
    options.wants_peer(name).then(|| {
        let mut heap = BuddySystemHeap::new(GIB);
        prepare(&mut heap);
        Lane::new(name, move |_| work::pair::<0, _>(&mut heap))
    })
}

/// Blocks of the mix that a batch replaces: few where each takes a search.
fn blocks_of<A: Frames>(_: &A) -> usize {
    if A::ORDERS { 512 } else { 128 }
}

/// One thread alone, then two at once, in turn.
fn two_threads(options: &Options, report: &mut Report) {
    let case = "bursts of 32 frames, two threads at once";
    if !options.wants_case(case) {
        return;
    }
    let mut allocators: Vec<(&'static str, Threads)> = Vec::new();
    let mut allocator = |name: &'static str, run: Threads| {
        if options.wants_peer(name) {
            allocators.push((name, run));
        }
    };
    allocator("kmem", threads(Pages::new(GIB)));
    allocator("frame-alloc", threads(FrameAlloc::new(GIB)));
    allocator("buddy-alloc", threads(Mutex::new(BuddyAlloc::new(GIB))));
    allocator("buddy-slab-allocator", threads(Mutex::new(BuddySlab::new(GIB))));
    allocator("bitmap-allocator", threads(Mutex::new(Bitmap::new(GIB))));
    allocator("buddy_system_allocator, frames", threads(Mutex::new(BuddySystemFrames::new(GIB))));

    harness::race_threads(case, &allocators, options, report);
}

fn threads(allocator: impl SharedFrames + 'static) -> Threads {
    Box::new(move |count| work::private_bursts(&allocator, count))
}
