//! Slab caches over the memory of this machine.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kmem::AllocFlags;
use kmem::frame::FRAME_SIZE;
use kmem::page::PageAllocator;
use kmem::slab::{Cache, CacheFlags, ObjectCache, ObjectError, RawCache};

use super::available;
use crate::memory::PAGES;
use crate::platform::Pc;
use crate::timer;

type Raw = RawCache<'static, PageAllocator<Pc>>;

const PLAIN: CacheFlags = CacheFlags::empty();
const ANY: AllocFlags = AllocFlags::empty();

fn raw(name: &'static str, size: usize, flags: CacheFlags) -> Raw {
    RawCache::new(&PAGES, name, size, 8, flags)
}

pub(super) fn values_live_in_a_cache_and_are_dropped() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counted(usize);
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(self.0, Ordering::Relaxed);
        }
    }
    let cache: Cache<'_, Counted, _> = Cache::new(&PAGES, "counted", PLAIN);
    let mut values = Vec::with_capacity(1000);
    for number in 1..=1000 {
        values.push(cache.alloc(Counted(number)).map_err(|(_, error)| error).expect("memory"));
    }
    assert_eq!(cache.stats().objects_active, 1000);
    assert_eq!(values.iter().map(|value| value.0).sum::<usize>(), 500_500);
    drop(values);
    assert_eq!((DROPPED.load(Ordering::Relaxed), cache.stats().objects_active), (500_500, 0));
    cache.verify().expect("sound afterwards");
}

pub(super) fn objects_are_aligned_disjoint_and_whole() {
    for size in [8, 24, 64, 100, 500, 2048, 5000] {
        let cache = raw("pieces", size, CacheFlags::HARDWARE_ALIGN);
        let mut objects = Vec::with_capacity(200);
        for number in 0..200_u8 {
            let object = cache.alloc(ANY).expect("memory");
            // SAFETY: the object is this function's, and has `size` bytes.
            unsafe { object.write_bytes(number, size) };
            objects.push(object);
        }
        for (number, object) in objects.iter().enumerate() {
            // SAFETY: as above; nobody else writes to it.
            let bytes = unsafe { NonNull::slice_from_raw_parts(*object, size).as_ref() };
            assert!(
                bytes.iter().all(|&byte| usize::from(byte) == number),
                "object {number} of {size} bytes"
            );
            assert_eq!(object.addr().get() % size.next_power_of_two().min(64), 0);
        }
        for object in objects {
            // SAFETY: nobody uses it any more.
            unsafe { cache.free(object) }.expect("it was allocated");
        }
        cache.verify().expect("sound afterwards");
    }
}

pub(super) fn destroyed_cache_returns_every_frame() {
    // On the stack, so that nothing else takes frames.
    let mut objects = [NonNull::dangling(); 1000];
    let before = available();
    let cache = raw("passing", 256, PLAIN);
    for object in &mut objects {
        *object = cache.alloc(ANY).expect("memory");
    }
    assert!(before - available() >= 1000 * 256 / FRAME_SIZE);
    for object in objects {
        // SAFETY: nobody uses it any more.
        unsafe { cache.free(object) }.expect("it was allocated");
    }
    cache.destroy().map_err(|(_, busy)| busy).expect("nothing is in use");
    assert_eq!(available(), before);
}

pub(super) fn constructor_runs_once_per_object() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let make = || {
        MADE.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(AtomicU64::new(42))
    };
    let cache = ObjectCache::new(&PAGES, "made", PLAIN, make);
    for _ in 0..5_000 {
        let object = cache.alloc().expect("memory");
        assert_eq!(object.load(Ordering::Relaxed), 42);
    }
    let made = MADE.load(Ordering::Relaxed);
    assert_eq!(made, cache.stats().objects_total);
    assert!(made < 5_000, "{made} objects made for one in use at a time");
}

pub(super) fn double_free_is_refused() {
    let cache = raw("twice", 64, PLAIN);
    let object = cache.alloc(ANY).expect("memory");
    // SAFETY: nobody uses it any more.
    unsafe { cache.free(object) }.expect("it was allocated");
    // SAFETY: it is free, and the cache says so.
    assert_eq!(unsafe { cache.free(object) }, Err(ObjectError::NotAllocated));
    cache.verify().expect("sound afterwards");
}

pub(super) fn address_inside_an_object_is_refused() {
    let cache = raw("inside", 64, PLAIN);
    let base = cache.alloc(ANY).expect("memory");
    // SAFETY: the byte lies in the object.
    let inside = unsafe { base.add(8) };
    // SAFETY: it is no object, and the cache says so.
    assert_eq!(unsafe { cache.free(inside) }, Err(ObjectError::NotAnObject { base }));
    // SAFETY: nobody uses it any more.
    unsafe { cache.free(base) }.expect("it was allocated");
}

pub(super) fn object_of_another_cache_is_refused() {
    let (cache, other) = (raw("given", 64, PLAIN), raw("owner", 64, PLAIN));
    let object = other.alloc(ANY).expect("memory");
    let wrong = ObjectError::WrongCache { owner: "owner", given: "given" };
    // SAFETY: it is another cache's, and the cache says so.
    assert_eq!(unsafe { cache.free(object) }, Err(wrong));
    // SAFETY: nobody uses it any more.
    unsafe { other.free(object) }.expect("it was allocated");
}

pub(super) fn address_outside_memory_is_refused() {
    let cache = raw("outside", 64, PLAIN);
    let mut on_stack = [0_u64; 8];
    let foreign = NonNull::from(&mut on_stack).cast();
    // SAFETY: it is no object, and the cache says so.
    assert_eq!(unsafe { cache.free(foreign) }, Err(ObjectError::OutOfRange));
}

pub(super) fn cache_with_live_objects_is_not_destroyed() {
    let cache = raw("leaky", 64, PLAIN);
    let object = cache.alloc(ANY).expect("memory");
    let Err((cache, busy)) = cache.destroy() else { panic!("an object is in use") };
    assert_eq!((busy.live, busy.objects[0]), (1, Some(object)));
    // SAFETY: nobody uses it any more.
    unsafe { cache.free(object) }.expect("it was allocated");
    assert!(cache.destroy().is_ok());
}

pub(super) fn cache_takes_all_memory_and_gives_it_back() {
    let cache = raw("greedy", 2048, PLAIN);
    // The list takes its memory before the cache takes the rest.
    let mut objects = Vec::with_capacity(available() * 2);
    while let Ok(object) = cache.alloc(ANY) {
        objects.push(object);
    }
    assert!(objects.len() > 1000);
    for &object in &objects {
        // SAFETY: nobody uses it any more.
        unsafe { cache.free(object) }.expect("it was allocated");
    }
    cache.verify().expect("sound afterwards");
    cache.destroy().map_err(|(_, busy)| busy).expect("nothing is in use");
    PAGES.verify().expect("sound afterwards");
}

pub(super) fn timer_allocates_objects_while_the_kernel_does() {
    static CACHE: Raw = RawCache::new(&PAGES, "shared", 96, 8, PLAIN);
    static SERVED: AtomicU64 = AtomicU64::new(0);
    timer::set_hook(Some(|| {
        if let Ok(object) = CACHE.alloc(AllocFlags::ATOMIC | AllocFlags::NO_WAIT) {
            // SAFETY: nobody uses it any more.
            unsafe { CACHE.free(object) }.expect("it was allocated");
            SERVED.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let mut objects = Vec::with_capacity(100);
    while SERVED.load(Ordering::Relaxed) < 100 {
        objects.extend((0..100).map(|_| CACHE.alloc(ANY).expect("memory")));
        for object in objects.drain(..) {
            // SAFETY: nobody uses it any more.
            unsafe { CACHE.free(object) }.expect("it was allocated");
        }
    }
    timer::set_hook(None);
    CACHE.verify().expect("sound afterwards");
    assert_eq!(CACHE.stats().objects_active, 0);
}
