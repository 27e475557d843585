//! Each bad request alone: its exact error, nothing changed, and the span works on.

use super::*;

#[test]
fn freeing_twice_is_refused_at_once_after_other_frees_and_after_merging() {
    let mut buddy = full(0, 2048);
    let blocks: Vec<_> = (0..4).map(|_| buddy.alloc(order(3), CALLER, LOW).unwrap()).collect();
    assert_eq!(blocks, [frame(0), frame(8), frame(16), frame(24)]);
    buddy.free(blocks[1], order(3), CALLER).unwrap();
    let again = |at: Frame| move |b: &mut Buddy<'_>| b.free(at, order(3), CALLER);
    refused(&mut buddy, again(blocks[1]), FreeError::NotAllocated);
    buddy.free(blocks[2], order(3), CALLER).unwrap();
    refused(&mut buddy, again(blocks[1]), FreeError::NotAllocated);
    buddy.free(blocks[0], order(3), CALLER).unwrap();
    buddy.free(blocks[3], order(3), CALLER).unwrap();
    assert_eq!(buddy.largest(), Some(order(11)));
    for at in blocks {
        refused(&mut buddy, again(at), FreeError::NotAllocated);
    }
}

#[test]
fn freeing_twice_is_refused_for_blocks_of_every_order() {
    for k in 0..=13 {
        let mut buddy = full(0, 16384);
        let at = buddy.alloc(order(k), CALLER, LOW).unwrap();
        buddy.free(at, order(k), CALLER).unwrap();
        refused(&mut buddy, |b| b.free(at, order(k), CALLER), FreeError::NotAllocated);
    }
}

#[test]
fn freeing_a_frame_that_was_never_allocated_is_refused() {
    let mut buddy = full(0, 1500);
    for at in [0, 1, 511, 512, 1024, 1499] {
        refused(&mut buddy, |b| b.free(frame(at), order(0), CALLER), FreeError::NotAllocated);
    }
}

#[test]
fn freeing_outside_in_a_hole_or_in_reserved_memory_is_refused() {
    let cover = range(100, 1400);
    let mut buddy = Buddy::new(cover, metadata(cover)).unwrap();
    buddy.add(range(100, 300)).unwrap();
    buddy.reserve(range(300, 400)).unwrap();
    buddy.add(range(500, 1400)).unwrap();
    let cases = [
        (0, FreeError::OutOfRange),
        (99, FreeError::OutOfRange),
        (1400, FreeError::OutOfRange),
        (usize::MAX >> 12, FreeError::OutOfRange),
        (300, FreeError::Reserved),
        (399, FreeError::Reserved),
        (400, FreeError::Hole),
        (499, FreeError::Hole),
    ];
    for (at, error) in cases {
        refused(&mut buddy, |b| b.free(frame(at), order(0), CALLER), error);
        let one = FrameRange::from_len(frame(at), 1).unwrap_or(FrameRange::EMPTY);
        if !one.is_empty() {
            refused(&mut buddy, |b| b.free_exact(one, CALLER), error);
        }
    }
}

#[test]
fn freeing_inside_a_block_names_its_head() {
    for k in 1..=12 {
        let mut buddy = full(0, 16384);
        buddy.alloc(order(k), CALLER, LOW).unwrap();
        let head = buddy.alloc(order(k), CALLER, LOW).unwrap();
        let last = (2 << k) - 1;
        for at in [head.number() + 1, head.number() + (1 << (k - 1)), last] {
            let error = FreeError::NotHead { head, order: order(k) };
            refused(&mut buddy, |b| b.free(frame(at), order(0), CALLER), error);
            refused(&mut buddy, |b| b.free(frame(at), order(k), CALLER), error);
        }
    }
}

#[test]
fn freeing_with_another_order_names_both() {
    for k in 0..=12 {
        let mut buddy = full(0, 16384);
        let at = buddy.alloc(order(k), CALLER, LOW).unwrap();
        for given in (0..=20).filter(|&given| given != k) {
            let error = FreeError::WrongOrder { allocated: order(k), given: order(given) };
            refused(&mut buddy, |b| b.free(at, order(given), CALLER), error);
        }
        buddy.free(at, order(k), CALLER).unwrap();
    }
}

#[test]
fn freeing_what_another_layer_owns_is_refused() {
    let owners = [
        (BlockOwner::Caller, FreeError::OwnedByCaller),
        (BlockOwner::Slab, FreeError::OwnedBySlab),
        (BlockOwner::Heap, FreeError::OwnedByHeap),
    ];
    for (owner, error) in owners {
        let mut buddy = full(0, 2048);
        let block = buddy.alloc(order(2), owner, LOW).unwrap();
        let run = buddy.alloc_exact(7, owner, LOW).unwrap();
        for (other, _) in owners.into_iter().filter(|&(other, _)| other != owner) {
            refused(&mut buddy, |b| b.free(block, order(2), other), error);
            refused(&mut buddy, |b| b.free(frame(block.number() + 1), order(0), other), error);
            refused(&mut buddy, |b| b.free_exact(run, other), error);
            refused(&mut buddy, |b| b.free(run.start(), order(2), other), error);
            refused(&mut buddy, |b| b.free_many(&[block], order(2), other), (0, error));
            let error = ResizeError::NotAllocated(error);
            refused(&mut buddy, |b| b.resize(run, 3, other), error);
        }
    }
}

#[test]
fn freeing_part_of_a_run_names_the_run() {
    let mut buddy = full(0, 4096);
    buddy.alloc(order(0), CALLER, LOW).unwrap();
    for frames in [3, 7, 21, 600, 1537] {
        let run = buddy.alloc_exact(frames, CALLER, LOW).unwrap();
        let (start, end) = (run.start().number(), run.end().number());
        assert_eq!(run.frames(), frames);
        for (from, to) in [(start, end - 1), (start + 1, end), (start, start + 1), (end - 1, end)] {
            let given = range(from, to);
            let error = FreeError::WrongRange { allocated: run, given };
            refused(&mut buddy, |b| b.free_exact(given, CALLER), error);
        }
        let given = range(start, start + 1);
        let error = FreeError::WrongRange { allocated: run, given };
        refused(&mut buddy, |b| b.free(run.start(), order(0), CALLER), error);
        buddy.free_exact(run, CALLER).unwrap();
        refused(&mut buddy, |b| b.free_exact(run, CALLER), FreeError::NotAllocated);
    }
}

#[test]
fn running_out_and_being_in_pieces_are_told_apart() {
    let mut buddy = full(0, 64);
    let all: Vec<_> = (0..64).map(|_| buddy.alloc(order(0), CALLER, LOW).unwrap()).collect();
    assert_eq!(buddy.largest(), None);
    refused(&mut buddy, |b| b.alloc(order(0), CALLER, LOW), AllocError::OutOfMemory);
    refused(&mut buddy, |b| b.alloc_exact(1, CALLER, LOW), AllocError::OutOfMemory);
    for at in all.iter().step_by(2) {
        buddy.free(*at, order(0), CALLER).unwrap();
    }
    let pieces = AllocError::Fragmented { available: 32, largest: order(0) };
    for k in 1..=5 {
        refused(&mut buddy, |b| b.alloc(order(k), CALLER, LOW), pieces);
        refused(&mut buddy, |b| b.alloc_exact(1 << k, CALLER, LOW), pieces);
    }
    refused(&mut buddy, |b| b.alloc(order(6), CALLER, LOW), AllocError::OutOfMemory);
    refused(&mut buddy, |b| b.alloc_exact(0, CALLER, LOW), AllocError::ZeroSize);
    let most = Order::MAX.frames();
    refused(&mut buddy, |b| b.alloc_exact(most, CALLER, LOW), AllocError::OutOfMemory);
    refused(&mut buddy, |b| b.alloc_exact(most + 1, CALLER, LOW), AllocError::TooLarge);
    refused(&mut buddy, |b| b.alloc_exact(usize::MAX, CALLER, LOW), AllocError::TooLarge);
}

#[test]
fn adding_what_is_managed_and_removing_what_is_used_are_refused() {
    let cover = range(0, 3000);
    let mut buddy = Buddy::new(cover, metadata(cover)).unwrap();
    buddy.add(range(600, 2000)).unwrap();
    let overlap = |at| AddError::Overlap { frame: frame(at) };
    refused(&mut buddy, |b| b.add(range(500, 601)), overlap(600));
    refused(&mut buddy, |b| b.add(range(1999, 2500)), overlap(1999));
    refused(&mut buddy, |b| b.add(range(0, 3000)), overlap(600));
    refused(&mut buddy, |b| b.reserve(range(0, 3000)), overlap(600));
    let wide = range(2000, 3001);
    refused(&mut buddy, |b| b.add(wide), AddError::OutOfRange { range: wide, cover });
    refused(&mut buddy, |b| b.reserve(wide), AddError::OutOfRange { range: wide, cover });
    refused(&mut buddy, |b| b.remove(wide), RemoveError::OutOfRange { range: wide, cover });
    let used = buddy.alloc(order(9), CALLER, LOW).unwrap();
    assert_eq!(used, frame(1024));
    let in_use = |at| RemoveError::InUse { frame: frame(at) };
    refused(&mut buddy, |b| b.remove(range(600, 2000)), in_use(1024));
    refused(&mut buddy, |b| b.remove(range(1100, 1101)), in_use(1100));
    refused(&mut buddy, |b| b.remove(range(590, 610)), RemoveError::Hole { frame: frame(590) });
    refused(&mut buddy, |b| b.remove(range(1990, 2001)), RemoveError::Hole { frame: frame(2000) });
    buddy.free(used, order(9), CALLER).unwrap();
    buddy.remove(range(600, 2000)).unwrap();
    assert_eq!((buddy.frames_managed(), buddy.frames_available()), (0, 0));
    assert_eq!(picture(&buddy), picture(&Buddy::new(cover, metadata(cover)).unwrap()));
}

#[test]
fn claiming_and_resizing_name_the_frame_that_stands_in_the_way() {
    let mut buddy = full(0, 2048);
    let cover = buddy.cover();
    let run = buddy.alloc_exact(10, CALLER, LOW).unwrap();
    buddy.claim(range(700, 701), CALLER).unwrap();
    let in_use = |at| ClaimError::InUse { frame: frame(at) };
    refused(&mut buddy, |b| b.claim(range(9, 20), CALLER), in_use(9));
    refused(&mut buddy, |b| b.claim(range(600, 800), CALLER), in_use(700));
    refused(&mut buddy, |b| b.claim(range(20, 20), CALLER), ClaimError::ZeroSize);
    let wide = range(2000, 2049);
    refused(&mut buddy, |b| b.claim(wide, CALLER), ClaimError::OutOfRange { range: wide, cover });
    refused(&mut buddy, |b| b.resize(run, 0, CALLER), ResizeError::ZeroSize);
    let blocked = ResizeError::InUse { frame: frame(700) };
    refused(&mut buddy, |b| b.resize(run, 701, CALLER), blocked);
    for frames in [2049, usize::MAX] {
        let beyond = ResizeError::OutOfRange { frame: frame(2048) };
        refused(&mut buddy, |b| b.resize(run, frames, CALLER), beyond);
    }
    assert_eq!(buddy.resize(run, 700, CALLER), Ok(range(0, 700)));
    buddy.verify().unwrap();
    assert_eq!(buddy.resize(range(0, 700), 4, CALLER), Ok(range(0, 4)));
    assert_eq!(buddy.frames_available(), 2048 - 5);
    buddy.free(frame(0), order(2), CALLER).unwrap();
    goes_on(&mut buddy);
}

#[test]
fn constraints_are_kept_or_refused() {
    let window = range(3, 40);
    let boundary = |k| Some(order(k));
    // frames, alignment, boundary: where in a free span of 64 frames.
    let cases = [
        (1, 0, None, Ok(3)),
        (1, 3, None, Ok(8)),
        (5, 0, boundary(3), Ok(3)),
        (6, 0, boundary(3), Ok(8)),
        (8, 0, boundary(3), Ok(8)),
        (8, 0, None, Ok(3)),
        (9, 0, boundary(3), Err(AllocError::TooLarge)),
        (14, 0, boundary(4), Ok(16)),
        (37, 0, None, Ok(3)),
        (38, 0, None, Err(AllocError::TooLarge)),
        (32, 5, None, Err(AllocError::Fragmented { available: 64, largest: order(6) })),
        (8, 5, boundary(3), Ok(32)),
        (0, 0, None, Err(AllocError::ZeroSize)),
    ];
    for (frames, align, boundary, expected) in cases {
        let mut buddy = full(0, 64);
        let constraint = Constraint { window, align: order(align), boundary };
        let found = buddy.alloc_within(frames, &constraint, CALLER);
        assert_eq!(found.map(|r| r.start()), expected.map(frame), "{frames} {align} {boundary:?}");
        buddy.verify().unwrap();
        if let Ok(run) = found {
            assert_eq!(run.frames(), frames);
            buddy.free_exact(run, CALLER).unwrap();
            assert_eq!(buddy.available_blocks(order(6)), 1);
        }
    }
}

#[test]
fn spans_that_cannot_be_are_refused() {
    let error = |cover, metadata| Buddy::new(cover, metadata).map(drop).unwrap_err();
    let (cover, other) = (range(5, 700), range(5, 701));
    assert_eq!(error(FrameRange::EMPTY, metadata(FrameRange::EMPTY)), SpanError::Empty);
    let need = Need { states: 695 + 2, groups: 3, words: 21 };
    assert_eq!(Need::for_span(cover), need);
    assert_eq!(error(cover, metadata(other)), SpanError::MetadataTooSmall { need });
    let mut short = metadata(cover);
    short.words = &mut [];
    assert_eq!(error(cover, short), SpanError::MetadataTooSmall { need });
}
