//! What `verify` sees, and how often it looks.

use super::super::segment::{BY_ADDRESS, BY_POLICY};
use super::*;

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

#[test]
fn to_verify_long_lists_takes_no_longer_than_to_walk_them() {
    let reads_for = |fit, segments: u64| {
        let mut pool = vec![Segment::SPARE; segments_needed(1, segments as usize)];
        let mut arena = arena_over(fit, &mut pool, 0..segments * 8);
        (0..segments).for_each(|_| _ = arena.alloc(8).unwrap());
        (0..segments).step_by(2).for_each(|unit| arena.free(unit * 8, 8).unwrap());
        let before = READS.get();
        arena.verify().unwrap();
        READS.get() - before
    };
    for fit in FITS {
        let (few, many) = (reads_for(fit, 1000), reads_for(fit, 4000));
        // Of four times as many segments: O(n log n) is below that, and a walk for each member
        // sixteen times as much.
        assert!(many < few * 6, "{fit:?}: {few}, {many}");
    }
}
