use std::collections::BTreeMap;

use super::*;

const KEYS: u32 = 100_000;

fn names() -> impl Iterator<Item = LockName> {
    (0..KEYS).map(|number| LockName::new(&format!("orders/{number}")).unwrap())
}

/// The greatest share and the least, each divided by the mean.
fn extremes(shards: u32, keys: impl Iterator<Item = ShardId>) -> (f64, f64) {
    let mut counts = BTreeMap::from_iter((1..=shards).map(|shard| (ShardId(shard), 0_u32)));
    for shard in keys {
        *counts.get_mut(&shard).expect("a shard of the ring") += 1;
    }
    let mean = f64::from(KEYS) / f64::from(shards);
    let share = |count: Option<&u32>| f64::from(*count.unwrap()) / mean;
    (share(counts.values().max()), share(counts.values().min()))
}

#[test]
fn keys_stay_where_version_1_put_them() {
    assert_eq!(RING_VERSION, 1);
    assert_eq!(hash(Kind::Lock, &[]), xxhash_rust::xxh3::xxh3_64(&[2]));
    let ring = Ring::new(8);
    let locks = ["a", "orders/1", "orders/2", "ünïcödé/🔒", &"x".repeat(512)];
    let shards = locks.map(|name| ring.shard_of_lock(&LockName::new(name).unwrap()).0);
    assert_eq!(shards, [1, 1, 7, 6, 5]);
    let sessions = [1, 2, 0x0123_4567_89ab_cdef, u64::MAX];
    let shards = sessions.map(|id| ring.shard_of_session(SessionId(id)).0);
    assert_eq!(shards, [7, 7, 2, 6]);
}

#[test]
fn every_point_stays_where_version_1_put_it() {
    let checksum = |shards| {
        let points = Ring::new(shards).points;
        assert_eq!(points.len(), (shards * VIRTUAL_NODES) as usize);
        let mut hasher = Xxh3::new();
        for (position, shard) in points {
            hasher.update(&position.to_be_bytes());
            hasher.update(&shard.0.to_be_bytes());
        }
        hasher.digest()
    };
    let pinned = [
        14_993_709_913_145_730_580,
        6_144_344_994_279_234_565,
        13_770_101_395_196_906_903,
    ];
    assert_eq!([1, 8, 64].map(checksum), pinned);
}

#[test]
fn shards_get_nearly_equal_shares_of_the_keys() {
    for (shards, bound) in [(2, 1.1), (8, 1.25), (64, 1.4)] {
        let ring = Ring::new(shards);
        let locks = extremes(shards, names().map(|name| ring.shard_of_lock(&name)));
        let sessions = (0..KEYS).map(|id| ring.shard_of_session(SessionId(id.into())));
        let sessions = extremes(shards, sessions);
        println!(
            "{shards} shards: locks {locks:.3?}, sessions {sessions:.3?} (max/mean, min/mean)"
        );
        for (max, min) in [locks, sessions] {
            assert!(
                max < bound && min > 2.0 - bound,
                "{shards} shards: {max:.3} {min:.3}"
            );
        }
    }
}

#[test]
fn one_more_shard_takes_its_share_and_nothing_else_moves() {
    for shards in [1, 8, 63] {
        let (before, after) = (Ring::new(shards), Ring::new(shards + 1));
        let moved = names().filter(|name| {
            let (from, to) = (before.shard_of_lock(name), after.shard_of_lock(name));
            assert!(
                from == to || to == ShardId(shards + 1),
                "{name} went from {from} to {to}"
            );
            from != to
        });
        let moved = moved.count() as f64 / f64::from(KEYS);
        let ideal = 1.0 / f64::from(shards + 1);
        println!(
            "{shards} -> {} shards: {moved:.4} of the keys move, ideal {ideal:.4}",
            shards + 1
        );
        assert!(
            (moved / ideal - 1.0).abs() < 0.25,
            "{moved:.4} moved, ideal {ideal:.4}"
        );
    }
}

#[test]
fn kinds_of_key_are_independent() {
    // Session ids are hashed as eight bytes, and so are these names.
    let ring = Ring::new(64);
    let same = (0..10_000_u64).filter(|number| {
        let name = format!("{number:08}");
        let id = u64::from_be_bytes(name.as_bytes().try_into().unwrap());
        ring.shard_of_lock(&LockName::new(&name).unwrap()) == ring.shard_of_session(SessionId(id))
    });
    let same = same.count();
    assert!(
        (50..300).contains(&same),
        "{same} of 10,000 agree; chance would be about 156"
    );
}

#[test]
fn a_number_of_shards_out_of_bounds_still_gives_a_ring() {
    assert_eq!(Ring::new(0).shard_of_session(SessionId(7)), ShardId(1));
    let most = Ring::new(u32::MAX);
    assert_eq!(
        most.points.last().map(|(_, shard)| shard.0 <= MAX_SHARDS),
        Some(true)
    );
}

#[test]
fn a_key_belongs_to_the_first_point_at_or_after_it() {
    let points = [(10, 1), (20, 2), (30, 1)].map(|(at, shard)| (at, ShardId(shard)));
    let ring = Ring {
        points: points.to_vec(),
    };
    let shards = [0, 10, 11, 20, 21, 30, 31, u64::MAX].map(|at| ring.shard_at(at).0);
    assert_eq!(shards, [1, 1, 2, 2, 1, 1, 1, 1]);
}
