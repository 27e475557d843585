//! What a cache still finds where there is no memory for new slabs.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use kmem::AllocFlags;
use kmem::buddy::{AllocError, BlockOwner};
use kmem::frame::{FRAME_SIZE, Order};
use kmem::page::FrameSource;
use kmem::slab::{CacheFlags, RawCache};

mod support;
use support::{Frames, become_cpu};

type Cache<'s> = RawCache<'s, Frames>;

const NONE: AllocFlags = AllocFlags::empty();

/// Gives objects back by one call.
fn free_all(cache: &Cache<'_>, objects: &[NonNull<u8>]) {
    // SAFETY: not used any more.
    unsafe { cache.free_many(objects) }.expect("allocated");
}

/// Gives objects back, each by a call of its own.
fn free_each(cache: &Cache<'_>, objects: &[NonNull<u8>]) {
    for &object in objects {
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
}

/// Allocates until there are no more.
fn take_all(cache: &Cache<'_>, flags: AllocFlags) -> Vec<NonNull<u8>> {
    std::iter::from_fn(|| cache.alloc(flags).ok()).collect()
}

/// Allocates objects for a part of the memory, in percent.
fn take_part(cache: &Cache<'_>, frames: usize, percent: usize) -> Vec<NonNull<u8>> {
    let objects = frames * FRAME_SIZE * percent / 100 / cache.object_bytes();
    (0..objects).map(|_| cache.alloc(NONE).expect("memory")).collect()
}

fn exhaust(frames: &Frames) {
    while frames.take(Order::ZERO, BlockOwner::Caller, NONE).is_ok() {}
}

#[test]
fn many_objects_that_lie_idle_elsewhere_are_had_at_once_when_there_is_no_memory() {
    let frames = Frames::new(24);
    let cache = Cache::new(&frames, "idle", 64, 8, CacheFlags::empty());
    become_cpu(1);
    let all = take_all(&cache, NONE);
    assert!(all.len() > 1000);
    // Every other one, so that no slab goes back.
    let (idle, kept): (Vec<_>, Vec<_>) =
        all.chunks(2).map(|pair| (pair[0], pair[1..].to_vec())).unzip();
    free_all(&cache, &idle);
    become_cpu(0);
    // As many as there are, or nearly: magazines take their own memory.
    let mut out = vec![MaybeUninit::uninit(); idle.len() - 100];
    let requests = frames.requests.load(Relaxed);
    assert_eq!(cache.alloc_many(&mut out, NONE), out.len());
    let failed = frames.requests.load(Relaxed) - requests;
    assert!(failed < 8, "{failed} requests for memory");
    // SAFETY: all were written.
    let mut objects: Vec<_> = out.iter().map(|object| unsafe { object.assume_init() }).collect();
    objects.sort();
    objects.dedup();
    assert_eq!(objects.len(), out.len());
    free_all(&cache, &objects);
    free_all(&cache, &kept.concat());
    cache.verify().expect("sound");
    assert_eq!(cache.stats().objects_active, 0);
}

#[test]
fn a_call_for_many_leaves_nothing_that_another_call_finds() {
    for bytes in [16, 64, 256, 1000] {
        for flags in [NONE, AllocFlags::ATOMIC, AllocFlags::NO_WAIT] {
            let frames = Frames::new(600);
            let cache = Cache::new(&frames, "idle", bytes, 8, CacheFlags::empty());
            become_cpu(0);
            let few = take_part(&cache, 10, 60);
            free_each(&cache, &few);
            // As much as its shelf has a place for, and then the depot.
            become_cpu(1);
            let wave = take_part(&cache, 600, 70);
            free_each(&cache, &wave);
            exhaust(&frames);
            become_cpu(0);
            let mut out = vec![MaybeUninit::uninit(); 200_000];
            let before = frames.requests.load(Relaxed);
            let got = cache.alloc_many(&mut out, flags);
            let requests = frames.requests.load(Relaxed) - before;
            // One a slab, and few in vain: not one for each object, nor for each magazine.
            assert!(requests <= 8 + got / 256, "{requests} for {got} of {bytes} bytes, {flags:?}");
            let more = take_all(&cache, flags).len();
            assert_eq!(more, 0, "behind {got} of {bytes} bytes, {flags:?}: {:?}", cache.stats());
            cache.verify().expect("sound");
        }
    }
}

#[test]
fn the_memory_of_empty_magazines_is_found_at_the_first_attempt() {
    let frames = Frames::new(200);
    let cache = Cache::new(&frames, "empty", 16, 8, CacheFlags::empty());
    let wave = take_part(&cache, 200, 70);
    free_each(&cache, &wave);
    take_part(&cache, 200, 35);
    exhaust(&frames);
    // Without waiting nobody drains, so empty magazines are left.
    take_all(&cache, AllocFlags::NO_WAIT);
    let found = cache.alloc(NONE);
    assert!(found.is_ok(), "{found:?}");
    take_all(&cache, NONE);
    assert_eq!(cache.alloc(NONE), Err(AllocError::OutOfMemory));
    cache.verify().expect("sound");
}
