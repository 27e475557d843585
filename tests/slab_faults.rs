//! Every way to misuse a cache, alone: the exact error, nothing changed, and the cache works on.

use std::ptr::NonNull;

use kmem::AllocFlags;
use kmem::buddy::{AllocError, BlockOwner};
use kmem::frame::Order;
use kmem::page::FrameSource;
use kmem::platform::Platform;
use kmem::slab::{CacheFlags, ObjectError, RawCache, lookup};

mod support;
use support::Frames;

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
        assert!(!cache.owns(address));
        assert_eq!(lookup(&frames, address), Err(ObjectError::OutOfRange));
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
    assert!(there.owns(object) && !here.owns(object));
    assert_works(&here);
    assert_works(&there);
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
    let named: Vec<_> = busy.objects.iter().flatten().collect();
    assert_eq!(named.len(), 8);
    assert!(named.iter().all(|object| objects.contains(object)));
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
