//! The bitmap against a set of integers.

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::Bitmap;

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
        assert_eq!(Bitmap::words_needed(bits), words, "{bits} bits");
    }
}

#[test]
fn words_of_another_number_are_refused() {
    for bits in [1, 64, 65, 5000] {
        let needed = Bitmap::words_needed(bits);
        assert!(Bitmap::new(bits, &mut vec![0; needed - 1]).is_none());
        assert!(Bitmap::new(bits, &mut vec![0; needed + 1]).is_none());
        assert!(Bitmap::new(bits, &mut vec![0; needed]).is_some());
    }
    assert!(Bitmap::new(Bitmap::MAX_BITS + 1, &mut []).is_none());
    assert!(Bitmap::new(usize::MAX, &mut []).is_none());
}

#[test]
fn a_bitmap_without_bits_has_nothing_to_find() {
    let mut bitmap = Bitmap::default();
    assert!(!bitmap.set(0) && !bitmap.clear(0) && !bitmap.contains(0));
    assert_eq!((bitmap.first(), bitmap.last()), (None, None));
    assert_eq!((bitmap.first_at_or_after(0), bitmap.last_at_or_before(9)), (None, None));
    assert_eq!((bitmap.len_bits(), bitmap.count(), bitmap.is_empty()), (0, 0, true));
    assert!(bitmap.is_consistent());
    assert_eq!(bitmap.iter().count(), 0);
}

#[test]
fn bits_beyond_the_length_stay_clear() {
    for bits in [1, 63, 64, 65, 4095, 4097] {
        let mut words = vec![0; Bitmap::words_needed(bits)];
        let mut bitmap = Bitmap::new(bits, &mut words).unwrap();
        for beyond in [bits, bits + 1, bits + 64, usize::MAX] {
            assert!(!bitmap.set(beyond) && !bitmap.contains(beyond) && !bitmap.clear(beyond));
        }
        assert!(bitmap.is_empty());
        assert!(bitmap.set(bits - 1));
        assert_eq!((bitmap.first(), bitmap.last()), (Some(bits - 1), Some(bits - 1)));
        assert_eq!(bitmap.last_at_or_before(usize::MAX), Some(bits - 1));
        assert_eq!(bitmap.first_at_or_after(bits), None);
    }
}

#[test]
fn a_flipped_bit_above_the_lowest_level_or_beyond_the_length_is_found_by_the_recount() {
    let mut words = vec![0; Bitmap::words_needed(5000)];
    let mut bitmap = Bitmap::new(5000, &mut words).unwrap();
    for bit in [0, 63, 64, 700, 4095, 4096, 4999] {
        bitmap.set(bit);
    }
    assert!(bitmap.is_consistent());
    let leaves = 5000_usize.div_ceil(64);
    let spare = (5000 % 64..64).map(|bit| (leaves - 1, bit));
    let above = (leaves..bitmap.words.len()).flat_map(|word| (0..64).map(move |bit| (word, bit)));
    for (word, bit) in spare.chain(above) {
        bitmap.words[word] ^= 1 << bit;
        assert!(!bitmap.is_consistent(), "word {word}, bit {bit}");
        bitmap.words[word] ^= 1 << bit;
    }
    assert!(bitmap.is_consistent());
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize),
    Clear(usize),
    Search(usize),
}

/// Lengths at the edges of the levels, and steps that keep to a few words now and then.
fn programs() -> impl Strategy<Value = (usize, Vec<Step>)> {
    let lengths =
        prop::sample::select(vec![1_usize, 2, 63, 64, 65, 129, 4095, 4096, 4097, 270_000]);
    lengths.prop_flat_map(|bits: usize| {
        let index = prop_oneof![0..bits, 0..bits.min(70), bits.saturating_sub(70)..bits];
        let step = prop_oneof![
            index.clone().prop_map(Step::Set),
            index.clone().prop_map(Step::Clear),
            (0..bits + 3).prop_map(Step::Search),
        ];
        (Just(bits), prop::collection::vec(step, 1..120))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..Default::default() })]

    #[test]
    fn it_behaves_like_a_set_of_integers((bits, steps) in programs()) {
        let mut words = vec![0; Bitmap::words_needed(bits)];
        let mut bitmap = Bitmap::new(bits, &mut words).unwrap();
        let mut set = BTreeSet::new();
        for step in steps {
            match step {
                Step::Set(index) => prop_assert_eq!(bitmap.set(index), set.insert(index)),
                Step::Clear(index) => prop_assert_eq!(bitmap.clear(index), set.remove(&index)),
                Step::Search(index) => {
                    let after = set.range(index..).next().copied();
                    prop_assert_eq!(bitmap.first_at_or_after(index), after);
                    let before = set.range(..=index).next_back().copied();
                    prop_assert_eq!(bitmap.last_at_or_before(index), before);
                    prop_assert_eq!(bitmap.contains(index), set.contains(&index));
                }
            }
            prop_assert_eq!(bitmap.first(), set.first().copied());
            prop_assert_eq!(bitmap.last(), set.last().copied());
            prop_assert_eq!(bitmap.count(), set.len());
            prop_assert_eq!(bitmap.is_empty(), set.is_empty());
        }
        prop_assert!(bitmap.is_consistent());
        prop_assert!(bitmap.iter().eq(set.iter().copied()));
        for index in set {
            prop_assert!(bitmap.clear(index));
        }
        prop_assert!(bitmap.is_empty() && bitmap.is_consistent());
        prop_assert!(words.iter().all(|&word| word == 0));
    }
}
