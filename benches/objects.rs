//! What does an object of one size cost? kmem's caches beside other slab allocators and heaps.

use harness::{
    Lane, Options, Report, for_each_heap,
    peers::kmem::Objects,
    race,
    work::heaps::{bulk, bulk_at_once, layout, pair},
};

/// What each heap has to manage. `slab_allocator_rs` gives an eighth of it to each size.
const BYTES: usize = 64 << 20;

fn main() {
    let options = Options::from_env();
    let mut report = Report::new("objects", &options);
    object_pair::<64>(&options, &mut report);
    object_pair::<256>(&options, &mut report);
    object_pair::<1024>(&options, &mut report);
    let case = "32 objects of 64 bytes taken, then given back: one of them";
    if options.wants_case(case) {
        let mut objects = Objects::new(BYTES, layout(64));
        let at_once = Objects::new(BYTES, layout(64));
        let mut lanes = vec![
            Lane::new("kmem, cache", move |_| bulk(&mut objects, layout(64))),
            Lane::new("kmem, cache, alloc_many", move |_| bulk_at_once(&at_once)),
        ];
        for_each_heap!(|name, new| if options.wants_peer(name) {
            let mut heap = new(BYTES);
            lanes.push(Lane::new(name, move |_| bulk(&mut heap, layout(64))));
        });
        race(case, 1, lanes, &options, &mut report);
    }
    report.finish(&options);
}

fn object_pair<const SIZE: usize>(options: &Options, report: &mut Report) {
    let case = format!("object pair, {SIZE} bytes");
    if !options.wants_case(&case) {
        return;
    }
    let mut objects = Objects::new(BYTES, layout(SIZE));
    let mut lanes = vec![Lane::new("kmem, cache", move |_| pair::<SIZE, _>(&mut objects))];
    for_each_heap!(|name, new| if options.wants_peer(name) {
        let mut heap = new(BYTES);
        lanes.push(Lane::new(name, move |_| pair::<SIZE, _>(&mut heap)));
    });
    race(&case, 1, lanes, options, report);
}
