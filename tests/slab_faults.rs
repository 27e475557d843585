//! Every way to misuse a cache, alone: the exact error, nothing changed, and the cache works on.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex, PoisonError};

use kmem::AllocFlags;
use kmem::buddy::{AllocError, BlockOwner};
use kmem::check::{Rule, Violation, set_hook};
use kmem::frame::Order;
use kmem::page::FrameSource;
use kmem::platform::Platform;
use kmem::slab::{CacheFault, CacheFlags, ObjectError, RawCache, lookup};

mod support;
use support::{Frames, become_cpu};

type Cache<'s> = RawCache<'s, Frames>;

const NONE: AllocFlags = AllocFlags::empty();

/// A few thousand ordinary operations, and a recount.
#[track_caller]
fn assert_works(cache: &Cache<'_>) {
    cache.verify().expect("sound");
    let mut live: Vec<NonNull<u8>> = Vec::new();
    let mut seed = 1usize;
    for step in 0..4000usize {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        if (seed >> 40) % 100 < 52 && live.len() < 600 {
            let object = cache.alloc(NONE).expect("memory");
            // SAFETY: the object is so long and ours.
            unsafe { object.write_bytes(step as u8, cache.object_bytes()) };
            assert!(!live.contains(&object), "handed out twice");
            live.push(object);
        } else if !live.is_empty() {
            let object = live.swap_remove((seed >> 33) % live.len());
            // SAFETY: ours, and not used any more.
            unsafe { cache.free(object) }.expect("allocated");
        }
    }
    for object in live {
        // SAFETY: ours, and not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
    cache.verify().expect("sound");
}

/// Frees what must not be freed.
fn misfree(cache: &Cache<'_>, object: NonNull<u8>) -> ObjectError {
    // SAFETY: the test uses no object that it has given away.
    unsafe { cache.free(object) }.expect_err("a bad free")
}

#[test]
fn a_double_free_is_refused_at_once_and_after_other_frees() {
    let frames = Frames::new(256);
    let cache = Cache::new(&frames, "doubled", 48, 8, CacheFlags::empty());
    let objects: Vec<_> = (0..100).map(|_| cache.alloc(NONE).expect("memory")).collect();
    // SAFETY: not used any more.
    unsafe { cache.free(objects[3]) }.expect("allocated");
    assert_eq!(misfree(&cache, objects[3]), ObjectError::NotAllocated);
    for object in &objects[10..80] {
        // SAFETY: not used any more.
        unsafe { cache.free(*object) }.expect("allocated");
    }
    assert_eq!(misfree(&cache, objects[3]), ObjectError::NotAllocated);
    assert_eq!(misfree(&cache, objects[79]), ObjectError::NotAllocated);
    assert_works(&cache);
}

#[test]
fn an_interior_or_misaligned_address_names_the_objects_base() {
    let frames = Frames::new(256);
    let cache = Cache::new(&frames, "inner", 40, 8, CacheFlags::empty());
    let object = cache.alloc(NONE).expect("memory");
    for offset in [1, 7, 8, 39] {
        // SAFETY: within the object.
        let inner = unsafe { object.add(offset) };
        assert_eq!(misfree(&cache, inner), ObjectError::NotAnObject { base: object });
    }
    assert_works(&cache);
}

#[test]
fn an_address_that_is_no_object_is_out_of_range() {
    let frames = Frames::new(256);
    // 5 objects of 800 bytes leave 96 bytes of the frame over.
    let cache = Cache::new(&frames, "narrow", 800, 8, CacheFlags::NO_COLOUR);
    let object = cache.alloc(NONE).expect("memory");
    let block = frames.take(Order::ZERO, BlockOwner::Caller, NONE).expect("memory");
    let foreign = NonNull::new(frames.platform().phys_to_virt(block.start())).expect("mapped");
    let mut local = 0u8;
    let page = object.as_ptr() as usize & !4095;
    let tail = NonNull::new((page + 4095) as *mut u8).expect("not null");
    for address in [foreign, NonNull::from(&mut local), NonNull::dangling(), tail] {
        assert_eq!(misfree(&cache, address), ObjectError::OutOfRange);
        // SAFETY: nobody else uses the cache.
        let (is_owned, found) = unsafe { (cache.owns(address), lookup(&frames, address)) };
        assert!(!is_owned);
        assert_eq!(found, Err(ObjectError::OutOfRange));
    }
    assert_works(&cache);
}

#[test]
fn an_object_of_another_cache_is_refused_with_both_names() {
    let frames = Frames::new(512);
    let here = Cache::new(&frames, "here", 64, 8, CacheFlags::empty());
    let there = Cache::new(&frames, "there", 64, 8, CacheFlags::empty());
    let object = there.alloc(NONE).expect("memory");
    let _mine = here.alloc(NONE).expect("memory");
    let error = ObjectError::WrongCache { owner: "there", given: "here" };
    assert_eq!(misfree(&here, object), error);
    // SAFETY: nobody else uses the caches.
    assert!(unsafe { there.owns(object) && !here.owns(object) });
    assert_works(&here);
    assert_works(&there);
    // Both have magazines now, with room: a hit must not take it either.
    let mine: Vec<_> = (0..20).map(|_| here.alloc(NONE).expect("memory")).collect();
    let others: Vec<_> = (0..20).map(|_| there.alloc(NONE).expect("memory")).collect();
    for &object in &others {
        assert_eq!(misfree(&here, object), error);
    }
    for (cache, objects) in [(&here, mine), (&there, others)] {
        for object in objects {
            // SAFETY: not used any more.
            unsafe { cache.free(object) }.expect("allocated");
        }
        assert_works(cache);
    }
}

/// Gives back what ought to be objects; the cache goes on with those that were not freed.
fn free_all(cache: &Cache<'_>, objects: &[NonNull<u8>]) -> Result<(), (usize, ObjectError)> {
    // SAFETY: the test uses no object that it has given away.
    unsafe { cache.free_many(objects) }
}

#[test]
fn a_bad_object_among_many_is_named_and_those_behind_it_stay_allocated() {
    for flags in [CacheFlags::empty(), CacheFlags::NO_MAGAZINES] {
        let frames = Frames::new(512);
        let cache = Cache::new(&frames, "here", 64, 8, flags);
        let others = Cache::new(&frames, "there", 64, 8, flags);
        // From here on there are magazines, which the slabs' objects fit into.
        assert_works(&cache);
        assert_works(&others);
        let take = |cache: &Cache<'_>| cache.alloc(NONE).expect("memory");
        let foreign = take(&others);
        let mut local = 0u64;
        for at in [0, 1, 9, 19] {
            let mut objects: [_; 20] = std::array::from_fn(|_| take(&cache));
            let freed = take(&cache);
            assert_eq!(free_all(&cache, &[freed]), Ok(()));
            let (base, end) = (objects[at], objects.len() - 1);
            // SAFETY: within the object.
            let inner = unsafe { base.add(8) };
            for (bad, error) in [
                (freed, ObjectError::NotAllocated),
                (foreign, ObjectError::WrongCache { owner: "there", given: "here" }),
                (inner, ObjectError::NotAnObject { base }),
                (NonNull::from(&mut local).cast(), ObjectError::OutOfRange),
            ] {
                let mut list = objects;
                list[at] = bad;
                let active = cache.stats().objects_active;
                assert_eq!(free_all(&cache, &list), Err((at, error)));
                assert_eq!(cache.stats().objects_active, active - at);
                cache.verify().expect("sound");
                for &object in &objects[..at] {
                    assert_eq!(misfree(&cache, object), ObjectError::NotAllocated);
                }
                objects[..at].fill_with(|| take(&cache));
            }
            // The same object twice in one list.
            if at != end {
                let mut list = objects;
                list[end] = objects[at];
                assert_eq!(free_all(&cache, &list), Err((end, ObjectError::NotAllocated)));
                assert_eq!(free_all(&cache, &objects[end..]), Ok(()));
            } else {
                assert_eq!(free_all(&cache, &objects), Ok(()));
            }
        }
        assert_eq!(free_all(&others, &[foreign]), Ok(()));
        for cache in [&cache, &others] {
            assert_eq!(cache.stats().objects_active, 0);
            assert_works(cache);
        }
    }
}

#[test]
fn a_sized_free_with_another_size_is_refused() {
    let frames = Frames::new(256);
    let cache = Cache::new(&frames, "sized", 96, 8, CacheFlags::empty());
    let object = cache.alloc(NONE).expect("memory");
    // SAFETY: not used any more.
    let error = unsafe { cache.free_sized(object, 95) }.expect_err("another size");
    assert_eq!(error, ObjectError::SizeMismatch { object_bytes: 96, given_bytes: 95 });
    // SAFETY: not used any more.
    unsafe { cache.free_sized(object, 96) }.expect("allocated");
    assert_works(&cache);
}

#[test]
fn a_cache_with_live_objects_is_not_destroyed_and_names_them() {
    let frames = Frames::new(256);
    let cache = Cache::new(&frames, "busy", 96, 8, CacheFlags::empty());
    let objects: Vec<_> = (0..10).map(|_| cache.alloc(NONE).expect("memory")).collect();
    let (cache, busy) = cache.destroy().map_or_else(|busy| busy, |()| panic!("destroyed"));
    assert_eq!(busy.live, 10);
    let named: Vec<_> = busy.objects.into_iter().flatten().collect();
    assert_eq!(named.len(), 8);
    assert!(named.iter().all(|object| objects.contains(object)));
    let addresses: String = named.iter().map(|object| format!(" {:#x}", object.addr())).collect();
    let text = format!("expected no live object, found 10:{addresses} and others");
    assert_eq!(busy.to_string(), text);
    let violation = busy.violation("busy").to_string();
    let text = format!("{:#x} of cache busy destroyed while objects live", named[0].addr());
    assert_eq!(violation, format!("kmem: {text}: expected 0, found 10 (CPU 0)"));
    for object in &objects {
        // SAFETY: not used any more.
        unsafe { cache.free(*object) }.expect("allocated");
    }
    assert_works(&cache);
    assert!(cache.destroy().is_ok());
    assert_eq!(frames.taken(), 0);
    // The object's cache is gone.
    let other = Cache::new(&frames, "other", 96, 8, CacheFlags::empty());
    assert_eq!(misfree(&other, objects[0]), ObjectError::OutOfRange);
    frames.assert_owners_clean();
}

#[test]
fn a_cache_whose_objects_were_lost_with_a_cpu_is_not_destroyed_and_names_them() {
    let frames = Frames::new(256);
    let cache = Cache::new(&frames, "abandoned", 96, 8, CacheFlags::empty());
    let objects: Vec<_> = (0..100).map(|_| cache.alloc(NONE).expect("memory")).collect();
    for object in &objects {
        // SAFETY: not used any more.
        unsafe { cache.free(*object) }.expect("allocated");
    }
    let cached = cache.stats().objects_cached;
    // SAFETY: nothing runs there in the cache.
    unsafe { cache.abandon_cpu(frames.platform().cpu_id()) };
    let (cache, busy) = cache.destroy().map_or_else(|busy| busy, |()| panic!("destroyed"));
    // What lay on the CPU's shelf, or in the depot, has come back.
    let lost = busy.lost;
    assert!(busy.live == 0 && (9..=cached).contains(&lost), "{lost} of {cached}");
    let named: Vec<_> = busy.objects.into_iter().flatten().collect();
    assert!(named.len() == 8 && named.iter().all(|object| objects.contains(object)));
    let addresses: String = named.iter().map(|object| format!(" {:#x}", object.addr())).collect();
    let text =
        format!("expected every object in its slab, found {lost} lost:{addresses} and others");
    assert_eq!(busy.to_string(), text);
    let violation = busy.violation("abandoned").to_string();
    let rule = "free, but neither in its slab nor in a magazine";
    let text = format!("{:#x} of cache abandoned {rule}", named[0].addr());
    assert_eq!(violation, format!("kmem: {text}: expected 0, found {lost} (CPU 0)"));
    // Whoever has one in use is to be found first.
    let object = cache.alloc(NONE).expect("memory");
    let (cache, busy) = cache.destroy().map_or_else(|busy| busy, |()| panic!("destroyed"));
    assert_eq!((busy.live, busy.lost), (1, lost));
    assert_eq!(busy.objects.into_iter().flatten().collect::<Vec<_>>(), [object]);
    assert_eq!(busy.to_string(), format!("expected no live object, found 1: {object:p}"));
    // SAFETY: not used any more.
    unsafe { cache.free(object) }.expect("allocated");
    assert_works(&cache);
}

#[test]
fn a_cache_with_a_stock_that_was_forgotten_is_not_destroyed_and_names_its_objects() {
    let frames = Frames::new(256);
    let cache = Cache::new(&frames, "stocked", 96, 8, CacheFlags::empty());
    std::mem::forget(cache.reserve(5, NONE).expect("memory"));
    let (_, busy) = cache.destroy().map_or_else(|busy| busy, |()| panic!("destroyed"));
    assert_eq!((busy.live, busy.lost), (0, 5));
    assert_eq!(busy.objects.into_iter().flatten().count(), 5);
}

#[test]
fn impossible_sizes_and_alignments_are_answered_by_every_allocation() {
    let frames = Frames::new(16);
    let cases = [
        (0, 8, AllocError::ZeroSize),
        (64 * 1024 + 1, 8, AllocError::TooLarge),
        (usize::MAX, 8, AllocError::TooLarge),
        (8, 128 * 1024, AllocError::TooLarge),
        (8, 0, AllocError::BadAlignment),
        (8, 24, AllocError::BadAlignment),
    ];
    for (size, align, error) in cases {
        let cache = Cache::new(&frames, "impossible", size, align, CacheFlags::empty());
        assert_eq!(cache.alloc(NONE), Err(error), "{size} bytes aligned to {align}");
        cache.verify().expect("sound");
        assert!(cache.destroy().is_ok());
    }
    assert_eq!(frames.taken(), 0);
}

#[test]
fn a_double_free_of_an_object_in_a_magazine_is_refused_on_every_cpu() {
    let frames = Frames::new(256);
    let cache = Cache::new(&frames, "cached", 48, 8, CacheFlags::empty());
    // Enough calls for magazines.
    assert_works(&cache);
    let object = cache.alloc(NONE).expect("memory");
    let cached = cache.stats().objects_cached;
    // SAFETY: not used any more.
    unsafe { cache.free(object) }.expect("allocated");
    assert_eq!(cache.stats().objects_cached, cached + 1, "not in a magazine");
    assert_eq!(misfree(&cache, object), ObjectError::NotAllocated);
    become_cpu(1);
    assert_eq!(misfree(&cache, object), ObjectError::NotAllocated);
    become_cpu(0);
    assert_works(&cache);
}

#[test]
fn of_racing_frees_of_one_object_exactly_one_succeeds_in_a_strict_cache() {
    for flags in [CacheFlags::STRICT, CacheFlags::STRICT | CacheFlags::NO_MAGAZINES] {
        let frames = Frames::new(256);
        let cache = Cache::new(&frames, "strict", 48, 8, flags);
        let rounds = 2000;
        let slot = AtomicPtr::new(std::ptr::null_mut());
        let (start, end) = (Barrier::new(2), Barrier::new(2));
        let freed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for cpu in 0..2 {
                let (cache, slot, freed) = (&cache, &slot, &freed);
                let (start, end) = (&start, &end);
                scope.spawn(move || {
                    become_cpu(cpu);
                    for _ in 0..rounds {
                        if cpu == 0 {
                            slot.store(cache.alloc(NONE).expect("memory").as_ptr(), Relaxed);
                        }
                        start.wait();
                        let object = NonNull::new(slot.load(Relaxed)).expect("an object");
                        // SAFETY: nobody uses the object; that two free it is what is tested.
                        match unsafe { cache.free(object) } {
                            Ok(()) => _ = freed.fetch_add(1, Relaxed),
                            Err(error) => assert_eq!(error, ObjectError::NotAllocated),
                        }
                        end.wait();
                    }
                });
            }
        });
        assert_eq!(freed.load(Relaxed), rounds);
        assert_works(&cache);
    }
}

#[test]
fn a_write_past_either_end_is_found_when_the_object_is_freed_and_by_a_recount() {
    for (size, align) in [(1, 1), (24, 8), (64, 64), (100, 4), (1000, 256)] {
        let frames = Frames::new(512);
        let cache = Cache::new(&frames, "zoned", size, align, CacheFlags::RED_ZONE);
        for offset in [-8, -1, size as isize, size as isize + 7] {
            let object = cache.alloc(NONE).expect("memory");
            let byte = object.as_ptr().wrapping_offset(offset);
            // SAFETY: a byte of the slab that only red zones use.
            let whole = unsafe { byte.replace(0x17) };
            let error = ObjectError::Overrun { offset, found: 0x17 };
            assert_eq!(misfree(&cache, object), error, "size {size}");
            assert!(matches!(
                cache.verify(),
                Err(CacheFault::Overwritten { offset: at, found: 0x17, .. }) if at == offset
            ));
            // SAFETY: as above.
            unsafe { byte.write(whole) };
            // SAFETY: not used any more.
            unsafe { cache.free(object) }.expect("whole again");
        }
        assert_works(&cache);
    }
}

/// What the hook was told; the tests that set a hook take turns.
static TOLD: Mutex<Vec<(Rule, usize)>> = Mutex::new(Vec::new());
static TURN: Mutex<()> = Mutex::new(());

fn note(violation: &Violation<'_>) {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.push((violation.rule, violation.address));
}

/// What the hook is told during `action`.
fn violations_during(action: impl FnOnce()) -> Vec<(Rule, usize)> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    set_hook(Some(note));
    action();
    set_hook(None);
    std::mem::take(&mut *TOLD.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn a_write_after_free_at_any_byte_is_reported_and_the_object_stays_out_of_use() {
    for others in [CacheFlags::empty(), CacheFlags::ZERO_ON_FREE, CacheFlags::NO_MAGAZINES] {
        let frames = Frames::new(256);
        let cache = Cache::new(&frames, "poisoned", 40, 8, CacheFlags::POISON | others);
        for offset in 0..40 {
            let object = cache.alloc(NONE).expect("memory");
            // SAFETY: not used any more.
            unsafe { cache.free(object) }.expect("allocated");
            // SAFETY: within the slab; that it is freed is what is tested.
            unsafe { object.add(offset).write(0x17) };
            let is_seen = matches!(cache.verify(), Err(CacheFault::Overwritten { .. }));
            assert!(is_seen || cache.stats().objects_cached > 0, "it lies in its slab");
            let mut others = Vec::new();
            let told = violations_during(|| {
                others.extend((0..400).map(|_| cache.alloc(NONE).expect("memory")));
            });
            assert!(!others.contains(&object));
            assert_eq!(told, [(Rule::WriteAfterFree, object.as_ptr() as usize)]);
            for other in others {
                // SAFETY: not used any more.
                unsafe { cache.free(other) }.expect("allocated");
            }
            // SAFETY: to be refused.
            assert_eq!(unsafe { cache.free(object) }, Err(ObjectError::NotAllocated));
            cache.verify().expect("the object is out of use");
        }
        assert_works(&cache);
        assert!(cache.destroy().is_ok(), "nothing is in use");
        assert_eq!(frames.taken(), 0);
    }
}

#[test]
fn a_cache_of_which_all_objects_were_written_while_free_is_destroyed() {
    let frames = Frames::new(256);
    let cache = Cache::new(&frames, "ruined", 500, 4, CacheFlags::POISON);
    let objects: Vec<_> = (0..64).map(|_| cache.alloc(NONE).expect("memory")).collect();
    for &object in &objects {
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
        // SAFETY: within the slab; that it is freed is what is tested.
        unsafe { object.write(0x17) };
    }
    let mut others = Vec::new();
    // A request fails after some of them.
    let told = violations_during(|| others.extend((0..64).filter_map(|_| cache.alloc(NONE).ok())));
    assert!(told.len() > 32, "{}", told.len());
    for object in others {
        assert!(!objects.contains(&object));
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
    cache.verify().expect("sound");
    assert!(cache.destroy().is_ok(), "nothing is in use");
    assert_eq!(frames.taken(), 0);
}

#[test]
fn a_cleared_object_does_not_show_its_last_users_data() {
    let frames = Frames::new(256);
    let cache = Cache::new(&frames, "cleared", 200, 8, CacheFlags::ZERO_ON_FREE);
    for _ in 0..500 {
        let object = cache.alloc(NONE).expect("memory");
        // SAFETY: the object is so long and ours; the cache has cleared it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(object.as_ptr(), 200) };
        assert!(bytes.iter().all(|&byte| byte == 0));
        bytes.fill(0x5e);
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
        // SAFETY: within the slab.
        let first = unsafe { object.read() };
        assert_eq!(first, 0);
    }
    assert_works(&cache);
}

#[test]
fn a_box_whose_object_was_freed_behind_its_back_is_reported() {
    let frames = Frames::new(64);
    let cache = kmem::slab::Cache::new(&frames, "boxed", CacheFlags::empty());
    let boxed = cache.alloc(5u64).expect("memory");
    let object = NonNull::from(&*boxed).cast();
    // SAFETY: that the box still refers to it is what is tested.
    unsafe { cache.as_raw().free(object) }.expect("allocated");
    let told = violations_during(|| drop(boxed));
    assert_eq!(told, [(Rule::NotAllocated, object.as_ptr() as usize)]);
    cache.verify().expect("sound");
}

/// Runs `call` with the nth request failing, for every n until it succeeds; after each failure
/// nothing is lost and the cache is sound.
#[track_caller]
fn with_every_request_failing(flags: CacheFlags, mut call: impl FnMut(&Cache<'_>) -> bool) {
    for sharing in [false, true] {
        for nth in 0.. {
            let frames = Frames::new(512);
            let frames = if sharing { frames.sharing_records() } else { frames };
            let cache = Cache::new(&frames, "failing", 320, 8, flags);
            frames.fail_after(nth);
            let succeeded = call(&cache);
            let failed = frames.requests.load(Relaxed) > nth;
            frames.never_fail();
            cache.verify().expect("sound");
            assert_eq!(cache.stats().objects_active, 0, "objects lost at request {nth}");
            assert_works(&cache);
            assert!(cache.destroy().is_ok());
            assert_eq!(frames.taken(), 0, "frames lost at request {nth}");
            if !failed {
                assert!(succeeded);
                break;
            }
            assert!(nth < 100, "never succeeds");
        }
    }
}

#[test]
fn every_call_survives_every_failing_request() {
    let free = |cache: &Cache<'_>, objects: &[NonNull<u8>]| {
        // SAFETY: not used any more.
        unsafe { cache.free_many(objects) }.expect("allocated");
    };
    for flags in [CacheFlags::empty(), CacheFlags::NO_MAGAZINES, CacheFlags::all()] {
        with_every_request_failing(flags, |cache| {
            let object = cache.alloc(NONE).ok();
            free(cache, object.as_slice());
            object.is_some()
        });
        with_every_request_failing(flags, |cache| {
            let objects: Vec<_> = (0..200).map_while(|_| cache.alloc(NONE).ok()).collect();
            for object in &objects {
                free(cache, &[*object]);
            }
            objects.len() == 200
        });
        with_every_request_failing(flags, |cache| {
            let mut out = [MaybeUninit::uninit(); 100];
            let got = cache.alloc_many(&mut out, NONE);
            // SAFETY: the first `got` are written.
            let objects: Vec<_> =
                out[..got].iter().map(|slot| unsafe { slot.assume_init() }).collect();
            free(cache, &objects);
            got == 100
        });
        with_every_request_failing(flags, |cache| cache.reserve(100, NONE).is_ok());
    }
}

#[test]
fn what_lies_behind_a_lost_object_in_a_magazine_goes_back_to_its_slab() {
    let frames = Frames::new(64);
    let cache = Cache::new(&frames, "lost", 1024, 8, CacheFlags::empty());
    // Enough calls for the CPU to have magazines, and then two slabs.
    (0..100).for_each(|_| {
        let object = cache.alloc(NONE).expect("memory");
        // SAFETY: ours, and not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    });
    cache.shrink();
    let objects: Vec<_> = (0..8).map(|_| cache.alloc(NONE).expect("memory")).collect();
    let slab_of = |object: NonNull<u8>| object.as_ptr() as usize / 4096;
    let is_lost = |object: &NonNull<u8>| slab_of(*object) == slab_of(objects[0]);
    assert_eq!(objects.iter().filter(|object| is_lost(object)).count(), 4);
    // A lost one at the bottom, and in between.
    for index in [0, 4, 1, 5, 2, 3, 6, 7] {
        // SAFETY: ours, and not used any more.
        unsafe { cache.free(objects[index]) }.expect("allocated");
    }
    frames.without_owner(objects[0].as_ptr(), || {
        let mut given = 0;
        let mut told = violations_during(|| given = cache.shrink());
        told.sort_unstable_by_key(|&(_, address)| address);
        let lost = objects.iter().filter(|object| is_lost(object));
        let expected: Vec<_> =
            lost.map(|object| (Rule::Corrupted, object.as_ptr() as usize)).collect();
        assert_eq!(told, expected);
        assert_eq!(given, 1, "the other slab is whole");
    });
}
