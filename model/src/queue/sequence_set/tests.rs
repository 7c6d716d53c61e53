use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::queue::seed;

fn restored(set: &SequenceSet) -> SequenceSet {
    let mut bytes = Vec::new();
    set.encode_into(&mut bytes);
    let mut input = Reader::new(&bytes);
    let restored = SequenceSet::decode_from(&mut input).unwrap();
    input.finish().unwrap();
    let mut again = Vec::new();
    restored.encode_into(&mut again);
    assert_eq!(bytes, again);
    restored
}

fn same(set: &SequenceSet, plain: &BTreeSet<u64>) {
    assert_eq!(set.len(), plain.len() as u64);
    assert!(set.iter().eq(plain.iter().copied()));
    assert_eq!(set.first(), plain.first().copied());
}

/// Changes of a set: which numbers, in or out, and every how many of them.
fn change() -> impl Strategy<Value = (u64, u64, u64, bool)> {
    let from = prop_oneof![0..300_u64, 65_400..65_700_u64, 130_900..131_300_u64];
    (from, 1..6_000_u64, 1..5_u64, any::<bool>())
}

#[test]
fn it_is_a_set() {
    seed::check(200, &vec(change(), 1..20), |changes| {
        let mut set = SequenceSet::new();
        let mut plain = BTreeSet::new();
        for (from, count, step, is_in) in changes {
            let before = set.clone();
            let was = plain.clone();
            for number in (from..from + count).step_by(step as usize) {
                if is_in {
                    assert_eq!(set.insert(number), plain.insert(number));
                } else {
                    assert_eq!(set.remove(number), plain.remove(&number));
                }
            }
            same(&set, &plain);
            same(&before, &was);
            same(&restored(&set), &plain);
            for probe in [0, from, from + count / 2, from + count, 70_000, 131_000] {
                let next = plain.range(probe..).next().copied();
                assert_eq!(set.at_or_after(probe), next);
                assert_eq!(set.contains(probe), plain.contains(&probe));
            }
            if count % 7 == 0 {
                set.remove_below(from);
                plain = plain.split_off(&from);
                same(&set, &plain);
            }
        }
        Ok(())
    });
}

/// Alternate acknowledgements of a whole chunk: a bitmap, however it came about.
#[test]
fn alternate_numbers_take_no_more_than_bitmaps() {
    let mut set = SequenceSet::new();
    (0..4 * CHUNK).for_each(|number| assert!(set.insert(number)));
    (0..4 * CHUNK)
        .step_by(2)
        .for_each(|number| assert!(set.remove(number)));
    let mut other = SequenceSet::new();
    (0..2 * CHUNK)
        .map(|half| 2 * half + 1)
        .rev()
        .for_each(|number| assert!(other.insert(number)));
    let (mut one, mut two) = (Vec::new(), Vec::new());
    set.encode_into(&mut one);
    other.encode_into(&mut two);
    assert_eq!(one, two);
    assert!(one.len() <= 4 * (WORDS * 8 + 8));
    assert!(restored(&set).iter().eq((1..4 * CHUNK).step_by(2)));
}

#[test]
fn the_ends_of_all_numbers_are_in_reach() {
    let mut set = SequenceSet::new();
    for number in [0, u64::MAX, u64::MAX - 1, CHUNK - 1, CHUNK] {
        assert!(set.insert(number));
    }
    let all = [0, CHUNK - 1, CHUNK, u64::MAX - 1, u64::MAX];
    assert!(set.iter().eq(all));
    assert!(restored(&set).iter().eq(all));
    assert_eq!(set.at_or_after(CHUNK + 1), Some(u64::MAX - 1));
    set.remove_below(u64::MAX);
    assert!(set.iter().eq([u64::MAX]));
}

#[test]
fn other_forms_of_a_set_are_refused() {
    let refused: [&[u8]; 6] = [
        &[1, 0, RUNS, 0],
        &[1, 0, RUNS, 2, 5, 1, 7, 0],
        &[1, 0, RUNS, 2, 5, 1, 5, 0],
        &[2, 1, RUNS, 1, 5, 1, 1, RUNS, 1, 5, 1],
        &[1, 0, RUNS, 1, 0xff, 0xff, 3, 1],
        &[1, 0, 3],
    ];
    for bytes in refused {
        assert!(SequenceSet::decode_from(&mut Reader::new(bytes)).is_err());
    }
    let mut bitmap = vec![1, 0, BITS];
    bitmap.extend_from_slice(&[0xff; WORDS * 8]);
    assert!(SequenceSet::decode_from(&mut Reader::new(&bitmap)).is_err());
}
