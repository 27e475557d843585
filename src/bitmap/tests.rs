//! The bitmaps against sets of integers.

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::Bitmaps;

#[test]
fn the_words_of_all_levels_are_counted() {
    let cases = [
        (0, 0),
        (1, 1),
        (64, 1),
        (65, 3),
        (128, 3),
        (4096, 65),
        (4097, 65 + 2 + 1),
        (262_144, 4096 + 64 + 1),
        (262_145, 4097 + 65 + 2 + 1),
    ];
    for (bits, words) in cases {
        assert_eq!(Bitmaps::<1>::words_needed(bits), words, "{bits} bits");
        assert_eq!(Bitmaps::<9>::words_needed(bits), 9 * words, "{bits} bits");
    }
}

#[test]
fn words_of_another_number_are_refused() {
    for bits in [1, 64, 65, 5000] {
        let needed = Bitmaps::<3>::words_needed(bits);
        assert!(Bitmaps::<3>::new(bits, &mut vec![0; needed - 1]).is_none());
        assert!(Bitmaps::<3>::new(bits, &mut vec![0; needed + 1]).is_none());
        assert!(Bitmaps::<3>::new(bits, &mut vec![0; needed]).is_some());
    }
    assert!(Bitmaps::<3>::new(Bitmaps::<3>::MAX_BITS + 1, &mut []).is_none());
    assert!(Bitmaps::<3>::new(usize::MAX, &mut []).is_none());
}

#[test]
fn bitmaps_without_bits_have_nothing_to_find() {
    let mut bitmaps = Bitmaps::<2>::default();
    assert_eq!(bitmaps.flip(0, 0b11), 0);
    assert!(!bitmaps.contains(0, 0) && bitmaps.is_empty(1));
    assert_eq!((bitmaps.first(0), bitmaps.last(0)), (None, None));
    assert_eq!(bitmaps.first_at_or_after(0, 0), None);
    assert_eq!((bitmaps.len_bits(), bitmaps.count(0)), (0, 0));
    assert!(bitmaps.is_consistent(0));
    assert_eq!(bitmaps.iter(0).count(), 0);
}

#[test]
fn bits_beyond_the_length_and_sets_that_do_not_exist_stay_clear() {
    for bits in [1, 63, 64, 65, 4095, 4097] {
        let mut words = vec![0; Bitmaps::<2>::words_needed(bits)];
        let mut bitmaps = Bitmaps::<2>::new(bits, &mut words).unwrap();
        for beyond in [bits, bits + 1, bits + 64, usize::MAX] {
            assert_eq!(bitmaps.flip(beyond, 0b11), 0);
            assert!(!bitmaps.contains(0, beyond));
        }
        assert_eq!(bitmaps.flip(0, 0b100), 0);
        assert!(bitmaps.is_empty(0) && bitmaps.is_empty(1) && bitmaps.is_empty(2));
        assert!(!bitmaps.contains(2, 0));
        assert_eq!(bitmaps.flip(bits - 1, 0b10), 0b10);
        assert_eq!((bitmaps.first(1), bitmaps.last(1)), (Some(bits - 1), Some(bits - 1)));
        assert_eq!((bitmaps.first(0), bitmaps.last(0)), (None, None));
        assert_eq!(bitmaps.first_at_or_after(1, bits), None);
    }
}

#[test]
fn a_flipped_bit_above_the_lowest_level_or_beyond_the_length_is_found_by_the_recount() {
    let mut words = vec![0; Bitmaps::<2>::words_needed(5000)];
    let mut bitmaps = Bitmaps::<2>::new(5000, &mut words).unwrap();
    for bit in [0, 63, 64, 700, 4095, 4096, 4999] {
        bitmaps.flip(bit, 0b01);
        bitmaps.flip(bit / 2, 0b10);
    }
    let leaves = 5000_usize.div_ceil(64);
    for set in 0..2 {
        assert!(bitmaps.is_consistent(set));
        let spare = (5000 % 64..64).map(|bit| (leaves - 1, bit));
        let above = (leaves..bitmaps.rows.len()).flat_map(|row| (0..64).map(move |bit| (row, bit)));
        for (row, bit) in spare.chain(above) {
            bitmaps.rows[row][set] ^= 1 << bit;
            assert!(!bitmaps.is_consistent(set), "row {row}, bit {bit}");
            assert!(bitmaps.is_consistent(1 - set));
            bitmaps.rows[row][set] ^= 1 << bit;
        }
        assert!(bitmaps.is_consistent(set));
    }
}

/// How many sets the model keeps side by side.
const SETS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Flip(usize, u32),
    Search(usize),
}

/// Lengths at the edges of the levels, and steps that keep to a few words now and then.
fn programs() -> impl Strategy<Value = (usize, Vec<Step>)> {
    let lengths =
        prop::sample::select(vec![1_usize, 2, 63, 64, 65, 129, 4095, 4096, 4097, 270_000]);
    lengths.prop_flat_map(|bits: usize| {
        let index = prop_oneof![0..bits, 0..bits.min(70), bits.saturating_sub(70)..bits];
        let step = prop_oneof![
            2 => (index, 0..1_u32 << SETS).prop_map(|(index, sets)| Step::Flip(index, sets)),
            1 => (0..bits + 3).prop_map(Step::Search),
        ];
        (Just(bits), prop::collection::vec(step, 1..120))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..Default::default() })]

    #[test]
    fn they_behave_like_sets_of_integers((bits, steps) in programs()) {
        let mut words = vec![0; Bitmaps::<SETS>::words_needed(bits)];
        let mut bitmaps = Bitmaps::<SETS>::new(bits, &mut words).unwrap();
        let mut model: [BTreeSet<usize>; SETS] = Default::default();
        for step in steps {
            match step {
                Step::Flip(index, sets) => {
                    let mut changed = 0;
                    for (set, model) in model.iter_mut().enumerate() {
                        let empty = model.is_empty();
                        if sets >> set & 1 == 1 && !model.remove(&index) {
                            model.insert(index);
                        }
                        changed |= u32::from(empty != model.is_empty()) << set;
                    }
                    prop_assert_eq!(bitmaps.flip(index, sets), changed);
                }
                Step::Search(index) => for (set, model) in model.iter().enumerate() {
                    let after = model.range(index..).next().copied();
                    prop_assert_eq!(bitmaps.first_at_or_after(set, index), after);
                    prop_assert_eq!(bitmaps.contains(set, index), model.contains(&index));
                },
            }
            for (set, model) in model.iter().enumerate() {
                prop_assert_eq!(bitmaps.first(set), model.first().copied());
                prop_assert_eq!(bitmaps.last(set), model.last().copied());
                prop_assert_eq!(bitmaps.count(set), model.len());
                prop_assert_eq!(bitmaps.is_empty(set), model.is_empty());
            }
        }
        for (set, model) in model.iter().enumerate() {
            prop_assert!(bitmaps.is_consistent(set));
            prop_assert!(bitmaps.iter(set).eq(model.iter().copied()));
            for &index in model {
                bitmaps.flip(index, 1 << set);
            }
            prop_assert!(bitmaps.is_empty(set) && bitmaps.is_consistent(set));
        }
        prop_assert!(words.iter().all(|&word| word == 0));
    }
}
