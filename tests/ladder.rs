//! Each manager of the ladder behaves as its description says: system calls for each request, what
//! is reused, what coalesces, where it walks. Steps are counted, not timed.

#![cfg(feature = "mmap")]

#[path = "../examples/ladder/arguments.rs"]
mod arguments;
#[path = "../examples/ladder/managers/mod.rs"]
mod managers;
#[path = "../examples/ladder/traces.rs"]
mod traces;
#[path = "../examples/ladder/workloads.rs"]
#[expect(dead_code, reason = "costs are measured by the command, not by tests")]
mod workloads;

use std::num::NonZeroUsize;

use managers::{
    LADDER, Manager, PEERS, bins, buddies, chunks, doubly, fastbins, lea, list, mapping, minimal,
    pad,
};
use managers::{segregated, spaced, system::PAGE, unsorted};

/// What one call cost.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    system_calls: usize,
    steps: usize,
}

fn cost_of<M: Manager, R>(manager: &mut M, call: impl FnOnce(&mut M) -> R) -> (R, Cost) {
    let before = manager.ledger();
    let answer = call(manager);
    let after = manager.ledger();
    let system_calls = after.system_calls.unwrap() - before.system_calls.unwrap();
    (answer, Cost { system_calls, steps: after.steps.unwrap() - before.steps.unwrap() })
}

#[track_caller]
fn malloc<M: Manager>(manager: &mut M, len: usize, expected: Cost) -> usize {
    let (at, cost) = cost_of(manager, |manager| manager.malloc(len));
    assert_ne!(at, 0);
    assert_eq!(cost, expected);
    at
}

#[track_caller]
fn free<M: Manager>(manager: &mut M, at: usize, expected: Cost) {
    let ((), cost) = cost_of(manager, |manager| manager.free(at));
    assert_eq!(cost, expected);
}

const NOTHING: Cost = Cost { system_calls: 0, steps: 0 };

const fn steps(steps: usize) -> Cost {
    Cost { system_calls: 0, steps }
}

const fn system_calls(system_calls: usize) -> Cost {
    Cost { system_calls, steps: 0 }
}

fn many<M: Manager>(manager: &mut M, count: usize, len: usize) -> Vec<usize> {
    (0..count).map(|_| manager.malloc(len)).collect()
}

#[test]
fn minimal_makes_one_system_call_a_request_and_reuses_nothing() {
    let mut m = minimal::Minimal::new();
    let first = malloc(&mut m, 10, system_calls(2));
    let mut end = first + 10;
    for len in [1, 100, 8, 5000] {
        let at = malloc(&mut m, len, system_calls(1));
        assert_eq!(at, end, "right behind the last");
        end += len;
        free(&mut m, at, NOTHING);
    }
    assert_eq!(m.ledger().peak, Some(end - first), "the sum of all requests");
}

#[test]
fn pad_makes_one_system_call_in_8192_bytes_and_reuses_nothing() {
    let mut p = pad::Pad::new();
    let first = malloc(&mut p, 1024, system_calls(2));
    for n in 1..64 {
        let expected = system_calls(usize::from(n % 8 == 0));
        let at = malloc(&mut p, 1024, expected);
        assert_eq!(at, first + 1024 * n);
        free(&mut p, at, NOTHING);
    }
    malloc(&mut p, 100_000, system_calls(1));
    assert_eq!(p.ledger().peak, Some(64 * 1024 + 100_000));
}

#[test]
fn unsorted_list_frees_without_a_step_and_hands_out_the_last_first() {
    let mut u = unsorted::Unsorted::new();
    let starts = many(&mut u, 1000, 16);
    for &at in &starts {
        free(&mut u, at, NOTHING);
    }
    for &at in starts.iter().rev() {
        assert_eq!(malloc(&mut u, 16, steps(1)), at);
    }
}

#[test]
fn unsorted_list_never_coalesces() {
    let mut u = unsorted::Unsorted::new();
    let per_growth = unsorted::MIN_UNITS / 2;
    let starts = many(&mut u, 2 * per_growth, 16);
    starts.iter().for_each(|&at| u.free(at));
    // Nothing but chunks of two units is left, side by side as they are: all are looked at in vain.
    let (_, cost) = cost_of(&mut u, |u| u.malloc(32));
    assert_eq!(cost, Cost { system_calls: 1, steps: 2 * per_growth });
}

#[test]
fn list_walks_to_free_and_to_allocate() {
    let mut l = list::List::new();
    let starts = many(&mut l, 4000, 16);
    assert_eq!(l.ledger().system_calls, Some(16), "512 units, two a chunk, at a time");
    // Tail ends go out, so addresses fall within each extension of the heap.
    assert_eq!(starts[0] - starts[1], 32);
    let mut by_address = starts;
    by_address.sort_unstable();
    let alternate: Vec<usize> = by_address.iter().copied().step_by(2).collect();
    let idle = list::MIN_UNITS / 2 * 16 - 4000;
    assert_eq!(idle, 96, "left over in the last extension, one chunk");
    for (n, &at) in alternate.iter().enumerate() {
        // Each lies above all that were freed before; the idle chunk lies low in its extension.
        let (_, cost) = cost_of(&mut l, |l| l.free(at));
        assert!(cost.steps >= n && cost.steps <= n + 1, "{cost:?} with {n} free chunks");
    }
    let (_, cost) = cost_of(&mut l, |l| l.malloc(100_000));
    assert!(cost.steps >= alternate.len(), "every free chunk is looked at: {cost:?}");
}

#[test]
fn list_coalesces_both_ways_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut l = list::List::new();
        let mut abc = many(&mut l, 3, 48);
        let fence = l.malloc(8000 - 3 * 64);
        assert_ne!(fence, 0);
        let calls = l.ledger().system_calls;
        order.iter().for_each(|&at| l.free(abc[at]));
        // Three chunks of four units have become one of twelve, eleven of them payload.
        abc.sort_unstable();
        assert_eq!(l.malloc(11 * 16), abc[0]);
        assert_eq!(l.ledger().system_calls, calls);
    }
}

#[test]
fn doubly_linked_frees_without_a_step_and_walks_to_allocate() {
    let mut d = doubly::Doubly::new();
    let starts = many(&mut d, 1000, 64);
    let fence = d.malloc(16);
    for &at in starts.iter().step_by(2) {
        free(&mut d, at, NOTHING);
    }
    // 500 short chunks at the front of the list, none long enough.
    let (long, cost) = cost_of(&mut d, |d| d.malloc(128));
    assert!(cost.steps >= 500, "{cost:?}");
    for &at in starts.iter().skip(1).step_by(2) {
        free(&mut d, at, NOTHING);
    }
    d.free(long);
    d.free(fence);
    let (at, cost) = cost_of(&mut d, |d| d.malloc(90_000));
    assert_eq!((at, cost), (starts[0], steps(1)), "all of it coalesced into one chunk");
}

#[test]
fn bins_take_a_bounded_number_of_steps() {
    let mut b = bins::Bins::new();
    let starts = many(&mut b, 2000, 64);
    for &at in starts.iter().step_by(2) {
        free(&mut b, at, NOTHING);
    }
    // The same sequence that makes the doubly linked list walk past 1,000 chunks.
    let (_, cost) = cost_of(&mut b, |b| b.malloc(128));
    assert!(cost.steps <= bins::BINS, "{cost:?}");
    let reused = malloc(&mut b, 64, steps(1));
    assert!(starts.contains(&reused), "a best fit: the very size");
    for &at in starts.iter().skip(1).step_by(2) {
        free(&mut b, at, NOTHING);
    }
}

#[test]
fn bins_coalesce_and_fall_back_to_a_walk_in_the_last_bin() {
    let mut b = bins::Bins::new();
    let starts = many(&mut b, 100, 4096);
    for &at in starts.iter().step_by(2) {
        free(&mut b, at, NOTHING);
    }
    let (_, cost) = cost_of(&mut b, |b| b.malloc(5000));
    assert!(cost.steps >= 50, "long chunks share a bin: {cost:?}");
    for &at in starts.iter().skip(1).step_by(2) {
        free(&mut b, at, NOTHING);
    }
    assert_eq!(b.malloc(100 * 4096), starts[0]);
}

#[test]
fn mapping_makes_one_system_call_each_way_and_keeps_nothing() {
    let mut m = mapping::Mapping::new();
    for len in [1, 100, PAGE - 8, PAGE - 7, 1 << 20] {
        let at = malloc(&mut m, len, system_calls(1));
        assert_eq!(at % PAGE, 8, "a header in front");
        free(&mut m, at, system_calls(1));
        assert_eq!(malloc(&mut m, len, system_calls(1)), at, "its pages went back");
        free(&mut m, at, system_calls(1));
    }
    assert_eq!(m.ledger().peak, Some((1 << 20) + PAGE));
    let starts = many(&mut m, 10, 4);
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == PAGE), "a page for an int");
}

#[test]
fn segregated_metadata_cost_a_chunk_nothing_and_never_coalesce() {
    let mut s = segregated::Segregated::new();
    let first = malloc(&mut s, 64, Cost { system_calls: 1, steps: 1 });
    let mut starts = vec![first];
    for _ in 1..PAGE / 64 {
        starts.push(malloc(&mut s, 64, steps(1)));
    }
    starts.sort_unstable();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 64), "no header between them");
    for &at in &starts {
        free(&mut s, at, steps(1));
    }
    let other = malloc(&mut s, 128, Cost { system_calls: 1, steps: 1 });
    assert!(other >= first + PAGE, "a free page of 64-byte chunks serves no 128 bytes");
    assert!(starts.contains(&malloc(&mut s, 33, steps(1))));
}

#[test]
fn chunks_merge_downwards_only() {
    let mut c = chunks::Chunks::new();
    let [a, b, _fence] = [48; 3].map(|len| c.malloc(len));
    free(&mut c, b, NOTHING);
    free(&mut c, a, NOTHING);
    // a was free after b, and does not look up: two chunks of 64, not one of 128.
    let calls = c.ledger().system_calls;
    assert_eq!(c.malloc(48), a);
    assert_eq!(c.malloc(48), b);
    free(&mut c, a, NOTHING);
    free(&mut c, b, NOTHING);
    assert_eq!(c.malloc(112), a, "freed upwards they merge");
    assert_eq!(c.ledger().system_calls, calls);
}

#[test]
fn buddies_map_four_pages_at_a_time_and_waste_20_bytes_of_an_int() {
    let mut b = buddies::Buddies::new();
    let per_region = buddies::REGION / buddies::LEAST;
    let first = b.malloc(4);
    let mut starts = vec![first];
    for _ in 1..per_region {
        let (at, cost) = cost_of(&mut b, |b| b.malloc(4));
        assert_eq!(cost.system_calls, 0);
        starts.push(at);
    }
    starts.sort_unstable();
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 4 + 20 + 8));
    assert_eq!(b.ledger().system_calls, Some(1));
    b.malloc(4);
    assert_eq!(b.ledger().system_calls, Some(2));
}

#[test]
fn buddies_join_up_to_four_pages_and_give_nothing_back() {
    let mut b = buddies::Buddies::new();
    let starts = many(&mut b, buddies::REGION / buddies::LEAST, 24);
    let peak = b.ledger().peak;
    for at in starts.iter().step_by(2).chain(starts.iter().skip(1).step_by(2)) {
        let (_, cost) = cost_of(&mut b, |b| b.free(*at));
        assert!(cost.steps <= 9 && cost.system_calls == 0, "{cost:?}");
    }
    let (whole, cost) = cost_of(&mut b, |b| b.malloc(buddies::REGION - 8));
    assert_eq!((whole % buddies::REGION, cost), (8, NOTHING), "one block again");
    assert_eq!(b.ledger().peak, peak);
    let long = malloc(&mut b, 100_000, system_calls(1));
    free(&mut b, long, NOTHING);
    assert_eq!(malloc(&mut b, 90_000, NOTHING), long, "kept in a bin of its own");
}

#[test]
fn spaced_bins_give_every_request_the_best_fit_that_waited_longest() {
    let mut s = spaced::Spaced::new();
    // Chunks of one bin, none a neighbour of another.
    let lens = [1600, 1560, 1600, 1580, 1540, 1600];
    let starts = lens.map(|len| {
        let at = s.malloc(len);
        assert_ne!(s.malloc(8), 0, "a fence");
        at
    });
    starts.iter().for_each(|&at| s.free(at));
    let calls = s.ledger().system_calls;
    let expected = [(1550, 1), (1600, 0), (1570, 3), (1600, 2), (1600, 5), (1540, 4)];
    for (len, number) in expected {
        assert_eq!(s.malloc(len), starts[number], "{len}");
    }
    assert_eq!(s.ledger().system_calls, calls);
}

#[test]
fn spaced_bins_take_a_bounded_number_of_steps_and_a_word_a_chunk() {
    let mut s = spaced::Spaced::new();
    let starts = many(&mut s, 2000, 56);
    assert!(starts.windows(2).filter(|pair| pair[1] - pair[0] == 56 + 8).count() >= 1980);
    for &at in starts.iter().step_by(2) {
        free(&mut s, at, NOTHING);
    }
    let (_, cost) = cost_of(&mut s, |s| s.malloc(128));
    assert!(cost.steps <= lea::BINS, "{cost:?}");
    assert_eq!(malloc(&mut s, 56, steps(1)), starts[0], "first in, first out");
    for &at in starts.iter().skip(1).step_by(2) {
        s.free(at);
    }
}

#[test]
fn spaced_bins_coalesce_both_ways_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut s = spaced::Spaced::new();
        let abc = many(&mut s, 3, 56);
        assert_ne!(s.malloc(lea::MIN_BYTES - 3 * 64 - 8), 0, "all the rest");
        let calls = s.ledger().system_calls;
        order.iter().for_each(|&at| s.free(abc[at]));
        assert_eq!(s.malloc(3 * 64 - 8), abc[0]);
        assert_eq!(s.ledger().system_calls, calls);
    }
}

#[test]
fn spaced_bins_walk_among_long_chunks_to_keep_them_in_order() {
    let mut s = spaced::Spaced::new();
    let starts: Vec<usize> = (0..100).map(|n| (s.malloc(8192 + 8 * n), s.malloc(8)).0).collect();
    for (n, &at) in starts.iter().rev().enumerate() {
        let ((), cost) = cost_of(&mut s, |s| s.free(at));
        assert!(cost.steps >= n, "{cost:?} behind {n} longer ones");
    }
}

#[test]
fn fastbins_coalesce_nothing_until_a_long_request_comes() {
    let mut f = fastbins::Fastbins::new();
    let short = fastbins::MOST_FAST - 8;
    let starts = many(&mut f, 40, short);
    assert_ne!(f.malloc(lea::MIN_BYTES - 40 * fastbins::MOST_FAST - 8), 0, "all the rest");
    for &at in &starts {
        free(&mut f, at, NOTHING);
    }
    for &at in starts.iter().rev() {
        assert_eq!(malloc(&mut f, short, steps(1)), at, "last in, first out");
    }
    for &at in &starts {
        free(&mut f, at, NOTHING);
    }
    let (whole, cost) = cost_of(&mut f, |f| f.malloc(40 * fastbins::MOST_FAST - 8));
    assert_eq!((whole, cost.system_calls), (starts[0], 0), "coalesced, all of them");
    assert!(cost.steps >= starts.len(), "one request pays for all: {cost:?}");
}

#[test]
fn fastbins_are_emptied_before_the_heap_grows() {
    let mut f = fastbins::Fastbins::new();
    let starts = many(&mut f, lea::MIN_BYTES / 64, 56);
    let calls = f.ledger().system_calls;
    starts.iter().for_each(|&at| f.free(at));
    assert!(starts.contains(&f.malloc(200)), "a short request that nothing else serves");
    assert_eq!(f.ledger().system_calls, calls);
}

#[test]
fn an_unsorted_bin_gives_every_chunk_one_chance_to_fit() {
    let mut f = fastbins::Fastbins::new();
    let lens = [1000, 2000, 3000, 4000];
    let starts = lens.map(|len| {
        let at = f.malloc(len);
        assert_ne!(f.malloc(8), 0, "a fence");
        at
    });
    for &at in &starts {
        free(&mut f, at, NOTHING);
    }
    // What is left of the heap waits in front of them.
    assert_eq!(malloc(&mut f, 2000, steps(3)), starts[1]);
    assert_eq!(malloc(&mut f, 4000, steps(2)), starts[3]);
    let (first, cost) = cost_of(&mut f, |f| f.malloc(1000));
    assert!(first == starts[0] && cost.steps > 0, "from its bin: {cost:?}");
}

#[test]
fn workloads_of_any_length_free_what_they_allocated_once() {
    for count in [1, 2, 3, 4, 5, 100, 101] {
        for workload in workloads::published(count, 512) {
            let mut full = vec![false; workload.slots];
            for call in &workload.calls {
                let (slot, is_malloc) = match *call {
                    workloads::Call::Malloc(slot, _) => (slot, true),
                    workloads::Call::Free(slot) => (slot, false),
                };
                assert_ne!(full[slot], is_malloc, "{}, {count} blocks: {call:?}", workload.name);
                full[slot] = is_malloc;
            }
            assert!(full.iter().all(|&full| !full), "{}, {count} blocks", workload.name);
        }
    }
}

#[test]
fn the_command_line_is_a_number_of_blocks() {
    use arguments::Request;
    let parse = |words: &[&str]| arguments::parse(lexopt::Parser::from_args(words));
    assert_eq!(parse(&[]).unwrap(), Request::Climb(10_000));
    assert_eq!(parse(&["1"]).unwrap(), Request::Climb(1));
    assert_eq!(parse(&["1000000"]).unwrap(), Request::Climb(1_000_000));
    assert_eq!(parse(&["--help"]).unwrap(), Request::Help);
    assert!(arguments::USAGE.contains("10,000"));
    for words in [&["0"][..], &["1000001"], &["abc"], &[""], &["-1"], &["1", "2"], &["--blocks"]] {
        parse(words).expect_err("makes no sense");
    }
    let slice = NonZeroUsize::new(64).unwrap();
    let run = arguments::Run { manager: "bins".into(), workload: 3, blocks: 10, slice };
    assert_eq!(parse(&["--child", "bins", "3", "10", "64"]).unwrap(), Request::Child(run));
    for words in ["", "bins", "bins 3 10", "bins x 10 64", "bins 3 0 64", "bins 3 10 0"] {
        let words: Vec<&str> = std::iter::once("--child").chain(words.split_whitespace()).collect();
        parse(&words).expect_err("is no run");
    }
}

/// Writes `mark` to the first and the last byte of a block.
fn write(at: usize, len: usize, mark: u8) {
    let first: *mut u8 = std::ptr::with_exposed_provenance_mut(at);
    // SAFETY: a manager has handed out these `len` bytes, at least one, and has not got them back.
    unsafe {
        first.write_volatile(mark);
        first.add(len - 1).write_volatile(mark);
    }
}

/// What stands there.
fn read(at: usize, len: usize) -> [u8; 2] {
    let first: *const u8 = std::ptr::with_exposed_provenance(at);
    // SAFETY: as in `write`.
    unsafe { [first.read_volatile(), first.add(len - 1).read_volatile()] }
}

#[test]
fn every_manager_survives_every_workload_and_leaves_blocks_alone() {
    let mut workloads = workloads::published(300, 512);
    workloads.push(workloads::ints(100));
    for (name, make) in LADDER.iter().chain(&PEERS) {
        for workload in &workloads {
            let mut manager = make();
            let mut live: std::collections::BTreeMap<usize, usize> = Default::default();
            let mut slots = vec![0; workload.slots];
            for call in &workload.calls {
                match *call {
                    workloads::Call::Malloc(slot, len) => {
                        let at = manager.malloc(len);
                        let below = live.range(..at + len).next_back();
                        let apart = below.is_none_or(|(&start, &len)| start + len <= at);
                        assert!(at != 0 && apart, "{name}, {}: {at:#x}", workload.name);
                        live.insert(at, len);
                        slots[slot] = at;
                        write(at, len, slot as u8);
                    }
                    workloads::Call::Free(slot) => {
                        let at = slots[slot];
                        let len = live.remove(&at).expect("a block");
                        assert_eq!(read(at, len), [slot as u8; 2], "{name}, {}", workload.name);
                        manager.free(at);
                    }
                }
            }
        }
    }
}

#[test]
fn the_buddy_example_splits_and_joins_as_drawn() {
    let expected = "\
1 MiB             | 2^4 |
A requests 34 KiB | A: 2^0 | 2^0 | 2^1 | 2^2 | 2^3 |
B requests 66 KiB | A: 2^0 | 2^0 | B: 2^1 | 2^2 | 2^3 |
C requests 35 KiB | A: 2^0 | C: 2^0 | B: 2^1 | 2^2 | 2^3 |
D requests 67 KiB | A: 2^0 | C: 2^0 | B: 2^1 | D: 2^1 | 2^1 | 2^3 |
B is freed        | A: 2^0 | C: 2^0 | 2^1 | D: 2^1 | 2^1 | 2^3 |
D is freed        | A: 2^0 | C: 2^0 | 2^1 | 2^2 | 2^3 |
A is freed        | 2^0 | C: 2^0 | 2^1 | 2^2 | 2^3 |
C is freed        | 2^4 |
";
    assert_eq!(traces::buddy_blocks(), expected);
}

#[test]
fn the_buddy_example_has_the_fields_of_a_buddy_structure() {
    let text = traces::buddy_fields();
    let step = |name: &str| -> Vec<&str> {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(name));
        let first = lines.next().expect("a step");
        let rest = lines.take_while(|line| line.starts_with(' '));
        std::iter::once(first).chain(rest).map(|line| line[19..].trim()).collect()
    };
    assert_eq!(text.lines().next().unwrap().trim(), "| at KiB | TAG | TYPE | INDEX |");
    assert_eq!(step("1 MiB"), ["0 |   0 |   -- |     4 |"]);
    let fullest = [
        "0 |   1 |   LL |     0 | A",
        "64 |   1 |   RL |     0 | C",
        "128 |   1 |   RL |     1 | B",
        "256 |   1 |   LR |     1 | D",
        "384 |   0 |   RR |     1 |",
        "512 |   0 |   R- |     3 |",
    ];
    assert_eq!(step("D requests"), fullest);
    assert_eq!(step("C is freed"), step("1 MiB"));
}

#[test]
fn the_five_mallocs_fragment_coalesce_and_reuse_as_drawn() {
    let expected = "\
p1 = malloc(3)  111.............
p2 = malloc(1)  1112............
p3 = malloc(4)  11123333........
free(p2)        111.3333........
p4 = malloc(6)  111.3333444444..
free(p3)        111.....444444..
p5 = malloc(2)  11155...444444..
free(p1)        ...55...444444..
free(p4)        ...55...........
free(p5)        ................
";
    assert_eq!(traces::five_mallocs(), expected);
}

#[test]
fn the_five_chunks_are_viewed_exactly_as_listed() {
    let before = "\
=====trunk view begin=====
chunk addr = 0x55555559000, prev size = 0, size: 24, prev inuse: 1, fd = (nil), bk = 0x18
chunk addr = 0x55555559018, prev size = 24, size: 32, prev inuse: 1, fd = (nil), bk = (nil)
chunk addr = 0x55555559038, prev size = 32, size: 48, prev inuse: 1, fd = (nil), bk = (nil)
chunk addr = 0x55555559068, prev size = 48, size: 64, prev inuse: 1, fd = (nil), bk = (nil)
chunk addr = 0x555555590a8, prev size = 64, size: 80, prev inuse: 1, fd = (nil), bk = (nil)
chunk addr = 0x555555590f8, prev size = 80, size: 776, prev inuse: 1, fd = (nil), bk = (nil)
=====trunk view end=====
";
    let after = "\
=====trunk view begin=====
chunk addr = 0x55555559000, prev size = 0, size: 248, prev inuse: 1, fd = 0x555555590f8, bk = 0x18
chunk addr = 0x555555590f8, prev size = 248, size: 776, prev inuse: 0, fd = (nil), bk = (nil)
=====trunk view end=====
";
    assert_eq!(traces::five_chunks(0x555_5555_9000), (before.into(), after.into()));
}
