//! Process ids from an arena.

use alloc::collections::BTreeSet;
use alloc::vec;
use core::num::NonZeroU32;

use kmem::arena::{AllocError, FreeError, Segment};

use super::random::Random;
use crate::process_ids::{ProcessId, ProcessIds};

fn records(highest: u32) -> vec::Vec<Segment> {
    vec![Segment::SPARE; highest as usize + 2]
}

#[track_caller]
fn ids(highest: u32, records: &mut [Segment]) -> ProcessIds<'_> {
    ProcessIds::new(NonZeroU32::new(highest).expect("at least one id"), records)
}

#[track_caller]
fn id(number: u32) -> ProcessId {
    ProcessId::new(number).expect("above 0")
}

pub(super) fn ids_ascend_and_are_reused_last() {
    let mut records = records(5);
    let mut ids = ids(5, &mut records);
    for number in 1..=3 {
        assert_eq!(ids.alloc(), Ok(id(number)));
    }
    ids.free(id(2)).expect("it is in use");
    ids.free(id(1)).expect("it is in use");
    let found = [(); 4].map(|()| ids.alloc());
    assert_eq!(found, [4, 5, 1, 2].map(|number| Ok(id(number))), "those given back come last");
}

pub(super) fn all_ids_are_handed_out_once() {
    const HIGHEST: u32 = 32_768;
    let mut records = records(HIGHEST);
    let mut ids = ids(HIGHEST, &mut records);
    for number in 1..=HIGHEST {
        assert_eq!(ids.alloc(), Ok(id(number)));
    }
    assert_eq!(ids.alloc(), Err(AllocError::Exhausted { len: 1, available: 0 }));
    for number in [7, HIGHEST, 1] {
        ids.free(id(number)).expect("it is in use");
        assert_eq!(ids.alloc(), Ok(id(number)), "the only one");
    }
    ids.verify().expect("sound when exhausted");
    // Every second one first: the most segments that there can be.
    for number in (1..=HIGHEST).step_by(2).chain((2..=HIGHEST).step_by(2)) {
        ids.free(id(number)).expect("it is in use");
    }
    ids.verify().expect("sound afterwards");
    assert_eq!(ids.alloc(), Ok(id(2)), "behind the last one handed out");
}

pub(super) fn wrong_ids_are_refused() {
    let mut records = records(10);
    let mut ids = ids(10, &mut records);
    let first = ids.alloc().expect("an id");
    assert_eq!(ids.free(id(2)), Err(FreeError::NotAllocated { start: 2, available: 2..11 }));
    assert_eq!(ids.free(id(11)), Err(FreeError::OutOfRange { start: 11 }));
    ids.free(first).expect("it is in use");
    assert!(matches!(ids.free(first), Err(FreeError::NotAllocated { .. })), "twice");
    ids.verify().expect("sound afterwards");
}

/// Against a set and a cursor, which say what next fit must answer.
pub(super) fn random_calls_follow_next_fit() {
    const HIGHEST: u32 = 300;
    let mut records = records(HIGHEST);
    let mut ids = ids(HIGHEST, &mut records);
    let mut available: BTreeSet<u32> = (1..=HIGHEST).collect();
    let mut behind = 0;
    let mut random = Random::new(11);
    for step in 0..20_000 {
        // In waves, so that both ends are reached.
        if random.below(100) < if step / 2_000 % 2 == 0 { 60 } else { 40 } {
            let next = available.range(behind..).next().or_else(|| available.first()).copied();
            assert_eq!(ids.alloc().ok(), next.map(id));
            if let Some(next) = next {
                available.remove(&next);
                behind = next + 1;
            }
        } else {
            let number = 1 + random.below(HIGHEST as usize) as u32;
            assert_eq!(ids.free(id(number)).is_ok(), available.insert(number), "id {number}");
        }
        if step % 1_000 == 0 {
            ids.verify().expect("sound at every step");
        }
    }
}
