//! Where frames come from, and that they all come back.

use std::string::ToString;

use super::*;

#[test]
fn every_order_can_be_taken_until_nothing_is_left_and_comes_back_whole() {
    for (start, end) in [(0, 4096), (3, 5000), (511, 513), (100, 101), (512, 1024), (1000, 70_001)]
    {
        for k in 0..=12 {
            let mut buddy = full(start, end);
            let before: Vec<_> = Order::all().map(|o| buddy.available_blocks(o)).collect();
            let mut taken = Vec::new();
            while let Ok(at) = buddy.alloc(order(k), BlockOwner::Caller, Placement::Low) {
                taken.push(at);
            }
            buddy.verify().unwrap();
            let blocks = (start.next_multiple_of(1 << k)..end).step_by(1 << k);
            let fitting = blocks.filter(|at| at + (1 << k) <= end).count();
            assert_eq!(taken.len(), fitting);
            assert_eq!(buddy.frames_available(), (end - start) - fitting * (1 << k));
            for at in taken {
                buddy.free(at, order(k), BlockOwner::Caller).unwrap();
            }
            buddy.verify().unwrap();
            let after: Vec<_> = Order::all().map(|o| buddy.available_blocks(o)).collect();
            assert_eq!(before, after);
        }
    }
}

#[test]
fn a_block_of_many_groups_shrinks_and_grows_by_single_frames() {
    let mut buddy = full(0, 8192);
    let mut run = FrameRange::from_len(buddy.alloc(order(11), CALLER, LOW).unwrap(), 2048).unwrap();
    for frames in [2047, 1537, 1536, 1535, 1024, 1023, 1025, 512, 511, 513, 3000, 8192, 1, 8191] {
        run = buddy.resize(run, frames, CALLER).unwrap();
        assert_eq!(run, range(0, frames));
        buddy.verify().unwrap();
        assert_eq!(buddy.frames_available(), 8192 - frames);
        assert_eq!(buddy.allocated_frames(frame(0)), Some(frames));
    }
    buddy.free_exact(run, CALLER).unwrap();
    assert_eq!(buddy.largest(), Some(order(13)));
    goes_on(&mut buddy);
}

#[test]
fn a_pot_of_one_block_gives_that_block_and_no_more() {
    for k in 0..=20 {
        let mut buddy = full(1 << k, 2 << k);
        assert_eq!(buddy.largest(), Some(order(k)));
        assert_eq!(buddy.alloc(order(k), CALLER, LOW), Ok(frame(1 << k)));
        assert_eq!(buddy.alloc(order(0), CALLER, LOW), Err(AllocError::OutOfMemory));
        buddy.free(frame(1 << k), order(k), CALLER).unwrap();
        assert_eq!(buddy.available_blocks(order(k)), 1);
    }
}

#[test]
fn a_pot_of_all_ones_gives_one_block_of_every_order_and_no_more() {
    for k in 0..=12_u8 {
        let mut buddy = full(1, 2 << k);
        for order in (0..=k).rev().map(order) {
            assert_eq!(buddy.available_blocks(order), 1);
            assert_eq!(buddy.alloc(order, CALLER, LOW), Ok(frame(order.frames())));
        }
        assert_eq!(buddy.alloc(order(0), CALLER, LOW), Err(AllocError::OutOfMemory));
        buddy.verify().unwrap();
    }
}

#[test]
fn a_pot_whittled_down_to_half_without_free_neighbours_gives_single_blocks_only() {
    for (k, frames) in [(0, 1 << 10), (3, 1 << 12), (6, 1 << 12), (9, 1 << 14)] {
        let mut buddy = full(0, frames);
        let mut out = std::vec![Frame::default(); frames >> k];
        assert_eq!(buddy.alloc_many(order(k), &mut out, CALLER, LOW), out.len());
        let kept: Vec<_> = out.iter().copied().step_by(2).collect();
        buddy.free_many(&kept, order(k), CALLER).unwrap();
        assert_eq!(buddy.frames_available(), frames / 2);
        let error = AllocError::Fragmented { available: frames / 2, largest: order(k) };
        assert_eq!(buddy.alloc(order(k + 1), CALLER, LOW), Err(error));
        assert_eq!(buddy.alloc_exact((1 << k) + 1, CALLER, LOW), Err(error));
        for &at in &kept {
            assert_eq!(buddy.alloc(order(k), CALLER, LOW), Ok(at));
        }
        assert_eq!(buddy.alloc(order(0), CALLER, LOW), Err(AllocError::OutOfMemory));
    }
}

#[test]
fn a_fragmented_pot_serves_a_run_again_once_its_pieces_meet() {
    let mut buddy = full(0, 512);
    let mut out = [Frame::default(); 512];
    assert_eq!(buddy.alloc_many(order(0), &mut out, CALLER, LOW), 512);
    for at in (0..512).filter(|at| at % 16 != 5) {
        buddy.free(frame(at), order(0), CALLER).unwrap();
    }
    assert_eq!(buddy.largest(), Some(order(3)));
    let error = AllocError::Fragmented { available: 480, largest: order(3) };
    assert_eq!(buddy.alloc_exact(9, CALLER, LOW), Err(error));
    // Fifteen frames in a row are there, though no one block: whoever knows where can have them.
    buddy.claim(range(6, 21), CALLER).unwrap();
    buddy.free_exact(range(6, 21), CALLER).unwrap();
    buddy.free(frame(5), order(0), CALLER).unwrap();
    assert_eq!(buddy.alloc_exact(9, CALLER, LOW), Ok(range(0, 9)));
    buddy.verify().unwrap();
}

#[test]
fn every_part_of_a_span_can_be_asked_for_by_its_bounds() {
    let mut buddy = full(0, 2048);
    for start in (0..2048).step_by(256) {
        let constraint = Constraint::within(range(start, start + 256));
        for at in (start..start + 256).step_by(64) {
            let found = buddy.alloc_within(64, &constraint, CALLER);
            assert_eq!(found, Ok(range(at, at + 64)));
        }
        let available = 2048 - start - 256;
        let error = match buddy.largest() {
            Some(largest) => AllocError::Fragmented { available, largest },
            None => AllocError::OutOfMemory,
        };
        assert_eq!(buddy.alloc_within(1, &constraint, CALLER), Err(error));
    }
}

#[test]
fn low_requests_leave_high_memory_whole_and_high_requests_low_memory() {
    let mut buddy = full(0, 4096);
    for at in 0..100 {
        assert_eq!(buddy.alloc(order(0), CALLER, LOW), Ok(frame(at)));
    }
    assert_eq!(buddy.alloc_exact(6, CALLER, LOW), Ok(range(104, 110)));
    assert_eq!(buddy.alloc(order(11), CALLER, Placement::High), Ok(frame(2048)));
    buddy.verify().unwrap();

    let mut buddy = full(0, 4096);
    for at in 0..100 {
        assert_eq!(buddy.alloc(order(0), CALLER, Placement::High), Ok(frame(4095 - at)));
    }
    assert_eq!(buddy.alloc_exact(6, CALLER, Placement::High), Ok(range(3986, 3992)));
    assert_eq!(buddy.alloc(order(11), CALLER, LOW), Ok(frame(0)));
    buddy.verify().unwrap();
}

#[test]
fn the_smallest_sufficient_block_is_taken_before_any_lower_larger_one() {
    let mut buddy = full(0, 4096);
    buddy.claim(range(3000, 3001), CALLER).unwrap();
    assert_eq!(buddy.alloc(order(0), CALLER, LOW), Ok(frame(3001)));
    assert_eq!(buddy.alloc(order(0), CALLER, LOW), Ok(frame(3002)));
    assert_eq!(buddy.alloc(order(2), CALLER, LOW), Ok(frame(3004)));
    assert_eq!(buddy.alloc(order(9), CALLER, LOW), Ok(frame(2048)));
    assert_eq!(buddy.alloc(order(10), CALLER, LOW), Ok(frame(3072)));
    assert_eq!(buddy.alloc(order(10), CALLER, LOW), Ok(frame(0)));
    buddy.verify().unwrap();
}

#[test]
fn added_ranges_join_what_lies_around_them() {
    let cover = range(0, 4096);
    let mut buddy = Buddy::new(cover, metadata(cover)).unwrap();
    assert_eq!(buddy.alloc(order(0), CALLER, LOW), Err(AllocError::OutOfMemory));
    for start in [1000, 3000, 0, 2000] {
        buddy.add(range(start, start + 1000)).unwrap();
        buddy.verify().unwrap();
    }
    buddy.reserve(range(4000, 4096)).unwrap();
    assert_eq!(buddy.largest(), Some(order(11)));
    buddy.add(range(4000, 4096)).unwrap();
    assert_eq!(buddy.available_blocks(order(12)), 1);
    assert_eq!(buddy.frames_managed(), 4096);
}

#[test]
fn a_span_moves_to_a_larger_cover_with_all_that_is_in_it() {
    let mut buddy = varied();
    let blocks: Vec<_> = Order::all().map(|o| buddy.available_blocks(o)).collect();
    let states: Vec<_> = (400..3700).map(|at| buddy.lookup(frame(at))).collect();
    let (available, managed) = (buddy.frames_available(), buddy.frames_managed());
    let small = range(401, 5000);
    let (back, error) = buddy.migrate(small, metadata(small)).unwrap_err();
    assert_eq!(error, SpanError::NotCovered { old: range(400, 3700), new: small });
    let large = range(0, 9000);
    let (back, error) = back.migrate(large, metadata(small)).unwrap_err();
    assert_eq!(error, SpanError::MetadataTooSmall { need: Need::for_span(large) });
    buddy = back.migrate(large, metadata(large)).unwrap();
    buddy.verify().unwrap();
    assert_eq!(buddy.cover(), large);
    assert_eq!(blocks, Order::all().map(|o| buddy.available_blocks(o)).collect::<Vec<_>>());
    assert_eq!(states, (400..3700).map(|at| buddy.lookup(frame(at))).collect::<Vec<_>>());
    assert_eq!((buddy.frames_available(), buddy.frames_managed()), (available, managed));
    buddy.add(range(3700, 9000)).unwrap();
    goes_on(&mut buddy);
}

#[test]
fn spans_that_meet_inside_a_group_make_one_block_of_it() {
    let (lower, upper) = (full(0, 700), full(700, 1024));
    let cover = range(0, 1024);
    let mut joined = lower.join(upper, cover, metadata(cover)).map_err(|(_, _, e)| e).unwrap();
    joined.verify().unwrap();
    assert_eq!(joined.available_blocks(order(10)), 1);
    goes_on(&mut joined);
}

#[test]
fn metadata_take_at_most_three_parts_in_ten_thousand() {
    for megabytes in (16..=512).chain((512..=262_144).step_by(997)) {
        for start in [0, 1, 256, 0x1_0000, 0x12_3457] {
            let cover = range(start, start + megabytes * 256);
            let bytes = Need::for_span(cover).bytes() as u64;
            assert!(bytes * 10_000 <= 3 * cover.len_bytes(), "{cover}: {bytes} bytes");
        }
    }
    // Tiny spans pay for one group more with its state, one cluster, and a word for each order as
    // well.
    for frames in 1..4096 {
        let bytes = Need::for_span(range(7, 7 + frames)).bytes();
        assert!(bytes <= frames + 73 * (frames / 512 + 3) + 8 * Order::COUNT);
    }
}

#[test]
fn whatever_was_taken_how_ever_comes_back_whole() {
    let mut buddy = full(64, 5000);
    let before: Vec<_> = Order::all().map(|o| buddy.available_blocks(o)).collect();
    let mut runs = Vec::new();
    let window = Constraint { window: range(100, 4000), align: order(1), boundary: Some(order(4)) };
    loop {
        let taken = runs.len();
        runs.extend(buddy.alloc_exact(taken % 70 + 1, CALLER, LOW));
        runs.extend(buddy.alloc_within(taken % 16 + 1, &window, CALLER));
        runs.extend(buddy.alloc_exact(taken % 9 + 1, CALLER, Placement::High));
        if runs.len() == taken {
            break;
        }
    }
    while let Ok(at) = buddy.alloc(order(0), CALLER, LOW) {
        runs.push(FrameRange::from_len(at, 1).unwrap());
    }
    assert_eq!(buddy.frames_available(), 0);
    assert_eq!(runs.iter().map(|run| run.frames()).sum::<usize>(), 5000 - 64);
    buddy.verify().unwrap();
    for run in runs {
        buddy.free_exact(run, CALLER).unwrap();
    }
    buddy.verify().unwrap();
    assert_eq!(before, Order::all().map(|o| buddy.available_blocks(o)).collect::<Vec<_>>());
}

#[test]
fn frame_lists_keep_frames_that_are_neither_allocated_nor_available() {
    let mut buddy = full(0, 1024);
    let mut out = [Frame::default(); 100];
    assert_eq!(buddy.alloc_cached(order(0), &mut out, 100, LOW), 100);
    assert_eq!(out, core::array::from_fn(frame));
    assert_eq!((buddy.frames_available(), buddy.frames_managed()), (924, 1024));
    assert_eq!(buddy.lookup(out[7]), FrameState::Cached { head: out[7], order: order(0) });
    refused(&mut buddy, |b| b.free(frame(7), order(0), CALLER), FreeError::NotAllocated);
    refused(&mut buddy, |b| b.remove(range(7, 8)), RemoveError::InUse { frame: frame(7) });
    // A CPU hands a frame to its caller and takes it back without the span knowing.
    buddy.states().of_frames()[7].store(State::head(CALLER, order(0)).byte(), Relaxed);
    buddy.verify().unwrap();
    refused(&mut buddy, |b| b.free_cached(&out[7..8], order(0)), (0, FreeError::OwnedByCaller));
    buddy.free(out[7], order(0), CALLER).unwrap();
    refused(&mut buddy, |b| b.free_cached(&out[7..8], order(0)), (0, FreeError::NotAllocated));
    let wrong = FreeError::WrongOrder { allocated: order(0), given: order(1) };
    refused(&mut buddy, |b| b.free_cached(&out[8..9], order(1)), (0, wrong));
    buddy.free_cached(&out[..7], order(0)).unwrap();
    buddy.free_cached(&out[8..], order(0)).unwrap();
    assert_eq!(buddy.frames_available(), 1024);
    goes_on(&mut buddy);
}

#[test]
fn a_refill_cuts_into_whole_words_only_while_it_has_too_few() {
    for (least, expected, of_whole) in
        [(0, 63, 64), (63, 63, 64), (64, 127, 64), (65, 127, 128), (usize::MAX, 150, 150)]
    {
        let mut buddy = full(0, 1024);
        buddy.alloc(order(0), CALLER, LOW).unwrap();
        let mut out = [Frame::default(); 150];
        let taken = buddy.alloc_cached(order(0), &mut out, least, LOW);
        assert_eq!(taken, expected, "{least}");
        assert_eq!(out[..taken], core::array::from_fn::<_, 150, _>(|at| frame(at + 1))[..taken]);
        // Where all are whole, one is cut at any rate; of larger blocks all are taken.
        let mut buddy = full(0, 1024);
        assert_eq!(buddy.alloc_cached(order(0), &mut out, least, LOW), of_whole, "{least}");
        let mut buddy = full(0, 1024);
        assert_eq!(buddy.alloc_cached(order(6), &mut out, least, LOW), 16);
    }
}

#[test]
fn giving_back_many_stops_at_the_first_that_cannot_be() {
    let mut buddy = full(0, 1024);
    let mut out = [Frame::default(); 8];
    assert_eq!(buddy.alloc_many(order(2), &mut out, CALLER, LOW), 8);
    let list = [out[0], out[1], out[2], out[1], out[3]];
    assert_eq!(buddy.free_many(&list, order(2), CALLER), Err((3, FreeError::NotAllocated)));
    assert_eq!(buddy.frames_available(), 1024 - 5 * 4);
    let inside = [out[3], frame(out[4].number() + 2)];
    let error = FreeError::NotHead { head: out[4], order: order(2) };
    assert_eq!(buddy.free_many(&inside, order(2), CALLER), Err((1, error)));
    assert_eq!(buddy.frames_available(), 1024 - 4 * 4);
    buddy.free_many(&out[4..], order(2), CALLER).unwrap();
    assert_eq!(buddy.largest(), Some(order(10)));
}

#[test]
fn a_run_as_long_as_a_block_can_be_freed_like_one() {
    let mut buddy = full(0, 1024);
    buddy.claim(range(5, 7), CALLER).unwrap();
    buddy.claim(range(7, 11), CALLER).unwrap();
    buddy.free(frame(5), order(1), CALLER).unwrap();
    buddy.free_many(&[frame(7)], order(2), CALLER).unwrap();
    assert_eq!(buddy.largest(), Some(order(10)));
    goes_on(&mut buddy);
}

#[test]
fn every_state_byte_reads_back_as_what_was_written() {
    let owners = [BlockOwner::Caller, BlockOwner::Slab, BlockOwner::Heap];
    let mut seen = std::collections::BTreeSet::new();
    let mut check = |state: State, kind, byte: u8| {
        assert_eq!((state.kind(), state.byte()), (kind, byte));
        assert_eq!(State::from_byte(byte), state);
        let order = match kind {
            Kind::Cached(order) | Kind::Head(_, order) => Some(order),
            Kind::RunHead(_, order) | Kind::RunTail(order) => Some(order),
            _ => None,
        };
        assert_eq!(state.order(), order);
        assert!(seen.insert(byte));
    };
    check(State::HOLE, Kind::Hole, 0);
    check(State::RESERVED, Kind::Reserved, 1);
    check(State::PLAIN, Kind::Plain, 2);
    for order in Order::all() {
        check(State::cached(order), Kind::Cached(order), 8 + order.get());
        for owner in owners {
            let head = 32 * (1 + owner as u8) + order.get();
            check(State::head(owner, order), Kind::Head(owner, order), head);
            check(State::run_head(owner, order), Kind::RunHead(owner, order), head + 96);
        }
        check(State::run_tail(order), Kind::RunTail(order), 224 + order.get());
    }
    for byte in (0..=255).filter(|byte| !seen.contains(byte)) {
        let state = State::from_byte(byte);
        assert_eq!((state.kind(), state.order()), (Kind::Invalid, None));
    }
    assert_eq!(State::INVALID.kind(), Kind::Invalid);
}

#[test]
fn errors_say_what_was_expected_and_what_was_found() {
    let cases: [(&dyn core::error::Error, &str); 4] = [
        (
            &FreeError::WrongOrder { allocated: order(3), given: order(2) },
            "expected order 3 as allocated, found order 2",
        ),
        (
            &FreeError::NotHead { head: frame(16), order: order(4) },
            "expected the first frame of a block, found one inside the block of order 4 at frame 0x10",
        ),
        (
            &AllocError::Fragmented { available: 12, largest: order(1) },
            "expected available frames in one piece, found 12 of them in pieces of at most order 1",
        ),
        (&ResizeError::NotAllocated(FreeError::Hole), "expected a managed frame, found a hole"),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn states_of_large_blocks_move_with_their_span() {
    let (lower, upper) = (range(0x300, 0x1000), range(0x1400, 0x2000));
    let taken = |cover: FrameRange| {
        let mut buddy = Buddy::new(cover, metadata(cover)).unwrap();
        buddy.add(cover).unwrap();
        let block = buddy.alloc(order(9), CALLER, LOW).unwrap();
        let run = buddy.alloc_exact(0x280, BlockOwner::Heap, Placement::High).unwrap();
        (buddy, block, run)
    };
    let (lower, block, run) = taken(lower);
    let (upper, other_block, other_run) = taken(upper);
    let cover = range(0x100, 0x2480);
    let mut buddy = lower.join(upper, cover, metadata(cover)).unwrap();
    buddy.verify().unwrap();
    for (block, run) in [(block, run), (other_block, other_run)] {
        let owner = CALLER;
        let state = FrameState::Allocated { head: block, order: order(9), owner };
        assert_eq!(buddy.lookup(frame(block.number() + 0x1ff)), state);
        buddy.free(block, order(9), CALLER).unwrap();
        buddy.free_exact(run, BlockOwner::Heap).unwrap();
    }
    goes_on(&mut buddy);
}
