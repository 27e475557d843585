//! What the model does not reach: limits, misuse one by one, and what is printed.

extern crate alloc;

mod damage;
mod sources;

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use super::segment::{Kind, Slot};
use super::*;

std::thread_local! {
    /// How often this thread looked at a record.
    static READS: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn count_read() {
    READS.set(READS.get() + 1);
}

const FITS: [Fit; 5] = [Fit::Instant, Fit::Best, Fit::First, Fit::Next, Fit::Worst];

fn arena_over<'m>(fit: Fit, pool: &'m mut [Segment], range: Range<u64>) -> Arena<'m> {
    let mut arena = Arena::new(Config::new("test", 8, fit), pool).unwrap();
    arena.add(range).unwrap();
    arena
}

#[test]
fn a_bad_configuration_is_refused() {
    let mut pool = [Segment::SPARE; 8];
    let mut refused = |config, len| Arena::new(config, &mut pool[..len]).unwrap_err();
    for quantum in [0, 3, 12, u64::MAX] {
        let config = Config::new("test", quantum, Fit::First);
        assert_eq!(refused(config, 8), ConfigError::BadQuantum { quantum });
    }
    let config = Config::new("test", 1, Fit::First);
    assert_eq!(refused(config, 2), ConfigError::PoolTooSmall { given: 2, need: 3 });
    let config = Config { cached_quanta: 17, ..config };
    assert_eq!(refused(config, 8), ConfigError::TooManyCaches { given: 17, most: 16 });
}

#[test]
fn the_smallest_pool_serves_one_segment() {
    let mut pool = [Segment::SPARE; 3];
    for fit in FITS {
        let mut arena = arena_over(fit, &mut pool, 64..128);
        assert_eq!(arena.alloc(8), Err(AllocError::NoSegments { pool: 3 }));
        assert_eq!(arena.add(256..512), Err(AddError::NoSegments { pool: 3 }));
        assert_eq!(arena.alloc(64), Ok(64));
        assert_eq!(arena.alloc(8), Err(AllocError::Exhausted { len: 8, available: 0 }));
        assert_eq!(arena.free(64, 64), Ok(()));
        arena.verify().unwrap();
    }
}

#[test]
fn a_pool_of_segments_needed_never_runs_out() {
    let mut pool = [Segment::SPARE; segments_needed(1, 16)];
    for fit in FITS {
        let mut arena = arena_over(fit, &mut pool, 0..128);
        let taken: Vec<u64> = (0..16).map(|_| arena.alloc(8).unwrap()).collect();
        assert_eq!(arena.segments_used(), (18, 18));
        for start in taken.iter().step_by(2).chain(taken.iter().skip(1).step_by(2)) {
            arena.free_at(*start).unwrap();
            arena.verify().unwrap();
        }
        assert_eq!(arena.segments_used(), (3, 18));
    }
}

#[test]
fn a_pool_that_was_used_before_is_wiped() {
    let mut pool = [Segment::SPARE; 16];
    let mut first = arena_over(Fit::Best, &mut pool, 0..128);
    first.alloc(8).unwrap();
    first.alloc(16).unwrap();
    let second = Arena::new(Config::new("test", 8, Fit::First), &mut pool).unwrap();
    assert_eq!(second.segments().count(), 0);
    assert_eq!(second.pool.ring().count(), 0);
    assert!(pool[1..].iter().all(|record| *record == Segment::SPARE));
}

#[test]
fn each_misuse_has_its_error_and_changes_nothing() {
    for fit in FITS {
        let mut pool = [Segment::SPARE; 32];
        let mut arena = arena_over(fit, &mut pool, 0x100..0x200);
        let a = arena.alloc(0x40).unwrap();
        let b = arena.alloc(0x40).unwrap();
        arena.free(a, 0x40).unwrap();
        let before: Vec<_> = arena.segments().collect();
        let whole = arena.lookup(a).unwrap().range;
        let cases = [
            (a, 0x40, FreeError::NotAllocated { start: a, available: whole.clone() }),
            (a + 8, 8, FreeError::NotAllocated { start: a + 8, available: whole }),
            (b + 8, 8, FreeError::NotAStart { start: b + 8, allocated: b..b + 0x40 }),
            (b, 0x48, FreeError::WrongLength { allocated: b..b + 0x40, given: 0x48 }),
            (b, 0, FreeError::WrongLength { allocated: b..b + 0x40, given: 0 }),
            (b, u64::MAX, FreeError::WrongLength { allocated: b..b + 0x40, given: u64::MAX }),
            (0xff, 8, FreeError::OutOfRange { start: 0xff }),
            (0x200, 8, FreeError::OutOfRange { start: 0x200 }),
            (u64::MAX, 8, FreeError::OutOfRange { start: u64::MAX }),
        ];
        for (start, len, expected) in cases {
            assert_eq!(arena.free(start, len), Err(expected), "{fit:?} {start:#x} {len:#x}");
            assert_eq!(arena.segments().collect::<Vec<_>>(), before);
            arena.verify().unwrap();
        }
        assert_eq!(arena.free(b, 0x39), Ok(()), "as asked for, not as rounded up");
    }
}

#[test]
fn requests_that_no_arena_can_meet_are_refused() {
    let mut pool = [Segment::SPARE; 8];
    let mut arena = arena_over(Fit::First, &mut pool, 0..0x1000);
    let mut refused = |len, constraint| arena.alloc_constrained(len, &constraint).unwrap_err();
    let none = Constraint::NONE;
    assert_eq!(refused(0, none), AllocError::ZeroLength);
    assert_eq!(refused(u64::MAX, none), AllocError::TooLong { len: u64::MAX });
    let align = |align| Constraint { align, ..none };
    assert_eq!(refused(8, align(24)), AllocError::BadAlignment { align: 24 });
    let phase = |phase| Constraint { phase, ..align(16) };
    assert_eq!(refused(8, phase(4)), AllocError::BadPhase { phase: 4, align: 16 });
    assert_eq!(refused(8, phase(16)), AllocError::BadPhase { phase: 16, align: 16 });
    let nocross = |boundary| Constraint { nocross: Some(boundary), ..phase(8) };
    assert_eq!(refused(24, nocross(16)), AllocError::BadBoundary { boundary: 16, len: 24 });
    assert_eq!(refused(16, nocross(16)), AllocError::BadBoundary { boundary: 16, len: 16 });
    assert_eq!(refused(8, nocross(0)), AllocError::BadBoundary { boundary: 0, len: 8 });
    let window = |min, max| Constraint { min, max, ..none };
    let narrow = AllocError::BadWindow { min: 1, max: 16, len: 16 };
    assert_eq!(refused(16, window(1, 16)), narrow);
    let inverted = AllocError::BadWindow { min: u64::MAX, max: 0, len: 8 };
    assert_eq!(refused(8, window(u64::MAX, 0)), inverted);
}

#[test]
fn ranges_that_cannot_be_added_are_refused() {
    let mut pool = [Segment::SPARE; 16];
    let mut arena = arena_over(Fit::First, &mut pool, 0x100..0x200);
    let refused = [
        (0x300..0x300, AddError::Empty { range: 0x300..0x300 }),
        (0x304..0x400, AddError::Misaligned { range: 0x304..0x400, quantum: 8 }),
        (0x300..0x404, AddError::Misaligned { range: 0x300..0x404, quantum: 8 }),
        (0..0x108, AddError::Overlap { range: 0..0x108, with: 0x100..0x200 }),
        (0x1f8..0x300, AddError::Overlap { range: 0x1f8..0x300, with: 0x100..0x200 }),
        (0x140..0x148, AddError::Overlap { range: 0x140..0x148, with: 0x100..0x200 }),
        (0..0x1000, AddError::Overlap { range: 0..0x1000, with: 0x100..0x200 }),
    ];
    for (range, expected) in refused {
        assert_eq!(arena.add(range), Err(expected));
    }
    assert_eq!(arena.stats(), Stats { available: 0x100, spans: 1, ..Stats::default() });
}

#[test]
fn added_ranges_that_touch_serve_one_request() {
    for fit in FITS {
        let mut pool = [Segment::SPARE; 16];
        let mut arena = arena_over(fit, &mut pool, 0x100..0x200);
        arena.add(0x300..0x400).unwrap();
        arena.add(0x200..0x300).unwrap();
        arena.verify().unwrap();
        assert_eq!(arena.stats().spans, 1);
        assert_eq!(arena.alloc(0x300), Ok(0x100));
    }
}

#[test]
fn the_whole_range_of_integers_can_be_managed() {
    for fit in FITS {
        let mut pool = [Segment::SPARE; 16];
        let top = !7_u64;
        let mut arena = arena_over(fit, &mut pool, 0..top);
        let last = Constraint { min: top - 8, nocross: Some(1 << 63), ..Constraint::NONE };
        assert_eq!(arena.alloc_constrained(8, &last), Ok(top - 8));
        let half = Constraint { align: 1 << 63, phase: 1 << 62, ..Constraint::NONE };
        assert_eq!(arena.alloc_constrained(1 << 62, &half), Ok(1 << 62), "{fit:?}");
        arena.verify().unwrap();
        arena.free_at(1 << 62).unwrap();
        arena.free_at(top - 8).unwrap();
        assert_eq!(arena.alloc(top), Ok(0));
        arena.verify().unwrap();
    }
}

#[test]
fn starts_that_collide_are_found_all_the_same() {
    let mut pool = [Segment::SPARE; 128];
    let mut arena = arena_over(Fit::First, &mut pool, 0..1 << 20);
    let bucket = arena.starts.bucket(0);
    let colliding: Vec<u64> =
        (0..1 << 20).step_by(8).filter(|&s| arena.starts.bucket(s) == bucket).take(40).collect();
    assert_eq!(colliding.len(), 40);
    for &min in &colliding {
        let here = Constraint { min, max: min + 8, ..Constraint::NONE };
        assert_eq!(arena.alloc_constrained(8, &here), Ok(min));
        arena.verify().unwrap();
    }
    let beside = colliding[0] + 8;
    assert!(matches!(arena.free(beside, 8), Err(FreeError::NotAllocated { .. })));
    for &start in colliding.iter().step_by(3).chain(colliding.iter().rev()) {
        let _ = arena.free(start, 8);
        assert!(matches!(arena.free(start, 8), Err(FreeError::NotAllocated { .. })));
        arena.verify().unwrap();
    }
    assert_eq!(arena.stats().allocated, 0);
}

#[test]
fn a_cached_segment_is_handed_out_again_and_a_full_cache_merges() {
    let mut pool = [Segment::SPARE; 256];
    let config = Config { cached_quanta: 2, ..Config::new("cached", 8, Fit::First) };
    let mut arena = Arena::new(config, &mut pool).unwrap();
    arena.add(0..0x1000).unwrap();
    let starts: Vec<u64> = (0..40).map(|_| arena.alloc(16).unwrap()).collect();
    for &start in &starts {
        arena.free(start, 16).unwrap();
        arena.verify().unwrap();
    }
    assert_eq!(arena.stats().cached, u64::from(CACHE_DEPTH) * 16);
    assert_eq!(arena.alloc(16), Ok(starts[CACHE_DEPTH as usize - 1]), "the last one kept");
    assert_eq!(arena.alloc(24), Ok(starts[32]), "three quanta are not cached");
    assert_eq!(
        arena.alloc(0x1000 - 16 - 32 * 16),
        Err(AllocError::Fragmented { len: 0x1000 - 16 - 32 * 16, available: 0x1000 - 16 - 24 })
    );
    assert_eq!(arena.stats().cached, 0, "drained before a request is refused");
    arena.verify().unwrap();
}

#[test]
fn a_piece_from_the_middle_takes_two_records() {
    for fit in FITS {
        // The ring's, a border, one segment, and one more.
        let mut pool = [Segment::SPARE; 4];
        let mut arena = arena_over(fit, &mut pool, 0..64);
        let middle = Constraint { min: 16, max: 24, ..Constraint::NONE };
        assert_eq!(arena.alloc_constrained(8, &middle), Err(AllocError::NoSegments { pool: 4 }));
        arena.verify().unwrap();
        let end = Constraint { min: 56, ..Constraint::NONE };
        assert_eq!(arena.alloc_constrained(8, &end), Ok(56), "one is enough");
        arena.verify().unwrap();
    }
}

#[test]
fn of_equals_in_a_window_the_lowest_is_taken_when_the_window_ends_first() {
    for fit in FITS {
        let mut pool = [Segment::SPARE; 256];
        let mut arena = arena_over(fit, &mut pool, 0..40 * (24 + 16) + 32);
        let mut take = |len| {
            let start = arena.alloc(len).unwrap();
            arena.alloc(8).unwrap();
            start
        };
        // Longer ones for Worst, lower ones for Best, ones freed later for Instant.
        let others: Vec<u64> = [16, 8].iter().flat_map(|&len| [len; 40]).map(&mut take).collect();
        let [low, high] = [8, 8].map(take);
        for start in [low, high].into_iter().chain(others) {
            arena.free_at(start).unwrap();
        }
        let window = Constraint { min: low, max: high + 8, ..Constraint::NONE };
        assert_eq!(arena.alloc_constrained(8, &window), Ok(low), "{fit:?}");
    }
}

#[test]
fn instant_fit_looks_at_sixteen_segments_that_may_be_too_short() {
    for too_short in [15, 16] {
        let mut pool = [Segment::SPARE; 64];
        let mut arena = arena_over(Fit::Instant, &mut pool, 0..104 + 16 * 72);
        let mut take = |len| {
            let start = arena.alloc(len).unwrap();
            arena.alloc(8).unwrap();
            start
        };
        let long = take(96);
        let short: Vec<u64> = (0..16).map(|_| take(64)).collect();
        arena.free(long, 96).unwrap();
        short[..too_short].iter().for_each(|&start| arena.free(start, 64).unwrap());
        assert_eq!(arena.alloc(96).ok(), (too_short == 15).then_some(long));
    }
}

#[test]
fn every_address_is_found_however_runs_are_divided_and_left() {
    const SEGMENTS: u64 = 200;
    for fit in FITS {
        let mut pool = [Segment::SPARE; segments_needed(1, SEGMENTS as usize)];
        let mut arena = arena_over(fit, &mut pool, 0..SEGMENTS * 8);
        (0..SEGMENTS).for_each(|_| _ = arena.alloc(8).unwrap());
        // 77 and 200 have no common factor, so each comes once: heads and members, in any order.
        for freed in 1..=SEGMENTS {
            arena.free(freed * 77 % SEGMENTS * 8, 8).unwrap();
            arena.verify().unwrap();
            for address in 0..SEGMENTS * 8 {
                let segment = arena.lookup(address).unwrap();
                assert!(segment.range.contains(&address), "{fit:?}: {address} in {segment}");
            }
        }
        assert_eq!(arena.segments_used().0, 3);
    }
}

#[test]
fn an_arena_prints_every_segment() {
    let mut pool = [Segment::SPARE; 8];
    let mut arena = arena_over(Fit::Best, &mut pool, 0x100..0x200);
    arena.alloc(0x20).unwrap();
    let expected = "\
arena test: Best fit, quantum 0x8, 32 allocated, 0 cached, 224 available, 4 of 8 records
0x0000000000000100 added span
  0x0000000000000100-0x0000000000000120 allocated 32
  0x0000000000000120-0x0000000000000200 available 224
";
    assert_eq!(arena.to_string(), expected);
    assert_eq!(arena.lookup(0x11f).unwrap().state, SegmentState::Allocated);
    assert_eq!(arena.lookup(0x120).unwrap().range, 0x120..0x200);
    assert_eq!(arena.lookup(0x200), None);
    assert_eq!(arena.lookup(0xff), None);
}

#[test]
fn errors_say_what_was_expected_and_what_was_found() {
    let text = FreeError::WrongLength { allocated: 0x100..0x140, given: 8 }.to_string();
    assert_eq!(text, "expected length 0x40 for 0x100..0x140, found 0x8");
    let text = AllocError::Fragmented { len: 64, available: 128 }.to_string();
    assert_eq!(text, "expected 0x40 in one piece, found 0x80 in pieces");
}

#[test]
fn a_resize_of_what_is_no_segment_is_refused() {
    let mut pool = [Segment::SPARE; 4];
    for fit in FITS {
        let mut arena = arena_over(fit, &mut pool, 0x100..0x200);
        let a = arena.alloc(0x100).unwrap();
        let inside = FreeError::NotAStart { start: a + 8, allocated: a..a + 0x100 };
        assert_eq!(arena.resize(a + 8, 8), Err(ResizeError::Free(inside)));
        let outside = FreeError::OutOfRange { start: 0x200 };
        assert_eq!(arena.resize(0x200, 8), Err(ResizeError::Free(outside)));
        let too_long = AllocError::TooLong { len: u64::MAX };
        assert_eq!(arena.resize(a, u64::MAX), Err(ResizeError::Alloc(too_long)));
        assert_eq!(arena.resize(a, 0x108), Err(ResizeError::Blocked { room: 0x100 }));
        assert_eq!(arena.resize(a, 0x80), Ok(0x80), "takes the last record");
        let b = arena.alloc(0x80).unwrap();
        assert_eq!(arena.resize(b, 8), Err(ResizeError::NoSegments { pool: 4 }));
        arena.verify().unwrap();
    }
}

#[test]
fn a_resize_takes_what_quantum_caches_keep() {
    for fit in FITS {
        let mut pool = [Segment::SPARE; 6];
        let config = Config { cached_quanta: 1, ..Config::new("cached", 8, fit) };
        let mut arena = Arena::new(config, &mut pool).unwrap();
        arena.add(0..64).unwrap();
        let starts = [16, 8, 8, 32].map(|len| arena.alloc(len).unwrap());
        assert_eq!(starts, [0, 16, 24, 32]);
        arena.free(16, 8).unwrap();
        assert_eq!(arena.resize(0, 40), Err(ResizeError::Blocked { room: 24 }), "{fit:?}");
        assert_eq!(arena.alloc(8), Ok(16));
        arena.free(16, 8).unwrap();
        assert_eq!(arena.resize(0, 24), Ok(24), "{fit:?}: what lay behind");
        arena.verify().unwrap();
        assert_eq!(arena.resize(0, 16), Ok(16));
        assert_eq!(arena.alloc(8), Ok(16));
        [16, 24].iter().for_each(|&start| arena.free(start, 8).unwrap());
        assert_eq!(arena.segments_used(), (6, 6));
        assert_eq!(arena.resize(32, 8), Ok(8), "{fit:?}: one record for two that merge");
        arena.verify().unwrap();
    }
}

#[test]
fn an_arena_in_a_grown_pool_goes_on_where_it_was() {
    for fit in FITS {
        let mut pools = [vec![Segment::SPARE; 8], vec![Segment::SPARE; 64]];
        let [small, large] = &mut pools;
        let mut arena = arena_over(fit, small, 0..0x1000);
        let taken: Vec<u64> = (0..5).map(|_| arena.alloc(16).unwrap()).collect();
        arena.free_at(taken[1]).unwrap();
        assert_eq!(arena.free_at(taken[3]), Ok(16));
        let before: Vec<_> = arena.segments().collect();
        let smaller = arena.grow_pool(large).unwrap();
        assert_eq!(smaller.len(), 8);
        smaller.fill(Segment::SPARE);
        arena.verify().unwrap();
        let spread = (0..0x1000).step_by(8).any(|start| arena.starts.bucket(start) >= Slot(8));
        assert!(spread, "over all buckets there are now");
        assert_eq!(arena.segments().collect::<Vec<_>>(), before);
        for start in [taken[0], taken[2], taken[4]] {
            assert_eq!(arena.free_at(start), Ok(16));
            arena.verify().unwrap();
        }
        assert_eq!(arena.stats().available, 0x1000);
    }
}
