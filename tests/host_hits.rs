//! What a thread has at hand, counted: the loaded magazine, then the previous one, and nothing
//! else.

#[path = "support/alone.rs"]
mod alone;

use std::alloc::Layout;
use std::ptr::NonNull;

use alone::alone;
use kmem::AllocFlags;
use kmem::heap::SizeClass;
use kmem::host::MmapAllocator;

const KMEM: MmapAllocator = MmapAllocator::new();
const BYTES: usize = 3000;
/// Rounds in a magazine of such objects: see `docs/slab.md`.
const ROUNDS: usize = 7;

/// How many blocks `allocate` has, one after the other.
fn take_all(
    blocks: &mut Vec<NonNull<u8>>,
    allocate: impl Fn(usize) -> Option<NonNull<u8>>,
) -> usize {
    let before = blocks.len();
    blocks.extend(std::iter::from_fn(|| allocate(BYTES)));
    blocks.len() - before
}

/// How many of the blocks `free` takes back, one after the other.
fn give_all(blocks: &mut Vec<NonNull<u8>>, free: impl Fn(*mut u8) -> bool) -> usize {
    let before = blocks.len();
    while blocks.last().is_some_and(|block| free(block.as_ptr())) {
        blocks.pop();
    }
    before - blocks.len()
}

#[test]
fn a_call_that_finds_its_magazine_empty_or_full_turns_to_the_previous_one() {
    let _alone = alone();
    let layout = Layout::from_size_align(BYTES, 16).expect("a layout");
    let new = |_| KMEM.allocate(layout, AllocFlags::empty()).expect("memory").cast::<u8>();
    let hit = |block| {
        // SAFETY: nobody uses the blocks of this test, which are given back once.
        unsafe { KMEM.deallocate_hit(block) }
    };
    let second = |block| {
        // SAFETY: as above.
        unsafe { KMEM.deallocate_second_hit(block) }
    };
    // Both magazines full, and some on the shelf.
    let mut blocks: Vec<_> = (0..100).map(new).collect();
    for block in blocks.drain(20..) {
        // SAFETY: as above.
        unsafe { KMEM.deallocate(block) }.expect("allocated");
    }
    assert!(take_all(&mut blocks, |bytes| KMEM.allocate_hit(bytes)) <= ROUNDS);
    blocks.push(KMEM.allocate_second_hit(BYTES).expect("in the previous magazine"));
    assert_eq!(take_all(&mut blocks, |bytes| KMEM.allocate_hit(bytes)), ROUNDS - 1);
    assert_eq!(KMEM.allocate_second_hit(BYTES), None, "both are empty");

    assert_eq!(give_all(&mut blocks, hit), ROUNDS);
    assert!(second(blocks.pop().expect("a block").as_ptr()), "the previous magazine has room");
    assert_eq!(give_all(&mut blocks, hit), ROUNDS - 1);
    assert!(!second(blocks.last().expect("a block").as_ptr()), "both are full");
    for block in blocks {
        // SAFETY: as above.
        unsafe { KMEM.deallocate(block) }.expect("allocated");
    }
    KMEM.verify().expect("sound");
}

#[test]
fn a_hit_of_the_length_of_a_class_is_what_was_freed_of_that_class_last() {
    let _alone = alone();
    for class in SizeClass::all() {
        let layout = Layout::from_size_align(class.bytes(), 1).expect("a layout");
        let new = |_| KMEM.allocate(layout, AllocFlags::empty()).expect("memory").cast::<u8>();
        let blocks: Vec<_> = (0..100).map(new).collect();
        for &block in &blocks {
            // SAFETY: nobody uses the blocks.
            unsafe { KMEM.deallocate(block) }.expect("allocated");
        }
        let hit = KMEM.allocate_hit(class.bytes());
        assert_eq!(hit, blocks.last().copied(), "{} bytes", class.bytes());
    }
}
