//! Rows, and what is at hand behind them.

use std::{iter, vec::Vec};

use super::*;
use crate::check;
use crate::host::locks;
use crate::host::slot::tests::alone;
use crate::page::AllocFlags;
use crate::test_support::alone_with_hook;

#[test]
fn every_size_and_every_tag_finds_the_slot_of_its_class() {
    let row = Row {
        by_size: [const { AtomicPtr::new(ABSENT) }; DIRECT_BYTES / 8],
        by_tag: [const { AtomicPtr::new(ABSENT) }; TAGS],
    };
    // Only told apart, never looked at.
    let slot_of = |class: SizeClass| ptr::without_provenance_mut::<Slot>(64 * (class.index() + 1));
    for class in SizeClass::all() {
        row.put(class, slot_of(class));
    }
    for bytes in 1..=DIRECT_BYTES {
        let class = SizeClass::for_bytes(bytes).expect("has a class");
        let place = &row.by_size[(bytes - 1) / 8];
        assert_eq!(place.load(Relaxed), slot_of(class), "{bytes} bytes");
    }
    for class in SizeClass::all() {
        let tag = class.index() + 1;
        assert_eq!(Heap::<HostFrames>::class_of_tag(tag as u32), Some(class));
        assert_eq!(row.by_tag[tag].load(Relaxed), slot_of(class));
    }
    assert_eq!(row.by_tag[0].load(Relaxed), ABSENT);
}

#[test]
fn a_row_that_another_thread_is_clearing_is_not_begun_before_all_of_it_is() {
    let row = Row {
        by_size: [const { AtomicPtr::new(ptr::null_mut()) }; DIRECT_BYTES / 8],
        by_tag: [const { AtomicPtr::new(ptr::null_mut()) }; TAGS],
    };
    for place in row.places() {
        assert!(!row.is_begun());
        place.store(ABSENT, Relaxed);
    }
    assert!(row.is_begun());
    let all = row.by_size.iter().chain(&row.by_tag);
    assert!(all.into_iter().all(|place| !place.load(Relaxed).is_null()));
}

#[test]
fn a_row_without_slots_serves_nobody() {
    for place in EMPTY.places() {
        // SAFETY: it is nobody's slot.
        assert_eq!(unsafe { Row::slot(place).pop_hit() }, None);
    }
}

#[test]
fn the_shelf_is_left_alone_on_top_of_a_lock_and_when_memory_is_due_to_go_back() {
    const BYTES: usize = 3000;
    /// In the two magazines in use: see `docs/slab.md`.
    const IN_USE: usize = 2 * 7;
    let _alone = (alone(), alone_with_hook());
    let free = |block: NonNull<u8>| {
        // SAFETY: nobody uses the blocks of this test.
        unsafe { deallocate(block.as_ptr()) || deallocate_second(block) }
    };
    let at_hand = || iter::from_fn(|| allocate_bytes(BYTES).or_else(|| allocate_second(BYTES)));
    let layout = Layout::from_size_align(BYTES, 16).expect("a layout");
    let new = |_| HEAP.allocate(layout, AllocFlags::empty()).expect("memory").cast::<u8>();
    let blocks: Vec<_> = (0..200).map(new).collect();
    // Violations end a process whose frames come from the system; other tests want to see them.
    check::set_hook(None);
    note(SizeClass::for_bytes(BYTES).expect("has a class"));
    for block in blocks {
        // SAFETY: as above.
        unsafe { HEAP.deallocate_unsized(block) }.expect("allocated");
    }

    locks::enter();
    let few: Vec<_> = at_hand().collect();
    locks::leave();
    let others: Vec<_> = at_hand().collect();
    assert!(few.len() <= IN_USE && others.len() > IN_USE, "{} and {}", few.len(), others.len());

    locks::enter();
    let back = few.iter().chain(&others).take_while(|&&block| free(block)).count();
    locks::leave();
    assert_eq!(back, IN_USE);
    let mut rest = few.iter().chain(&others).skip(back);
    // What lies idle is due to go back, although this is no ebb.
    FRAMES.trimming.done(1 << 20, 1 << 20, 0);
    FRAMES.trimming.rises();
    let &block = rest.next().expect("more than fits into two magazines");
    assert!(FRAMES.is_reclaim_due() && !free(block));
    FRAMES.trimming.done(0, 0, 0);
    FRAMES.trimming.take_reclaim();
    FRAMES.trimming.rises();
    assert!(free(block));
    for &block in rest {
        assert!(free(block), "the shelf has as many magazines as before");
    }
}
