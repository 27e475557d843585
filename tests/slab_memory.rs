//! What a cache takes, keeps and gives back.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use kmem::AllocFlags;
use kmem::frame::FRAME_SIZE;
use kmem::slab::{CacheFlags, RawCache};

mod support;
use support::{Frames, Random, become_cpu, maskings, with_interrupts};

const NONE: AllocFlags = AllocFlags::empty();

fn take(cache: &RawCache<'_, Frames>, objects: usize) -> Vec<NonNull<u8>> {
    (0..objects).map(|_| cache.alloc(NONE).expect("memory")).collect()
}

fn give(cache: &RawCache<'_, Frames>, objects: Vec<NonNull<u8>>) {
    for object in objects {
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
    cache.verify().expect("sound");
}

#[test]
fn a_cache_takes_nothing_before_its_first_use_and_little_for_it() {
    let frames = Frames::new(64).sharing_records();
    let caches: Vec<_> =
        (0..20).map(|_| RawCache::new(&frames, "idle", 64, 8, CacheFlags::empty())).collect();
    assert_eq!(frames.taken(), 0);
    for cache in &caches {
        give(cache, take(cache, 1));
    }
    // A slab each, and one frame of records.
    assert_eq!(frames.taken(), 20 + 1);
}

#[test]
fn objects_of_fresh_slabs_are_handed_out_as_they_lie_in_memory() {
    let frames = Frames::new(256);
    // 64 and 21 objects to a slab of a frame: some batches end with one.
    for size in [64, 192] {
        let cache = RawCache::new(&frames, "fresh", size, 8, CacheFlags::empty());
        become_cpu(0);
        let objects = take(&cache, 1000);
        for pair in objects.windows(2) {
            let [before, after] = [pair[0].addr().get(), pair[1].addr().get()];
            let in_one_slab = before / FRAME_SIZE == after / FRAME_SIZE;
            assert!(!in_one_slab || after == before + size, "{before:x} before {after:x}");
        }
        give(&cache, objects);
    }
}

#[test]
fn a_cache_that_empties_keeps_64_kib_of_slabs_and_gives_the_others_back_by_itself() {
    let frames = Frames::new(512);
    let cache = RawCache::new(&frames, "wave", 512, 8, CacheFlags::NO_MAGAZINES);
    give(&cache, take(&cache, 800));
    assert_eq!(cache.stats().slabs_total, 16);
    assert!(cache.shrink() == 16 && cache.stats().slabs_total == 0);
}

#[test]
fn slabs_of_objects_that_are_freed_in_no_order_go_back() {
    let frames = Frames::new(4096);
    let cache = RawCache::new(&frames, "mixed", 64, 8, CacheFlags::empty());
    let mut random = Random::new(7);
    for _ in 0..2 {
        let mut objects = take(&cache, 100_000);
        let slabs = cache.stats().slabs_total;
        for last in (1..objects.len()).rev() {
            objects.swap(last, random.below(last + 1));
        }
        give(&cache, objects);
        let left = cache.stats().slabs_total;
        assert!(left * 4 < slabs, "{left} of {slabs} slabs stay");
    }
}

#[test]
fn reaping_follows_the_working_set() {
    let frames = Frames::new(1024);
    let cache = RawCache::new(&frames, "reaped", 512, 8, CacheFlags::NO_MAGAZINES);
    let busy = take(&cache, 1600);
    let wave = take(&cache, 160);
    give(&cache, wave);
    let idle = |cache: &RawCache<'_, Frames>| {
        let stats = cache.stats();
        stats.slabs_total - stats.slabs_active
    };
    assert_eq!(idle(&cache), 20);
    cache.reap();
    // All 20 were needed since the cache began; half of them are needed in the next interval.
    assert_eq!(idle(&cache), 20);
    let wave = take(&cache, 80);
    give(&cache, wave);
    assert_eq!(cache.reap(), 10);
    assert_eq!(idle(&cache), 10);
    // None is needed in the last.
    assert_eq!(cache.reap(), 10);
    assert_eq!(idle(&cache), 0);
    give(&cache, busy);
}

#[test]
fn a_wave_that_comes_again_and_again_stays_with_its_cpu_if_its_objects_are_small() {
    const OBJECTS: usize = 20_000;
    for (size, is_small) in [(16, true), (32, true), (48, false)] {
        let frames = Frames::new(4096);
        let cache = RawCache::new(&frames, "tidal", size, 8, CacheFlags::empty());
        let wave = |objects| {
            give(&cache, take(&cache, objects));
            cache.stats().objects_cached
        };
        let once = wave(OBJECTS);
        assert!(once < OBJECTS, "{size} bytes: {once} of a single wave stay");
        // What was turned away so long ago does not count.
        cache.reap();
        let later = wave(OBJECTS);
        assert!(later < OBJECTS, "{size} bytes: {later} of a later wave stay");
        // This one had to be fetched from the slabs just after it had gone back.
        let again = wave(OBJECTS);
        assert_eq!(again >= OBJECTS, is_small, "{size} bytes: {again} of {OBJECTS} stay");
        // What was not needed between two reapings has no place any more.
        cache.reap();
        cache.reap();
        let left = cache.stats().objects_cached;
        assert!(left < once, "{size} bytes: {left} stay after reaping");
        let after = wave(OBJECTS);
        assert!(after < once + once / 2, "{size} bytes: {after} stay after reaping and a wave");
        for _ in 0..4 {
            wave(10 * OBJECTS);
        }
        let most = cache.stats().objects_cached;
        assert!(most * size <= 9 << 18, "{size} bytes: {most} stay");
        cache.reap();
        cache.reap();
        let after = wave(10 * OBJECTS);
        assert!(after < once + once / 2, "{size} bytes: {after} stay of a wave after larger ones");
        cache.verify().expect("sound");
    }
}

#[test]
fn a_place_that_was_earned_stays_while_all_that_it_is_for_is_in_use() {
    const OBJECTS: usize = 20_000;
    let frames = Frames::new(4096);
    let cache = RawCache::new(&frames, "in use", 16, 8, CacheFlags::empty());
    give(&cache, take(&cache, OBJECTS));
    give(&cache, take(&cache, OBJECTS));
    assert!(cache.stats().objects_cached >= OBJECTS);
    let objects = take(&cache, OBJECTS);
    // What is left over goes with its places; the others are not touched, however often.
    for _ in 0..100 {
        cache.shrink();
    }
    assert_eq!(cache.stats().objects_cached, 0);
    give(&cache, objects);
    let kept = cache.stats().objects_cached;
    assert!(kept > OBJECTS - 1000, "{kept} of {OBJECTS} stay");
}

#[test]
fn a_cpu_that_earned_places_alone_has_fewer_when_others_come() {
    const OBJECTS: usize = 200_000;
    let frames = Frames::with_cpus(4096, 8);
    let cache = RawCache::new(&frames, "shared", 16, 8, CacheFlags::empty());
    for _ in 0..4 {
        give(&cache, take(&cache, OBJECTS));
    }
    assert!(cache.stats().objects_cached * 16 > 1 << 20);
    let objects = take(&cache, OBJECTS);
    for cpu in 1..8 {
        become_cpu(cpu);
        for _ in 0..100 {
            give(&cache, take(&cache, 10));
        }
    }
    become_cpu(0);
    give(&cache, objects);
    let kept = cache.stats().objects_cached;
    // An eighth of 4 MiB, and what each CPU has in use.
    assert!(kept * 16 < 5 << 17, "{kept} stay");
}

/// Where threads are CPUs, a process is copied while nobody holds a lock: what is nowhere then is
/// lost to the copy.
#[test]
fn while_no_lock_is_held_objects_are_on_a_shelf_or_in_their_slabs() {
    let frames = Frames::new(1024);
    let cache = RawCache::new(&frames, "copied", 256, 8, CacheFlags::empty());
    give(&cache, take(&cache, 1000));
    // Of what was needed since the cache began nothing is idle.
    cache.reap();
    let cached = cache.stats().objects_cached;
    let looks = Cell::new(0);
    let look = || {
        cache.verify().expect("sound");
        looks.set(looks.get() + 1);
    };
    with_interrupts(&look, || _ = cache.reap());
    assert!(looks.get() > 0 && cache.stats().objects_cached < cached);
}

#[test]
fn objects_idle_on_other_cpus_come_back_at_their_next_free() {
    let frames = Frames::new(1024);
    let cache = RawCache::new(&frames, "spread", 256, 8, CacheFlags::empty());
    for cpu in 0..3 {
        become_cpu(cpu);
        give(&cache, take(&cache, 200));
    }
    assert!(cache.stats().objects_cached > 60);
    become_cpu(0);
    cache.shrink();
    for cpu in 1..3 {
        become_cpu(cpu);
        give(&cache, take(&cache, 1));
    }
    // What the last frees put into magazines, and what their allocations took along.
    assert!(cache.stats().objects_cached < 70, "{:?}", cache.stats());
    become_cpu(0);
    assert!(cache.destroy().is_ok());
    assert_eq!(frames.taken(), 0);
}

#[test]
fn objects_idle_on_other_cpus_come_back_at_once_where_cpus_can_be_made_to_synchronize() {
    for flags in [CacheFlags::empty(), CacheFlags::POISON, CacheFlags::STRICT] {
        let frames = Frames::new(1024).synchronizing();
        let cache = RawCache::new(&frames, "spread", 256, 8, flags);
        for cpu in 0..4 {
            become_cpu(cpu);
            give(&cache, take(&cache, 200));
        }
        assert!(cache.stats().objects_cached > 60);
        become_cpu(0);
        assert!(cache.shrink() > 0);
        let stats = cache.stats();
        assert_eq!((stats.objects_cached, stats.slabs_total), (0, 0));
        // The others go on as before, in the magazines that they have.
        for cpu in 0..4 {
            become_cpu(cpu);
            give(&cache, take(&cache, 50));
        }
        assert!(cache.stats().objects_cached >= 4);
        assert!(cache.destroy().is_ok());
        assert_eq!(frames.taken(), 0);
    }
}

#[test]
fn a_free_asks_for_no_memory_that_it_would_have_to_wait_for() {
    for (cpu, is_together) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut asked = 0;
        // Whether what records lie in has room for another depends on how many there are.
        for objects in (200..2000).step_by(100) {
            let frames = Frames::new(1024);
            let cache = RawCache::new(&frames, "freed", 256, 8, CacheFlags::empty());
            become_cpu(0);
            let objects = take(&cache, objects);
            let counts = || (frames.requests.load(Relaxed), frames.patient.load(Relaxed));
            let (requests, patient) = counts();
            become_cpu(cpu);
            if is_together {
                for some in objects.chunks(100) {
                    // SAFETY: not used any more.
                    unsafe { cache.free_many(some) }.expect("allocated");
                }
            } else {
                give(&cache, objects);
            }
            assert_eq!(counts().1, patient, "CPU {cpu}, {is_together}: it may wait");
            asked += counts().0 - requests;
        }
        assert!(asked > 0, "CPU {cpu}, {is_together}: no request");
    }
}

#[test]
fn objects_that_are_set_aside_take_no_lock() {
    let frames = Frames::new(64);
    let cache = RawCache::new(&frames, "reserved", 64, 8, CacheFlags::empty());
    let mut stock = cache.reserve(200, NONE).expect("memory");
    let counts = || (maskings(), frames.requests.load(Relaxed));
    let before = counts();
    let objects: Vec<_> = std::iter::from_fn(|| stock.alloc()).collect();
    assert_eq!(counts(), before);
    assert_eq!(objects.len(), 200);
    drop(stock);
    give(&cache, objects);
    assert!(cache.destroy().is_ok());
    assert_eq!(frames.taken(), 0, "the stock's magazines are back");
}

/// Has two CPUs use the cache as often as it takes to get magazines, and gives back what they then
/// have: before that one takes what the other left.
fn warm_two_cpus(cache: &RawCache<'_, Frames>) {
    for cpu in 0..2 {
        become_cpu(cpu);
        give(cache, take(cache, 40));
    }
    become_cpu(0);
    cache.shrink();
    become_cpu(1);
    give(cache, take(cache, 1));
}

#[test]
fn cpus_that_free_what_they_took_never_have_objects_of_one_slab() {
    for (size, _) in ROUNDS {
        let frames = Frames::new(4096);
        let cache = RawCache::new(&frames, "private", size, 8, CacheFlags::empty());
        let mut random = Random::new(7);
        let mut live: [Vec<NonNull<u8>>; 2] = [Vec::new(), Vec::new()];
        warm_two_cpus(&cache);
        for wave in 0..20 {
            for cpu in [wave % 2, 1 - wave % 2] {
                become_cpu(cpu);
                for _ in 0..400 {
                    if random.below(2) == 0 {
                        live[cpu].extend(take(&cache, 1));
                    } else if !live[cpu].is_empty() {
                        let object = live[cpu].swap_remove(random.below(live[cpu].len()));
                        // SAFETY: not used any more.
                        unsafe { cache.free(object) }.expect("allocated");
                    }
                }
                if wave % 4 == 3 {
                    give(&cache, live[cpu].drain(..).collect());
                }
            }
            let slabs = |objects: &[NonNull<u8>]| -> BTreeSet<usize> {
                let bytes = cache.stats().frames_per_slab * FRAME_SIZE;
                objects.iter().map(|object| object.addr().get() / bytes).collect()
            };
            let (mine, yours) = (slabs(&live[0]), slabs(&live[1]));
            assert!(mine.is_disjoint(&yours), "{size} bytes, wave {wave}");
        }
        cache.verify().expect("sound");
        for (cpu, live) in live.into_iter().enumerate() {
            become_cpu(cpu);
            give(&cache, live);
        }
        become_cpu(0);
    }
}

#[test]
fn an_object_freed_on_another_cpu_goes_back_to_the_cpu_whose_slab_it_is_of() {
    const ROUNDS: usize = 59;
    let frames = Frames::new(4096);
    let cache = RawCache::new(&frames, "lent", 64, 8, CacheFlags::empty());
    warm_two_cpus(&cache);
    let slab = |object: &NonNull<u8>| object.addr().get() / FRAME_SIZE;
    for many in [false, true] {
        become_cpu(0);
        // More than a magazine of them, so some are put back into their slab.
        let lent = take(&cache, ROUNDS + 1);
        let lenders: BTreeSet<usize> = lent.iter().map(slab).collect();
        become_cpu(1);
        if many {
            // SAFETY: not used any more.
            unsafe { cache.free_many(&lent) }.expect("allocated");
        } else {
            give(&cache, lent);
        }
        let mine = take(&cache, 2 * ROUNDS);
        assert!(mine.iter().all(|object| !lenders.contains(&slab(object))), "many: {many}");
        give(&cache, mine);
    }
    become_cpu(0);
}

#[test]
fn what_one_cpu_frees_is_another_ones_before_the_cache_grows_without_end() {
    for (size, _) in ROUNDS {
        let frames = Frames::new(4096);
        let cache = RawCache::new(&frames, "handed over", size, 8, CacheFlags::empty());
        let mut most = [0; 2];
        for round in 0..200 {
            become_cpu(0);
            let objects = take(&cache, 64);
            become_cpu(1);
            give(&cache, objects);
            let half = &mut most[round / 100];
            *half = (*half).max(cache.stats().slabs_total);
        }
        become_cpu(0);
        assert_eq!(most[0], most[1], "{size} bytes: the second hundred take no slab more");
    }
}

/// A cache with so many objects to spare, and how many rounds its magazines have.
fn warm(frames: &Frames, size: usize, rounds: usize) -> RawCache<'_, Frames> {
    let cache = RawCache::new(frames, "visited", size, 8, CacheFlags::empty());
    become_cpu(0);
    for _ in 0..4 {
        give(&cache, take(&cache, 12 * rounds));
    }
    cache
}

/// The sizes at which the number of rounds changes, and the numbers.
const ROUNDS: [(usize, usize); 4] = [(64, 59), (256, 31), (1024, 15), (4096, 7)];

/// Runs `calls` against a warm cache, `true` for an allocation and `false` for a free, and compares
/// the visits to the depot with the bound of Bonwick and Adams; how many there were.
#[track_caller]
fn assert_visits(
    cache: &RawCache<'_, Frames>,
    rounds: usize,
    calls: impl Iterator<Item = bool>,
) -> usize {
    let before = cache.stats().depot_visits;
    let mut mine = Vec::new();
    let (mut done, mut visits) = (0, 0);
    for is_allocation in calls {
        if is_allocation {
            mine.extend(take(cache, 1));
        } else if let Some(object) = mine.pop() {
            // SAFETY: not used any more.
            unsafe { cache.free(object) }.expect("allocated");
        }
        done += 1;
        visits = cache.stats().depot_visits - before;
        assert!(visits <= done / rounds + 1, "{visits} visits in {done} calls, {rounds} rounds");
    }
    give(cache, mine);
    visits
}

#[test]
fn at_the_edge_of_a_magazine_two_allocations_and_two_frees_do_not_visit_the_depot() {
    for (size, rounds) in ROUNDS {
        let frames = Frames::new(2048);
        let cache = warm(&frames, size, rounds);
        // Each fill of the two magazines is an edge of something.
        for fill in 0..3 * rounds {
            let edge = [true, true, false, false].into_iter().cycle().take(40 * rounds);
            assert_visits(&cache, rounds, std::iter::repeat_n(true, fill).chain(edge));
        }
    }
}

#[test]
fn of_any_calls_at_most_one_in_a_magazine_and_one_visits_the_depot() {
    for (size, rounds) in ROUNDS {
        let frames = Frames::new(2048);
        let cache = warm(&frames, size, rounds);
        let mut visits = 0;
        for seed in 0..200 {
            let mut random = Random::new(seed);
            // Runs of either kind, of all lengths up to three magazines.
            let mut live = 0;
            let calls = (0..60).flat_map(|_| {
                let is_allocation = random.below(2) == 0;
                let most = if is_allocation { 10 * rounds - live } else { live };
                let longest = 1 + random.below(3 * rounds);
                let run = (1 + random.below(longest)).min(most);
                live = if is_allocation { live + run } else { live - run };
                std::iter::repeat_n(is_allocation, run)
            });
            let calls: Vec<bool> = calls.collect();
            visits += assert_visits(&cache, rounds, calls.into_iter());
        }
        assert!(visits > 0, "nothing ever went beyond a CPU's magazines");
    }
}

#[test]
fn pairs_and_waves_of_less_than_a_magazine_make_no_request() {
    let frames = Frames::new(64);
    let cache = RawCache::new(&frames, "steady", 64, 8, CacheFlags::empty());
    for _ in 0..4 {
        give(&cache, take(&cache, 100));
    }
    let before = frames.requests.load(std::sync::atomic::Ordering::Relaxed);
    for objects in 1..100 {
        give(&cache, take(&cache, objects));
    }
    assert_eq!(frames.requests.load(std::sync::atomic::Ordering::Relaxed), before);
}
