use std::{collections::BTreeMap, ops::Bound};

use proptest::prelude::*;

use super::{CowMap, FOLDED_AT_ONCE};

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u32),
    Change(u8, u32),
    Default(u8),
    Remove(u8),
    Freeze,
    /// Lets go of the oldest frozen copy.
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..24_u8;
    prop_oneof![
        4 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        4 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Change(key, value)),
        2 => key.clone().prop_map(Step::Default),
        4 => key.prop_map(Step::Remove),
        1 => Just(Step::Freeze),
        1 => Just(Step::Drop),
    ]
}

fn entries(map: &CowMap<u8, u32>) -> Vec<(u8, u32)> {
    map.iter().map(|(key, value)| (*key, *value)).collect()
}

fn same(map: &CowMap<u8, u32>, plain: &BTreeMap<u8, u32>) -> Result<(), TestCaseError> {
    let expected: Vec<_> = plain.iter().map(|(key, value)| (*key, *value)).collect();
    prop_assert_eq!(entries(map), expected);
    prop_assert_eq!(map.len(), plain.len());
    for key in 0..24 {
        prop_assert_eq!(map.get(&key), plain.get(&key));
        let rest = map.range_from(Bound::Excluded(&key));
        prop_assert_eq!(rest.count(), plain.range(key + 1..).count());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Beside a plain map for each copy: the map that goes on, and all that were frozen.
    #[test]
    fn it_is_a_map_and_frozen_copies_stay(steps in prop::collection::vec(step(), 1..200)) {
        let (mut map, mut plain) = (CowMap::default(), BTreeMap::new());
        let mut frozen = Vec::new();
        for step in steps {
            match step {
                Step::Insert(key, value) => {
                    map.insert(key, value);
                    plain.insert(key, value);
                }
                Step::Change(key, value) => {
                    let (found, expected) = (map.get_mut(&key), plain.get_mut(&key));
                    prop_assert_eq!(&found, &expected);
                    if let (Some(found), Some(expected)) = (found, expected) {
                        (*found, *expected) = (value, value);
                    }
                }
                Step::Default(key) => {
                    prop_assert_eq!(map.get_or_default(&key), plain.entry(key).or_default());
                }
                Step::Remove(key) => prop_assert_eq!(map.remove(&key), plain.remove(&key)),
                Step::Freeze => frozen.push((map.freeze(), plain.clone())),
                Step::Drop => drop((!frozen.is_empty()).then(|| frozen.remove(0))),
            }
            same(&map, &plain)?;
            for (copy, plain) in &frozen {
                same(copy, plain)?;
            }
        }
    }
}

#[test]
fn it_is_plain_again_soon_after_the_copy_is_gone() {
    const CHANGED: usize = 100;
    let mut map: CowMap<usize, u32> = (0..1_000)
        .map(|key| (key, 0))
        .collect::<BTreeMap<_, _>>()
        .into();
    let copy = map.freeze();
    for key in 0..CHANGED {
        map.insert(key, 1);
    }
    assert!(matches!(&map, CowMap::Layered(layers) if layers.delta.len() == CHANGED));
    drop(copy);
    // Each change adds one and folds some: so many at the most until all is folded in.
    for key in 0..CHANGED / (FOLDED_AT_ONCE - 1) + 2 {
        map.insert(500 + key, 1);
    }
    assert!(matches!(map, CowMap::Plain(_)));
}

/// Counts how often it is copied.
#[derive(Debug, Default)]
struct Copied(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Clone for Copied {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(std::sync::Arc::clone(&self.0))
    }
}

#[test]
fn freezing_copies_nothing_and_a_change_copies_one_value() {
    let counter = Copied::default();
    let copies = || counter.0.load(std::sync::atomic::Ordering::Relaxed);
    let value = || Copied(std::sync::Arc::clone(&counter.0));
    let mut map: CowMap<u32, Copied> = (0..1_000)
        .map(|key| (key, value()))
        .collect::<BTreeMap<_, _>>()
        .into();
    let copy = map.freeze();
    assert_eq!(copies(), 0);
    for _ in 0..3 {
        assert!(map.get_mut(&7).is_some());
        assert!(map.get_mut(&8).is_some());
    }
    assert_eq!(copies(), 2);
    drop(copy);
    map.insert(9, value());
    map.insert(9, value());
    assert!(matches!(map, CowMap::Plain(_)));
    assert_eq!(copies(), 2, "folding moves what was copied");
}
