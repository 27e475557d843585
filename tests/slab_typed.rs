//! Typed caches: values dropped once, objects constructed once, and what happens when a
//! constructor fails.

use std::cell::Cell;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use kmem::AllocFlags;
use kmem::buddy::AllocError;
use kmem::page::Shrinker;
use kmem::slab::{Cache, CacheFlags, ConstructError, ObjectCache, SlabBox};

mod support;
use support::Frames;

/// Counts its drops.
struct Counted<'a>(&'a Cell<usize>, u64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_value_is_dropped_once_and_its_object_serves_again() {
    let frames = Frames::new(64);
    let dropped = Cell::new(0);
    let cache = Cache::new(&frames, "values", CacheFlags::empty());
    let first = cache.alloc(Counted(&dropped, 5)).ok().expect("memory");
    let second = cache.alloc(Counted(&dropped, 6)).ok().expect("memory");
    assert_eq!((first.1, second.1), (5, 6));
    drop(first);
    assert_eq!(dropped.get(), 1);
    assert_eq!(cache.stats().objects_active, 1);
    let inner = SlabBox::into_inner(second);
    assert_eq!((dropped.get(), inner.1), (1, 6));
    drop(inner);
    let raw = SlabBox::into_raw(cache.alloc(Counted(&dropped, 7)).ok().expect("memory"));
    assert_eq!((dropped.get(), cache.stats().objects_active), (2, 1));
    // SAFETY: the pointer of the box above, used by nobody.
    drop(unsafe { cache.from_raw(raw) });
    assert_eq!((dropped.get(), cache.stats().objects_active), (3, 0));
    cache.verify().expect("sound");
    assert!(cache.destroy().is_ok());
    assert_eq!(frames.taken(), 0);
}

#[test]
fn a_value_that_panics_when_dropped_gives_its_object_back() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let frames = Frames::new(64);
    let cache = Cache::new(&frames, "bombs", CacheFlags::empty());
    let bomb = cache.alloc(Bomb).ok().expect("memory");
    assert!(catch_unwind(AssertUnwindSafe(|| drop(bomb))).is_err());
    assert_eq!(cache.stats().objects_active, 0);
    cache.verify().expect("sound");
}

#[test]
fn a_value_that_finds_no_memory_comes_back() {
    let frames = Frames::new(64);
    let cache = Cache::new(&frames, "poor", CacheFlags::empty());
    frames.fail_after(0);
    let (value, error) = cache.alloc(77u64).expect_err("no memory");
    assert_eq!((value, error), (77, AllocError::OutOfMemory));
    assert_eq!(frames.taken(), 0);
}

#[test]
fn values_without_size_have_addresses_of_their_own() {
    let frames = Frames::new(64);
    let cache = Cache::new(&frames, "units", CacheFlags::empty());
    let (a, b) = (cache.alloc(()).expect("memory"), cache.alloc(()).expect("memory"));
    assert!(!std::ptr::eq(&*a, &*b));
}

#[test]
fn a_dropped_cache_leaves_leaked_values_alone() {
    let frames = Frames::new(64);
    let cache = Cache::new(&frames, "leaky", CacheFlags::empty());
    let leaked = SlabBox::leak(cache.alloc(123u64).expect("memory"));
    *leaked += 1;
    assert_eq!(*leaked, 124);
    let (cache, busy) = cache.destroy().map_or_else(|busy| busy, |()| panic!("destroyed"));
    assert_eq!(busy.live, 1);
    drop(cache);
    assert!(frames.taken() > 0);
}

#[test]
fn an_object_is_constructed_once_and_dropped_when_its_slab_goes() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static GONE: AtomicUsize = AtomicUsize::new(0);
    struct Costly(u64);
    impl Drop for Costly {
        fn drop(&mut self) {
            GONE.fetch_add(1, Relaxed);
        }
    }
    fn make() -> Result<Costly, Infallible> {
        MADE.fetch_add(1, Relaxed);
        Ok(Costly(42))
    }
    let frames = Frames::new(64);
    let cache: ObjectCache<'_, Costly, Frames> =
        ObjectCache::new(&frames, "costly", CacheFlags::empty(), make);
    let per_slab = {
        let mut first = cache.alloc().expect("memory");
        assert_eq!(first.0, 42);
        first.0 = 43;
        cache.stats().objects_per_slab
    };
    assert_eq!((MADE.load(Relaxed), GONE.load(Relaxed)), (per_slab, 0));
    for _ in 0..10 * per_slab {
        drop(cache.alloc().expect("memory"));
    }
    // As its last user left it.
    assert_eq!(cache.alloc().expect("memory").0, 43);
    assert_eq!((MADE.load(Relaxed), GONE.load(Relaxed)), (per_slab, 0));
    assert!(cache.shrink() > 0);
    assert_eq!((MADE.load(Relaxed), GONE.load(Relaxed)), (per_slab, per_slab));
    drop(cache);
    assert_eq!(frames.taken(), 0);
}

#[test]
fn values_find_the_memory_that_was_set_aside_for_them() {
    let frames = Frames::new(64);
    let dropped = Cell::new(0);
    let cache = Cache::new(&frames, "aside", CacheFlags::empty());
    let mut stock = cache.reserve(100, AllocFlags::empty()).expect("memory");
    frames.fail_after(0);
    let boxes: Vec<_> = (0..100)
        .map(|number| stock.alloc(Counted(&dropped, number)).ok().expect("set aside"))
        .collect();
    assert!(boxes.iter().map(|value| value.1).eq(0..100) && stock.is_empty());
    let refused = stock.alloc(Counted(&dropped, 7)).err().expect("used up");
    assert_eq!((refused.1, dropped.get()), (7, 0));
    drop((boxes, refused, stock));
    assert_eq!(dropped.get(), 101);
    cache.verify().expect("sound");
    assert!(cache.destroy().is_ok());
    assert_eq!(frames.taken(), 0);
}

#[test]
fn objects_that_were_set_aside_are_constructed_and_go_back() {
    let frames = Frames::new(64);
    let made = AtomicUsize::new(0);
    let cache = ObjectCache::new(&frames, "aside", CacheFlags::empty(), || {
        if made.fetch_add(1, Relaxed) < 1000 { Ok(42u64) } else { Err("too many") }
    });
    let mut stock = cache.reserve(100, AllocFlags::empty()).expect("memory");
    let first = stock.alloc().expect("set aside");
    assert_eq!((*first, stock.len()), (42, 99));
    drop(stock);
    assert_eq!(cache.stats().objects_active, 1);
    let refused = cache.reserve(10_000, AllocFlags::empty()).err();
    assert!(matches!(refused, Some(ConstructError::Constructor("too many"))));
    assert_eq!(cache.stats().objects_active, 1);
    drop(first);
    cache.verify().expect("sound");
    // What was idle twice in a row goes back, and what a shrinker finds.
    cache.reap();
    assert!(cache.reap() + Shrinker::shrink(&cache, 1) > 0);
    drop(cache);
    assert_eq!(frames.taken(), 0);
}

#[test]
fn callers_say_what_they_may_do_and_no_flag_touches_an_object() {
    let frames = Frames::new(64);
    let values = Cache::new(&frames, "values", CacheFlags::empty());
    let objects = ObjectCache::new(&frames, "objects", CacheFlags::empty(), || {
        Ok::<_, Infallible>(Box::new(42))
    });
    for flags in [AllocFlags::ZERO, AllocFlags::ATOMIC, AllocFlags::NO_WAIT] {
        assert_eq!(*values.alloc_with(5, flags).expect("memory"), 5);
        assert_eq!(**objects.alloc_with(flags).expect("memory"), 42);
        let mut stock = objects.reserve(3, flags).expect("memory");
        assert_eq!(**stock.alloc().expect("set aside"), 42);
    }
    frames.fail_after(0);
    let poor = Cache::new(&frames, "poor", CacheFlags::empty());
    let (value, error) = poor.alloc_with("mine", AllocFlags::NO_WAIT).expect_err("no memory");
    assert_eq!((value, error), ("mine", AllocError::OutOfMemory));
}

#[test]
fn a_failing_or_panicking_constructor_leaves_nothing_behind() {
    for panics in [false, true] {
        let frames = Frames::new(64);
        let dropped = AtomicUsize::new(0);
        let made = AtomicUsize::new(0);
        struct Noted<'a>(&'a AtomicUsize);
        impl Drop for Noted<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let cache = ObjectCache::new(&frames, "fallible", CacheFlags::empty(), || {
            match made.fetch_add(1, Relaxed) {
                5 if panics => panic!("constructor"),
                5 => Err("the sixth"),
                _ => Ok(Noted(&dropped)),
            }
        });
        let result = catch_unwind(AssertUnwindSafe(|| cache.alloc().err()));
        if panics {
            assert!(result.is_err());
        } else {
            let error = result.expect("no panic").expect("an error");
            assert_eq!(error, ConstructError::Constructor("the sixth"));
        }
        assert_eq!(dropped.load(Relaxed), 5);
        assert!(!support::masked(), "a lock is held");
        cache.verify().expect("sound");
        // The seventh and all later ones succeed.
        let object = cache.alloc().unwrap_or_else(|_| panic!("no memory"));
        drop(object);
        drop(cache);
        assert_eq!(frames.taken(), 0);
        assert_eq!(dropped.load(Relaxed), made.load(Relaxed) - 1);
        frames.assert_owners_clean();
    }
}
