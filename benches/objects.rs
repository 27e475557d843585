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
    for bytes in [64, 256, 1024] {
        let case = format!("object pair, {bytes} bytes");
        if options.wants_case(&case) {
            let mut objects = Objects::new(BYTES, layout(bytes));
            let mut lanes = vec![Lane::new("kmem", move |_| pair(&mut objects, layout(bytes)))];
            for_each_heap!(|name, new| if options.wants_peer(name) {
                let mut heap = new(BYTES);
                lanes.push(Lane::new(name, move |_| pair(&mut heap, layout(bytes))));
            });
            race(&case, 1, lanes, &options, &mut report);
        }
    }
    let case = "32 objects of 64 bytes taken, then given back: one of them";
    if options.wants_case(case) {
        let mut objects = Objects::new(BYTES, layout(64));
        let at_once = Objects::new(BYTES, layout(64));
        let mut lanes = vec![
            Lane::new("kmem", move |_| bulk(&mut objects, layout(64))),
            Lane::new("kmem, alloc_many", move |_| bulk_at_once(&at_once)),
        ];
        for_each_heap!(|name, new| if options.wants_peer(name) {
            let mut heap = new(BYTES);
            lanes.push(Lane::new(name, move |_| bulk(&mut heap, layout(64))));
        });
        race(case, 1, lanes, &options, &mut report);
    }
    report.finish();
}
