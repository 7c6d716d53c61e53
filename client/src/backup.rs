//! A backup as the SDK sees it: parts, in the order in which they are given out and taken.
//!
//! Invariant: what is handed on is a head, every shard whole, and the end; whatever is missing,
//! damaged or out of order is an error, not a shorter backup. No part is waited for without a bound.

use std::time::Duration;

use lockstep_proto::cluster::v1::{self as pb, backup_part::Part};
use prost::Message as _;
use tokio::time::timeout;
use tonic::Streaming;

use crate::error::{RequestError, ServerError};

/// How long the cluster may take to give out one more part: for an election, and until a shard of some
/// gigabytes is encoded.
const PART_LIMIT: Duration = Duration::from_secs(60);

/// A piece of a backup.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupPart(pub(crate) pb::BackupPart);

/// What a piece is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPartKind {
    /// The first.
    Head {
        /// The cluster: 32 hexadecimal digits.
        cluster_id: String,
        /// Its data shards.
        shards: u32,
    },
    /// Begins a shard.
    Shard {
        /// Which, from 1.
        shard: u32,
        /// The place in its log up to which the backup has all, at least.
        index: u64,
        /// Bytes of its state.
        bytes: u64,
    },
    /// Some bytes of a shard's state.
    Chunk {
        /// How many.
        bytes: u64,
    },
    /// The last.
    End,
}

/// Why parts are no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// The bytes are no part.
    #[error("a part of the backup cannot be read: {0}")]
    Unreadable(String),
    /// A part is missing, or comes too early.
    #[error("the backup is not in order: {expected} must come next")]
    OutOfOrder {
        /// What should have come.
        expected: String,
    },
    /// The checksum is wrong.
    #[error("the backup is damaged: shard {shard}, bytes from {offset}")]
    Damaged {
        /// Where.
        shard: u32,
        /// Where in the shard.
        offset: u64,
    },
}

/// What a restore has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Shards that go on from the backup.
    pub shards: u32,
    /// Every token that they give is greater.
    pub tokens_above: u64,
}

impl BackupPart {
    /// The part as bytes, for a file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are no part.
    pub fn decode(bytes: &[u8]) -> Result<Self, BackupError> {
        let unreadable = |words: String| BackupError::Unreadable(words);
        let part = pb::BackupPart::decode(bytes).map_err(|error| unreadable(error.to_string()))?;
        match part.part {
            Some(_) => Ok(Self(part)),
            None => Err(unreadable("it is of an unknown kind".to_owned())),
        }
    }

    /// What it is. A part without a kind counts as an end, which is never in order there.
    #[must_use]
    pub fn kind(&self) -> BackupPartKind {
        match &self.0.part {
            Some(Part::Head(head)) => BackupPartKind::Head {
                cluster_id: head.cluster_id.clone(),
                shards: head.shards,
            },
            Some(Part::Shard(shard)) => BackupPartKind::Shard {
                shard: shard.shard,
                index: shard.index,
                bytes: shard.total_bytes,
            },
            Some(Part::Chunk(chunk)) => BackupPartKind::Chunk {
                bytes: chunk.data.len() as u64,
            },
            Some(Part::End(_)) | None => BackupPartKind::End,
        }
    }
}

/// Checks parts in their order.
#[derive(Debug, Default)]
pub struct BackupOrder {
    /// Known from the head.
    shards: Option<u32>,
    shard: u32,
    /// Of the present shard: bytes that have come, and that are to come in all.
    got: u64,
    total: u64,
    ended: bool,
}

impl BackupOrder {
    /// Takes the next part.
    ///
    /// # Errors
    /// If it is damaged, or another should have come.
    pub fn take(&mut self, part: &BackupPart) -> Result<(), BackupError> {
        let expected = self.expected();
        let out_of_order = || BackupError::OutOfOrder {
            expected: expected.clone(),
        };
        let between = self.got == self.total && !self.ended;
        match (&part.0.part, self.shards) {
            (Some(Part::Head(head)), None) if head.shards > 0 => self.shards = Some(head.shards),
            (Some(Part::Shard(next)), Some(shards))
                if between && self.shard < shards && next.shard == self.shard + 1 =>
            {
                (self.shard, self.got, self.total) = (next.shard, 0, next.total_bytes);
            }
            (Some(Part::Chunk(chunk)), Some(_)) if !between && chunk.offset == self.got => {
                let after = self.got.saturating_add(chunk.data.len() as u64);
                let whole = crc32fast::hash(&chunk.data) == chunk.crc;
                if !whole || chunk.data.is_empty() || after > self.total {
                    return Err(BackupError::Damaged {
                        shard: self.shard,
                        offset: chunk.offset,
                    });
                }
                self.got = after;
            }
            (Some(Part::End(end)), Some(shards))
                if between && self.shard == shards && end.shards == shards =>
            {
                self.ended = true;
            }
            (
                Some(Part::Head(_) | Part::Shard(_) | Part::Chunk(_) | Part::End(_)) | None,
                Some(_) | None,
            ) => return Err(out_of_order()),
        }
        Ok(())
    }

    /// Checks that no part is missing.
    ///
    /// # Errors
    /// If the end has not come.
    pub fn finish(&self) -> Result<(), BackupError> {
        if self.ended {
            return Ok(());
        }
        Err(BackupError::OutOfOrder {
            expected: self.expected(),
        })
    }

    fn expected(&self) -> String {
        match self.shards {
            None => "its head".to_owned(),
            Some(_) if self.got < self.total => {
                format!("byte {} of shard {}", self.got, self.shard)
            }
            Some(shards) if self.shard < shards => format!("shard {}", self.shard + 1),
            Some(_) if self.ended => "nothing".to_owned(),
            Some(_) => "its end".to_owned(),
        }
    }
}

/// A backup on its way from the cluster.
#[derive(Debug)]
pub struct Backup {
    parts: Streaming<pb::BackupResponse>,
    order: BackupOrder,
}

impl Backup {
    pub(crate) fn new(parts: Streaming<pb::BackupResponse>) -> Self {
        Self {
            parts,
            order: BackupOrder::default(),
        }
    }

    /// The next part, checked; none after the end.
    ///
    /// # Errors
    /// If the cluster fails to go on within a minute, or what it sends is not whole.
    pub async fn next(&mut self) -> Result<Option<BackupPart>, RequestError> {
        let next = timeout(PART_LIMIT, self.parts.message()).await;
        let next = next.map_err(|_| RequestError::Unreachable {
            after: PART_LIMIT,
            last: format!("{} did not come", self.order.expected()),
        })?;
        let next = next.map_err(|status| ServerError::from_status(&status))?;
        let Some(response) = next else {
            self.order.finish()?;
            return Ok(None);
        };
        let part = BackupPart(response.part.unwrap_or_default());
        self.order.take(&part)?;
        Ok(Some(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<Part> {
        let chunk = |offset, data: &[u8]| {
            Part::Chunk(pb::BackupChunk {
                offset,
                data: data.to_vec(),
                crc: crc32fast::hash(data),
            })
        };
        let shard = |shard, total_bytes| {
            Part::Shard(pb::BackupShard {
                shard,
                total_bytes,
                ..pb::BackupShard::default()
            })
        };
        let head = pb::BackupHead {
            shards: 2,
            ..pb::BackupHead::default()
        };
        vec![
            Part::Head(head),
            shard(1, 5),
            chunk(0, b"abc"),
            chunk(3, b"de"),
            shard(2, 0),
            Part::End(pb::BackupEnd { shards: 2 }),
        ]
    }

    fn check(parts: &[Part]) -> Result<(), BackupError> {
        let mut order = BackupOrder::default();
        for part in parts {
            let part = Some(part.clone());
            order.take(&BackupPart(pb::BackupPart { part }))?;
        }
        order.finish()
    }

    #[test]
    fn only_whole_backups_in_order_are_taken() {
        assert_eq!(check(&parts()), Ok(()));
        for at in 0..parts().len() {
            let mut missing = parts();
            missing.remove(at);
            assert!(check(&missing).is_err(), "without part {at}");
            let mut twice = parts();
            twice.insert(at, parts()[at].clone());
            assert!(check(&twice).is_err(), "part {at} twice");
            assert!(check(&parts()[..at]).is_err(), "cut at {at}");
        }
        let mut damaged = parts();
        if let Part::Chunk(chunk) = &mut damaged[3] {
            chunk.data[0] ^= 1;
        }
        let damage = BackupError::Damaged {
            shard: 1,
            offset: 3,
        };
        assert_eq!(check(&damaged), Err(damage));
    }
}
