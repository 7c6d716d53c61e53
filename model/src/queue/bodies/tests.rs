use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::queue::seed;

fn restored(bodies: &Bodies, alive: &BTreeMap<u64, Plain>) -> Bodies {
    let mut bytes = Vec::new();
    bodies.encode_into(&mut bytes);
    let mut input = Reader::new(&bytes);
    let mut restored = Bodies::decode_from(&mut input).unwrap();
    input.finish().unwrap();
    for (sequence, plain) in alive {
        assert_eq!(restored.revive(Sequence(*sequence)), Some(*plain));
    }
    assert!(restored.are_used());
    let mut again = Vec::new();
    restored.encode_into(&mut again);
    assert_eq!(bytes, again);
    restored
}

type Step = (u64, u64, u32, Vec<u32>, Vec<prop::sample::Index>);

fn step() -> impl Strategy<Value = Step> {
    let lengths = prop_oneof![
        vec(Just(256_u32), 1..200),
        vec(0..2_000_u32, 1..9),
        vec(any::<u32>(), 1..3)
    ];
    let acked = vec(any::<prop::sample::Index>(), 0..150);
    (0..3_u64, 0..3_u64, 0..3_u32, lengths, acked)
}

#[test]
fn places_are_kept_while_somebody_needs_them() {
    seed::check(300, &vec(step(), 1..20), |steps| {
        let mut bodies = Bodies::default();
        let mut alive = BTreeMap::new();
        let (mut sequence, mut index, mut ordinal) = (1, 1, 0);
        for (gap, entries, skipped, lengths, acked) in steps {
            sequence += gap;
            ordinal = if entries > 0 {
                skipped
            } else {
                ordinal + skipped
            };
            index += entries;
            let since = ShardTime(index * 3);
            bodies.append(&Arrival {
                first: Sequence(sequence),
                index: LogIndex(index),
                ordinal,
                since,
                lengths: lengths.clone(),
            });
            for length in lengths {
                let index = LogIndex(index);
                let body = BodyRef {
                    index,
                    ordinal,
                    length,
                };
                alive.insert(sequence, Plain { body, since });
                sequence += 1;
                ordinal += 1;
            }
            for at in acked {
                let sequences: Vec<u64> = alive.keys().copied().collect();
                if !sequences.is_empty() {
                    let gone = *at.get(&sequences);
                    alive.remove(&gone);
                    bodies.forget(Sequence(gone));
                }
            }
            for (sequence, plain) in &alive {
                assert_eq!(bodies.get(Sequence(*sequence)), Some(*plain));
            }
            bodies = restored(&bodies, &alive);
        }
        let blocks = alive.keys().map(|sequence| sequence / BLOCK);
        let blocks: std::collections::BTreeSet<u64> = blocks.collect();
        assert_eq!(bodies.blocks().count(), blocks.len());
        Ok(())
    });
}

/// Ten million plain messages have 64 MiB: messages that come alone, each as long as the last or not.
#[test]
fn a_message_takes_few_bytes() {
    for lengths in [[256, 256], [200, 300]] {
        let mut bodies = Bodies::default();
        let count = 100_000;
        for number in 0..count {
            bodies.append(&Arrival {
                first: Sequence(number),
                index: LogIndex(1_000_000 + number * 2),
                ordinal: 0,
                since: ShardTime(number / 3),
                lengths: vec![lengths[(number % 2) as usize]],
            });
        }
        let blocks = bodies.blocks().map(|(_, block)| {
            let around = size_of::<Block>() + 2 * size_of::<usize>() + 2 * size_of::<u64>();
            block.bytes.capacity() + around
        });
        let each = blocks.sum::<usize>() as f64 / count as f64;
        println!("{each:.2} bytes a message");
        assert!(each < 6.0, "{each} bytes");
    }
}
