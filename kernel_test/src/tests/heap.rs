//! Rust's `alloc` crate on kmem, and the heap itself.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BinaryHeap, LinkedList, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::alloc::Layout;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use kmem::AllocFlags;
use kmem::heap::{HeapFreeError, SizeClass};

use super::available;
use super::random::Random;
use crate::memory::{HEAP, PAGES};
use crate::timer;

const ANY: AllocFlags = AllocFlags::empty();

/// Fails unless the heap is sound and has as many objects and runs in use as `before` says.
#[track_caller]
fn nothing_lost(before: (usize, usize)) {
    assert_eq!(in_use(), before, "objects and runs in use");
    HEAP.verify().expect("the heap is sound");
    PAGES.verify().expect("the page allocator is sound");
}

fn in_use() -> (usize, usize) {
    let stats = HEAP.stats();
    (stats.objects, stats.runs)
}

#[track_caller]
fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout")
}

pub(super) fn vec() {
    let before = in_use();
    // From 8 bytes to 800,000: through every size class and into page runs.
    let mut numbers = Vec::new();
    for number in 0..100_000_u64 {
        numbers.push(number);
    }
    assert_eq!(numbers.iter().sum::<u64>(), 99_999 * 50_000);
    numbers.truncate(10);
    numbers.shrink_to_fit();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    drop(numbers);
    nothing_lost(before);
}

pub(super) fn btreemap() {
    let before = in_use();
    let mut random = Random::new(11);
    let mut map = BTreeMap::new();
    for number in 0..10_000_u64 {
        map.insert((random.below(1 << 40), number), format!("{number}"));
    }
    assert_eq!(map.len(), 10_000);
    assert!(map.iter().all(|((_, number), text)| text.parse() == Ok(*number)));
    map.retain(|(_, number), _| number % 3 == 0);
    assert_eq!(map.len(), 3_334);
    drop(map);
    nothing_lost(before);
}

pub(super) fn arc() {
    let before = in_use();
    let shared = Arc::new(vec![7_u8; 10_000]);
    let others: Vec<_> = (0..100).map(|_| Arc::clone(&shared)).collect();
    let weak: Weak<_> = Arc::downgrade(&shared);
    assert_eq!((Arc::strong_count(&shared), Arc::weak_count(&shared)), (101, 1));
    drop((shared, others));
    assert!(weak.upgrade().is_none());
    drop(weak);
    nothing_lost(before);
}

pub(super) fn string() {
    let before = in_use();
    let mut text = String::new();
    for number in 0..2_000 {
        write!(text, "{number:04} ").expect("memory");
    }
    assert_eq!(text.len(), 10_000);
    assert_eq!(text.split_whitespace().filter(|word| word.ends_with('7')).count(), 200);
    let parts: Vec<String> = text.split_whitespace().map(String::from).collect();
    assert_eq!(parts.concat().len(), 8_000);
    drop((text, parts));
    nothing_lost(before);
}

pub(super) fn other_collections() {
    let before = in_use();
    let heap: BinaryHeap<_> = (0..1_000_u32).map(|n| n.wrapping_mul(2_654_435_761)).collect();
    assert!(heap.into_sorted_vec().is_sorted());
    let mut queue: VecDeque<_> = (0..1_000).collect();
    for _ in 0..5_000 {
        let front = queue.pop_front().expect("1,000 of them");
        queue.push_back(front);
    }
    assert_eq!(queue.front(), Some(&0));
    let list: LinkedList<_> = (0..1_000).collect();
    assert_eq!(list.iter().sum::<i32>(), 499_500);
    let rc: Rc<[u16]> = (0..1_000).collect();
    assert_eq!(rc[999], 999);
    drop((queue, list, rc));
    nothing_lost(before);
}

pub(super) fn every_size_class_serves_its_sizes() {
    let before = in_use();
    let mut blocks = Vec::with_capacity(2 * SizeClass::COUNT);
    for class in SizeClass::all() {
        for size in [class.bytes(), class.bytes() - class.bytes() / 8] {
            let layout = layout(size, 1);
            let block = HEAP.allocate(layout, ANY).expect("memory");
            assert!(block.len() >= size);
            // SAFETY: the block is this function's, and at least so long.
            unsafe { block.cast::<u8>().write_bytes(0xa5, block.len()) };
            blocks.push((block.cast(), layout));
        }
    }
    for (block, layout) in blocks {
        // SAFETY: nobody uses it any more.
        unsafe { HEAP.deallocate(block, layout) }.expect("it was allocated");
    }
    nothing_lost(before);
}

pub(super) fn alignments_up_to_megabytes() {
    let before = in_use();
    for exponent in 0..=21 {
        let layout = layout(3 << exponent >> 2 | 1, 1 << exponent);
        let block = HEAP.allocate(layout, ANY).expect("memory").cast::<u8>();
        assert_eq!(block.addr().get() % layout.align(), 0, "{layout:?}");
        // SAFETY: nobody uses it any more.
        unsafe { HEAP.deallocate(block, layout) }.expect("it was allocated");
    }
    nothing_lost(before);
}

pub(super) fn zeroed_memory_is_zero() {
    for size in [100, 5_000, 500_000] {
        drop(vec![0xff_u8; size]);
        assert!(vec![0_u8; size].iter().all(|&byte| byte == 0), "{size} bytes");
    }
}

pub(super) fn reallocation_keeps_contents() {
    let before = in_use();
    let mut bytes: Vec<u8> = Vec::with_capacity(8);
    let mut random = Random::new(3);
    let mut size = 0;
    for _ in 0..300 {
        let new_size = 1 + random.below(100_000);
        bytes.resize(new_size, 0);
        bytes.shrink_to_fit();
        let kept = size.min(new_size);
        assert!((0..kept).all(|at| bytes[at] == at as u8), "{size} to {new_size} bytes");
        bytes.iter_mut().enumerate().skip(kept).for_each(|(at, byte)| *byte = at as u8);
        size = new_size;
    }
    drop(bytes);
    nothing_lost(before);
}

pub(super) fn no_memory_is_an_error_and_no_stop() {
    let before = in_use();
    let mut bytes: Vec<u8> = Vec::new();
    assert!(bytes.try_reserve_exact(1 << 40).is_err());
    assert!(bytes.try_reserve_exact(isize::MAX as usize).is_err());
    nothing_lost(before);
}

pub(super) fn memory_to_the_last_object_and_back() {
    let before = in_use();
    let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(available() / 4);
    loop {
        let mut block = Vec::new();
        if block.try_reserve_exact(32 * 1024).is_err() || blocks.len() == blocks.capacity() {
            break;
        }
        blocks.push(block);
    }
    assert!(blocks.len() > 50, "{} blocks", blocks.len());
    assert!(blocks.len() < blocks.capacity(), "memory never ran out");
    drop(blocks);
    nothing_lost(before);
}

pub(super) fn gigabytes_in_one_piece() {
    let before = in_use();
    let mut words: Vec<u64> = Vec::new();
    words.try_reserve_exact((1 << 30) / 8).expect("a gibibyte of five");
    for step in (0..(1 << 30) / 8).step_by(1 << 20) {
        words.spare_capacity_mut()[step].write(step as u64);
    }
    drop(words);
    nothing_lost(before);
}

pub(super) fn empty_slabs_are_reclaimed_before_a_request_fails() {
    let before = available();
    let boxes: Vec<_> = (0..20_000_u64).map(|number| Box::new([number; 4])).collect();
    drop(boxes);
    HEAP.reclaim();
    // What stays are the records of slabs.
    assert!(before - available() < 64, "{before}: {}", available());
}

pub(super) fn bad_frees_are_refused() {
    let layout = layout(64, 8);
    let block = HEAP.allocate(layout, ANY).expect("memory").cast::<u8>();
    // SAFETY: the byte lies in the block.
    let inside = unsafe { block.add(16) };
    // SAFETY: refused, as it is not the block's start.
    let refused = unsafe { HEAP.deallocate(inside, layout) };
    assert_eq!(refused, Err(HeapFreeError::NotAnObject { base: block.addr().get() }));
    // SAFETY: nobody uses it any more.
    unsafe { HEAP.deallocate(block, layout) }.expect("it was allocated");
    // SAFETY: refused, as it is free.
    assert_eq!(unsafe { HEAP.deallocate(block, layout) }, Err(HeapFreeError::NotAllocated));
    HEAP.verify().expect("sound afterwards");
}

/// Twenty thousand boxes of random sizes, dropped in random order, each with contents of its own.
pub(super) fn random_blocks_keep_their_contents() {
    let before = in_use();
    let mut random = Random::new(99);
    let mut live: Vec<Vec<u8>> = Vec::with_capacity(300);
    for step in 0..20_000_usize {
        if live.len() < live.capacity() && random.below(5) < 3 {
            let magnitude = 3 + random.below(11);
            let size = 1 + random.below(1 << magnitude);
            live.push(vec![step as u8; size]);
        } else if !live.is_empty() {
            let block = live.swap_remove(random.below(live.len()));
            assert!(block.iter().all(|&byte| byte == block[0]));
        }
    }
    drop(live);
    nothing_lost(before);
}

pub(super) fn timer_allocates_boxes_while_the_kernel_does() {
    static SERVED: AtomicU64 = AtomicU64::new(0);
    let before = in_use();
    timer::set_hook(Some(|| {
        // Boxes, not fallible calls: what a handler may find short is not the aim here.
        let number = SERVED.load(Ordering::Relaxed);
        let boxed = Box::new([number; 16]);
        assert!(boxed.iter().all(|&word| word == number));
        SERVED.fetch_add(1, Ordering::Relaxed);
    }));
    let mut random = Random::new(21);
    while SERVED.load(Ordering::Relaxed) < 100 {
        let block = vec![0x5a_u8; 1 + random.below(3_000)];
        assert!(block.iter().all(|&byte| byte == 0x5a));
    }
    timer::set_hook(None);
    nothing_lost(before);
}
