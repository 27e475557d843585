//! What a thread has at hand, counted: the loaded magazine, then the previous one, then those on
//! its shelf, and nothing else.

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

fn new(_: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(BYTES, 16).expect("a layout");
    KMEM.allocate(layout, AllocFlags::empty()).expect("memory").cast()
}

fn free(block: NonNull<u8>) {
    // SAFETY: nobody uses the blocks of these tests, which are given back once.
    unsafe { KMEM.deallocate(block) }.expect("allocated");
}

fn free_hit(block: NonNull<u8>) -> bool {
    // SAFETY: as above.
    unsafe { KMEM.deallocate_hit(block.as_ptr()) }
}

fn free_second(block: NonNull<u8>) -> bool {
    // SAFETY: as above.
    unsafe { KMEM.deallocate_second_hit(block.as_ptr()) }
}

/// Some blocks, and more at hand than the magazines in use hold.
fn some() -> Vec<NonNull<u8>> {
    let mut blocks: Vec<_> = (0..100).map(new).collect();
    blocks.drain(20..).for_each(free);
    blocks
}

/// How many blocks hits have, one after the other.
fn take_hits(blocks: &mut Vec<NonNull<u8>>) -> usize {
    let before = blocks.len();
    blocks.extend(std::iter::from_fn(|| KMEM.allocate_hit(BYTES)));
    blocks.len() - before
}

/// How many blocks there are at hand: from one call that is no hit to the next.
fn take_all(blocks: &mut Vec<NonNull<u8>>) -> Vec<usize> {
    let mut turns = vec![take_hits(blocks)];
    while let Some(block) = KMEM.allocate_second_hit(BYTES) {
        blocks.push(block);
        turns.push(1 + take_hits(blocks));
    }
    turns
}

/// How many of the blocks hits take back, one after the other.
fn give_hits(blocks: &mut Vec<NonNull<u8>>) -> usize {
    let before = blocks.len();
    while blocks.pop_if(|block| free_hit(*block)).is_some() {}
    before - blocks.len()
}

#[test]
fn a_call_that_finds_its_magazine_empty_or_full_turns_to_the_others() {
    let _alone = alone();
    let mut blocks = some();
    let turns = take_all(&mut blocks);
    assert_eq!(blocks.len(), 100, "all that was freed was at hand");
    assert!(turns[0] <= ROUNDS && turns[1..].iter().all(|&taken| taken == ROUNDS), "{turns:?}");

    // The same way back, as long as there are magazines: a slot that was another thread's may have
    // more of them than were needed.
    let mut given = vec![give_hits(&mut blocks)];
    while blocks.pop_if(|block| free_second(*block)).is_some() {
        given.push(1 + give_hits(&mut blocks));
    }
    given.reverse();
    assert!(given.len() >= turns.len(), "{given:?}");
    assert!(given[0] == ROUNDS || blocks.is_empty(), "{given:?}");
    assert!(given[1..].iter().all(|&taken| taken == ROUNDS), "{given:?}");
    assert_eq!(take_all(&mut blocks), given);
    blocks.into_iter().for_each(free);
    KMEM.verify().expect("sound");
}

#[test]
fn nothing_at_hand_serves_while_hits_are_held_back() {
    let _alone = alone();
    let mut blocks = some();
    take_hits(&mut blocks);
    blocks.push(KMEM.allocate_second_hit(BYTES).expect("in the previous magazine"));
    take_hits(&mut blocks);
    KMEM.hold_hits_back();
    assert_eq!(KMEM.allocate_second_hit(BYTES), None, "on the shelf");
    KMEM.allow_hits();

    // A call that goes the whole way finds the thread's slot again.
    blocks.push(new(0));
    take_all(&mut blocks);
    for block in blocks.drain(..2 * ROUNDS) {
        assert!(free_hit(block) || free_second(block));
    }
    KMEM.hold_hits_back();
    assert!(!free_second(blocks[0]), "to the shelf");
    KMEM.allow_hits();
    blocks.into_iter().for_each(free);
    KMEM.verify().expect("sound");
}

#[test]
fn a_small_hit_is_the_same_as_any_up_to_a_kibibyte() {
    let _alone = alone();
    let layout = |bytes| Layout::from_size_align(bytes, 1).expect("a layout");
    for (bytes, is_small) in [(1, true), (9, true), (1000, true), (1024, true), (1025, false)] {
        let new = |_| KMEM.allocate(layout(bytes), AllocFlags::empty()).expect("memory").cast();
        let blocks: Vec<_> = (0..100).map(new).collect();
        blocks.iter().copied().for_each(free);
        let last = blocks.last().copied();
        let small = KMEM.allocate_small_hit(bytes);
        assert_eq!(small, last.filter(|_| is_small), "{bytes} bytes");
        assert_eq!(small.or_else(|| KMEM.allocate_hit(bytes)), last, "{bytes} bytes");
        last.into_iter().for_each(free);
    }
    assert_eq!(KMEM.allocate_small_hit(0), None);
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
