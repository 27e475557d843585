//! Many CPUs on one cache: remote frees, memory that runs out, drains while others allocate,
//! and interrupts.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use kmem::platform::MAX_CPUS;
use kmem::slab::{CacheFault, CacheFlags, RawCache};
use kmem::{AllocFlags, CpuId};

mod support;
use support::{Frames, OverWhenDropped, Random, Sent, become_cpu};

const NONE: AllocFlags = AllocFlags::empty();
const CPUS: usize = 4;

/// Every CPU sends objects to every CPU, which frees them, while one of them drains now and then.
fn remote_frees(frames: Frames, flags: CacheFlags, size: usize, steps: usize) {
    let cache = RawCache::new(&frames, "shared", size, 8, flags);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..CPUS).map(|_| channel::<Sent>()).unzip();
    std::thread::scope(|scope| {
        for (cpu, receiver) in receivers.into_iter().enumerate() {
            let senders = senders.clone();
            let cache = &cache;
            scope.spawn(move || {
                become_cpu(cpu);
                let mut random = Random::new(cpu);
                for step in 0..steps {
                    let object = cache.alloc(NONE).expect("memory");
                    let sent = Sent::stamp(object, size, (step * CPUS + cpu) as u64);
                    senders[random.below(CPUS)].send(sent).expect("a receiver");
                    let backlog = random.below(3);
                    for sent in receiver.try_iter().take(backlog) {
                        // SAFETY: nobody uses it any more.
                        unsafe { cache.free(sent.opened(size)) }.expect("allocated");
                    }
                    if cpu == 0 && step % 500 == 499 {
                        cache.shrink();
                    }
                }
                drop(senders);
                for sent in receiver {
                    // SAFETY: nobody uses it any more.
                    unsafe { cache.free(sent.opened(size)) }.expect("allocated");
                }
            });
        }
        drop(senders);
    });
    let stats = cache.stats();
    assert_eq!(stats.objects_active, 0, "objects lost");
    cache.verify().expect("sound");
    assert!(cache.destroy().is_ok());
    assert_eq!(frames.taken(), 0);
    frames.assert_owners_clean();
}

#[test]
fn objects_freed_by_other_cpus_are_neither_lost_nor_doubled() {
    for flags in [CacheFlags::empty(), CacheFlags::STRICT, CacheFlags::NO_MAGAZINES] {
        remote_frees(Frames::with_cpus(4096, CPUS), flags, 64, 50_000);
    }
    let all = CacheFlags::all() - CacheFlags::NO_MAGAZINES;
    remote_frees(Frames::with_cpus(4096, CPUS), all, 200, 20_000);
}

#[test]
fn drains_that_go_to_other_cpus_lose_and_double_nothing() {
    for flags in [CacheFlags::empty(), CacheFlags::STRICT] {
        remote_frees(Frames::with_cpus(4096, CPUS).synchronizing(), flags, 64, 50_000);
    }
}

#[test]
fn a_cpu_that_has_stopped_is_drained_beside_a_drain_that_goes_to_all() {
    const SIZE: usize = 128;
    let frames = Frames::with_cpus(4096, CPUS).synchronizing();
    let cache = RawCache::new(&frames, "stopping", SIZE, 8, CacheFlags::empty());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            become_cpu(2);
            while !is_over.load(Relaxed) {
                cache.shrink();
            }
        });
        let _over = OverWhenDropped(&is_over);
        let begin = Instant::now();
        for stamp in (0_u64..).step_by(150).take_while(|_| begin.elapsed() < Duration::from_secs(3))
        {
            become_cpu(1);
            let take = |nth| Sent::stamp(cache.alloc(NONE).expect("memory"), SIZE, stamp + nth);
            for sent in (0..150).map(take).collect::<Vec<_>>() {
                // SAFETY: not used any more.
                unsafe { cache.free(sent.opened(SIZE)) }.expect("allocated");
            }
            become_cpu(0);
            // SAFETY: this thread was CPU 1, and is not any more.
            unsafe { cache.drain_cpu(CpuId::new(1).expect("a CPU")) };
        }
    });
    become_cpu(0);
    cache.verify().expect("sound");
    assert!(cache.destroy().is_ok());
    assert_eq!(frames.taken(), 0);
}

/// One CPU takes and gives objects by `batch`, which leaves none with it, while another empties its
/// magazines.
fn batches_beside_drains(batch: impl Fn(&RawCache<'_, Frames>)) {
    let frames = Frames::with_cpus(4096, CPUS).synchronizing();
    let cache = RawCache::new(&frames, "batches", 64, 8, CacheFlags::empty());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            become_cpu(1);
            while !is_over.load(Relaxed) {
                cache.shrink();
            }
        });
        let _over = OverWhenDropped(&is_over);
        become_cpu(0);
        for _ in 0..20_000 {
            let mut objects: Vec<_> = (0..40).map(|_| cache.alloc(NONE).expect("memory")).collect();
            for object in objects.drain(..) {
                // SAFETY: not used any more.
                unsafe { cache.free(object) }.expect("allocated");
            }
            (0..200).for_each(|_| batch(&cache));
        }
    });
    assert_eq!(cache.stats().objects_active, 0, "objects lost");
    cache.verify().expect("sound");
    assert!(cache.destroy().is_ok());
    assert_eq!(frames.taken(), 0);
}

#[test]
fn batches_of_none_leave_alone_what_another_cpu_empties() {
    batches_beside_drains(|cache| assert_eq!(cache.alloc_many(&mut [], NONE), 0));
    // SAFETY: no object is given back.
    batches_beside_drains(|cache| unsafe { cache.free_many(&[]) }.expect("nothing to refuse"));
}

#[test]
fn batches_and_drains_neither_lose_nor_double_objects() {
    batches_beside_drains(|cache| {
        let mut places = [const { MaybeUninit::uninit() }; 3];
        assert_eq!(cache.alloc_many(&mut places, NONE), 3);
        // SAFETY: as many places are filled as were asked for.
        let objects = places.map(|place| unsafe { place.assume_init() });
        // SAFETY: not used any more.
        unsafe { cache.free_many(&objects) }.expect("allocated");
    });
}

#[test]
fn of_a_cpu_that_the_machine_does_not_have_there_is_nothing_to_forget() {
    let frames = Frames::with_cpus(256, 2);
    let cache = RawCache::new(&frames, "two", 64, 8, CacheFlags::empty());
    let objects: Vec<_> = (0..100).map(|_| cache.alloc(NONE).expect("memory")).collect();
    for object in objects {
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
    let before = cache.stats();
    assert!(before.objects_cached > 0, "the running CPU has a slot, so there is a table of them");
    for cpu in (2..MAX_CPUS).filter_map(CpuId::new) {
        // SAFETY: nothing runs there.
        unsafe { cache.abandon_cpu(cpu) };
    }
    assert_eq!(cache.stats(), before);
    cache.verify().expect("sound");
}

#[test]
fn a_recount_leaves_alone_what_another_cpu_uses() {
    let frames = Frames::with_cpus(4096, CPUS);
    let cache = RawCache::new(&frames, "poisoned", 64, 8, CacheFlags::POISON);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            become_cpu(1);
            while !is_over.load(Relaxed) {
                let object = cache.alloc(NONE).expect("memory");
                // SAFETY: the object is so long, ours, and not used any more then.
                unsafe {
                    object.write_bytes(0x17, 64);
                    cache.free(object).expect("allocated");
                }
            }
        });
        let _over = OverWhenDropped(&is_over);
        become_cpu(0);
        for _ in 0..100_000 {
            let found = cache.verify();
            assert!(!matches!(found, Err(CacheFault::Overwritten { .. })), "{found:?}");
        }
    });
    cache.verify().expect("sound");
}

#[test]
fn a_request_that_must_not_wait_does_not_drain_either() {
    // Other CPUs cannot be made to pass a barrier: they are asked to drain themselves.
    let frames = Frames::with_cpus(4096, CPUS);
    let cache = RawCache::new(&frames, "asked", 64, 8, CacheFlags::empty());
    become_cpu(0);
    let objects: Vec<_> = (0..80).map(|_| cache.alloc(NONE).expect("memory")).collect();
    for &object in &objects[40..] {
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
    let shrink = || {
        become_cpu(1);
        cache.shrink();
    };
    std::thread::scope(|scope| _ = scope.spawn(shrink));
    let (is_locked, is_answered) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            become_cpu(1);
            let begin = Instant::now();
            // Holds the lists' lock until there is an answer.
            cache.for_each_live(&mut |_| {
                is_locked.store(true, Relaxed);
                while !is_answered.load(Relaxed) {
                    assert!(begin.elapsed() < Duration::from_secs(60), "it waits");
                }
            });
        });
        while !is_locked.load(Relaxed) {
            std::thread::yield_now();
        }
        let answer = cache.alloc(AllocFlags::NO_WAIT);
        is_answered.store(true, Relaxed);
        let object = answer.expect("one is at hand");
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    });
}

#[test]
fn an_allocation_gets_what_lies_idle_on_other_cpus_before_it_fails() {
    let frames = Frames::with_cpus(64, CPUS).synchronizing();
    let cache = RawCache::new(&frames, "scarce", 512, 8, CacheFlags::empty());
    // All memory is taken and given back, by each CPU in turn: there is never less of it.
    for cpu in (0..CPUS).cycle().take(3 * CPUS) {
        become_cpu(cpu);
        let mut mine: Vec<NonNull<u8>> = Vec::new();
        while let Ok(object) = cache.alloc(NONE) {
            mine.push(object);
        }
        // At most four frames of records and one odd one are no slabs.
        assert!(mine.len() >= 56 * 8, "only {} objects on CPU {cpu}", mine.len());
        for object in mine {
            // SAFETY: not used any more.
            unsafe { cache.free(object) }.expect("allocated");
        }
    }
    assert!(cache.destroy().is_ok());
    assert_eq!(frames.taken(), 0);
}

#[test]
fn no_two_cpus_ever_hold_the_same_object() {
    let frames = Frames::with_cpus(256, CPUS);
    let cache = RawCache::new(&frames, "owned", 128, 8, CacheFlags::empty());
    let owned: Mutex<HashSet<usize>> = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            let (cache, owned) = (&cache, &owned);
            scope.spawn(move || {
                become_cpu(cpu);
                let mut random = Random::new(cpu + 100);
                let mut mine: Vec<NonNull<u8>> = Vec::new();
                for _ in 0..30_000 {
                    if random.below(100) < 51 && mine.len() < 500 {
                        // Memory runs out now and then.
                        let Ok(object) = cache.alloc(NONE) else { continue };
                        let address = object.as_ptr() as usize;
                        assert!(owned.lock().expect("lock").insert(address), "handed out twice");
                        mine.push(object);
                    } else if !mine.is_empty() {
                        let object = mine.swap_remove(random.below(mine.len()));
                        owned.lock().expect("lock").remove(&(object.as_ptr() as usize));
                        // SAFETY: not used any more.
                        unsafe { cache.free(object) }.expect("allocated");
                    }
                }
                for object in mine {
                    owned.lock().expect("lock").remove(&(object.as_ptr() as usize));
                    // SAFETY: not used any more.
                    unsafe { cache.free(object) }.expect("allocated");
                }
            });
        }
    });
    cache.verify().expect("sound");
    assert_eq!(cache.stats().objects_active, 0);
}

#[test]
fn memory_that_runs_out_on_all_cpus_comes_back() {
    let frames = Frames::with_cpus(64, CPUS);
    let cache = RawCache::new(&frames, "scarce", 512, 8, CacheFlags::empty());
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            let cache = &cache;
            scope.spawn(move || {
                become_cpu(cpu);
                for _ in 0..200 {
                    let mut mine: Vec<NonNull<u8>> = Vec::new();
                    while let Ok(object) = cache.alloc(NONE) {
                        mine.push(object);
                    }
                    for object in mine {
                        // SAFETY: not used any more.
                        unsafe { cache.free(object) }.expect("allocated");
                    }
                }
            });
        }
    });
    cache.verify().expect("sound");
    for cpu in 0..CPUS {
        // SAFETY: the threads have ended.
        unsafe { cache.drain_cpu(CpuId::new(cpu).expect("a CPU")) };
    }
    let mut all: Vec<NonNull<u8>> = Vec::new();
    while let Ok(object) = cache.alloc(NONE) {
        all.push(object);
    }
    // At most four frames of records and one odd one are no slabs.
    assert!(all.len() >= 56 * 8, "only {} objects", all.len());
    for object in all {
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
    assert!(cache.destroy().is_ok());
    assert_eq!(frames.taken(), 0);
}

#[test]
fn a_handler_that_interrupts_the_cache_is_served_by_it() {
    for flags in [CacheFlags::empty(), CacheFlags::NO_MAGAZINES, CacheFlags::POISON] {
        let frames = Frames::with_cpus(512, 2);
        let cache = RawCache::new(&frames, "interrupted", 96, 8, flags);
        let held = Mutex::new(Vec::new());
        let interrupts = AtomicUsize::new(0);
        let handler = || {
            // Every other time it takes, every other time it gives.
            let nth = interrupts.fetch_add(1, Relaxed);
            let mut held = held.lock().expect("lock");
            if nth.is_multiple_of(2) {
                let object = cache.alloc(NONE).expect("memory");
                held.push(Sent::stamp(object, 96, nth as u64));
            } else if let Some(sent) = held.pop() {
                // SAFETY: not used any more.
                unsafe { cache.free(sent.opened(96)) }.expect("allocated");
            }
        };
        become_cpu(0);
        let mut mine = Vec::new();
        support::with_interrupts(&handler, || {
            let mut random = Random::new(5);
            for step in 0..20_000 {
                // Waves, so that magazines run empty and full.
                let growing = step / 300 % 2 == 0;
                if random.below(100) < if growing { 80 } else { 20 } {
                    let object = cache.alloc(NONE).expect("memory");
                    mine.push(Sent::stamp(object, 96, 1 << 40 | step as u64));
                } else if !mine.is_empty() {
                    let sent = mine.swap_remove(random.below(mine.len()));
                    // SAFETY: not used any more.
                    unsafe { cache.free(sent.opened(96)) }.expect("allocated");
                }
            }
        });
        assert!(interrupts.load(Relaxed) > 10_000, "the handler hardly ran");
        let left = held.lock().expect("lock").len() + mine.len();
        assert_eq!(cache.stats().objects_active, left);
        cache.verify().expect("sound");
    }
}
