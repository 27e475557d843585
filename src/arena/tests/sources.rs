//! Imports, and sources that refuse or break their promise.

use super::*;

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
fn an_import_has_room_wherever_it_starts() {
    /// Hands out what is asked for and no more, from 64 on.
    struct Exactly;
    impl Source for Exactly {
        fn import(&mut self, len: u64) -> Option<Range<u64>> {
            Some(64..64 + len)
        }
        fn release(&mut self, _span: Range<u64>) -> Result<(), Kept> {
            Ok(())
        }
    }
    for fit in FITS {
        let mut pool = [Segment::SPARE; 16];
        let config = Config::new("test", 8, fit);
        let mut arena = Arena::with_source(config, &mut pool, Exactly).unwrap();
        // 56 below the next start, 120, from where it crosses 128; so it goes to the one after
        // that.
        let worst = Constraint { align: 64, phase: 56, nocross: Some(128), ..Constraint::NONE };
        assert_eq!(arena.alloc_constrained(16, &worst), Ok(184), "{fit:?}");
        arena.verify().unwrap();
    }
}

#[test]
fn an_arena_may_borrow_its_source() {
    let mut parent_pool = [Segment::SPARE; 8];
    let mut parent = arena_over(Fit::First, &mut parent_pool, 0..64);
    let mut pool = [Segment::SPARE; 8];
    let config = Config::new("child", 8, Fit::First);
    let mut child = Arena::with_source(config, &mut pool, &mut parent).unwrap();
    assert_eq!(child.alloc(8), Ok(0));
    assert_eq!(child.source().stats().allocated, 8);
    child.free(0, 8).unwrap();
    assert_eq!(child.stats().spans, 0);
    assert_eq!(child.source().stats().allocated, 0);
}

#[test]
fn drained_caches_give_imported_spans_back() {
    let mut parent_pool = [Segment::SPARE; 8];
    let mut parent = arena_over(Fit::First, &mut parent_pool, 0..64);
    let mut pool = [Segment::SPARE; 16];
    let config = Config { cached_quanta: 2, ..Config::new("child", 8, Fit::Instant) };
    let mut child = Arena::with_source(config, &mut pool, &mut parent).unwrap();
    for refill in [Arena::drain_caches, |child: &mut Arena<'_, _>| {
        // More than the source has, so what is cached is drained in vain.
        assert_eq!(child.alloc(128), Err(AllocError::Exhausted { len: 128, available: 0 }));
    }] {
        let starts = [8, 16].map(|len| (child.alloc(len).unwrap(), len));
        starts.iter().for_each(|&(start, len)| child.free(start, len).unwrap());
        assert_eq!((child.stats().cached, child.source().stats().allocated), (24, 24));
        child.verify().unwrap();
        refill(&mut child);
        assert_eq!(child.stats(), Stats::default());
        assert_eq!(child.source().stats().allocated, 0);
        child.verify().unwrap();
    }
}
