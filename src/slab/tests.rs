//! What cannot be seen from outside: geometry, and records that are damaged on purpose.

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::ToString;
use std::vec::Vec;

use super::descriptor::{self, Slab};
use super::drain::Others;
use super::find::{find, named, named_from, origin};
use super::geometry::{Geometry, MAX_OBJECT_BYTES, MAX_OBJECTS, Stride};
use super::lists::Fill;
use super::{CacheFlags, ObjectError, RawCache, lookup, magazine};
use crate::check::{self, Rule};
use crate::memory_map::{Region, RegionKind};
use crate::page::records::GRANULE;
use crate::page::{AllocError, AllocFlags, PageAllocator};
use crate::platform::Platform;
use crate::test_support::{Machine, alone_with_hook, frames};

const NONE: AllocFlags = AllocFlags::empty();

/// A machine of 1 MiB.
fn pages() -> PageAllocator<Machine> {
    let pages = PageAllocator::new(Machine::new([frames(0x100, 0x200)]));
    let memory = Region::from_frames(frames(0x100, 0x200), RegionKind::Usable);
    // SAFETY: the whole machine is the allocator's.
    unsafe { pages.init([memory]) }.expect("the map has memory");
    pages
}

fn geometry(bytes: usize, align: usize, flags: CacheFlags) -> Geometry {
    Geometry::new(bytes, align, flags).expect("possible")
}

#[test]
fn little_of_a_slab_is_left_over_for_every_size_and_alignment() {
    for align in [1, 8, 64, 512, 4096, 65536] {
        for bytes in 1..=MAX_OBJECT_BYTES {
            let it = geometry(bytes, align, CacheFlags::empty());
            let block = it.order.len_bytes() as usize;
            let rest = block - it.objects * it.stride;
            assert!(rest * 8 <= block, "{bytes} aligned to {align} leave {rest} of {block}");
            // More than a 32nd only where no slab of up to eight frames leaves less.
            let is_wasteful = |frames: usize| {
                let objects = (frames * 4096 / it.stride).min(MAX_OBJECTS);
                objects < 4 || (frames * 4096 - objects * it.stride) * 32 > frames * 4096
            };
            assert!(rest * 32 <= block || [1, 2, 4, 8].into_iter().all(is_wasteful));
            assert!((4..=MAX_OBJECTS).contains(&it.objects));
            assert!(it.stride >= bytes && it.stride.is_multiple_of(align));
            assert!(it.stride - bytes < align.max(8), "objects too far apart");
            let last = (it.colours - 1) * it.colour_step;
            assert!(last <= rest && it.colour_step.is_multiple_of(align));
        }
    }
}

#[test]
fn slabs_are_no_larger_than_waste_and_number_demand() {
    let cases = [
        (8, 0, 512),
        (64, 0, 64),
        (512, 0, 8),
        (1024, 0, 4),
        (640, 2, 25),
        (768, 2, 21),
        (1280, 3, 25),
        (1792, 2, 9),
        (2048, 1, 4),
        (4096, 2, 4),
        (65536, 6, 4),
    ];
    for (bytes, order, objects) in cases {
        let it = geometry(bytes, 8, CacheFlags::empty());
        assert_eq!((it.order.get(), it.objects), (order, objects), "{bytes} bytes");
    }
}

#[test]
fn slabs_are_what_the_document_says() {
    let document = include_str!("../../docs/slab.md");
    let (_, table) = document.split_once("used of the slab's record |").expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, size, frames, objects, left_over, record, _] = cells[..] else { panic!("{row}") };
        let it = geometry(size.parse().expect("a size"), 1, CacheFlags::empty());
        let slab_bytes = it.order.len_bytes() as usize;
        let rest = slab_bytes - it.objects * it.stride;
        let permille = (rest * 1000 + slab_bytes / 2) / slab_bytes;
        let share = match (permille / 10, permille % 10) {
            (0, 0) => "0 %".to_string(),
            (whole, tenths) => format!("{whole}.{tenths} %"),
        };
        let record_bytes = format!("{} bytes", descriptor::record_bytes(it.objects));
        let found = [it.order.frames().to_string(), it.objects.to_string(), share, record_bytes];
        assert_eq!(found, [frames, objects, left_over, record], "{row}");
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn a_stride_divides_its_multiples_and_nothing_else() {
    for bytes in 1..=MAX_OBJECT_BYTES {
        let it = geometry(bytes, 1, CacheFlags::empty());
        let stride = Stride::new(it.stride);
        for index in 0..it.objects {
            let first = index * it.stride;
            assert_eq!(stride.divide_exactly(first), index);
            for inside in [first + 1, first + it.stride / 2, first + it.stride - 1] {
                assert!(stride.divide_exactly(inside) > MAX_OBJECTS, "{inside} by {bytes}");
            }
            assert!(stride.divide_exactly((first + it.stride).wrapping_neg()) > MAX_OBJECTS);
        }
    }
}

#[test]
fn hardware_alignment_keeps_objects_from_sharing_lines_by_halves() {
    for (bytes, align) in [(1, 1), (8, 8), (9, 16), (24, 32), (33, 64), (100, 64), (1000, 64)] {
        let it = geometry(bytes, 1, CacheFlags::HARDWARE_ALIGN);
        assert_eq!(it.align, align, "{bytes} bytes");
    }
}

#[test]
fn colours_spread_first_objects_over_the_cache() {
    // 5 objects of 800 bytes leave 96 bytes: places for the first at 0 and 64.
    let pages = pages();
    for (flags, expected) in
        [(CacheFlags::empty(), [0, 64, 0, 64]), (CacheFlags::NO_COLOUR, [0; 4])]
    {
        let cache = RawCache::new(&pages, "coloured", 800, 8, flags);
        let places: Vec<_> = (0..20)
            .map(|_| cache.alloc(NONE).expect("memory").as_ptr() as usize % 4096)
            .step_by(5)
            .collect();
        assert_eq!(places, expected);
    }
}

#[test]
fn magazines_fill_their_records_and_have_the_rounds_that_the_document_says() {
    let document = include_str!("../../docs/slab.md");
    let (_, table) = document.split_once("| rounds in a magazine |").expect("the table");
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 6);
    let mut first = 1;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let last = cells[1].strip_prefix("up to ").map(|size| size.parse().expect("a size"));
        let last = last.unwrap_or(MAX_OBJECT_BYTES);
        for bytes in [first, last] {
            let rounds = magazine::rounds_for(bytes);
            assert_eq!(rounds.to_string(), cells[2], "{bytes} bytes");
            let used = magazine::magazine_bytes(rounds);
            assert_eq!(used.next_multiple_of(GRANULE), used, "nothing is left over");
        }
        first = last + 1;
    }
}

/// A cache with a slab that is partly used.
fn damaged(check: impl Fn(&RawCache<'_, PageAllocator<Machine>>, Slab<'_>, &[NonNull<u8>])) {
    let pages = pages();
    let cache = RawCache::new(&pages, "damaged", 256, 8, CacheFlags::NO_MAGAZINES);
    let objects: Vec<_> = (0..5).map(|_| cache.alloc(NONE).expect("memory")).collect();
    // SAFETY: an object of it is allocated.
    let slab = unsafe { find(&pages, objects[0]) }.expect("a slab");
    check(&cache, slab, &objects);
}

#[test]
fn a_recount_finds_every_flipped_bit_of_a_slabs_states() {
    damaged(|cache, slab, _| {
        for index in 0..slab.objects() {
            for bit in 0..8 {
                let state = &slab.states()[index];
                state.fetch_xor(1 << bit, Relaxed);
                assert!(cache.verify().is_err(), "bit {bit} of state {index}");
                state.fetch_xor(1 << bit, Relaxed);
            }
        }
        cache.verify().expect("whole again");
        for bit in 0..64 {
            slab.bits()[0].fetch_xor(1 << bit, Relaxed);
            assert!(cache.verify().is_err(), "bit {bit}");
            slab.bits()[0].fetch_xor(1 << bit, Relaxed);
        }
        for bit in 0..2 {
            slab.list().fetch_xor(1 << bit, Relaxed);
            assert!(cache.verify().is_err());
            slab.list().fetch_xor(1 << bit, Relaxed);
        }
        cache.verify().expect("whole again");
    });
}

#[test]
fn a_damaged_state_is_refused_when_it_is_touched() {
    damaged(|cache, slab, objects| {
        slab.states()[2].store(0x40, Relaxed);
        // SAFETY: not used any more.
        assert_eq!(unsafe { cache.free(objects[2]) }, Err(ObjectError::Corrupted));
        slab.states()[2].store(descriptor::USER, Relaxed);
        // SAFETY: not used any more.
        unsafe { cache.free(objects[2]) }.expect("whole again");
    });
}

#[test]
fn an_object_whose_bit_and_state_disagree_is_reported_and_not_handed_out() {
    let _alone = alone_with_hook();
    damaged(|cache, slab, objects| {
        // The bit of an object in use, as if it were free.
        slab.bits()[0].fetch_or(1, Relaxed);
        let taken = catch_unwind(AssertUnwindSafe(|| cache.alloc(NONE)));
        assert!(taken.is_err(), "the default hook stops");
        let taken = slab.take(100, descriptor::USER, |entry| assert_ne!(entry.object, objects[0]));
        assert_eq!(taken.damaged, 0);
    });
    damaged(|cache, slab, objects| {
        slab.bits()[0].fetch_or(1, Relaxed);
        // SAFETY: not used any more.
        let freed = catch_unwind(AssertUnwindSafe(|| unsafe { cache.free(objects[0]) }));
        assert!(freed.is_err(), "the default hook stops");
    });
}

#[test]
fn lists_agree_with_their_slabs_also_after_a_hook_that_unwinds() {
    let _alone = alone_with_hook();
    let is_refused = |call: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(call)).is_err();
    damaged(|cache, slab, objects| {
        // As if the next object were in use: its bit goes, and it stays out of the slab.
        slab.states()[objects.len()].store(descriptor::USER, Relaxed);
        assert!(is_refused(&mut || _ = cache.alloc(NONE)), "the default hook stops");
        cache.verify().expect("the slab's count and list are those of its bits");
    });
    let pages = pages();
    let cache = RawCache::new(&pages, "emptied", 64, 8, CacheFlags::empty());
    let objects: Vec<_> = (0..50).map(|_| cache.alloc(NONE).expect("memory")).collect();
    // SAFETY: an object of it is allocated.
    let slab = unsafe { find(&pages, objects[0]) }.expect("a slab");
    for &object in &objects {
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
    // The bit of an object in a magazine, as if it were in its slab.
    let cached = slab.states().iter().position(|state| state.load(Relaxed) == descriptor::CACHED);
    slab.bits()[0].fetch_or(1 << cached.expect("some are in magazines"), Relaxed);
    let before = slab.available();
    assert!(is_refused(&mut || _ = cache.drain(Others::Ask)), "the default hook stops");
    assert!(slab.available() > before);
    let mut walked = 0;
    for fill in Fill::all() {
        let lists = cache.lists.lock(pages.platform());
        let mut at = lists.walk(pages.platform(), fill, None);
        while let Some(slab) = at {
            assert_eq!(Fill::of(slab), fill);
            walked += slab.available();
            at = lists.walk(pages.platform(), fill, Some(slab));
        }
    }
    assert_eq!(walked, cache.lists.lock(pages.platform()).available);
}

#[test]
fn an_object_set_aside_whose_bit_says_that_it_is_free_is_reported_once() {
    static FOUND: AtomicUsize = AtomicUsize::new(0);
    let _alone = alone_with_hook();
    damaged(|cache, slab, objects| {
        slab.states()[0].store(descriptor::RUINED, Relaxed);
        slab.bits()[0].fetch_or(1, Relaxed);
        slab.states()[1].store(descriptor::RUINED, Relaxed);
        let before = slab.available();
        check::set_hook(Some(|violation| {
            assert_eq!(violation.rule, Rule::Corrupted);
            FOUND.fetch_add(1, Relaxed);
        }));
        cache.lists.lock(cache.platform()).restore_ruined(cache.platform());
        check::set_hook(None);
        assert_eq!(FOUND.load(Relaxed), 1);
        assert_eq!(slab.available(), before + 1, "the other is in its slab");
        slab.bits()[0].fetch_and(!1, Relaxed);
        slab.states()[0].store(descriptor::USER, Relaxed);
        for &object in objects.iter().filter(|object| **object != slab.object(1)) {
            // SAFETY: not used any more.
            unsafe { cache.free(object) }.expect("allocated");
        }
        cache.verify().expect("sound");
    });
}

#[test]
fn what_lies_behind_an_object_that_is_in_a_magazine_and_not_free_goes_back() {
    static FOUND: AtomicUsize = AtomicUsize::new(0);
    let _alone = alone_with_hook();
    let pages = pages();
    let cache = RawCache::new(&pages, "twice", 64, 8, CacheFlags::empty());
    let objects: Vec<_> = (0..50).map(|_| cache.alloc(NONE).expect("memory")).collect();
    // SAFETY: an object of it is allocated.
    let slab = unsafe { find(&pages, objects[0]) }.expect("a slab");
    for &object in &objects {
        // SAFETY: not used any more.
        unsafe { cache.free(object) }.expect("allocated");
    }
    let is_kept = |state: &&AtomicU8| state.load(Relaxed) == descriptor::CACHED;
    assert!(slab.states().iter().filter(is_kept).count() > 40);
    let odd = &slab.states()[slab.index_at(objects[40].addr().get()).expect("an object")];
    assert_eq!(odd.load(Relaxed), descriptor::CACHED);
    odd.store(descriptor::USER, Relaxed);
    check::set_hook(Some(|violation| {
        assert_eq!(violation.rule, Rule::NotAllocated);
        FOUND.fetch_add(1, Relaxed);
    }));
    cache.drain(Others::Ask);
    check::set_hook(None);
    assert_eq!(FOUND.load(Relaxed), 1);
    assert_eq!(slab.available(), slab.objects() - 1, "all others are in their slab");
}

#[test]
fn an_object_that_is_in_a_magazine_and_not_free_is_reported_among_many_and_not_handed_out() {
    static FOUND: AtomicUsize = AtomicUsize::new(0);
    let _alone = alone_with_hook();
    let pages = pages();
    let cache = RawCache::new(&pages, "many", 64, 8, CacheFlags::empty());
    let objects: Vec<_> = (0..50).map(|_| cache.alloc(NONE).expect("memory")).collect();
    // SAFETY: an object of it is allocated.
    let slab = unsafe { find(&pages, objects[0]) }.expect("a slab");
    // SAFETY: not used any more.
    unsafe { cache.free_many(&objects) }.expect("allocated");
    let odd = objects[45];
    let state = &slab.states()[slab.index_at(odd.addr().get()).expect("an object")];
    assert_eq!(state.load(Relaxed), descriptor::CACHED);
    state.store(descriptor::USER, Relaxed);
    check::set_hook(Some(|violation| {
        assert_eq!(violation.rule, Rule::NotAllocated);
        FOUND.fetch_add(1, Relaxed);
    }));
    let mut out = [MaybeUninit::uninit(); 20];
    let taken = cache.alloc_many(&mut out, NONE);
    check::set_hook(None);
    assert_eq!((taken, FOUND.load(Relaxed)), (20, 1));
    // SAFETY: all were written.
    assert!(out.iter().all(|object| unsafe { object.assume_init() } != odd));
}

#[test]
fn memory_beyond_the_reach_of_records_is_called_so() {
    const HIGH: usize = 1 << 26;
    let serve = |map: &[crate::frame::FrameRange]| {
        let pages = PageAllocator::new(Machine::new(map.iter().copied()));
        let regions = map.iter().map(|&range| Region::from_frames(range, RegionKind::Usable));
        // SAFETY: the whole machine is the allocator's.
        unsafe { pages.init(regions) }.expect("the map has memory");
        RawCache::new(&pages, "far", 64, 8, CacheFlags::empty()).alloc(NONE).map(|_| ())
    };
    let high = frames(HIGH, HIGH + 0x100);
    assert!(matches!(
        serve(&[high]),
        Err(AllocError::OutOfReach { frame }) if frame >= high.start()
    ));
    // A frame that is low enough does for all records.
    assert_eq!(serve(&[frames(0x1000, 0x1100), high]), Ok(()));
}

#[test]
fn a_slab_repeats_its_caches_tag_as_far_as_that_fits() {
    let pages = pages();
    for (tag, repeated) in [(0, 0), (62, 62), (255, 255), (256, 0), (256 + 62, 0), (u32::MAX, 0)] {
        let cache = RawCache::new(&pages, "tagged", 64, 8, CacheFlags::empty()).with_tag(tag);
        let object = cache.alloc(NONE).expect("memory");
        // SAFETY: the object is allocated.
        assert_eq!(unsafe { lookup(&pages, object) }.expect("an object").tag, tag);
        // SAFETY: it is allocated.
        assert_eq!(unsafe { find(&pages, object) }.expect("a slab").tag(), repeated);
    }
}

#[test]
fn an_id_leads_to_its_slab_and_what_is_none_to_nothing() {
    let pages = pages();
    let cache = RawCache::new(&pages, "named", 64, 8, CacheFlags::empty());
    // SAFETY: the object is allocated.
    let slab = unsafe { find(&pages, cache.alloc(NONE).expect("memory")) }.expect("a slab");
    let first = frames(0x100, 0x101).start();
    let origin = origin(pages.platform().phys_to_virt(first.start()), first);
    // SAFETY: all memory of the machine lies in one piece, and the id is a living slab's.
    let found = unsafe { named_from(origin, slab.id()) }.expect("a record");
    assert_eq!((found.id(), found.states().as_ptr()), (slab.id(), slab.states().as_ptr()));
    // Such values mark frames that are no slab's: those of runs, and nobody's.
    for id in [0, 64, slab.id() / 64 * 64, u32::MAX / 64 * 64] {
        // SAFETY: no record is looked at.
        let found = unsafe { (named_from(origin, id), named(&pages, id)) };
        assert!(found.0.is_none() && found.1.is_none());
    }
}

#[test]
fn a_cpu_is_not_abandoned_while_another_may_be_emptying_its_magazines() {
    let pages = pages();
    let cache = RawCache::new(&pages, "abandoned", 64, 8, CacheFlags::empty());
    let objects: Vec<_> = (0..40).map(|_| cache.alloc(NONE).expect("memory")).collect();
    for object in objects {
        // SAFETY: allocated above, not used.
        unsafe { cache.free(object) }.expect("allocated");
    }
    let cpu = pages.platform().cpu_id();
    let slot = cache.cpus.slot(pages.platform(), cpu).expect("it was used often");
    assert!(slot.total_rounds() > 0);
    let begun = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As a remote does all the while that it empties them.
        let lists = cache.lists.lock(pages.platform());
        let abandoning = scope.spawn(|| {
            begun.store(true, Relaxed);
            // SAFETY: that CPU, which is this test's other thread, does not use the cache
            // meanwhile.
            unsafe { cache.abandon_cpu(cpu) };
        });
        while !begun.load(Relaxed) {
            std::thread::yield_now();
        }
        (0..1000).for_each(|_| std::thread::yield_now());
        assert!(!abandoning.is_finished() && slot.total_rounds() > 0, "it did not wait");
        drop(lists);
        abandoning.join().expect("no panic");
    });
    assert_eq!(slot.total_rounds(), 0);
    cache.verify().expect("sound but for what was lost");
}

#[test]
fn a_destruction_that_is_refused_leaves_ruined_objects_out_of_use() {
    let _alone = alone_with_hook();
    let pages = pages();
    let cache = RawCache::new(&pages, "ruined", 64, 8, CacheFlags::POISON);
    let [_live, ruined] = [(); 2].map(|()| cache.alloc(NONE).expect("memory"));
    // SAFETY: the test's own memory, which nobody uses; that it is written to is what is tested.
    unsafe {
        cache.free(ruined).expect("allocated");
        ruined.write(1);
    }
    check::set_hook(Some(|violation| assert_eq!(violation.rule, Rule::WriteAfterFree)));
    assert_ne!(cache.alloc(NONE), Ok(ruined));
    check::set_hook(None);
    let Err((cache, busy)) = cache.destroy() else { panic!("two objects are in use") };
    assert_eq!(busy.live, 2);
    // The default hook stops at a second report.
    let rest = Vec::from_iter((0..100).map(|_| cache.alloc(NONE).expect("memory")));
    assert!(!rest.contains(&ruined));
}

#[test]
fn a_ruined_object_cannot_be_freed_also_after_a_hook_that_unwinds() {
    let _alone = alone_with_hook();
    let pages = pages();
    let cache = RawCache::new(&pages, "ruined", 64, 8, CacheFlags::POISON);
    let ruined = cache.alloc(NONE).expect("memory");
    // SAFETY: the test's own memory, which nobody uses; that it is written to is what is tested.
    unsafe {
        cache.free(ruined).expect("allocated");
        ruined.write(1);
    }
    let taken = catch_unwind(AssertUnwindSafe(|| cache.alloc(NONE)));
    assert!(taken.is_err(), "the default hook stops");
    // SAFETY: nobody has it.
    assert_eq!(unsafe { cache.free(ruined) }, Err(ObjectError::NotAllocated));
}
