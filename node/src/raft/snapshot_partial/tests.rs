use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lockstep_model::ShardId;
use lockstep_proto::raft::v1 as pb;
use tokio::{task::yield_now, time::timeout};
use tonic::Code;

use super::{LIFE, MAX_SNAPSHOT_BYTES, Partials, Receiving};

const SHARD: ShardId = ShardId(3);
const CONTENT: &[u8] = b"the state of a shard";

fn partials() -> Arc<Partials> {
    Arc::new(Partials::new(LIFE))
}

fn head(index: u64, offset: u64) -> pb::SnapshotHead {
    pb::SnapshotHead {
        last_log_id: Some(pb::LogId {
            term: 1,
            node_id: 1,
            index,
        }),
        total_bytes: CONTENT.len() as u64,
        checksum: 7,
        offset,
        ..pb::SnapshotHead::default()
    }
}

fn chunk(from: usize, to: usize) -> pb::SnapshotChunk {
    let data = Bytes::from_static(&CONTENT[from..to]);
    pb::SnapshotChunk {
        offset: from as u64,
        crc: crc32fast::hash(&data),
        data,
    }
}

/// A transfer that breaks off after 12 bytes.
fn break_off(partials: &Arc<Partials>) {
    let receiving = partials.begin(SHARD, &head(9, 0)).unwrap();
    receiving.add(&chunk(0, 5)).unwrap();
    receiving.add(&chunk(5, 12)).unwrap();
    assert!(!receiving.is_whole().unwrap());
}

fn code<T>(result: Result<T, tonic::Status>) -> Code {
    result.err().expect("it must be refused").code()
}

/// The rest of it.
fn complete(receiving: Receiving, from: usize) -> Bytes {
    receiving.add(&chunk(from, CONTENT.len())).unwrap();
    assert!(receiving.is_whole().unwrap());
    receiving.finish().unwrap()
}

#[tokio::test]
async fn a_transfer_goes_on_where_it_broke_off() {
    let partials = partials();
    assert_eq!(partials.offset(SHARD, &head(9, 0)), 0);
    break_off(&partials);
    assert_eq!(partials.offset(SHARD, &head(9, 0)), 12);
    let receiving = partials.begin(SHARD, &head(9, 12)).unwrap();
    // The end of the first call's time is not the end of the second.
    partials.forget(SHARD, 1);
    assert_eq!(complete(receiving, 12), CONTENT);
    assert_eq!(partials.offset(SHARD, &head(9, 0)), 0, "nothing is kept");
}

#[tokio::test]
async fn what_is_not_the_same_snapshot_begins_anew() {
    let partials = partials();
    break_off(&partials);
    let others = [
        head(10, 12),
        pb::SnapshotHead {
            checksum: 8,
            ..head(9, 12)
        },
        pb::SnapshotHead {
            total_bytes: 30,
            ..head(9, 12)
        },
        pb::SnapshotHead {
            membership_log_id: Some(pb::LogId::default()),
            ..head(9, 12)
        },
    ];
    for other in others {
        assert_eq!(partials.offset(SHARD, &other), 0);
        assert_eq!(code(partials.begin(SHARD, &other)), Code::Aborted);
    }
    assert_eq!(partials.offset(ShardId(4), &head(9, 0)), 0);
    assert_eq!(
        partials.offset(SHARD, &head(9, 0)),
        12,
        "a question changes nothing"
    );
    assert_eq!(code(partials.begin(SHARD, &head(9, 13))), Code::Aborted);

    let receiving = partials.begin(SHARD, &head(10, 0)).unwrap();
    assert_eq!(partials.offset(SHARD, &head(9, 0)), 0, "one a shard");
    assert_eq!(complete(receiving, 0), CONTENT);
}

#[tokio::test]
async fn the_latest_transfer_takes_over() {
    let partials = partials();
    let first = partials.begin(SHARD, &head(9, 0)).unwrap();
    first.add(&chunk(0, 5)).unwrap();
    let second = partials.begin(SHARD, &head(9, 5)).unwrap();
    assert_eq!(code(first.add(&chunk(5, 12))), Code::Aborted);
    assert_eq!(code(first.is_whole()), Code::Aborted);
    assert_eq!(code(first.finish()), Code::Aborted);
    partials.forget(SHARD, 1);
    assert_eq!(complete(second, 5), CONTENT);
}

#[tokio::test]
async fn what_is_damaged_or_out_of_order_is_refused() {
    let partials = partials();
    let receiving = partials.begin(SHARD, &head(9, 0)).unwrap();
    receiving.add(&chunk(0, 5)).unwrap();
    let damaged = pb::SnapshotChunk {
        crc: 1,
        ..chunk(5, 12)
    };
    let beyond = Bytes::from_static(&[0; 30]);
    let beyond = pb::SnapshotChunk {
        offset: 5,
        crc: crc32fast::hash(&beyond),
        data: beyond,
    };
    for bad in [damaged, beyond, chunk(6, 12), chunk(0, 5), chunk(5, 5)] {
        assert_eq!(code(receiving.add(&bad)), Code::DataLoss);
    }
    assert_eq!(complete(receiving, 5), CONTENT);
}

#[tokio::test]
async fn what_broke_off_is_forgotten_in_time() {
    let partials = Arc::new(Partials::new(Duration::from_millis(1)));
    break_off(&partials);
    let forgotten = async {
        while !partials.state.lock().partials.is_empty() {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), forgotten).await.unwrap();
    assert_eq!(partials.offset(SHARD, &head(9, 0)), 0);
}

#[tokio::test]
async fn all_together_are_bounded_and_what_broke_off_gives_way() {
    let large = |bytes| pb::SnapshotHead {
        total_bytes: bytes,
        ..head(1, 0)
    };
    let partials = partials();
    break_off(&partials);
    let half = MAX_SNAPSHOT_BYTES / 2;
    let first = partials.begin(ShardId(1), &large(half)).unwrap();
    assert_eq!(partials.offset(SHARD, &head(9, 0)), 12, "there was room");
    let second = partials.begin(ShardId(2), &large(half)).unwrap();
    assert_eq!(partials.offset(SHARD, &head(9, 0)), 0);
    assert_eq!(
        code(partials.begin(ShardId(4), &large(1))),
        Code::ResourceExhausted
    );
    drop(first);
    let third = partials.begin(ShardId(4), &large(1)).unwrap();
    drop((second, third));
}
