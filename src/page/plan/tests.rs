//! Where metadata go, and where spans are cut.

use super::*;
use crate::test_support::frames;

#[test]
fn metadata_go_to_the_top_of_the_highest_range_and_below_those_before() {
    let memory = [frames(0x100, 0x110), frames(0x200, 0x20c), frames(0x300, 0x303)];
    let mut taken = List::<8>::new();
    let mut place = |count| {
        let found = place(memory.into_iter(), &taken, count)?;
        assert!(taken.push(found));
        Ok(found)
    };
    assert_eq!(place(4), Ok(frames(0x208, 0x20c)));
    assert_eq!(place(4), Ok(frames(0x204, 0x208)));
    assert_eq!(place(3), Ok(frames(0x300, 0x303)), "all of a range");
    assert_eq!(place(3), Ok(frames(0x201, 0x204)));
    assert_eq!(place(17), Err(16), "the longest is the lowest");
    assert_eq!(place(2), Ok(frames(0x10e, 0x110)));
    assert_eq!((place(15), taken.room()), (Err(14), 3));
}

#[test]
fn spans_are_cut_at_holes_of_more_than_a_mebibyte_and_a_sixty_fourth_of_the_memory() {
    for (len, largest_kept) in [(0x100, 256), (0x2000, 256), (0x8000, 1024)] {
        for (hole, count) in [(largest_kept, 1), (largest_kept + 1, 2)] {
            let second = 0x400 + len + hole;
            let memory = [frames(0x400, 0x400 + len), frames(second, second + len)];
            let spans = spans(memory.into_iter());
            assert_eq!(spans.as_slice().len(), count, "2 x {len} frames, {hole} between");
        }
    }
}
