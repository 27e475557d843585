//! Flipped bits: what a recount finds, and what the next touch finds.

use super::*;

#[test]
fn a_flipped_bit_of_any_state_is_found_by_the_recount() {
    let mut buddy = varied();
    goes_on(&mut buddy);
    let mut undetected = 0;
    let states = buddy.states();
    let of_frames = states.of_frames().iter().map(|byte| (byte, false));
    let of_groups = states.of_groups().iter().map(|byte| (byte, true));
    for (byte, is_group) in of_frames.chain(of_groups) {
        let sound = State::from_byte(byte.load(Relaxed));
        for bit in 0..8 {
            let flipped = State::from_byte(sound.byte() ^ 1 << bit);
            byte.store(flipped.byte(), Relaxed);
            // Nothing repeats who owns a block, nor why a frame is not managed.
            let repeated = match (sound.kind(), flipped.kind()) {
                (Kind::Hole | Kind::Reserved, Kind::Hole | Kind::Reserved) => is_group,
                (Kind::Head(_, a), Kind::Head(_, b)) => a != b,
                (Kind::RunHead(_, a), Kind::RunHead(_, b)) => a != b,
                _ => true,
            };
            assert_eq!(buddy.verify().is_err(), repeated, "{sound:?} flipped to {flipped:?}");
            undetected += usize::from(!repeated);
            byte.store(sound.byte(), Relaxed);
        }
    }
    assert!(undetected > 0);
    goes_on(&mut buddy);
}

#[test]
fn a_flipped_bit_of_any_group_is_found_by_the_recount() {
    let mut buddy = varied();
    for bit in 0..8 * size_of::<Group>() {
        for group in 0..buddy.groups.len() {
            buddy.groups[group].flip(bit);
            assert!(buddy.verify().is_err(), "group {group}, bit {bit}");
            buddy.groups[group].flip(bit);
        }
        for cluster in 0..buddy.clusters.len() {
            buddy.clusters[cluster].flip(bit);
            assert!(buddy.verify().is_err(), "cluster {cluster}, bit {bit}");
            buddy.clusters[cluster].flip(bit);
        }
    }
    goes_on(&mut buddy);
}

#[test]
fn a_flipped_bit_of_any_summary_or_counter_is_found_by_the_recount() {
    let mut buddy = varied();
    for k in 0..Order::COUNT {
        let small = k < SMALL_ORDERS;
        let bits = if small { buddy.small.len_bits() } else { buddy.large.len_bits() };
        let flip = |buddy: &mut Buddy<'_>, bit: usize| match small {
            true => buddy.small.flip(bit, 1 << k),
            false => buddy.large.flip(bit, 1 << (k - SMALL_ORDERS)),
        };
        for bit in 0..bits {
            flip(&mut buddy, bit);
            assert!(buddy.verify().is_err(), "order {k}, bit {bit}");
            flip(&mut buddy, bit);
        }
        buddy.nonempty ^= 1 << k;
        assert_eq!(buddy.verify(), Err(Corruption::Summary { order: order(k as u8) }));
        buddy.nonempty ^= 1 << k;
    }
    let (available, managed) = (buddy.available, buddy.managed);
    buddy.available += 1;
    let wrong = Corruption::Counter { expected: available, found: available + 1 };
    assert_eq!(buddy.verify(), Err(wrong));
    buddy.available -= 1;
    buddy.managed -= 1;
    let wrong = Corruption::Counter { expected: managed, found: managed - 1 };
    assert_eq!(buddy.verify(), Err(wrong));
    buddy.managed += 1;
    goes_on(&mut buddy);
}

#[test]
fn a_flipped_bit_of_a_mask_that_says_nothing_takes_no_frame_away() {
    for word in 0..8 {
        let mut buddy = full(0, 512);
        buddy.alloc(order(0), CALLER, LOW).unwrap();
        buddy.groups[0].flip(512 + 7 * 8 + word);
        let taken = core::iter::from_fn(|| buddy.alloc(order(0), CALLER, LOW).ok()).count();
        assert_eq!(taken, 511, "word {word}");
    }
}

#[test]
fn a_mask_that_its_bits_deny_ends_a_batch_and_is_left_for_a_recount() {
    for placement in [LOW, Placement::High] {
        let mut buddy = full(0, 512);
        while buddy.alloc(order(0), CALLER, LOW).is_ok() {}
        // Between blocks that are there, a word that has none.
        for at in [70, 200] {
            buddy.free(frame(at), order(0), CALLER).unwrap();
        }
        buddy.groups[0].flip(512 + 2);
        let found = buddy.verify();
        assert!(found.is_err());
        let mut out = [Frame::default(); 4];
        assert_eq!(buddy.alloc_many(order(0), &mut out, CALLER, placement), 1);
        assert_eq!(buddy.verify(), found);
    }
}

#[test]
fn a_state_that_contradicts_ends_a_batch_where_single_calls_end() {
    const BLOCKS: [usize; 6] = [4, 8, 70, 76, 130, 140];
    for (k, placement) in [(0, LOW), (0, Placement::High), (1, LOW), (1, Placement::High)] {
        let order = order(k);
        // Blocks of just that order, in several words, ...
        let apart = || {
            let mut buddy = full(0, 1024);
            while buddy.alloc(order, CALLER, LOW).is_ok() {}
            for at in BLOCKS {
                buddy.free(frame(at), order, CALLER).unwrap();
            }
            buddy
        };
        // ... or cut out of a larger one.
        let whole = || full(0, 1024);
        let take = |mut buddy: Buddy<'static>, bad: usize, at_once: bool| {
            let byte = State::head(CALLER, order).byte();
            buddy.states().of_frames()[bad].store(byte, Relaxed);
            let mut out = [Frame::default(); 12];
            let single = |place: &mut Frame| {
                *place = buddy.alloc(order, CALLER, placement).ok()?;
                Some(())
            };
            let taken = match at_once {
                false => out.iter_mut().map_while(single).count(),
                true => buddy.alloc_many(order, &mut out, CALLER, placement),
            };
            assert!(!out[..taken].contains(&frame(bad)));
            (taken, out, picture(&buddy))
        };
        for bad in BLOCKS {
            let singly = take(apart(), bad, false);
            assert!(singly.0 < BLOCKS.len());
            assert_eq!(take(apart(), bad, true), singly, "order {k} {placement:?} {bad}");
        }
        for bad in [0, 4, 16, 1000, 1018, 1022] {
            assert_eq!(take(whole(), bad, true), take(whole(), bad, false), "order {k} {bad}");
        }
    }
}

#[test]
fn contradicting_books_are_reported_at_the_next_touch() {
    let mut buddy = full(0, 4096);
    let block = buddy.alloc(order(4), CALLER, LOW).unwrap();
    let large = buddy.alloc(order(10), CALLER, LOW).unwrap();
    let state = |buddy: &Buddy<'_>, at: Frame, state: State| {
        buddy.states().of_frames()[at.number()].swap(state.byte(), Relaxed)
    };
    let corrupted = |at: Frame| Err(FreeError::Corrupted { frame: at });

    // The next free frame claims to be allocated: it is neither handed out nor freed.
    let next = frame(16);
    let sound = state(&buddy, next, State::head(CALLER, order(0)));
    let before = picture(&buddy);
    let at = AllocError::Corrupted { frame: next };
    assert_eq!(buddy.alloc(order(0), CALLER, LOW), Err(at));
    assert_eq!(buddy.alloc_exact(3, CALLER, LOW), Err(at));
    assert_eq!(buddy.claim(range(16, 17), CALLER), Err(ClaimError::Corrupted { frame: next }));
    assert_eq!(buddy.alloc_many(order(0), &mut [next; 4], CALLER, LOW), 0);
    assert_eq!(buddy.free(next, order(0), CALLER), corrupted(next));
    assert_eq!(buddy.free_exact(range(16, 17), CALLER), corrupted(next));
    assert_eq!(
        buddy.free_many(&[next], order(0), CALLER),
        Err((0, FreeError::Corrupted { frame: next }))
    );
    assert_eq!(picture(&buddy), before);
    state(&buddy, next, State::from_byte(sound));

    // A block's order reads larger, unaligned, or beyond the span.
    for (at, k) in [(block, 5), (block, 12), (block, 13), (frame(4095), 1), (frame(2), 2)] {
        let sound = state(&buddy, at, State::head(CALLER, order(k)));
        assert_eq!(buddy.free(at, order(k), CALLER), corrupted(at), "{at} as order {k}");
        state(&buddy, at, State::from_byte(sound));
    }

    // The same, and a frame that is available, as blocks that a CPU gives back with others.
    for (at, k) in [(frame(4095), 1), (frame(2), 2), (frame(63), 1), (frame(40), 0), (frame(40), 1)]
    {
        let (mut list, lowest) = ([at; 2], order(k));
        assert_eq!(buddy.alloc_cached(lowest, &mut list[..1], 1, LOW), 1);
        let sound = state(&buddy, at, State::cached(lowest));
        let available = buddy.frames_available();
        let error = FreeError::Corrupted { frame: at };
        assert_eq!(buddy.free_cached(&list, lowest), Err((1, error)), "{at} as order {k}");
        assert_eq!(buddy.frames_available(), available + lowest.frames());
        state(&buddy, at, State::from_byte(sound));
    }

    // Blocks that claim to reach beyond the span.
    let mut odd = full(0, 4095);
    let taken = odd.alloc(order(0), CALLER, Placement::High).unwrap();
    let sound = state(&odd, taken, State::cached(order(1)));
    assert_eq!(taken, frame(4094));
    let error = FreeError::Corrupted { frame: taken };
    assert_eq!(odd.free_cached(&[taken], order(1)), Err((0, error)));
    state(&odd, taken, State::from_byte(sound));
    goes_on(&mut odd);

    // A frame inside a large block, allocated or free, claims to head a block.
    for inner in [frame(large.number() + 512), frame(2048 + 512)] {
        let byte = buddy.states().of_block(inner, order(9)).unwrap();
        let sound = byte.swap(State::head(CALLER, order(9)).byte(), Relaxed);
        assert_eq!(buddy.free(inner, order(9), CALLER), corrupted(inner));
        byte.store(sound, Relaxed);
    }

    // A group claims what only frames can say, and a frame what only groups can.
    let byte = buddy.states().of_block(large, order(10)).unwrap();
    let sound = byte.swap(State::head(CALLER, order(8)).byte(), Relaxed);
    assert_eq!(buddy.lookup(large), FrameState::Corrupted);
    assert_eq!(buddy.free(large, order(10), CALLER), corrupted(large));
    byte.store(sound, Relaxed);
    let sound = state(&buddy, large, State::head(CALLER, order(10)));
    assert_eq!(buddy.lookup(large), FrameState::Corrupted);
    state(&buddy, large, State::from_byte(sound));

    // A byte that means nothing.
    let sound = state(&buddy, block, State::from_byte(0x3f));
    assert_eq!(buddy.lookup(block), FrameState::Corrupted);
    assert_eq!(buddy.free(block, order(4), CALLER), corrupted(block));
    state(&buddy, block, State::from_byte(sound));

    buddy.free(block, order(4), CALLER).unwrap();
    buddy.free(large, order(10), CALLER).unwrap();
    goes_on(&mut buddy);
}
