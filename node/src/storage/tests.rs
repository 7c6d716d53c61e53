//! Tests of the storage as a whole: what Raft demands, what a restart finds, what damage does.

mod corruption;
mod log;
mod machine;
mod reopen;
mod snapshots;
mod space;
mod suite;

use std::{collections::BTreeSet, path::Path};

use bytes::Bytes;
use lockstep_model::ShardId;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

use super::{LogStore, Storage, family::Family};
use crate::raft::types::{BatchBytes, Entry, LeaderId, LogId, Membership, Payload, PeerAddress};

fn id(term: u64, index: u64) -> LogId {
    LogId {
        leader_id: LeaderId { term, node_id: 1 },
        index,
    }
}

fn blank(term: u64, index: u64) -> Entry {
    Entry {
        log_id: id(term, index),
        payload: Payload::Blank,
    }
}

fn batch(term: u64, index: u64, bytes: &[u8]) -> Entry {
    let payload = Payload::Normal(BatchBytes(Bytes::copy_from_slice(bytes)));
    Entry {
        log_id: id(term, index),
        payload,
    }
}

fn membership(voters: impl IntoIterator<Item = u64>) -> Membership {
    let voters: BTreeSet<u64> = voters.into_iter().collect();
    let nodes = voters
        .iter()
        .map(|id| (*id, PeerAddress(format!("node-{id}:7401"))));
    Membership::new(
        vec![voters.clone()],
        nodes.collect::<std::collections::BTreeMap<_, _>>(),
    )
    .unwrap()
}

fn open(dir: &Path) -> Storage {
    Storage::open(dir).unwrap()
}

/// Appends and waits until it is durable.
async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    log.blocking_append(entries).await.unwrap();
}

/// All entries of a log.
async fn all(log: &mut LogStore) -> Vec<Entry> {
    use openraft::RaftLogReader;
    log.get_log_reader()
        .await
        .try_get_log_entries(..)
        .await
        .unwrap()
}

impl Storage {
    /// Sets a value behind the storage's back.
    fn tamper(
        &self,
        family: Family,
        key: &[u8],
        change: impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>,
    ) {
        let engine = &self.shared.records.engine;
        let value = engine.get(family, key).unwrap().map(|value| value.to_vec());
        let mut batch = rocksdb::WriteBatch::default();
        match change(value) {
            Some(value) => batch.put_cf(engine.handle(family).unwrap(), key, value),
            None => batch.delete_cf(engine.handle(family).unwrap(), key),
        }
        engine.write(batch).unwrap();
    }

    /// Flips the bits of one byte of a value.
    fn flip(&self, family: Family, key: &[u8], at: usize) {
        self.tamper(family, key, |value| {
            let mut value = value.expect("the record is there");
            value[at] ^= 0xff;
            Some(value)
        });
    }
}

const SHARD: ShardId = ShardId(3);
