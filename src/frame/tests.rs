use std::{format, vec::Vec};

use super::*;

fn frame(number: usize) -> Frame {
    Frame::new(number).unwrap()
}

fn range(start: usize, end: usize) -> FrameRange {
    FrameRange::new(frame(start), frame(end)).unwrap()
}

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

#[test]
fn the_last_frame_ends_with_the_last_address() {
    assert_eq!(Frame::MAX.number(), (1 << 52) - 1);
    assert_eq!(Frame::containing(PhysAddr::MAX), Some(Frame::MAX));
    assert_eq!(Frame::new(1 << 52), None);
    assert_eq!(Frame::MAX.checked_add(1), None);
    assert_eq!(frame(5).checked_add(usize::MAX), None);
    assert_eq!(frame(5).checked_add(3), Some(frame(8)));
}

#[test]
fn frames_do_not_reach_below_zero() {
    assert_eq!(frame(5).checked_sub(6), None);
    assert_eq!(frame(5).checked_sub(5), Some(frame(0)));
    assert_eq!(frame(5).checked_offset_from(frame(6)), None);
    assert_eq!(frame(9).checked_offset_from(frame(6)), Some(3));
}

#[test]
fn addresses_and_frames_agree() {
    assert_eq!(frame(3).start(), PhysAddr::new(0x3000));
    assert_eq!(Frame::containing(PhysAddr::new(0x3fff)), Some(frame(3)));
    assert_eq!(Frame::containing(PhysAddr::new(0x4000)), Some(frame(4)));
    assert!(PhysAddr::new(0x4000).is_frame_aligned());
    assert!(!PhysAddr::new(0x4001).is_frame_aligned());
    assert_eq!(PhysAddr::MAX.checked_add(1), None);
    assert_eq!(PhysAddr::new(1).checked_add(2), Some(PhysAddr::new(3)));
    assert_eq!(PhysAddr::new(1).checked_offset_from(PhysAddr::new(2)), None);
    assert_eq!(PhysAddr::new(7).checked_offset_from(PhysAddr::new(2)), Some(5));
}

#[test]
fn alignment_is_that_of_the_block() {
    for (number, of, down, up) in [(0, 3, 0, 0), (1, 3, 0, 8), (8, 3, 8, 8), (13, 2, 12, 16)] {
        assert_eq!(frame(number).align_down(order(of)), frame(down), "{number} down");
        assert_eq!(frame(number).align_up(order(of)), Some(frame(up)), "{number} up");
        assert_eq!(frame(number).is_aligned_to(order(of)), down == number, "{number}");
    }
    assert_eq!(Frame::MAX.align_up(order(1)), None);
}

#[test]
fn buddies_are_each_others() {
    for (number, of, buddy) in [(0, 0, 1), (1, 0, 0), (8, 3, 0), (0, 3, 8), (24, 3, 16)] {
        assert_eq!(frame(number).buddy(order(of)), frame(buddy));
        assert_eq!(frame(buddy).buddy(order(of)), frame(number));
    }
}

#[test]
fn a_range_never_ends_before_it_starts() {
    assert_eq!(FrameRange::new(frame(3), frame(2)), None);
    assert_eq!(FrameRange::new(frame(3), frame(3)).map(FrameRange::is_empty), Some(true));
    assert_eq!(FrameRange::from_len(Frame::MAX, 1), None);
    assert_eq!(FrameRange::from_len(frame(3), 4), Some(range(3, 7)));
    assert_eq!(range(3, 7).frames(), 4);
    assert_eq!(range(3, 7).len_bytes(), 4 << 12);
    assert_eq!(FrameRange::EMPTY.frames(), 0);
}

#[test]
fn ranges_contain_their_frames() {
    let inner = range(3, 7);
    for (number, inside) in [(2, false), (3, true), (6, true), (7, false)] {
        assert_eq!(inner.contains(frame(number)), inside, "{number}");
    }
    assert_eq!(inner.iter().map(Frame::number).collect::<Vec<_>>(), [3, 4, 5, 6]);
    assert!(inner.contains_range(range(4, 7)) && inner.contains_range(inner));
    assert!(!inner.contains_range(range(2, 5)) && !inner.contains_range(range(4, 8)));
    assert!(inner.contains_range(range(9, 9)), "an empty range is in every range");
}

#[test]
fn intersections_are_what_both_contain() {
    for a in 0..6 {
        for b in a..6 {
            for c in 0..6 {
                for d in c..6 {
                    let (left, right) = (range(a, b), range(c, d));
                    let common = (0..6)
                        .map(frame)
                        .filter(|&frame| left.contains(frame) && right.contains(frame));
                    assert!(left.intersect(right).iter().eq(common), "{left} and {right}");
                    assert_eq!(left.overlaps(right), !left.intersect(right).is_empty());
                }
            }
        }
    }
}

#[test]
fn a_split_loses_no_frame() {
    for (at, left, right) in [
        (0, range(3, 3), range(3, 7)),
        (3, range(3, 3), range(3, 7)),
        (5, range(3, 5), range(5, 7)),
        (7, range(3, 7), range(7, 7)),
        (9, range(3, 7), range(7, 7)),
    ] {
        assert_eq!(range(3, 7).split_at(frame(at)), (left, right), "at {at}");
    }
}

#[test]
fn blocks_tile_a_range_with_the_largest_that_fit() {
    let blocks: Vec<_> = range(3, 21).blocks().map(|(at, of)| (at.number(), of.get())).collect();
    assert_eq!(blocks, [(3, 0), (4, 2), (8, 3), (16, 2), (20, 0)]);
    let huge = range(0, 3 << 20);
    assert_eq!(huge.blocks().count(), 3);
    assert!(huge.blocks().all(|(_, of)| of == Order::MAX));
    assert_eq!(FrameRange::EMPTY.blocks().next(), None);
}

#[test]
fn orders_hold_what_is_asked() {
    for (frames, of) in
        [(0, None), (1, Some(0)), (2, Some(1)), (3, Some(2)), (4, Some(2)), (5, Some(3))]
    {
        assert_eq!(Order::for_frames(frames).map(Order::get), of, "{frames} frames");
    }
    assert_eq!(Order::for_frames(1 << 20), Some(Order::MAX));
    assert_eq!(Order::for_frames((1 << 20) + 1), None);
    for (bytes, of) in [(0, None), (1, Some(0)), (4096, Some(0)), (4097, Some(1))] {
        assert_eq!(Order::for_bytes(bytes).map(Order::get), of, "{bytes} bytes");
    }
    assert_eq!(Order::for_bytes(usize::MAX), None);
}

#[test]
fn orders_end_at_the_largest() {
    assert_eq!(Order::new(21), None);
    assert_eq!(Order::MAX.above(), None);
    assert_eq!(Order::ZERO.below(), None);
    assert_eq!(order(4).above(), Some(order(5)));
    assert_eq!(order(4).below(), Some(order(3)));
    assert_eq!(Order::MAX.len_bytes(), 4 << 30);
    assert_eq!(Order::all().count(), Order::COUNT);
    assert_eq!(order(18).and_above().map(Order::get).collect::<Vec<_>>(), [18, 19, 20]);
    assert_eq!(Order::largest_at(frame(0), usize::MAX), Some(Order::MAX));
    assert_eq!(Order::largest_at(frame(12), 100), Some(order(2)));
    assert_eq!(Order::largest_at(frame(16), 9), Some(order(3)));
    assert_eq!(Order::largest_at(frame(16), 0), None);
}

#[test]
fn they_show_themselves_in_hexadecimal() {
    assert_eq!(format!("{:?} {}", frame(0x1f), frame(0x1f)), "Frame(0x1f) frame 0x1f");
    assert_eq!(format!("{} {:?}", PhysAddr::new(0x2000), PhysAddr::ZERO), "0x2000 PhysAddr(0x0)");
    assert_eq!(
        format!("{} {:?}", range(1, 16), range(1, 16)),
        "frames 0x1..0x10 FrameRange(0x1..0x10)"
    );
    assert_eq!(format!("{} {:?}", order(3), order(3)), "order 3 Order(3)");
}
