//! README's table of instructions is what the gates have on record.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Each row of the table, and the gates that its figures come from.
const ROWS: &[(&str, &[&str])] = &[
    ("take a frame from a CPU's list, give it back", &["frame_alloc_hit", "frame_free_hit"]),
    (
        "take a block of 2 MiB from a CPU's list, give it back",
        &["frame_2_mib_alloc_hit", "frame_2_mib_free_hit"],
    ),
    (
        "take a frame when the CPU's list is empty: 64 come from the zone; give one back when it is \
         full: 32 go there",
        &["frame_refill", "frame_spill"],
    ),
    (
        "split the largest block for a request that no list serves, the worst case",
        &["split_of_the_largest_block"],
    ),
    ("merge such a block up to the largest, the worst case", &["merge_to_the_largest_block"]),
    (
        "the dearest `alloc` and `free` of a block in 256 GiB by the buddy alone, whatever came \
         before",
        &["worst_take_of_256_gib", "worst_give_of_256_gib"],
    ),
    ("allocate an object of 64 bytes, free it", &["object_alloc_hit", "object_free_hit"]),
    (
        "the worst of 1,000 allocations of such objects one after the other, of their frees",
        &["object_alloc_worst_of_1000", "object_free_worst_of_1000"],
    ),
    (
        "the same with objects of 16 bytes, whose magazines are the longest",
        &["small_object_alloc_worst_of_1000", "small_object_free_worst_of_1000"],
    ),
    ("allocate 64 bytes of the heap by `Layout`, free them", &["heap_alloc_hit", "heap_free_hit"]),
    ("allocate and free 400 KB", &["heap_run_pair"]),
];

#[test]
fn the_table_of_instructions_is_what_is_on_record() {
    let read = |path| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (readme, record) = (read("README.md"), read("kernel_test/instructions.txt"));
    let counts: BTreeMap<&str, &str> =
        record.lines().filter_map(|line| line.split_once(' ')).collect();
    for (row, gates) in ROWS {
        let figures: Vec<&str> = gates.iter().map(|gate| counts[gate]).collect();
        let line = format!("| {row} | {} |", figures.join(", "));
        assert!(readme.lines().any(|found| found == line), "README should have\n{line}");
    }
    let start = "| operation | instructions |\n| --- | --- |\n";
    let (_, table) = readme.split_once(start).expect("the table");
    assert_eq!(table.lines().take_while(|line| line.starts_with('|')).count(), ROWS.len());
}
