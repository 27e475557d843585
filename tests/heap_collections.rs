//! Collections that are given a heap of their own, by `allocator_api2`.

mod support;

use std::alloc::Layout;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use hashbrown::{DefaultHashBuilder, HashMap};
use kmem::heap::Heap;
use support::Frames;

#[test]
fn a_vector_grows_and_shrinks_in_the_heap() {
    let frames = Frames::new(1_000);
    let heap = Heap::new(&frames);
    {
        let mut numbers = Vec::new_in(&heap);
        numbers.extend(0..100_000_u64);
        assert!(numbers.iter().copied().eq(0..100_000));
        assert!(heap.stats().live_bytes() >= 800_000);
        numbers.truncate(10);
        numbers.shrink_to_fit();
        assert!(numbers.iter().copied().eq(0..10));
        assert_eq!(heap.stats().live_bytes(), 80);
        numbers.clear();
        numbers.shrink_to_fit();
        assert_eq!(heap.stats().live_bytes(), 0);
        numbers.push(1);
        assert_eq!(numbers.as_slice(), [1]);
    }
    assert_eq!(heap.stats().live_bytes(), 0);
    heap.verify().expect("sound");
}

#[test]
fn what_collections_needed_once_goes_back_by_reaping() {
    let frames = Frames::new(1_000);
    let heap = Heap::new(&frames);
    drop(
        (0..1_000_u64).map(|number| Box::new_in([number; 10], &heap)).collect::<std::vec::Vec<_>>(),
    );
    let held = heap.stats().slab_frames;
    // All of it was needed since the heap began.
    assert_eq!(heap.reap(), 0);
    // First what lies on shelves goes to its slabs, then these go.
    let given = heap.reap() + heap.reap();
    assert!(given > 0);
    assert_eq!(heap.stats().slab_frames, held - given);
    heap.verify().expect("sound");
}

#[test]
fn boxes_of_boxes_come_and_go() {
    let frames = Frames::new(200);
    let heap = Heap::new(&frames);
    {
        let boxes: std::vec::Vec<_> =
            (0..500_u32).map(|number| Box::new_in(Box::new_in(number, &heap), &heap)).collect();
        for (number, boxed) in (0..).zip(&boxes) {
            assert_eq!(***boxed, number);
        }
        assert_eq!(heap.stats().objects, 1_000);
    }
    assert_eq!(heap.stats().objects, 0);
    heap.verify().expect("sound");
}

#[test]
fn a_map_of_vectors_lives_in_the_heap() {
    let frames = Frames::new(2_000);
    let heap = Heap::new(&frames);
    {
        let mut map: HashMap<u32, Vec<u32, _>, DefaultHashBuilder, _> = HashMap::new_in(&heap);
        for number in 0..20_000 {
            map.entry(number % 1_000).or_insert_with(|| Vec::new_in(&heap)).push(number);
        }
        for (key, numbers) in &map {
            assert_eq!(numbers.len(), 20);
            assert!(numbers.iter().all(|number| number % 1_000 == *key));
        }
        map.retain(|key, _| key % 2 == 0);
        map.shrink_to_fit();
        assert_eq!(map.len(), 500);
        heap.verify().expect("sound");
    }
    assert_eq!(heap.stats().live_bytes(), 0);
}

#[test]
fn values_without_bytes_take_no_memory() {
    let frames = Frames::new(100);
    let heap = Heap::new(&frames);
    let unit = Box::new_in((), &heap);
    let layout = Layout::from_size_align(0, 4096).expect("valid");
    let empty = Allocator::allocate(&&heap, layout).expect("nothing");
    assert!(empty.cast::<u8>().addr().get().is_multiple_of(4096));
    assert_eq!(heap.stats().held_bytes(), 0);
    drop(unit);
}

#[test]
fn blocks_grow_zeroed_from_nothing_and_shrink_to_nothing() {
    let frames = Frames::new(100);
    let heap = Heap::new(&frames);
    let heap = &heap;
    let sizes = [0, 10, 12, 100, 5_000, 30_000, 60_000];
    let layout = |size| Layout::from_size_align(size, 8).expect("valid");
    let mut block = Allocator::allocate(&heap, layout(0)).expect("nothing");
    for pair in sizes.windows(2) {
        // SAFETY: the block was allocated for the smaller layout; all of it is initialised
        // afterwards.
        unsafe {
            block =
                heap.grow_zeroed(block.cast(), layout(pair[0]), layout(pair[1])).expect("memory");
            let bytes = &mut *block.as_ptr();
            assert!(bytes[..pair[0]].iter().all(|byte| *byte == 1), "{pair:?}: lost");
            assert!(bytes[pair[0]..].iter().all(|byte| *byte == 0), "{pair:?}: not zeroed");
            bytes.fill(1);
        }
    }
    for pair in sizes.windows(2).rev() {
        // SAFETY: the block was allocated for the larger layout.
        unsafe {
            block = heap.shrink(block.cast(), layout(pair[1]), layout(pair[0])).expect("memory");
            let kept = std::slice::from_raw_parts(block.cast::<u8>().as_ptr(), pair[0]);
            assert!(kept.iter().all(|byte| *byte == 1), "{pair:?}: lost");
        }
    }
    assert_eq!(heap.stats().live_bytes(), 0);
}
