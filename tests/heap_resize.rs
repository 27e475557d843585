//! Where a block stays, and where it moves, when it is reallocated.

mod support;

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

use kmem::AllocFlags;
use kmem::buddy::AllocError;
use kmem::frame::FRAME_SIZE;
use kmem::heap::{Heap, ReallocError, SizeClass};
use kmem::page::PageAllocator;
use support::{Machine, pages, with_interrupts};

const NONE: AllocFlags = AllocFlags::empty();

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("valid")
}

/// A block whose bytes are their offsets.
fn allocate(heap: &Heap<'_, PageAllocator<Machine>>, layout: Layout) -> NonNull<u8> {
    let block = heap.allocate(layout, NONE).expect("memory").cast::<u8>();
    for offset in 0..layout.size() {
        // SAFETY: within the block, which is ours.
        unsafe { block.add(offset).write(offset as u8) };
    }
    block
}

#[track_caller]
fn assert_kept(block: NonNull<u8>, bytes: usize) {
    for offset in 0..bytes {
        // SAFETY: within the block, initialised by `allocate` or copied from there.
        assert_eq!(unsafe { block.add(offset).read() }, offset as u8, "at offset {offset}");
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Stays,
    Moves,
}
use Place::{Moves, Stays};

#[test]
fn a_block_stays_where_it_can() {
    const FRAMES: usize = FRAME_SIZE;
    let cases = [
        // from, to, alignment, with nothing behind it
        (97, 112, 1, Stays),
        (112, 97, 1, Stays),
        (112, 113, 1, Moves),
        (112, 96, 1, Moves),
        (100, 128, 64, Stays),
        (100, 129, 64, Moves),
        (15_400, SizeClass::MAX_BYTES, 8, Stays),
        (SizeClass::MAX_BYTES, SizeClass::MAX_BYTES + 1, 8, Moves),
        (5 * FRAMES, 5 * FRAMES - 100, 8, Stays),
        (5 * FRAMES, 6 * FRAMES, 8, Stays),
        (33 * FRAMES, 64 * FRAMES, 8, Stays),
        (37 * FRAMES, 5 * FRAMES, 8, Stays),
        (5 * FRAMES, SizeClass::MAX_BYTES, 8, Moves),
        (5 * FRAMES, 9 * FRAMES, 8 * FRAMES, Stays),
        (9 * FRAMES, 1, 8 * FRAMES, Stays),
    ];
    for (from, to, align, place) in cases {
        let pages = pages(600, 1);
        let heap = Heap::new(&pages);
        let (old, new) = (layout(from, align), layout(to, align));
        let block = allocate(&heap, old);
        // SAFETY: the block is allocated, and not used by its old address afterwards.
        let moved = unsafe { heap.reallocate(block, old, new, NONE) }.expect("memory");
        let stayed = if moved.cast() == block { Stays } else { Moves };
        assert_eq!(stayed, place, "{from} to {to} bytes, aligned to {align}");
        assert!(moved.len() >= to);
        assert_kept(moved.cast(), from.min(to));
        // SAFETY: nobody else uses the heap.
        assert_eq!(unsafe { heap.usable_bytes(moved.cast()) }, Ok(moved.len()));
        // SAFETY: not used any more.
        unsafe { heap.deallocate(moved.cast(), new) }.expect("allocated with this layout");
        assert_eq!(heap.stats().live_bytes(), 0);
        heap.verify().expect("sound");
        pages.verify().expect("sound");
    }
}

#[test]
fn a_run_moves_when_somebody_has_the_frames_behind_it() {
    let pages = pages(600, 1);
    let heap = Heap::new(&pages);
    let (old, new) = (layout(5 * FRAME_SIZE, 1), layout(9 * FRAME_SIZE, 1));
    let block = allocate(&heap, old);
    // Everything close by is somebody's.
    let wall: Vec<_> = (0..20).map(|_| allocate(&heap, old)).collect();
    // SAFETY: the block is allocated, and not used by its old address afterwards.
    let moved = unsafe { heap.reallocate(block, old, new, NONE) }.expect("memory").cast::<u8>();
    assert_ne!(moved, block);
    assert_kept(moved, old.size());
    for block in wall {
        assert_kept(block, old.size());
        // SAFETY: not used any more.
        unsafe { heap.deallocate(block, old) }.expect("allocated");
    }
    // SAFETY: not used any more.
    unsafe { heap.deallocate(moved, new) }.expect("allocated");
    pages.verify().expect("sound");
}

#[test]
fn the_tail_of_a_shorter_run_is_available_at_once() {
    let pages = pages(600, 1);
    let heap = Heap::new(&pages);
    let (old, new) = (layout(100 * FRAME_SIZE, 1), layout(10 * FRAME_SIZE, 1));
    let block = allocate(&heap, old);
    let available = pages.frames_available() + pages.frames_kept();
    // SAFETY: the block is allocated, and its tail not used afterwards.
    unsafe { heap.reallocate(block, old, new, NONE) }.expect("shorter");
    assert_eq!((pages.frames_available() + pages.frames_kept()), available + 90);
    assert_eq!(heap.stats().run_frames, 10);
    assert_eq!(heap.stats().run_frames_peak, 100);
    // SAFETY: not used any more.
    unsafe { heap.deallocate(block, new) }.expect("allocated");
}

#[test]
fn what_comes_into_a_block_is_zero_where_that_is_asked() {
    let pages = pages(600, 1);
    let heap = Heap::new(&pages);
    let sizes = [10, 16, 100, 5_000, 5 * FRAME_SIZE, 20 * FRAME_SIZE];
    // Dirty memory to grow into.
    let dirty: Vec<_> =
        sizes.map(|size| (allocate(&heap, layout(size, 1)), layout(size, 1))).into();
    for (block, layout) in dirty {
        // SAFETY: not used any more.
        unsafe { heap.deallocate(block, layout) }.expect("allocated");
    }
    for pair in sizes.windows(2) {
        let (old, new) = (layout(pair[0], 1), layout(pair[1], 1));
        let block = allocate(&heap, old);
        // SAFETY: the block is allocated; all of it is initialised afterwards.
        unsafe {
            let moved = heap.reallocate(block, old, new, AllocFlags::ZERO).expect("memory");
            let bytes = moved.as_ref();
            assert!(bytes[old.size()..].iter().all(|byte| *byte == 0), "{pair:?}");
            assert_kept(moved.cast(), old.size());
            heap.deallocate(moved.cast(), new).expect("allocated");
        }
    }
}

#[test]
fn a_block_that_cannot_be_reallocated_is_as_it_was() {
    let pages = pages(200, 1);
    let heap = Heap::new(&pages);
    let cases = [
        (100, 300 * FRAME_SIZE, 1, None),
        (10 * FRAME_SIZE, 300 * FRAME_SIZE, 1, None),
        (100, 0, 1, Some(AllocError::ZeroSize)),
        (10 * FRAME_SIZE, 0, 1, Some(AllocError::ZeroSize)),
        (100, isize::MAX as usize, 1, Some(AllocError::TooLarge)),
        (10 * FRAME_SIZE, isize::MAX as usize, 1, Some(AllocError::TooLarge)),
    ];
    for (from, to, align, expected) in cases {
        let (old, new) = (layout(from, align), layout(to, align));
        let block = allocate(&heap, old);
        // SAFETY: the block is allocated.
        let result = unsafe { heap.reallocate(block, old, new, NONE) };
        let error = match result.expect_err("no room") {
            ReallocError::Alloc(error) => error,
            other => panic!("{other:?}"),
        };
        match expected {
            Some(expected) => assert_eq!(error, expected, "{from} to {to}"),
            None => assert!(
                matches!(error, AllocError::OutOfMemory | AllocError::Fragmented { .. }),
                "{from} to {to}: {error:?}"
            ),
        }
        assert_kept(block, from);
        // SAFETY: not used any more.
        unsafe { heap.deallocate(block, old) }.expect("still allocated as it was");
    }
    pages.verify().expect("sound");
}

#[test]
fn a_block_whose_layout_is_not_told_stays_where_it_can() {
    const FRAMES: usize = FRAME_SIZE;
    let cases = [
        // bytes, then for what, with nothing behind it
        (112, (57, 1), Stays),
        (112, (112, 16), Stays),
        (112, (56, 1), Moves),
        (112, (113, 1), Moves),
        (9 * FRAMES, (5 * FRAMES, 8), Stays),
        (9 * FRAMES, (20 * FRAMES, 8), Stays),
        (9 * FRAMES, (FRAMES, 8), Moves),
    ];
    for (from, (to, align), place) in cases {
        let pages = pages(600, 1);
        let heap = Heap::new(&pages);
        let block = allocate(&heap, layout(from, 1));
        let new = layout(to, align);
        // SAFETY: the block is allocated, and not used by its old address afterwards.
        let moved = unsafe { heap.reallocate_unsized(block, new) }.expect("memory");
        let stayed = if moved.cast() == block { Stays } else { Moves };
        assert_eq!(stayed, place, "{from} to {to} bytes, aligned to {align}");
        assert!(moved.len() >= to);
        assert_kept(moved.cast(), from.min(to));
        // SAFETY: not used any more.
        unsafe { heap.deallocate_unsized(moved.cast()) }.expect("allocated");
        let stats = heap.stats();
        assert_eq!((stats.runs, stats.object_bytes), (0, 0));
    }
}

#[test]
fn a_block_that_is_not_aligned_as_it_has_to_be_moves_whether_its_layout_is_told_or_not() {
    let pages = pages(600, 1);
    let heap = Heap::new(&pages);
    for (bytes, align) in [(112, 128), (5 * FRAME_SIZE, 64 * FRAME_SIZE)] {
        let (old, new) = (layout(bytes, 1), layout(bytes, align));
        for is_told in [true, false] {
            // Of several blocks side by side not all are aligned by chance.
            let blocks = [(); 4].map(|()| allocate(&heap, old));
            let unaligned = |block: &NonNull<u8>| !block.addr().get().is_multiple_of(align);
            assert!(blocks.iter().any(unaligned));
            for block in blocks {
                // SAFETY: the block is allocated, and not used by its old address afterwards.
                let moved = unsafe {
                    match is_told {
                        true => heap.reallocate(block, old, new, NONE),
                        false => heap.reallocate_unsized(block, new),
                    }
                };
                let moved = moved.expect("memory").cast::<u8>();
                assert!(moved.addr().get().is_multiple_of(align), "{bytes} at {moved:?}");
                assert_kept(moved, bytes);
                // SAFETY: not used any more.
                unsafe { heap.deallocate_unsized(moved) }.expect("allocated");
            }
        }
    }
    assert_eq!(heap.stats().runs, 0);
}

#[test]
fn a_run_that_becomes_longer_counts_for_the_most_there_were() {
    let pages = pages(600, 1);
    let heap = Heap::new(&pages);
    let [short, long] = [33, 64].map(|frames| layout(frames * FRAME_SIZE, 1));
    let block = allocate(&heap, short);
    assert_eq!(heap.stats().run_frames_peak, 33);
    // SAFETY: the block is allocated, and not used by its old address afterwards.
    let grown = unsafe { heap.reallocate(block, short, long, NONE) }.expect("memory");
    assert_eq!(grown.cast(), block);
    assert_eq!((heap.stats().run_frames, heap.stats().run_frames_peak), (64, 64));
    // SAFETY: not used any more.
    unsafe { heap.deallocate(grown.cast(), long) }.expect("allocated");
}

#[test]
fn a_block_that_is_freed_while_it_is_reallocated_leaves_nothing_behind() {
    for (from, to) in [(1_000, 2_000), (1_000, 9 * FRAME_SIZE), (9 * FRAME_SIZE, 20 * FRAME_SIZE)] {
        for is_told in [true, false] {
            let (old, new) = (layout(from, 1), layout(to, 1));
            // The free comes at every moment at which an interrupt can come, one after the other.
            for moment in 0.. {
                let pages = pages(600, 1);
                let heap = Heap::new(&pages);
                // The other has what lies behind the block.
                let (block, other) = (allocate(&heap, old), allocate(&heap, old));
                let (moments, freed) = (Cell::new(0), Cell::new(false));
                let free = || {
                    if moments.replace(moments.get() + 1) == moment {
                        // SAFETY: refused if the block has moved; what it holds matters to nobody.
                        freed.set(unsafe { heap.deallocate(block, old) }.is_ok());
                    }
                };
                let mut moved = None;
                with_interrupts(&free, || {
                    // SAFETY: the block is allocated, or refused; nobody uses it afterwards.
                    moved = unsafe {
                        if is_told {
                            heap.reallocate(block, old, new, NONE)
                        } else {
                            heap.reallocate_unsized(block, new)
                        }
                    }
                    .ok();
                });
                assert_eq!(moved.is_none(), freed.get(), "{from} to {to}, moment {moment}");
                // SAFETY: nobody uses them.
                unsafe {
                    heap.deallocate(other, old).expect("allocated");
                    if let Some(moved) = moved {
                        heap.deallocate(moved.cast(), new).expect("allocated");
                    }
                }
                assert_eq!(heap.stats().live_bytes(), 0, "{from} to {to}, moment {moment}");
                if moments.get() <= moment {
                    break;
                }
            }
        }
    }
}
