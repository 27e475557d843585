//! What the third look serves, and what it leaves to the whole way.

use std::vec::Vec;

use super::*;
use crate::gate::Gated;
use crate::memory_map::{Region, RegionKind};
use crate::page::{AllocFlags, InitOptions, PageAllocator};
use crate::platform::Platform;
use crate::slab::CacheFlags;
use crate::slab::find::find;
use crate::slab::way::Way;
use crate::test_support::{Machine, booted, frames};

type Cache<'s> = RawCache<'s, PageAllocator<Machine>>;

const BYTES: usize = 1000;

fn pages() -> PageAllocator<Machine> {
    let memory = frames(0x100, 0x200);
    let map = [Region::from_frames(memory, RegionKind::Usable)];
    booted(memory, &map, InitOptions::default())
}

/// Allocates so many objects and frees them again: many stay with the CPU.
fn wave(cache: &Cache<'_>, count: usize) {
    let flags = AllocFlags::empty();
    let all: Vec<_> = (0..count).map(|_| cache.alloc(flags).expect("memory")).collect();
    for object in all {
        // SAFETY: allocated above, not used.
        unsafe { cache.free(object) }.expect("allocated");
    }
}

/// What lies in the magazines in use, which are empty then.
fn take_in_use(cache: &Cache<'_>) -> Vec<NonNull<u8>> {
    core::iter::from_fn(|| cache.alloc_hit().or_else(|| second(cache))).collect()
}

/// What a wave left with the CPU, on its shelf, too: all its magazines are empty then.
fn take_all(cache: &Cache<'_>) -> Vec<NonNull<u8>> {
    let mut objects = take_in_use(cache);
    while let Some(object) = cache.take_shelved() {
        objects.push(object);
        assert_eq!(cache.take_shelved(), None, "there are hits to be had");
        objects.extend(take_in_use(cache));
    }
    assert!(objects.len() > 3 * cache.rounds() as usize);
    objects
}

fn second(cache: &Cache<'_>) -> Option<NonNull<u8>> {
    let platform = cache.platform();
    let slot = cache.cpus.slot(platform, platform.cpu_id())?;
    // SAFETY: this CPU's.
    unsafe { slot.take_second(platform) }
}

/// Gives objects back until both magazines in use are full.
fn fill(cache: &Cache<'_>, objects: &mut Vec<NonNull<u8>>) {
    let free = |object: &mut NonNull<u8>| {
        // SAFETY: allocated, not used.
        unsafe { cache.free_hit(*object) || cache.cpus.put_second(cache.source, *object) }
    };
    while objects.pop_if(free).is_some() {}
    assert!(!objects.is_empty());
}

fn put(cache: &Cache<'_>, object: NonNull<u8>) -> bool {
    // SAFETY: no slab is given back here, and nobody uses the objects.
    unsafe {
        let slab = find(cache.source, object).expect("in a slab");
        cache.put_shelved(slab, object)
    }
}

#[test]
fn what_is_for_the_whole_way_is_left_as_it_is() {
    let pages = pages();
    let cache = RawCache::new(&pages, "waves", BYTES, 8, CacheFlags::empty());
    let other = RawCache::new(&pages, "other", BYTES, 8, CacheFlags::empty());
    wave(&cache, 100);
    let mut objects = take_all(&cache);
    let freed = *objects.last().expect("many");
    assert!(!put(&cache, freed), "the loaded magazine has room");
    // SAFETY: allocated, not used.
    while objects.pop_if(|object| unsafe { cache.free_hit(*object) }).is_some() {}
    assert!(!put(&cache, objects[0]), "the previous magazine has room");
    fill(&cache, &mut objects);

    let visits = cache.stats().depot_visits;
    let object = objects.pop().expect("many");
    // SAFETY: within the object.
    let inside = unsafe { object.add(8) };
    let others = other.alloc(AllocFlags::empty()).expect("memory");
    for (wrong, why) in [(freed, "freed"), (inside, "inside"), (others, "another cache's")] {
        assert!(!put(&cache, wrong), "{why}");
    }
    // SAFETY: the slab has objects out.
    let slab = unsafe { find(&pages, object) }.expect("in a slab");
    let way = slab.way();
    slab.set_way(Way::new(way.number() + 1));
    assert!(!put(&cache, object), "another way's");
    slab.set_way(way);
    cache.recedes.store(true, Relaxed);
    assert!(!put(&cache, object), "memory goes back");
    cache.recedes.store(false, Relaxed);

    assert_eq!(cache.stats().depot_visits, visits, "nothing has changed");
    assert!(put(&cache, object));
    assert_eq!(cache.stats().depot_visits, visits + 1);
    assert!(!put(&cache, object), "freed");
    // SAFETY: allocated, not used.
    unsafe { other.free(others) }.expect("still allocated");
    for object in objects {
        // SAFETY: as above.
        unsafe { cache.free(object) }.expect("allocated");
    }
    cache.verify().expect("sound");
}

#[test]
fn a_shelf_takes_no_more_than_it_has_places_for() {
    let pages = pages();
    let cache = RawCache::new(&pages, "waves", BYTES, 8, CacheFlags::empty());
    wave(&cache, 250);
    let mut objects = take_all(&cache);
    // The shelf has as many places as before only as long as there are as many CPUs.
    for _ in 1..Way::COUNT {
        std::thread::scope(|scope| {
            scope.spawn(|| wave(&cache, 50));
        });
    }
    let at_hand = objects.len();
    while let Some(&object) = objects.last() {
        // SAFETY: allocated, not used.
        let is_hit =
            unsafe { cache.free_hit(object) || cache.cpus.put_second(cache.source, object) };
        if !is_hit && !put(&cache, object) {
            break;
        }
        objects.pop();
    }
    let slot = cache.cpus.slot(pages.platform(), pages.platform().cpu_id()).expect("a slot");
    assert!(slot.shelf.lock(pages.platform()).empty.len() > 0, "magazines are not wanting");
    assert!(objects.len() > at_hand / 3, "{} of {at_hand} have no place", objects.len());
}

#[test]
fn a_drain_that_is_wanted_is_not_put_off() {
    let pages = pages();
    let cache = RawCache::new(&pages, "waves", BYTES, 8, CacheFlags::empty());
    wave(&cache, 100);
    while cache.alloc_hit().is_some() {}
    assert_eq!(cache.take_shelved(), None, "the previous magazine serves");
    take_in_use(&cache);
    let visits = cache.stats().depot_visits;
    assert!(cache.take_shelved().is_some());
    assert_eq!(cache.stats().depot_visits, visits + 1);
    take_in_use(&cache);
    // As a shortage would have done before they were empty.
    let slot = cache.cpus.slot(pages.platform(), pages.platform().cpu_id()).expect("a slot");
    slot.gate().ask();
    assert_eq!(cache.take_shelved(), None);

    let cache = RawCache::new(&pages, "waves", BYTES, 8, CacheFlags::empty());
    wave(&cache, 100);
    let mut objects = take_all(&cache);
    fill(&cache, &mut objects);
    cache.cpus.ask(pages.platform());
    let object = objects.pop().expect("many");
    assert!(!put(&cache, object));
    // SAFETY: allocated, not used.
    unsafe { cache.free(object) }.expect("allocated");
    assert!(cache.stats().objects_cached <= 1, "that call has drained the CPU");
}
