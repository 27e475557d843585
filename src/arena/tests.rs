//! What the model does not reach: limits, damage, misuse one by one, and what is printed.

extern crate alloc;

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use std::time::{Duration, Instant};

use super::segment::{BY_ADDRESS, BY_POLICY, Kind, Slot};
use super::*;

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
        let last = Constraint { min: top - 8, ..Constraint::NONE };
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
fn a_source_is_asked_only_when_needed_and_gets_whole_spans_back() {
    let mut parent_pool = [Segment::SPARE; 16];
    let mut parent =
        Arena::new(Config::new("parent", 0x1000, Fit::First), &mut parent_pool).unwrap();
    parent.add(0x10000..0x18000).unwrap();
    let parent = spin::Mutex::new(parent);

    let mut pool = [Segment::SPARE; 16];
    let config = Config::new("child", 0x10, Fit::Best);
    let mut child = Arena::with_source(config, &mut pool, &parent).unwrap();
    assert_eq!(child.alloc(0x800), Ok(0x10000));
    assert_eq!(child.alloc(0x800), Ok(0x10800));
    assert_eq!(parent.lock().stats().allocated, 0x1000);
    assert_eq!(child.alloc(0x1800), Ok(0x11000), "two quanta of the parent");
    assert_eq!(child.alloc(0x800), Ok(0x12800), "what was left of them");
    assert_eq!(child.alloc(0x8000), Err(AllocError::Exhausted { len: 0x8000, available: 0 }));
    child.free(0x10000, 0x800).unwrap();
    assert_eq!(parent.lock().stats().allocated, 0x3000);
    child.free(0x10800, 0x800).unwrap();
    assert_eq!(parent.lock().stats().allocated, 0x2000);
    let aligned =
        Constraint { align: 0x800, phase: 0x10, nocross: Some(0x1000), ..Constraint::NONE };
    let start = child.alloc_constrained(0x20, &aligned).unwrap();
    assert_eq!(start % 0x800, 0x10);
    child.verify().unwrap();
    let window = Constraint { max: 0x8000, ..Constraint::NONE };
    let spans = child.stats().spans;
    assert!(child.alloc_constrained(0x10, &window).is_err());
    assert_eq!(child.stats().spans, spans, "a window is not imported for");
}

/// Breaks the promise of a source in every way.
struct Liar(Vec<Range<u64>>, Vec<Range<u64>>);

impl Source for Liar {
    fn import(&mut self, _len: u64) -> Option<Range<u64>> {
        self.0.pop()
    }
    fn release(&mut self, span: Range<u64>) -> Result<(), Kept> {
        self.1.push(span);
        Ok(())
    }
}

#[test]
fn a_span_that_breaks_the_rules_goes_back_unused() {
    let bad = [0x104..0x200, 0x80..0x100, 0x100..0x108, 0x200..0x200];
    for span in bad {
        let mut pool = [Segment::SPARE; 16];
        let source = Liar([span.clone()].to_vec(), Vec::new());
        let config = Config::new("test", 8, Fit::First);
        let mut arena = Arena::with_source(config, &mut pool, source).unwrap();
        arena.add(0x80..0x88).unwrap();
        assert_eq!(arena.alloc(16), Err(AllocError::Exhausted { len: 16, available: 8 }));
        assert_eq!(arena.source().1, [span]);
        assert_eq!(arena.stats(), Stats { available: 8, spans: 1, ..Stats::default() });
        arena.verify().unwrap();
    }
}

#[test]
fn an_import_that_the_pool_cannot_hold_goes_back() {
    for (records, len) in [(4, 8), (5, 8)] {
        let mut pool = [Segment::SPARE; 8];
        let source = Liar(Vec::from_iter(Some(0x100..0x200)), Vec::new());
        let config = Config::new("test", 8, Fit::First);
        let mut arena = Arena::with_source(config, &mut pool[..records], source).unwrap();
        arena.add(0..8).unwrap();
        assert_eq!(arena.alloc(8), Ok(0));
        assert_eq!(arena.alloc(len), Err(AllocError::NoSegments { pool: records }));
        assert_eq!(arena.source().1.len(), 1, "given back");
        arena.verify().unwrap();
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
fn damage_to_any_record_is_seen() {
    type Damage = (&'static str, fn(&mut Segment));
    let damages: [Damage; 15] = [
        ("start", |s| s.start += 8),
        ("start off the quantum", |s| s.start += 1),
        ("length", |s| s.len += 8),
        ("ring, backwards", |s| s.before.0 ^= 1),
        ("ring, forwards", |s| s.after.0 ^= 1),
        ("tree, left", |s| s.links[BY_ADDRESS].children[0].0 ^= 1),
        ("tree, right", |s| s.links[BY_ADDRESS].children[1].0 ^= 1),
        ("tree, up", |s| s.links[BY_ADDRESS].parent.0 ^= 1),
        ("members", |s| s.members ^= 1),
        ("colour", |s| s.red ^= 1 << BY_ADDRESS),
        ("origin", |s| s.origin = Origin::Imported),
        ("kind: spare", |s| s.kind = Kind::Spare),
        ("kind: border", |s| s.kind = Kind::Border),
        ("kind: the other", |s| {
            s.kind = if s.is_available() { Kind::Allocated } else { Kind::Available };
        }),
        ("kind: cached", |s| s.kind = Kind::Cached),
    ];
    for fit in FITS {
        for (what, damage) in damages {
            for victim in 1..12 {
                let mut pool = [Segment::SPARE; 16];
                let mut arena = arena_over(fit, &mut pool, 0x100..0x200);
                let starts: Vec<u64> = (0..9).map(|_| arena.alloc(16).unwrap()).collect();
                for start in starts.iter().skip(1).step_by(2) {
                    arena.free(*start, 16).unwrap();
                }
                arena.verify().unwrap();
                let record = &mut arena.pool[Slot(victim)];
                let before = *record;
                damage(record);
                if *record != before && before.kind != Kind::Spare {
                    assert!(arena.verify().is_err(), "{fit:?}: {what} of {before:?}");
                }
            }
        }
    }
}

#[test]
fn damage_to_the_structure_of_a_fit_is_seen() {
    for fit in FITS {
        let mut pool = [Segment::SPARE; 16];
        let mut arena = arena_over(fit, &mut pool, 0x100..0x200);
        let a = arena.alloc(16).unwrap();
        arena.alloc(16).unwrap();
        arena.free(a, 16).unwrap();
        let available: Vec<Slot> =
            arena.pool.ring().filter(|(_, s)| s.is_available()).map(|(slot, _)| slot).collect();
        for slot in available {
            let links = arena.pool[slot].links[BY_POLICY];
            arena.index.withdraw(&mut arena.pool, slot, Kind::Available);
            if !matches!(fit, Fit::First | Fit::Next) {
                assert!(arena.verify().is_err(), "{fit:?}: in no structure");
                arena.index.admit(&mut arena.pool, slot);
            }
            for child in 0..2 {
                arena.pool[slot].links[BY_POLICY].children[child].0 ^= 5;
                assert!(arena.verify().is_err(), "{fit:?}: {child} of {links:?}");
                arena.pool[slot].links[BY_POLICY].children[child].0 ^= 5;
                arena.verify().unwrap();
            }
        }
    }
}

#[test]
fn damage_to_hash_chains_and_quantum_caches_is_seen() {
    let mut pool = [Segment::SPARE; 32];
    let config = Config { cached_quanta: 2, ..Config::new("cached", 8, Fit::Instant) };
    let mut arena = Arena::new(config, &mut pool).unwrap();
    arena.add(0..0x100).unwrap();
    let starts: Vec<u64> = (0..12).map(|_| arena.alloc(8).unwrap()).collect();
    starts[..6].iter().for_each(|&start| arena.free(start, 8).unwrap());
    arena.verify().unwrap();
    let met: Vec<_> = arena.pool.ring().map(|(slot, segment)| (slot, segment.kind)).collect();
    for (slot, kind) in met {
        let damages: &[fn(&mut Segment)] = match kind {
            Kind::Cached => &[
                |s| s.chain[0].0 ^= 1,
                |s| s.chain[1].0 ^= 1,
                |s| s.links[BY_POLICY].parent.0 ^= 1,
            ],
            Kind::Allocated => &[|s| s.chain[0].0 ^= 1, |s| s.chain[1].0 ^= 1],
            _ => &[],
        };
        for damage in damages {
            let before = arena.pool[slot];
            damage(&mut arena.pool[slot]);
            assert!(arena.verify().is_err(), "{before:?} as {:?}", arena.pool[slot]);
            arena.pool[slot] = before;
            arena.verify().unwrap();
        }
    }
    // Out of its cache, but not handed out.
    let slot = arena.caches.pop(&mut arena.pool, 1).unwrap();
    arena.pool[slot].kind = Kind::Cached;
    assert!(arena.verify().is_err());
}

/// A walk along the list for each of its members takes more than a minute here, one walk a moment.
#[test]
fn to_verify_long_lists_takes_no_longer_than_to_walk_them() {
    const SEGMENTS: u64 = 200_000;
    for fit in FITS {
        let mut pool = vec![Segment::SPARE; segments_needed(1, SEGMENTS as usize)];
        let mut arena = arena_over(fit, &mut pool, 0..SEGMENTS * 8);
        (0..SEGMENTS).for_each(|_| _ = arena.alloc(8).unwrap());
        (0..SEGMENTS).step_by(2).for_each(|unit| arena.free(unit * 8, 8).unwrap());
        let begin = Instant::now();
        arena.verify().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10), "{fit:?}: {:?}", begin.elapsed());
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
        assert_eq!(arena.segments().collect::<Vec<_>>(), before);
        for start in [taken[0], taken[2], taken[4]] {
            assert_eq!(arena.free_at(start), Ok(16));
            arena.verify().unwrap();
        }
        assert_eq!(arena.stats().available, 0x1000);
    }
}
